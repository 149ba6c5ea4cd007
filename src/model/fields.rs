//! Classifies header fields by their role between client, proxy and backend.

mod assertions;
mod cookies;
mod groups;
mod tracing;

pub use assertions::{canonical, is_disguised, is_identity_assertion, may_assert};
pub use cookies::{MAX_COOKIES, Replaced, Telling, changes_cookies, cookie_name, cookies, pairs, replaced};
pub use groups::{CACHE_GROUP_INVALIDATION, CACHE_GROUPS, groups};
use http::header::{self, HeaderMap, HeaderName};

/// Lists the intermediaries that a request came through (RFC 8586).
pub static CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// The name of this server in `CDN-Loop` and `Via` (RFC 9110 section 7.6.3).
pub const PSEUDONYM: &str = "sungrazer";

/// Fields of one connection, which intermediaries do not forward (RFC 9110 section 7.6.1), and `Trailer`, since
/// trailers are not forwarded either.
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

/// Request fields that do not affect the content of a response, unless the response says so in its `Vary`.
///
/// Sorted. Every field that is *not* listed here, known or unknown, counts as part of a client's identity: an
/// application may distinguish its users by a header of its own.
const NEUTRAL: [&str; 58] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "if",
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
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-requested-with",
];

/// Neutral request fields that describe one client: its browser, its address, its preferences. An application may bind
/// a session or a response to them, so every fetch with a client's credentials sends these as well.
pub static OF_CLIENT: [HeaderName; 13] = [
    header::ACCEPT_CHARSET,
    header::ACCEPT_LANGUAGE,
    header::DNT,
    header::FORWARDED,
    HeaderName::from_static("save-data"),
    HeaderName::from_static("sec-ch-prefers-color-scheme"),
    HeaderName::from_static("sec-ch-ua"),
    HeaderName::from_static("sec-ch-ua-mobile"),
    HeaderName::from_static("sec-ch-ua-platform"),
    HeaderName::from_static("sec-gpc"),
    header::USER_AGENT,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// The neutral fields by which a client describes itself, including its address. These are all fields that may split a
/// resource and do not change with each request.
pub const DESCRIPTIONS: [&str; 21] = [
    "accept",
    "accept-charset",
    "accept-language",
    "dnt",
    "forwarded",
    "origin",
    "referer",
    "save-data",
    "sec-ch-prefers-color-scheme",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-gpc",
    "upgrade-insecure-requests",
    "user-agent",
    "x-forwarded-for",
    "x-real-ip",
    "x-requested-with",
];

/// Request fields that ask the server to treat the request as one with another method. Many frameworks honour them.
static METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Returns whether a request with the field `name` asks to be treated as one with another method.
pub fn is_method_override(name: &HeaderName) -> bool {
    METHOD_OVERRIDES.contains(name)
}

/// Returns whether an application might treat the request as one with another method. Sungrazer never repeats such a
/// request, and its effect is unknown.
pub fn overrides_method(headers: &HeaderMap) -> bool {
    METHOD_OVERRIDES.iter().any(|name| headers.contains_key(name))
}

/// Fields that scripts send to identify themselves: many libraries, htmx, Turbo, pjax, Unpoly, Inertia.
static FROM_SCRIPTS: [HeaderName; 7] = [
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("hx-request"),
    HeaderName::from_static("turbo-frame"),
    HeaderName::from_static("x-turbo-request-id"),
    HeaderName::from_static("x-pjax"),
    HeaderName::from_static("x-up-version"),
    HeaderName::from_static("x-inertia"),
];

/// Returns whether the request says that a script made it, rather than a navigation.
pub fn is_from_script(headers: &HeaderMap) -> bool {
    FROM_SCRIPTS.iter().any(|name| headers.contains_key(name))
}

/// Authentication schemes that sign in a connection instead of a request: later requests on the connection belong to
/// that client.
const OF_CONNECTIONS: [&str; 4] = ["ntlm", "negotiate", "nego2", "kerberos"];

/// Returns whether a message with these headers belongs to an exchange that signs in a connection (RFC 4559 section 6).
/// Such a connection must never be used for another client. Only this function decides that.
pub fn binds_connection(headers: &HeaderMap) -> bool {
    SIGNING.iter().any(|name| headers.get_all(*name).iter().any(|value| signs_in(name, value.as_bytes())))
}

/// The same for a head in its wire format.
pub fn head_binds_connection(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let known = SIGNING.iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        known.is_some_and(|known| signs_in(known, value.trim_ascii()))
    })
}

/// Fields that carry authentication or a challenge.
const SIGNING: [&str; 6] = [
    "authorization",
    "persistent-auth",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-support",
    "www-authenticate",
];

fn signs_in(name: &str, value: &[u8]) -> bool {
    match name {
        "persistent-auth" => value.eq_ignore_ascii_case(b"true"),
        "proxy-support" => true,
        // A challenge may follow others in one line. A false match inside a quoted text only costs a connection.
        _ => value
            .split(|byte| matches!(byte, b',' | b' ' | b'\t'))
            .any(|word| OF_CONNECTIONS.iter().any(|scheme| word.eq_ignore_ascii_case(scheme.as_bytes()))),
    }
}

