//! Plain responses that do not come from the backend at this moment.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::session::RETRY_AFTER as TRY_AGAIN;
use super::wire::{has_body, response_head};
use crate::clock;
use crate::model::{Representation, Snapshot};
use crate::resource::Refusal;

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those that frame the body.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

impl Answer {
    /// A short text of our own.
    pub fn text(status: StatusCode, text: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status, headers, body: Bytes::from(format!("{text}\n")) }
    }

    /// What the application has answered to a look.
    pub fn kept(found: Representation) -> Self {
        let mut headers = found.headers;
        headers.insert(CACHE_STATUS, HeaderValue::from_static("sungrazer; hit"));
        Self { status: found.status, headers, body: found.body }
    }

    /// Whether it is what the application once said, or our own word, as the access log calls it.
    pub fn from(&self) -> &'static str {
        if self.headers.contains_key(CACHE_STATUS) { "memory" } else { "own" }
    }

    /// 503, to be tried again in a moment.
    pub fn overload(text: &str) -> Self {
        let mut answer = Self::text(StatusCode::SERVICE_UNAVAILABLE, text);
        answer.headers.insert(RETRY_AFTER, TRY_AGAIN.as_secs().into());
        answer
    }

    /// What the upstream said when it refused.
    pub fn refused(refusal: &Refusal) -> Self {
        Self { status: refusal.status, headers: refusal.headers.clone(), body: refusal.body.clone() }
    }
}

/// The answer to a plain GET from memory: 304 if the request's validators still hold, else the whole body.
///
/// `If-None-Match` may name our version or the upstream's own validator; without it `If-Modified-Since` is heeded
/// (RFC 9110 section 13.2.2).
pub fn from_memory(snapshot: &Arc<Snapshot>, request: &HeaderMap) -> Answer {
    let representation = &snapshot.representation;
    let mut headers = representation.headers.clone();
    if let Ok(etag) = HeaderValue::from_str(&snapshot.version.etag()) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CACHE_STATUS, HeaderValue::from_static("sungrazer; hit"));
    if let Some(date) = date(representation) {
        headers.insert(DATE, date);
    }
    if holds(snapshot, request) {
        headers.remove(CONTENT_TYPE);
        return Answer { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() };
    }
    Answer { status: representation.status, headers, body: representation.body.clone() }
}

/// A whole snapshot, for a client whose copy is another one, or that has none.
#[derive(Debug)]
pub struct Whole {
    snapshot: Arc<Snapshot>,
    vary: Option<&'static str>,
}

impl Whole {
    /// The answer to `request` with `snapshot`, one of several that its URL can give by what is in `vary`. `None` if there
    /// is less to say.
    pub fn of(snapshot: &Arc<Snapshot>, request: &HeaderMap, vary: Option<&'static str>) -> Option<Self> {
        let worth = has_body(snapshot.representation.status) && !holds(snapshot, request);
        worth.then(|| Self { snapshot: Arc::clone(snapshot), vary })
    }

    /// As any other answer.
    pub fn answer(&self) -> Answer {
        let mut answer = from_memory(&self.snapshot, &HeaderMap::new());
        if let Some(vary) = self.vary {
            answer.headers.append(VARY, HeaderValue::from_static(vary));
        }
        answer
    }

    /// How it begins over HTTP/1.1, up to where it may be said what becomes of the connection. The same for all who ask:
    /// a resource has one route.
    pub(super) fn head(&self) -> &Bytes {
        self.snapshot.head.get_or_init(|| {
            let mut answer = self.answer();
            answer.headers.remove(DATE);
            let mut head = response_head(answer.status, &answer.headers);
            head.extend_from_slice(format!("content-length: {}\r\n", answer.body.len()).as_bytes());
            head.freeze()
        })
    }

    /// Its date, if it is not that of our own clock.
    pub(super) fn date(&self) -> Option<HeaderValue> {
        date(&self.snapshot.representation)
    }

    /// Its body.
    pub fn body(&self) -> &Bytes {
        &self.snapshot.representation.body
    }
}

/// What the upstream's clock shows now, if that is not what ours does: pages tell the time by it.
fn date(representation: &Representation) -> Option<HeaderValue> {
    let away = Duration::from_secs(representation.ahead.unsigned_abs());
    let now = clock::wall();
    let there = match representation.ahead {
        0 => None,
        ahead if ahead > 0 => now.checked_add(away),
        _ => now.checked_sub(away),
    }?;
    let formats = there >= SystemTime::UNIX_EPOCH;
    HeaderValue::from_str(&formats.then(|| httpdate::fmt_http_date(there))?).ok()
}

/// Whether what the client has, by its own word, is this snapshot.
fn holds(snapshot: &Snapshot, request: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return names(snapshot, request);
    }
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let Some(since) = request.get(IF_MODIFIED_SINCE).and_then(date) else { return false };
    snapshot.representation.headers.get(LAST_MODIFIED).and_then(date).is_some_and(|modified| modified <= since)
}

/// Whether the request's `If-None-Match` names this snapshot.
pub(super) fn names(snapshot: &Snapshot, request: &HeaderMap) -> bool {
    let upstream = snapshot.representation.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
    request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.trim() == "*"
            || snapshot.version.matches(list)
            || upstream.is_some_and(|upstream| list.split(',').any(|tag| opaque(tag) == opaque(upstream)))
    })
}

/// Whether the client, by its `If-None-Match`, has the news that is in this snapshot, though parts of it that are no news
/// may be older; `None` if it does not say what it has.
pub(super) fn knows(snapshot: &Snapshot, request: &HeaderMap) -> Option<bool> {
    let mut lists = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    lists.peek()?;
    Some(names(snapshot, request) || lists.any(|list| snapshot.version.is_no_news_to(list)))
}

/// An entity tag without its weak mark.
fn opaque(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}
