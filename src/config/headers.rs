//! `request_headers` and `response_headers`: fields that are set or removed on the way.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::read::Step;
use crate::model::{HeaderEdit, HeaderEdits, fields};

/// `request_headers`, `response_headers`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Headers and their values. Each replaces all lines of that name.
    pub set: BTreeMap<String, String>,
    /// Headers that are left out.
    pub remove: Vec<String>,
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Requests,
    Responses,
}

/// Headers with which a request says where it comes from. Sungrazer writes them itself.
const FORWARDING: &[&str] = &["cdn-loop", "forwarded", "x-real-ip"];

/// Headers on which it depends what a request means and what its response is compared with.
const OF_REQUESTS: &[&str] = &["accept-encoding", "http2-settings", "if", "last-event-id"];

/// Response headers that name the body or one client.
const OF_RESPONSES: &[&str] = &[
    "accept-ranges",
    "age",
    "cache-status",
    "date",
    "digest",
    "etag",
    "last-modified",
    "repr-digest",
    "set-cookie",
    "vary",
];

/// Response headers that sign in a connection.
const SIGNING: &[&str] = &["persistent-auth", "proxy-support", "www-authenticate"];

/// Headers that begin like those that describe a body, and do not.
const NOT_OF_BODIES: &[&str] =
    &["content-disposition", "content-language", "content-security-policy", "content-security-policy-report-only"];

impl Of {
    /// Returns why `name` may not be changed.
    fn objection(self, name: &HeaderName) -> Option<&'static str> {
        let name_text = name.as_str();
        let is_body = name_text.starts_with("content-") && !NOT_OF_BODIES.contains(&name_text);
        let (list, reason) = match self {
            Self::Requests => (OF_REQUESTS, "says which response is wanted, so that only the client knows its value"),
            Self::Responses => (OF_RESPONSES, "belongs to one response, so that no other value would be true"),
        };
        if fields::is_of_connection(name) {
            Some("belongs to a connection, and connections end here")
        } else if is_body {
            Some("describes the body, which passes as it is")
        } else if name_text.starts_with("sungrazer-") || name_text.starts_with("sec-websocket-") {
            Some("belongs to a protocol that is spoken here")
        } else if self == Self::Requests && fields::is_method_override(name) {
            Some("turns requests into others than those that were judged")
        } else if self == Self::Requests && (FORWARDING.contains(&name_text) || name_text.starts_with("x-forwarded-")) {
            Some("says who the client is, which Sungrazer writes itself")
        } else if self == Self::Responses && SIGNING.contains(&name_text) {
            Some("belongs to an exchange between the client and the application")
        } else if list.contains(&name_text) || self == Self::Requests && name_text.starts_with("if-") {
            Some(reason)
        } else {
            None
        }
    }
}

impl Headers {
    /// Reports each header that cannot be changed, with its place.
    pub(super) fn check(&self, of: Of, mut report: impl FnMut(&[Step<'_>], String, &str)) {
        let remove = self.remove.iter().enumerate();
        let removed = remove.map(|(index, name)| ([Step::Key("remove"), Step::Index(index)], name));
        let set = self.set.keys().map(|name| ([Step::Key("set"), Step::Key(name)], name));
        for (place, written) in set.chain(removed) {
            match written.parse::<HeaderName>() {
                Err(_) => report(&place, format!("{written:?} is not a header name"), ""),
                Ok(name) => {
                    if let Some(objection) = of.objection(&name) {
                        report(&place, format!("{written:?} cannot be changed: it {objection}"), "leave it out");
                    }
                }
            }
        }
        for (written, value) in &self.set {
            let place = [Step::Key("set"), Step::Key(written)];
            match header(written, value) {
                None => report(&place, format!("{value:?} cannot be the value of a header"), ""),
                Some(header)
                    if of == Of::Requests && fields::binds_connection(&HeaderMap::from_iter([header.clone()])) =>
                {
                    let help = "let clients sign in themselves";
                    report(&place, format!("{written:?} would sign in connections that clients share"), help);
                }
                Some(_) => {}
            }
            if self.remove.iter().any(|name| name.eq_ignore_ascii_case(written)) {
                report(&place, format!("{written:?} is both set and removed"), "what is set replaces what was there");
            }
        }
    }

    /// Returns the changes.
    pub(super) fn edits(&self) -> HeaderEdits {
        let removed = self.remove.iter().filter_map(|written| {
            Some(HeaderEdit { name: written.parse().ok()?, written: written.clone(), value: None })
        });
        let set = self.set.iter().filter_map(|(written, value)| {
            let (name, value) = header(written, value)?;
            Some(HeaderEdit { name, written: written.clone(), value: Some(value) })
        });
        HeaderEdits::new(removed.chain(set).collect())
    }
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
}