/// Returns whether `name` may be left out of a client's identity.
pub fn is_neutral(name: &HeaderName) -> bool {
    NEUTRAL.binary_search(&name.as_str()).is_ok() || tracing::is_tracing(name.as_str())
}

/// Returns whether HTTP, or the practice of browsers and proxies, defines a meaning for `name`.
fn is_standard(name: &str) -> bool {
    NEUTRAL.binary_search(&name).is_ok()
        || HOP_BY_HOP.contains(&name)
        || METHOD_OVERRIDES.iter().any(|known| known == name)
        || ["authorization", "cookie", "http2-settings"].contains(&name)
        || ["sec-", "proxy-", "content-", "sungrazer-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Returns whether `name` belongs to a connection or frames a message, so that no representation depends on it.
pub fn is_of_connection(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
        || [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::RANGE].contains(name)
}

/// Returns whether a request header may split a resource. The other headers frame a message, describe the client's
/// copy, or repeat information that the key already holds. Even if a response varies by them, a client may not choose
/// their values for a fetch.
pub fn may_vary_key(name: &HeaderName) -> bool {
    !is_of_connection(name) && !NEVER_SPLIT.contains(&name.as_str())
}

const NEVER_SPLIT: [&str; 14] = [
    "accept-encoding",
    "cdn-loop",
    "if",
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

/// Returns whether a response header belongs to the connection or to one requester, so that it is not stored with a
/// representation. `Date` and `Age` are generated for each response from memory.
pub fn is_per_client(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
        || [header::SET_COOKIE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::DATE, header::AGE]
            .contains(name)
        || name == "set-cookie2"
}

/// Returns the names in `headers` that must not be forwarded: the hop-by-hop fields and those that `Connection` names.
pub fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let named: Vec<&str> = list(headers, &header::CONNECTION).collect();
    let is_named = |name: &str| named.iter().any(|token| token.eq_ignore_ascii_case(name));
    headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str()) || is_named(name.as_str())).cloned().collect()
}

/// Returns the elements of a comma-separated list field, over all its lines, trimmed and not empty. Non-ASCII bytes
/// invalidate only the element that contains them.
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

/// Cookies for statistics and display preferences: scripts set them, they change by themselves, and they identify no
/// user.
const OF_STATISTICS: [&[u8]; 22] = [
    b"_ga",
    b"_gid",
    b"_gat",
    b"_gcl_",
    b"__utm",
    b"_pk_",
    b"_fbp",
    b"_fbc",
    b"_hj",
    b"_clck",
    b"_clsk",
    b"_uet",
    b"amplitude_",
    b"mp_",
    b"ajs_",
    b"_dd_s",
    b"optimizely",
    b"theme",
    b"lang",
    b"locale",
    b"tz",
    b"timezone",
];

/// Returns whether an application that identifies its users by cookies does not use the one with this name.
pub fn is_of_statistics(name: &[u8]) -> bool {
    OF_STATISTICS.iter().any(|known| match known.last() {
        // Prefix matches are of the same kind; a complete word matches only itself.
        Some(b'_') => name.starts_with(known),
        _ if known.starts_with(b"_") || *known == b"optimizely" => name.starts_with(known),
        _ => name.eq_ignore_ascii_case(known),
    })
}

/// Returns whether a list field contains `token`, compared case-insensitively.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// Returns the quality of a list item (RFC 9110 section 12.4.2); the default is one.
pub fn quality(item: &str) -> f32 {
    let parameters = item.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut named = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let value = named.next().and_then(|(_, value)| value.trim().parse::<f32>().ok());
    value.filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_neutral_table_can_be_searched() {
        assert!(NEUTRAL.is_sorted());
        assert!(is_neutral(&header::USER_AGENT));
        assert!(!is_neutral(&header::COOKIE) && !is_neutral(&header::AUTHORIZATION));
        assert!(!is_neutral(&HeaderName::from_static("x-api-key")));
    }

    #[test]
    fn what_signs_a_connection_in_is_known_wherever_it_stands() {
        for (name, value, binds) in [
            ("authorization", "NTLM TlRMTVNTUAAB", true),
            ("authorization", "negotiate YII=", true),
            ("www-authenticate", "Basic realm=\"a, b\", NTLM", true),
            ("www-authenticate", "Negotiate,Basic realm=x", true),
            ("proxy-authenticate", "Kerberos", true),
            ("persistent-auth", "True", true),
            ("authorization", "Bearer negotiated", false),
            ("authorization", "Basic TlRMTQ==", false),
            ("www-authenticate", "Digest realm=\"a\"", false),
            ("x-authorization", "NTLM", false),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(binds_connection(&headers), binds, "{name}: {value}");
            let head = format!("HTTP/1.1 401 No\r\nServer: x\r\n{}: {value}\r\n\r\n", name.to_uppercase());
            assert_eq!(head_binds_connection(head.as_bytes()), binds, "{head}");
        }
    }

    #[test]
    fn an_element_that_cannot_be_read_hides_no_other() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"x=\"\xe9\", private , no-store").unwrap();
        headers.append(header::CACHE_CONTROL, value);
        assert_eq!(list(&headers, &header::CACHE_CONTROL).collect::<Vec<_>>(), ["private", "no-store"]);
    }
}
