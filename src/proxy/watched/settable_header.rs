//! Which headers a message may set: a URL of a posted list, or a request over a WebSocket.
//!
//! Whoever stands in front of us has seen the request that opened the stream, and nothing of what is said on it. So a message
//! speaks for nobody but the page: it sets what a page could set on a request of its own, nothing that names who somebody is, and
//! nothing that the opening request bore already, but for what only describes the answer that is wanted.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::model::fields;

/// What a browser keeps to itself (Fetch, "forbidden request-header"), and what is between us and the script.
const FORBIDDEN: [&str; 16] = [
    "accept-charset",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "cdn-loop",
    "cookie",
    "cookie2",
    "date",
    "dnt",
    "forwarded",
    "origin",
    "referer",
    "set-cookie",
    "sungrazer-poll",
    "via",
];

/// What a request says of the answer that it wants, and nothing of whoever sends it.
const NEGOTIATED: [&str; 13] = [
    "accept",
    "accept-language",
    "cache-control",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "pragma",
    "prefer",
    "priority",
    "range",
    "x-requested-with",
];

/// Methods that no page may use, by whatever way (Fetch, "forbidden method"): what they bring back shows what scripts must not see.
pub(in crate::proxy) fn is_forbidden_method(method: &str) -> bool {
    ["CONNECT", "TRACE", "TRACK"].iter().any(|forbidden| method.trim().eq_ignore_ascii_case(forbidden))
}

/// A header that a page could set on a request of its own. Names that browsers keep to themselves are theirs here, too, and
/// those by which a proxy in front of us may say who the client is are that proxy's, however they are spelled.
pub(in crate::proxy) fn settable_header(name: &str, value: &Value) -> Option<(HeaderName, HeaderValue)> {
    let name: HeaderName = name.parse().ok()?;
    let mut value = HeaderValue::from_str(value.as_str()?).ok()?;
    let text = fields::canonical(&name);
    let is_known =
        |text: &str| text.parse::<HeaderName>().is_ok_and(|known| fields::is_of_connection(&known) && known != "range");
    let forbidden = is_known(&text)
        || FORBIDDEN.contains(&&*text)
        || ["sec-", "proxy-"].iter().any(|prefix| text.starts_with(prefix))
        || fields::may_assert(&name)
        || fields::is_disguised(&name, &HeaderMap::new(), false)
        || (text.starts_with("x-http-method") || text == "x-method-override")
            && value.to_str().is_ok_and(|value| value.split(',').any(is_forbidden_method));
    if forbidden {
        return None;
    }
    // It may be a credential.
    value.set_sensitive(true);
    Some((name, value))
}

/// Whether a message may say so, given what the request bore that opened its stream: nothing else is said in its place.
pub(in crate::proxy) fn may_set(opened_with: &HeaderMap, name: &HeaderName, value: &HeaderValue) -> bool {
    let canonical = fields::canonical(name);
    NEGOTIATED.contains(&&*canonical)
        || opened_with
            .iter()
            .filter(|(borne, _)| fields::canonical(borne) == canonical)
            .all(|(borne, said)| borne == name && said == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_speaks_for_its_page_alone() {
        let value = Value::from("x");
        for name in
            ["accept", "Content-Type", "X-Requested-With", "authorization", "X-CSRF-Token", "X-Tenant", "HX-Request"]
        {
            assert!(settable_header(name, &value).is_some(), "{name}");
        }
        for name in [
            "Cookie",
            "X_Forwarded_For",
            "x.remote.user",
            "Remote-User",
            "Client-Cert",
            "X-Auth-Email",
            "X-Envoy-Original-Path",
            "content_length",
            "Transfer-Encoding",
            "Sec-Fetch-Site",
            "Sec_Fetch_Site",
            "Sungrazer-Poll",
            "X-Original-Uri",
            "a b",
        ] {
            assert!(settable_header(name, &value).is_none(), "{name}");
        }
        assert!(settable_header("X-HTTP-Method-Override", &Value::from("delete")).is_some());
        for (name, method) in
            [("X-HTTP-Method-Override", "trace"), ("x-http-method", " Track"), ("x-method-override", "a,TRACE")]
        {
            assert!(settable_header(name, &Value::from(method)).is_none(), "{name}: {method}");
        }
    }

    #[test]
    fn nothing_is_said_in_place_of_what_was() {
        let mut opened = HeaderMap::new();
        for (name, value) in [("accept", "*/*"), ("authorization", "Basic a"), ("x-tenant", "acme")] {
            opened.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value, may) in [
            ("accept", "text/html", true),
            ("authorization", "Basic b", false),
            ("authorization", "Basic a", true),
            ("x-tenant", "other", false),
            ("x_tenant", "other", false),
            ("x-other", "any", true),
        ] {
            let name = HeaderName::from_static(name);
            assert_eq!(may_set(&opened, &name, &HeaderValue::from_static(value)), may, "{name}: {value}");
        }
    }
}
