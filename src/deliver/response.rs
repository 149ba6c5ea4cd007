//! Plain responses that Sungrazer sends without the backend.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::downstream::{has_body, response_head};
use super::session::RETRY_AFTER as TRY_AGAIN;
use crate::clock;
use crate::model::entity::{self, EntityTag};
use crate::model::{Form, HeaderEdits, Representation, Snapshot, Version, fields};
use crate::resource::{History, Refusal};

/// A complete response.
#[derive(Clone, Debug)]
pub struct LocalResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that frame the body.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Says whether a cache answered (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

impl LocalResponse {
    /// Returns a short text response of this server.
    pub fn text(status: StatusCode, text: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status, headers, body: Bytes::from(format!("{text}\n")) }
    }

    /// Returns a JSON response of this server.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        let mut answer = Self::text(status, &value.to_string());
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    /// Returns the application's response to a fetch.
    pub fn from_representation(found: Representation) -> Self {
        let mut headers = found.headers;
        headers.insert(CACHE_STATUS, HeaderValue::from_static("sungrazer; hit"));
        Self { status: found.status, headers, body: found.body }
    }

    /// Returns the source of the response for the access log: `memory` for a stored response of the application, `own`
    /// for a response of this server.
    pub fn from(&self) -> &'static str {
        if self.headers.contains_key(CACHE_STATUS) { "memory" } else { "own" }
    }

    /// Returns a 503 with `Retry-After`.
    pub fn overload(text: &str) -> Self {
        let mut answer = Self::text(StatusCode::SERVICE_UNAVAILABLE, text);
        answer.headers.insert(RETRY_AFTER, TRY_AGAIN.as_secs().into());
        answer
    }

    /// Returns the response with which the upstream refused.
    pub fn refused(refusal: &Refusal) -> Self {
        Self { status: refusal.status, headers: refusal.headers.clone(), body: refusal.body.clone() }
    }
}

/// Returns the response to a plain GET from memory: 304 if the request's validators still match, else the whole body,
/// with the upstream's content coding if the client accepts it. Returns `None` if the client accepts no available form.
///
/// `If-None-Match` may contain a version of this server or the upstream's own validator; without it `If-Modified-Since`
/// counts (RFC 9110 section 13.2.2).
pub fn from_memory(snapshot: &Arc<Snapshot>, request: &HeaderMap) -> Option<LocalResponse> {
    let representation = &snapshot.representation;
    let form = Form::for_client(request, representation.coded.as_ref())?;
    let mut headers = headers_of(snapshot, form);
    if is_not_modified(snapshot, request) {
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_ENCODING);
        return Some(LocalResponse { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() });
    }
    Some(LocalResponse { status: representation.status, headers, body: snapshot.body(form).clone() })
}

/// Creates a plain response with `snapshot` and a body with client-specific values: it has no validator.
pub fn with_body(snapshot: &Snapshot, body: Bytes) -> LocalResponse {
    let mut headers = headers_of(snapshot, Form::Decoded);
    headers.remove(ETAG);
    LocalResponse { status: snapshot.representation.status, headers, body }
}

/// Response headers that contain a digest of the bytes, including their content coding.
const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

