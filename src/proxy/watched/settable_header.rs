//! The headers that a message may set: for a URL in a subscription list, or for a request over a WebSocket.
//!
//! A proxy in front of this server has seen the request that opened the stream, but not the messages on it. A message
//! therefore has only the rights of the page: it may set headers that a page could set on its own requests, no header
//! that identifies a client, and no header that the opening request already had, except those that only describe the
//! desired response.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::model::fields;

/// Headers that browsers do not let pages set (Fetch, "forbidden request-header"), and headers between this server and
/// the script.
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

/// Headers that describe the desired response and not the sender.
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

/// Returns whether a method is forbidden to pages in every way (Fetch, "forbidden method"), because its response would
/// reveal headers that scripts must not see.
pub(in crate::proxy) fn is_forbidden_method(method: &str) -> bool {
    ["CONNECT", "TRACE", "TRACK"].iter().any(|forbidden| method.trim().eq_ignore_ascii_case(forbidden))
}

/// Parses a header that a page could set on its own requests. Names reserved for browsers are excluded, and so are
/// names that identify the client to the application in a trusted proxy's place, in any spelling.
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

/// Returns whether a message may set a header, given the headers of the opening request, none of which it may replace.
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
