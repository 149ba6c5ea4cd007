//! Header fields by the part that they play between client, proxy and backend.

use http::header::{self, HeaderMap, HeaderName};

/// Fields of one connection, which no intermediary forwards (RFC 9110 section 7.6.1), and `Trailer`, since trailers are
/// not forwarded either.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Request fields on which the content of a response does not depend, unless the response says so in its `Vary`.
///
/// Sorted. Everything that is *not* listed here, known or unknown, counts as part of a client's identity: an
/// application may tell its users apart by a header of its own.
const NEUTRAL: [&str; 62] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "baggage",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-event-id",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "priority",
    "proxy-authorization",
    "proxy-connection",
    "purpose",
    "range",
    "referer",
    "save-data",
    "sec-ch-prefers-color-scheme",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-storage-access",
    "sec-fetch-user",
    "sec-gpc",
    "sec-purpose",
    "sungrazer-poll",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-correlation-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
];

/// Request fields by which a client asks that its request be taken for one by another method. Many frameworks heed them.
static METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Whether an application might take a request for one by another method than it names: such a request is never repeated
/// by us, and what it does is not known.
pub fn overrides_method(headers: &HeaderMap) -> bool {
    METHOD_OVERRIDES.iter().any(|name| headers.contains_key(name))
}

/// By these scripts say what they are: many libraries, htmx, Turbo, pjax, Unpoly, Inertia.
static FROM_SCRIPTS: [HeaderName; 7] = [
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("hx-request"),
    HeaderName::from_static("turbo-frame"),
    HeaderName::from_static("x-turbo-request-id"),
    HeaderName::from_static("x-pjax"),
    HeaderName::from_static("x-up-version"),
    HeaderName::from_static("x-inertia"),
];

/// Whether a script says that it asks, and not a browser that is led to a page.
pub fn is_from_script(headers: &HeaderMap) -> bool {
    FROM_SCRIPTS.iter().any(|name| headers.contains_key(name))
}

/// Request fields by which a proxy in front of an application tells it who the client is. Sorted.
const ASSERTIONS: [&str; 16] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "remote-user",
    "true-client-ip",
    "x-client-cert",
    "x-client-dn",
    "x-client-ip",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-user",
    "x-rewrite-url",
    "x-webauth-user",
];

/// How the names of others of them begin.
const ASSERTION_PREFIXES: [&str; 12] = [
    "cf-access-",
    "remote-",
    "ssl-client-",
    "tailscale-user-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authenticated-",
    "x-forwarded-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-ssl-",
];

/// Whether `name` is one by which proxies in front of applications say who the client is. Such a proxy sees only the
/// request by which a client came, and not what that client says later on the same connection.
pub fn is_assertion(name: &HeaderName) -> bool {
    let name = name.as_str();
    ASSERTIONS.binary_search(&name).is_ok() || ASSERTION_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether `name` may be left out of a client's identity.
pub fn is_neutral(name: &HeaderName) -> bool {
    NEUTRAL.binary_search(&name.as_str()).is_ok() || is_number(name.as_str())
}

/// Whether a field of this name says which of all requests this is: of one kind with `X-Request-Id`.
fn is_number(name: &str) -> bool {
    name.starts_with("x-") && ["-request-id", "-correlation-id", "-trace-id"].iter().any(|end| name.ends_with(end))
}

/// Whether `name` belongs to a connection or frames a message, so that no representation depends on it.
pub fn is_of_connection(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
        || [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::RANGE].contains(name)
}

/// Whether a request header may split a resource. The others frame a message, say what the client holds, or say what the
/// key holds anyway: whatever varies by them, their values are no client's to choose for a look.
pub fn may_split(name: &HeaderName) -> bool {
    !is_of_connection(name) && !NEVER_SPLIT.contains(&name.as_str())
}

const NEVER_SPLIT: [&str; 12] = [
    "accept-encoding",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "max-forwards",
    "sungrazer-poll",
    "via",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Whether a response header belongs to the connection or to one requester, so that it is not kept with a
/// representation. `Date` and `Age` are made anew for each answer from memory.
pub fn is_unshared(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
        || [header::SET_COOKIE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::DATE, header::AGE]
            .contains(name)
        || name == "set-cookie2"
}

/// The names in `headers` that must not be forwarded: the hop-by-hop fields and those that `Connection` names.
pub fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let named: Vec<&str> = list(headers, &header::CONNECTION).collect();
    let is_named = |name: &str| named.iter().any(|token| token.eq_ignore_ascii_case(name));
    headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str()) || is_named(name.as_str())).cloned().collect()
}

/// The elements of a comma-separated list field, over all its lines, trimmed and not empty. Bytes beyond ASCII cost the
/// element that they are in, and no other.
pub fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter(|item| item.is_ascii())
        .filter_map(|item| std::str::from_utf8(item).ok())
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// The cookies of a request, `name=value` each, in the order in which they were sent.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

/// The name of a cookie.
pub fn cookie_name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// Whether a list field holds `token`, compared without regard to case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neutral_table_can_be_searched() {
        assert!(NEUTRAL.is_sorted());
        assert!(is_neutral(&header::USER_AGENT));
        assert!(!is_neutral(&header::COOKIE) && !is_neutral(&header::AUTHORIZATION));
        assert!(!is_neutral(&HeaderName::from_static("x-api-key")));
    }

    #[test]
    fn what_proxies_assert_is_known() {
        assert!(ASSERTIONS.is_sorted());
        for name in ["x-real-ip", "remote-user", "remote-email", "x-auth-request-email", "x-forwarded-user"] {
            assert!(is_assertion(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["authorization", "x-csrf-token", "x-api-key", "x-requested-with"] {
            assert!(!is_assertion(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn an_element_that_cannot_be_read_hides_no_other() {
        let mut headers = HeaderMap::new();
        let value = header::HeaderValue::from_bytes(b"x=\"\xe9\", private , no-store").unwrap();
        headers.append(header::CACHE_CONTROL, value);
        assert_eq!(list(&headers, &header::CACHE_CONTROL).collect::<Vec<_>>(), ["private", "no-store"]);
    }
}
