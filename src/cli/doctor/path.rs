//! Recognises the intermediaries on the path by their headers.

use http::HeaderMap;
use http::header::{SERVER, VIA};

/// An intermediary on the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intermediary {
    pub(super) name: &'static str,
    /// The header by which it was recognised.
    pub(super) evidence: String,
}

/// Response headers with a text in their value, and the intermediary that they indicate.
const RESPONSE: &[(&str, &str, &str)] = &[
    ("server", "nginx", "nginx"),
    ("server", "openresty", "nginx"),
    ("server", "apache", "Apache httpd"),
    ("server", "caddy", "Caddy"),
    ("via", "caddy", "Caddy"),
    ("server", "envoy", "Envoy"),
    ("x-envoy-upstream-service-time", "", "Envoy"),
    ("server", "awselb", "AWS ALB"),
    ("set-cookie", "awsalb", "AWS ALB"),
    ("server", "cloudflare", "Cloudflare"),
    ("cf-ray", "", "Cloudflare"),
    ("server", "haproxy", "HAProxy"),
    ("via", "haproxy", "HAProxy"),
    ("server", "traefik", "Traefik"),
    ("x-varnish", "", "Varnish"),
    ("via", "varnish", "Varnish"),
    ("via", "squid", "Squid"),
    ("x-cache-lookup", "", "Squid"),
    ("server", "squid", "Squid"),
    ("x-amz-cf-id", "", "Amazon CloudFront"),
    ("via", "cloudfront", "Amazon CloudFront"),
    ("x-fastly-request-id", "", "Fastly"),
    ("x-served-by", "cache-", "Fastly"),
    ("server", "akamai", "Akamai"),
    ("via", "1.1 google", "Google Cloud Load Balancing"),
    ("x-azure-ref", "", "Azure Front Door"),
    ("via", "vegur", "Heroku"),
    ("fly-request-id", "", "Fly.io"),
    ("server", "microsoft-iis", "IIS"),
    ("server", "lighttpd", "lighttpd"),
];

/// Request headers that arrived, and the intermediary that they indicate.
const REQUEST: &[(&str, &str)] = &[
    ("cf-ray", "Cloudflare"),
    ("x-amzn-trace-id", "AWS ALB"),
    ("x-envoy-expected-rq-timeout-ms", "Envoy"),
    ("x-varnish", "Varnish"),
    ("x-amz-cf-id", "Amazon CloudFront"),
    ("fastly-ff", "Fastly"),
    ("x-azure-ref", "Azure Front Door"),
    ("x-cloud-trace-context", "Google Cloud Load Balancing"),
];

/// Headers that proxies add to requests without identifying themselves.
const ANONYMOUS: [&str; 5] = ["via", "forwarded", "x-forwarded-for", "x-forwarded-server", "x-real-ip"];

/// Returns the intermediaries recognised by these responses and by the headers with which requests arrived.
pub(super) fn intermediaries<'h>(
    responses: impl Iterator<Item = &'h HeaderMap>,
    markers: &[&str],
) -> Vec<Intermediary> {
    let mut found: Vec<Intermediary> = Vec::new();
    let mut add = |name: &'static str, evidence: String| {
        if !found.iter().any(|known| known.name == name) {
            found.push(Intermediary { name, evidence });
        }
    };
    for headers in responses {
        for (header, part, name) in RESPONSE {
            for value in headers.get_all(*header) {
                let text = String::from_utf8_lossy(value.as_bytes());
                if text.to_ascii_lowercase().contains(part) {
                    let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
                    // For a cookie, the name is sufficient.
                    let shown =
                        if *header == "set-cookie" { shown.split('=').next().unwrap_or_default() } else { &shown };
                    add(name, format!("{header}: {shown}"));
                }
            }
        }
        for name in [SERVER, VIA] {
            let said = headers.get(&name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let known = |said: &str| {
                RESPONSE
                    .iter()
                    .any(|(header, part, _)| *header == name.as_str() && said.to_ascii_lowercase().contains(part))
            };
            if let Some(said) = said.filter(|said| !known(said)) {
                let shown: String = said.chars().filter(|c| !c.is_control()).take(60).collect();
                add("an unknown one", format!("{name}: {shown}"));
            }
        }
    }
    for (header, name) in REQUEST {
        if markers.contains(header) {
            add(name, format!("requests arrive with {header}"));
        }
    }
    if found.is_empty()
        && let Some(header) = ANONYMOUS.iter().find(|header| markers.contains(header))
    {
        found.push(Intermediary {
            name: "one that does not say its name",
            evidence: format!("requests arrive with {header}"),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn they_are_known_by_what_they_say() {
        for (name, value, expected) in [
            ("server", "nginx/1.22.1", "nginx"),
            ("server", "Apache/2.4.57 (Debian)", "Apache httpd"),
            ("via", "1.1 Caddy", "Caddy"),
            ("via", "1.1 cache-host (squid/5.7)", "Squid"),
            ("via", "1.1 varnish (Varnish/7.1)", "Varnish"),
            ("server", "istio-envoy", "Envoy"),
            ("set-cookie", "AWSALB=secret; Path=/", "AWS ALB"),
            ("server", "cloudflare", "Cloudflare"),
            ("server", "Frobnicator/2", "an unknown one"),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            let found = intermediaries([&headers, &headers].into_iter(), &["x-forwarded-for"]);
            assert_eq!(found.iter().map(|found| found.name).collect::<Vec<_>>(), [expected], "{value}");
            assert!(!found[0].evidence.contains("secret"));
        }
        let none = HeaderMap::new();
        assert_eq!(intermediaries([&none].into_iter(), &["x-forwarded-for"])[0].name, "one that does not say its name");
        assert_eq!(intermediaries([&none].into_iter(), &["x-amzn-trace-id", "via"])[0].name, "AWS ALB");
        assert!(intermediaries([&none].into_iter(), &[]).is_empty());
    }
}
