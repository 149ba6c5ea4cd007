//! Classifies responses of the upstream to fetches.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, DATE, ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::FetchRequest;
use crate::model::fields;
use crate::model::{Coded, MediaType, Representation, Validators};
use crate::resource::{Decline, Failure, FetchOutcome, Refusal};

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers as received.
    pub headers: HeaderMap,
}

/// Classifies a response by its head alone, before the body is read. `Err` is the final outcome; `Ok` means that the
/// body is needed.
pub fn classify_head(request: &FetchRequest<'_>, answer: &Answer, now: SystemTime) -> Result<(), Box<FetchOutcome>> {
    let status = answer.status;
    match status.as_u16() {
        206 => return Err(failed(answer, now, "206 Partial Content to a request for the whole")),
        201..=299 if request.key.body.is_some() => {
            return Err(failed(answer, now, &format!("the upstream answered {status}, which is for whoever asked")));
        }
        200..=299 => {}
        304 if !request.validators.is_empty() => {
            // The new head replaces the stored one, and may add fields to it (RFC 9111 section 4.3.4).
            return Err(Box::new(match sharing_violation(request, &answer.headers) {
                Some(decline) => FetchOutcome::Declined(decline),
                None => FetchOutcome::NotModified(shared_headers(&answer.headers)),
            }));
        }
        408 | 425 | 429 | 500..=599 => {
            return Err(failed(answer, now, &format!("the upstream answered {status}")));
        }
        300..=499 => return Ok(()),
        _ => {
            return Err(failed(
                answer,
                now,
                &format!("the upstream answered {status}, which is no final answer to a GET"),
            ));
        }
    }
    if MediaType::of(&answer.headers).is_event_stream() {
        return Err(Box::new(FetchOutcome::Declined(Decline::OwnStream)));
    }
    let decline = sharing_violation(request, &answer.headers).or_else(|| marks_of_one(request, &answer.headers));
    match decline {
        Some(decline) => Err(Box::new(FetchOutcome::Declined(decline))),
        None => Ok(()),
    }
}

/// Returns why a response to a request with a body is for one client alone: such requests may sign in or lead to a
/// redirect.
fn marks_of_one(request: &FetchRequest<'_>, headers: &HeaderMap) -> Option<Decline> {
    let marks = [(SET_COOKIE, "Set-Cookie"), (LOCATION, "Location")];
    let mut borne = marks.into_iter().filter(|(name, _)| headers.contains_key(name));
    let (_, header) = borne.next().filter(|_| request.key.body.is_some())?;
    Some(Decline::ForOne { header })
}

/// Classifies a response by its decoded body, and the coded one if it had a content coding, after [`classify_head`]
/// accepted the head. `now` is the wall-clock time.
pub fn classify_body(answer: &Answer, body: Bytes, coded: Option<Coded>, now: SystemTime) -> FetchOutcome {
    let headers = shared_headers(&answer.headers);
    if answer.status.is_success() {
        FetchOutcome::Fresh(Representation {
            status: answer.status,
            headers,
            body,
            coded,
            validators: validators(&answer.headers),
            sets_cookie: answer.headers.contains_key(SET_COOKIE),
            ahead: ahead(&answer.headers, now),
        })
    } else {
        FetchOutcome::Refused(Refusal { status: answer.status, headers, body })
    }
}

