//! Findings about response heads and the URL that concern watching.

use std::collections::BTreeSet;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, LAST_MODIFIED, REFRESH, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName};

use super::Sample;
use crate::model::fields;

/// The findings, as sentences.
#[derive(Clone, Debug, Default)]
pub struct CachingFindings {
    /// About validators and the application's cache directives.
    pub caching: Vec<String>,
    /// About data that belongs to single users.
    pub sharing: Vec<String>,
    /// Request headers by which the response varies, but that split a resource only if the route names them.
    pub vary: Vec<String>,
    /// Whether the response belongs to one client, according to its head.
    pub private: bool,
}

/// Request headers that split resources by default.
const USUAL: [&str; 4] = ["accept", "accept-encoding", "accept-language", "x-requested-with"];

impl CachingFindings {
    /// Examines the heads of `samples`. `conditional` is the status of a request with the validators of the last one.
    pub fn of(samples: &[Sample], conditional: Option<u16>) -> Self {
        let mut hazards = Self::default();
        let Some(last) = samples.last() else { return hazards };
        hazards.validators(samples, conditional);
        hazards.cache_control(&last.headers);
        hazards.cookies(samples);
        hazards.vary(&last.headers);
        if let Some(refresh) = last.headers.get(REFRESH).and_then(|value| value.to_str().ok()) {
            hazards.sharing.push(format!("Refresh: {refresh}. The page reloads itself; that is how it polls"));
        }
        hazards
    }

    fn validators(&mut self, samples: &[Sample], conditional: Option<u16>) {
        let all = |name: &HeaderName| {
            samples
                .iter()
                .filter_map(|sample| sample.headers.get(name))
                .map(http::HeaderValue::as_bytes)
                .collect::<Vec<_>>()
        };
        let (tags, dates) = (all(&ETAG), all(&LAST_MODIFIED));
        if tags.is_empty() && dates.is_empty() {
            self.caching.push("no ETag and no Last-Modified: each fetch brings the whole answer".to_owned());
            return;
        }
        let names = match (tags.is_empty(), dates.is_empty()) {
            (false, false) => "ETag and Last-Modified",
            (false, true) => "ETag",
            _ => "Last-Modified",
        };
        let fickle = samples.windows(2).any(|pair| {
            pair[0].representation.body == pair[1].representation.body
                && pair[0].headers.get(ETAG) != pair[1].headers.get(ETAG)
        });
        let text = match conditional {
            _ if fickle => format!("{names}, but the ETag differs where the body is the same: it saves nothing"),
            Some(304) => {
                format!("{names}, and a fetch that asks with them is answered 304: fetches cost next to nothing")
            }
            Some(status) => {
                format!(
                    "{names}, but a fetch that asks with them is answered {status}: either it changes all the time, or the application does not check"
                )
            }
            None => format!("{names}; whether the application checks them could not be tried"),
        };
        self.caching.push(text);
    }

    fn cache_control(&mut self, headers: &HeaderMap) {
        let said: Vec<&str> = fields::list(headers, &CACHE_CONTROL).collect();
        if said.is_empty() {
            self.caching.push("no Cache-Control".to_owned());
            return;
        }
        let has = |name: &str| said.iter().any(|directive| directive.eq_ignore_ascii_case(name));
        let mut text = format!("Cache-Control: {}", said.join(", "));
        if has("no-store") || has("private") {
            self.private = true;
            text.push_str(" (never shared between different credentials)");
        }
        self.caching.push(text);
    }

    fn cookies(&mut self, samples: &[Sample]) {
        let with: Vec<&Sample> = samples.iter().filter(|sample| sample.headers.contains_key(SET_COOKIE)).collect();
        if with.is_empty() {
            return;
        }
        self.private = true;
        let values: BTreeSet<&[u8]> = with
            .iter()
            .flat_map(|sample| sample.headers.get_all(SET_COOKIE))
            .map(http::HeaderValue::as_bytes)
            .collect();
        let names: BTreeSet<String> = values
            .iter()
            .map(|value| {
                String::from_utf8_lossy(value.split(|byte| *byte == b'=').next().unwrap_or_default()).into_owned()
            })
            .collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let how =
            if values.len() > 1 && values.len() >= with.len() { "another one each time" } else { "the same each time" };
        self.sharing.push(format!(
            "Set-Cookie ({names}) on {} of {} answers, {how}. Cookies go to whoever asks for himself, never to a stream: if a session must be renewed by polls, keep the polls",
            with.len(),
            samples.len()
        ));
    }

    fn vary(&mut self, headers: &HeaderMap) {
        for name in fields::list(headers, &VARY) {
            let lower = name.to_ascii_lowercase();
            if name == "*" {
                self.private = true;
                self.sharing.push("Vary: *. No two requests are sure to get the same answer: nothing is shared between different credentials".to_owned());
            } else if lower == "cookie" || lower == "authorization" {
                self.private = true;
                self.sharing.push(format!("Vary: {name}. Everybody may get another answer"));
            } else if !USUAL.contains(&lower.as_str()) && !self.vary.contains(&lower) {
                self.vary.push(lower);
            }
        }
    }
}

/// Returns the application's content coding, if it uses one.
pub(super) fn coding(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_ENCODING)?.to_str().ok().filter(|coding| !coding.eq_ignore_ascii_case("identity"))
}

/// Parameter names that are only used to bust caches.
const BUSTERS: [&str; 12] =
    ["_", "__", "nocache", "_nocache", "no_cache", "cachebuster", "cb", "ts", "timestamp", "rand", "random", "nonce"];

/// Returns whether the parameter `name`, with `value` if it has one, is cache-busting: a page sends a different one
/// each time.
pub fn cache_buster(name: &str, value: Option<&str>) -> bool {
    let digits = |text: &str| text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    match value {
        None | Some("") => digits(name),
        Some(value) => {
            BUSTERS.iter().any(|known| name.eq_ignore_ascii_case(known))
                || (name.len() <= 2 && value.len() >= 12 && digits(value))
        }
    }
}

/// Names of parameters that hold a client's position.
const CURSORS: [&str; 14] = [
    "since",
    "after",
    "before",
    "cursor",
    "offset",
    "from",
    "last",
    "last_id",
    "lastid",
    "last_event_id",
    "rid",
    "seq",
    "position",
    "continue",
];

/// Returns whether the parameter `name` looks like a cursor: the response then depends on the client's position.
pub fn cursor(name: &str) -> bool {
    CURSORS.iter().any(|known| name.eq_ignore_ascii_case(known))
}