fn headers_of(snapshot: &Snapshot, form: Form) -> HeaderMap {
    let mut headers = snapshot.representation.headers.clone();
    if let Some(etag) = snapshot.etag(form) {
        headers.insert(ETAG, etag);
    }
    if snapshot.representation.coded.is_some() && !fields::has_token(&headers, &VARY, "accept-encoding") {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if let Some(coding) = snapshot.coding(form) {
        headers.insert(CONTENT_ENCODING, coding);
    }
    if form != Form::Sent {
        DIGESTS.iter().for_each(|name| drop(headers.remove(*name)));
    }
    headers.insert(CACHE_STATUS, HeaderValue::from_static("sungrazer; hit"));
    if let Some(date) = date(&snapshot.representation) {
        headers.insert(DATE, date);
    }
    headers
}

/// A complete snapshot, for a client that has no copy or an old one.
#[derive(Debug)]
pub struct CachedResponse {
    snapshot: Arc<Snapshot>,
    form: Form,
    vary: Option<&'static str>,
    edits: HeaderEdits,
}

impl CachedResponse {
    /// Returns the response to `request` with `snapshot`, which is one of several variants of its URL if `vary` is set.
    /// Returns `None` if a response without a body is enough.
    pub fn of(snapshot: &Arc<Snapshot>, request: &HeaderMap, vary: Option<&'static str>) -> Option<Self> {
        let form = Form::for_client(request, snapshot.representation.coded.as_ref())?;
        let worth = has_body(snapshot.representation.status) && !is_not_modified(snapshot, request);
        worth.then(|| Self { snapshot: Arc::clone(snapshot), form, vary, edits: HeaderEdits::default() })
    }

    /// Changes its headers. The changes must be the same for all responses with this snapshot.
    pub fn edit(&mut self, edits: &HeaderEdits) {
        self.edits = edits.clone();
    }

    /// Returns the same as a general response.
    pub fn answer(&self) -> LocalResponse {
        let mut headers = headers_of(&self.snapshot, self.form);
        if let Some(vary) = self.vary {
            headers.append(VARY, HeaderValue::from_static(vary));
        }
        self.edits.apply(&mut headers);
        LocalResponse { status: self.snapshot.representation.status, headers, body: self.body().clone() }
    }

    /// Returns the beginning of the HTTP/1.1 head, up to the point where connection headers may follow. It is the same
    /// for all clients that receive this form, since a resource has one route.
    pub(super) fn head(&self) -> &Bytes {
        self.snapshot.heads[self.form as usize].get_or_init(|| {
            let mut answer = self.answer();
            answer.headers.remove(DATE);
            let mut head = response_head(answer.status, &answer.headers);
            head.extend_from_slice(format!("content-length: {}\r\n", answer.body.len()).as_bytes());
            head.freeze()
        })
    }

    /// Returns the value for `Date` if the upstream's clock differs from ours.
    pub(super) fn date(&self) -> Option<HeaderValue> {
        date(&self.snapshot.representation)
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        self.snapshot.body(self.form)
    }
}

/// Returns the current time of the upstream's clock if it differs from ours, because pages use `Date` as their clock.
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

/// Returns whether the client's validators match this snapshot.
fn is_not_modified(snapshot: &Snapshot, request: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return etag_matches(snapshot, request);
    }
    // A later date may belong to a state that was since reverted, or to the client's own clock.
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let since = request.get(IF_MODIFIED_SINCE).and_then(date);
    let modified = snapshot.representation.headers.get(LAST_MODIFIED).and_then(date);
    snapshot.marks.date && since.is_some() && since == modified
}

/// Returns whether `If-None-Match` matches this snapshot, by the weak comparison (RFC 9110 section 13.1.2).
fn etag_matches(snapshot: &Snapshot, request: &HeaderMap) -> bool {
    let own = snapshot.representation.entity_tag().filter(|_| snapshot.marks.tag).map(|own| own.opaque);
    let is_named = |tag: EntityTag<'_>| {
        tag.version().is_some_and(|version| version.content == snapshot.version.content)
            || own.is_some_and(|own| tag.names(own))
    };
    let mut lines = request.get_all(IF_NONE_MATCH).iter();
    lines.any(|line| line.as_bytes().trim_ascii() == b"*") || entity::tags(request, &IF_NONE_MATCH).any(is_named)
}

/// Returns whether the client, according to its `If-None-Match`, has a state with the meaning of the newest snapshot,
/// though ignored parts of it may be older. Returns `None` if the request has no `If-None-Match`.
pub(super) fn has_current_meaning(history: &History, request: &HeaderMap) -> Option<bool> {
    let newest = history.newest().filter(|_| request.contains_key(IF_NONE_MATCH))?;
    let meaning = newest.version.meaning;
    let means = |version: Version| version.meaning == meaning;
    let mut alike = history.iter().filter(|snapshot| means(snapshot.version));
    Some(
        alike.any(|snapshot| etag_matches(snapshot, request))
            || entity::tags(request, &IF_NONE_MATCH).filter_map(|tag| tag.version()).any(means),
    )
}
