//! The list of URLs of a multiplexed stream, from the query or from a posted JSON object.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::deliver::{MAX_URLS, PostedBody, SubscribeRequest, resume_multiplexed};
use crate::model::{DeltaKind, ParseDeltaKindError, ResumeFrom};
use crate::proxy::request::view::RequestView;
use crate::proxy::watched::dispatch::Dispatch;
use crate::proxy::watched::settable_header::settable_header;

/// The reason why a list of URLs is refused. The texts are the bodies of 400 responses.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowListError {
    /// The body is not the JSON object that `POST {prefix}/stream` takes.
    #[error("The list of what to follow cannot be read: {0}.")]
    Malformed(#[from] serde_json::Error),
    /// The kind of delta does not exist.
    #[error("{0}.")]
    Delta(#[from] ParseDeltaKindError),
    /// The application would read this header as one of the client's own, or it is not well-formed.
    #[error("The header {0:?} cannot be set.")]
    Header(String),
    /// A URL cannot be requested with this method and body.
    #[error("{0:?} {1}.")]
    Body(String, &'static str),
    /// The list is empty.
    #[error("Say what to follow: stream?url=/path&url=/other.")]
    Empty,
    /// The list is too long.
    #[error("One stream follows at most {MAX_URLS} URLs.")]
    TooLong,
}

impl From<FollowListError> for Dispatch {
    fn from(error: FollowListError) -> Self {
        Self::text(StatusCode::BAD_REQUEST, &error.to_string())
    }
}

/// Options that a posted list sets for the whole stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FollowOptions {
    /// Whether snapshots include the headers of their responses.
    pub(super) headers: bool,
    /// Whether snapshots include headers, and bodies in their exact spelling.
    pub(super) exact: bool,
    /// Whether the stream ends after the first update.
    pub(super) once: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FollowBody {
    follow: Vec<FollowUrl>,
    #[serde(default)]
    headers: bool,
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    once: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FollowUrl {
    url: String,
    since: Option<String>,
    delta: Option<String>,
    #[serde(default)]
    tick: bool,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    /// Whether to confirm that the client's state is current, if it is.
    #[serde(default)]
    confirm: bool,
    /// Whether the confirmation may wait for the next fetch, while the client asks the application.
    #[serde(default)]
    patient: bool,
    /// The client's own polling interval, in milliseconds.
    every: Option<u64>,
    /// Whether this is the page that the client displays.
    #[serde(default)]
    page: bool,
    /// The method of the client's own request, unless it is a GET.
    method: Option<String>,
    /// The body of the client's own request.
    body: Option<String>,
}

/// Parses `url=`, `tick=`, `since=` (one for each URL in turn) and `delta=` in the query.
pub(super) fn from_query(request: &RequestView<'_>) -> Result<Vec<SubscribeRequest>, FollowListError> {
    let delta = parse_delta(request.target.parameter("delta").as_deref())?.or_else(|| request.delta());
    let urls = request.target.parameters("url").map(|url| (url, false));
    let ticks = request.target.parameters("tick").map(|url| (url, true));
    let mut since = request.target.parameters("since");
    let list: Vec<SubscribeRequest> = urls
        .chain(ticks)
        .enumerate()
        .map(|(number, (url, tick))| {
            let claim = since.next().and_then(|since| ResumeFrom::parse(&since)).map(Box::new);
            SubscribeRequest { url: url.into(), number, resume_from: claim, delta, tick, ..SubscribeRequest::default() }
        })
        .collect();
    let last = request.last_event_id();
    let claims = last.map(|id| resume_multiplexed(&id, list.len())).unwrap_or_default();
    let list = list.into_iter().enumerate().map(|(number, item)| match claims.get(number) {
        Some(Some(claim)) => SubscribeRequest { resume_from: Some(Box::new(claim.clone())), ..item },
        _ => item,
    });
    check_count(list.collect())
}

/// Parses a posted list.
pub(super) fn from_body(body: &Bytes) -> Result<(Vec<SubscribeRequest>, FollowOptions), FollowListError> {
    let FollowBody { follow, headers, exact, once } = serde_json::from_slice(body)?;
    let list = follow.into_iter().enumerate().map(|(number, item)| {
        let delta = parse_delta(item.delta.as_deref())?;
        let headers = item
            .headers
            .iter()
            .map(|(name, value)| settable_header(name, value).ok_or_else(|| FollowListError::Header(name.clone())));
        let posted = PostedBody::of(item.method.as_deref(), item.body);
        Ok(SubscribeRequest {
            posted: posted.map_err(|reason| FollowListError::Body(item.url.clone(), reason))?,
            url: item.url.into(),
            number,
            resume_from: item.since.as_deref().and_then(ResumeFrom::parse).map(Box::new),
            delta,
            tick: item.tick,
            headers: headers.collect::<Result<_, _>>()?,
            confirm: item.confirm,
            patient: item.patient,
            interval: item.every.map(Duration::from_millis),
            page: item.page,
        })
    });
    let list = check_count(list.collect::<Result<_, FollowListError>>()?)?;
    Ok((list, FollowOptions { headers, exact, once }))
}

fn parse_delta(name: Option<&str>) -> Result<Option<DeltaKind>, FollowListError> {
    Ok(name.map(str::parse).transpose()?)
}

fn check_count(list: Vec<SubscribeRequest>) -> Result<Vec<SubscribeRequest>, FollowListError> {
    match list.len() {
        0 => Err(FollowListError::Empty),
        1..=MAX_URLS => Ok(list),
        _ => Err(FollowListError::TooLong),
    }
}
