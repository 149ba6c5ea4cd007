//! Observes the responses to polls on unconfigured paths as they pass by.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;

use crate::clock;
use crate::model::{Kind, MediaType, Representation, ResourceKey, Validators};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::upstream::Decoder;

/// A copy of a response that is passing by.
#[derive(Debug)]
pub(in crate::proxy) struct Observation {
    key: ResourceKey,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// The maximum size of an observed body. The URL of a larger response is not fetched unless configured.
const MAX_BODY: usize = 256 << 10;

/// The same for bodies other than text, markup and JSON.
const MAX_OTHER_BODY: usize = 16 << 10;

impl Gateway {
    /// Begins to observe the unmodified response to `request`, if that is useful.
    pub(in crate::proxy) fn observation(
        &self,
        request: &RequestView<'_>,
        answer: &ResponseHeader,
    ) -> Option<Box<Observation>> {
        let routes = self.routes.load();
        let path = request.target.path;
        let route = routes.find(&request.head.method, path).or_else(|| routes.learning_route(path))?;
        if !route.watch.verify_safe || !route.fetch || !request.is_plain_get() {
            return None;
        }
        let media_type = MediaType::of(&answer.headers);
        let length = answer.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let is_kept = answer.status.is_success()
            && !media_type.is_event_stream()
            && match media_type.kind() {
                Kind::Json | Kind::Html | Kind::Text | Kind::Xml => {
                    length.is_none_or(|length: usize| length <= MAX_BODY)
                }
                // Downloads and images are many and large.
                _ => length.is_some_and(|length| length <= MAX_OTHER_BODY),
            };
        if !is_kept && answer.status != StatusCode::NOT_MODIFIED {
            return None;
        }
        let facts = route.facts(&request.asks(), clock::now());
        let key = route.key(&request.asks(), &facts, false);
        if answer.status == StatusCode::NOT_MODIFIED {
            self.hub.observe(&key, None, clock::now());
            return None;
        }
        let (status, headers) = (answer.status, answer.headers.clone());
        Some(Box::new(Observation { key, status, headers, body: Vec::new() }))
    }

    /// Handles the end of the observed response.
    pub(in crate::proxy) fn observed(&self, observation: Observation) {
        let Observation { key, status, mut headers, body } = observation;
        let decode = || {
            let mut decoder = Decoder::new(&headers, MAX_BODY as u64).ok()?;
            decoder.push(&body).ok()?;
            decoder.finish().ok()
        };
        let Some(body) = decode() else { return };
        let sets_cookie = headers.contains_key(SET_COOKIE);
        headers.remove(SET_COOKIE);
        let answer = Representation {
            status,
            headers,
            body,
            validators: Validators::default(),
            sets_cookie,
            coded: None,
            ahead: 0,
        };
        self.hub.observe(&key, Some(answer), clock::now());
    }
}

impl Observation {
    /// Adds a piece of the body. Returns `false` if the body is too large.
    pub(in crate::proxy) fn push(&mut self, piece: &[u8]) -> bool {
        let fits = self.body.len() + piece.len() <= MAX_BODY;
        if fits {
            self.body.extend_from_slice(piece);
        }
        fits
    }
}

/// Adds `piece` to the observation of a response, and completes it after the last piece.
pub(in crate::proxy) fn observe(
    gateway: &Gateway,
    observation: &mut Option<Box<Observation>>,
    piece: Option<&Bytes>,
    end: bool,
) {
    if let Some(piece) = piece
        && observation.as_mut().is_some_and(|observation| !observation.push(piece))
    {
        *observation = None;
    }
    if end && let Some(observation) = observation.take() {
        gateway.observed(*observation);
    }
}
