//! Protects the admin listener from pages of other sites, which a browser on the operator's machine can send here.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method};

/// Returns the reason why a request without a token is refused, if it is.
///
/// A page of another site can send requests here although it cannot read the responses; with DNS rebinding it can read
/// them too. The host must therefore be an address, or a name that can only mean this machine, and requests that change
/// something must not come from a page of another origin.
pub(super) fn cross_site_rejection(
    method: &Method,
    authority: Option<&str>,
    headers: &HeaderMap,
) -> Option<&'static str> {
    let host = headers.get(HOST).map_or(authority.unwrap_or_default(), |host| host.to_str().unwrap_or("?"));
    if !is_of_this_machine(host) {
        return Some("Without an admin_token this listener is asked by its address, or as localhost.");
    }
    let foreign = headers.get("sec-fetch-site").is_some_and(|gateway| gateway != "same-origin" && gateway != "none")
        || headers.get(ORIGIN).is_some_and(|origin| {
            origin.to_str().ok().and_then(|origin| origin.split_once("://")?.1.into()) != Some(host)
        });
    (foreign && !method.is_safe()).then_some("Pages of other sites may change nothing here.")
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn refused(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
        cross_site_rejection(method, None, &headers.collect()).is_some()
    }

    #[test]
    fn a_name_that_was_made_to_mean_this_machine_is_refused() {
        for host in ["127.0.0.1:9090", "localhost:9090", "LOCALHOST", "[::1]:9090", "10.0.0.7"] {
            assert!(!refused(&Method::GET, &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:9090", "localhost.evil.example", "", "a:b"] {
            assert!(refused(&Method::GET, &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn other_sites_change_nothing() {
        let host = ("host", "localhost:9090");
        assert!(!refused(&Method::POST, &[host]));
        assert!(!refused(
            &Method::POST,
            &[host, ("origin", "http://localhost:9090"), ("sec-fetch-site", "same-origin")]
        ));
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(refused(&Method::POST, &[host, (name, value)]), "{name}: {value}");
            assert!(!refused(&Method::GET, &[host, (name, value)]), "{name}: {value}");
        }
    }
}
