//! Plain responses that do not come from the backend at this moment.

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
use crate::model::{Form, Representation, Snapshot, Version, fields};
use crate::resource::{History, Refusal};

/// A whole response.
#[derive(Clone, Debug)]
pub struct LocalResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those that frame the body.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Whether a cache answered (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

impl LocalResponse {
    /// A short text of our own.
    pub fn text(status: StatusCode, text: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status, headers, body: Bytes::from(format!("{text}\n")) }
    }

    /// A JSON document of our own.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        let mut answer = Self::text(status, &value.to_string());
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    /// What the application has answered to a fetch.
    pub fn from_representation(found: Representation) -> Self {
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

/// The answer to a plain GET from memory: 304 if the request's validators still hold, else the whole body, in the coding in
/// which the upstream sent it if the client takes that. `None` if the client takes no form of it that there is.
///
/// `If-None-Match` may name our version or the upstream's own validator; without it `If-Modified-Since` counts
/// (RFC 9110 section 13.2.2).
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

/// A plain answer with `snapshot`, in whose body something is another for each client: no validator names it.
pub fn with_body(snapshot: &Snapshot, body: Bytes) -> LocalResponse {
    let mut headers = headers_of(snapshot, Form::Decoded);
    headers.remove(ETAG);
    LocalResponse { status: snapshot.representation.status, headers, body }
}

/// Response headers that tell something of the bytes, coding included.
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

/// A whole snapshot, for a client whose copy is another one, or that has none.
#[derive(Debug)]
pub struct CachedResponse {
    snapshot: Arc<Snapshot>,
    form: Form,
    vary: Option<&'static str>,
}

impl CachedResponse {
    /// The answer to `request` with `snapshot`, one of several that its URL can give by what is in `vary`. `None` if there
    /// is less to say.
    pub fn of(snapshot: &Arc<Snapshot>, request: &HeaderMap, vary: Option<&'static str>) -> Option<Self> {
        let form = Form::for_client(request, snapshot.representation.coded.as_ref())?;
        let worth = has_body(snapshot.representation.status) && !is_not_modified(snapshot, request);
        worth.then(|| Self { snapshot: Arc::clone(snapshot), form, vary })
    }

    /// As any other answer.
    pub fn answer(&self) -> LocalResponse {
        let mut headers = headers_of(&self.snapshot, self.form);
        if let Some(vary) = self.vary {
            headers.append(VARY, HeaderValue::from_static(vary));
        }
        LocalResponse { status: self.snapshot.representation.status, headers, body: self.body().clone() }
    }

    /// How it begins over HTTP/1.1, up to where it may be said what becomes of the connection. The same for all who ask
    /// for this form: a resource has one route.
    pub(super) fn head(&self) -> &Bytes {
        self.snapshot.heads[self.form as usize].get_or_init(|| {
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
        self.snapshot.body(self.form)
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
fn is_not_modified(snapshot: &Snapshot, request: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return etag_matches(snapshot, request);
    }
    // A later date may be of a state that was taken back since, or of the client's own clock.
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let since = request.get(IF_MODIFIED_SINCE).and_then(date);
    let modified = snapshot.representation.headers.get(LAST_MODIFIED).and_then(date);
    snapshot.marks.date && since.is_some() && since == modified
}

/// Whether the request's `If-None-Match` names this snapshot, by the weak comparison (RFC 9110 section 13.1.2).
fn etag_matches(snapshot: &Snapshot, request: &HeaderMap) -> bool {
    let own = snapshot.representation.entity_tag().filter(|_| snapshot.marks.tag).map(|own| own.opaque);
    let is_named = |tag: EntityTag<'_>| {
        tag.version().is_some_and(|version| version.content == snapshot.version.content)
            || own.is_some_and(|own| tag.names(own))
    };
    let mut lines = request.get_all(IF_NONE_MATCH).iter();
    lines.any(|line| line.as_bytes().trim_ascii() == b"*") || entity::tags(request, &IF_NONE_MATCH).any(is_named)
}

/// Whether the client, by its `If-None-Match`, has the news that is in the newest of these snapshots, though parts of it
/// that are no news may be older; `None` if it does not say what it has.
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