/// Returns the reason why a response to `key` may not be shared among all clients with that key.
fn sharing_violation(request: &FetchRequest<'_>, headers: &HeaderMap) -> Option<Decline> {
    let key = request.key;
    let whole = key.identity.is_full();
    if !whole && let Some(reason) = private_marker(headers) {
        return Some(Decline::Private { reason });
    }
    if let Some(replaced) = fields::replaced(key.identity.cookies(), headers).first() {
        // The cookie is used up now: the next fetch would be refused, and the client would be signed out.
        let cookie = String::from_utf8_lossy(fields::cookie_name(replaced.pair)).into_owned();
        return Some(Decline::Rotates { cookie });
    }
    let mut unknown: Vec<String> = Vec::new();
    for name in fields::list(headers, &VARY) {
        if name == "*" {
            // The response varies by unknown factors, so it is shared only among clients that are equal in all known
            // ones.
            let all = fields::DESCRIPTIONS.iter().filter(|name| !key.variant.iter().any(|(split, _)| split == *name));
            unknown.extend(all.map(|name| (*name).to_owned()));
            continue;
        }
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        // Content coding is handled by this server and removed before a comparison.
        let known = !fields::may_vary_key(&name)
            || key.variant.iter().any(|(split, _)| *split == name)
            || (whole && !fields::is_neutral(&name) && !request.ignored.contains(&name));
        if !known {
            unknown.push(name.as_str().to_owned());
        }
    }
    if unknown.is_empty() {
        return None;
    }
    if !whole && unknown.iter().any(|name| name.parse::<HeaderName>().is_ok_and(|name| !fields::is_neutral(&name))) {
        return Some(Decline::Private { reason: "Vary by something that identifies a client" });
    }
    Some(Decline::Vary { names: unknown })
}

/// Returns the marker that makes a response belong to one client, if there is one.
fn private_marker(headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(SET_COOKIE) {
        return Some("Set-Cookie");
    }
    for directive in fields::list(headers, &CACHE_CONTROL) {
        let name = directive.split('=').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("private") {
            return Some("Cache-Control: private");
        }
        if name.eq_ignore_ascii_case("no-store") {
            return Some("Cache-Control: no-store");
        }
    }
    fields::list(headers, &VARY).any(|name| name == "*").then_some("Vary: *")
}

/// A body that was modified this recently may be modified again without a new validator: dates have a resolution of one
/// second, and so do entity tags that servers derive from them.
const VALIDATOR_SETTLE_TIME: Duration = Duration::from_secs(2);

/// Returns the validators that are reliable enough for the next request (RFC 9110 section 8.8.2.2).
fn validators(headers: &HeaderMap) -> Validators {
    let date =
        |value: Option<&HeaderValue>| value.and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let modified = date(headers.get(LAST_MODIFIED));
    let settled = match (modified, date(headers.get(DATE))) {
        (Some(modified), Some(sent)) => sent.duration_since(modified).is_ok_and(|age| age >= VALIDATOR_SETTLE_TIME),
        (Some(_), None) => false,
        (None, _) => true,
    };
    if !settled {
        return Validators::default();
    }
    Validators { etag: headers.get(ETAG).cloned(), last_modified: modified.and(headers.get(LAST_MODIFIED).cloned()) }
}

/// The tolerance in seconds below which clocks count as equal: dates have whole seconds, and responses take time.
const CLOCKS_AGREE: i64 = 2;

/// The difference in seconds above which `Date` is not a clock: a century.
const CLOCKS_AWAY: i64 = 100 * 365 * 24 * 60 * 60;

/// Returns by how many seconds the clock in `Date` is ahead of `now`.
fn ahead(headers: &HeaderMap, now: SystemTime) -> i64 {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())
    };
    let date = headers.get(DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let ahead = date.and_then(seconds).zip(seconds(now)).map_or(0, |(date, now)| date - now);
    if (CLOCKS_AGREE + 1..=CLOCKS_AWAY).contains(&ahead.abs()) { ahead } else { 0 }
}

fn shared_headers(headers: &HeaderMap) -> HeaderMap {
    let mut shared = headers.clone();
    let own = headers.keys().filter(|name| fields::is_per_client(name)).cloned();
    for name in fields::hop_by_hop(headers).into_iter().chain(own) {
        shared.remove(name);
    }
    shared
}

fn failed(answer: &Answer, now: SystemTime, text: &str) -> Box<FetchOutcome> {
    Box::new(FetchOutcome::Failed(Failure {
        status: Some(answer.status.as_u16()),
        retry_after: answer
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, now)),
        text: text.to_owned(),
    }))
}

/// Parses `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    match value.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value.trim()).ok()?.duration_since(now).ok(),
    }
}
