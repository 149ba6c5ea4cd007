//! Inspects request bodies that may only read, before the request is answered.
//!
//! ```text
//! a body of known, small length ─▶ read, kept for pingora ─▶ checked against the route's rules
//!     ├ certainly a read ─▶ handled like a GET, with the body in the key; the backend receives the whole body
//!     └ anything else ─────▶ passes through unchanged
//! ```

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use crate::deliver::Downstream;
use crate::model::share::{OF_CLIENT, OF_NETWORK};
use crate::model::{AddressBucket, Owner, Ration, Taken};
use crate::post::{self, BodyRead, Posted};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::route::{Client, QUERY, Route, Target};

/// The memory for inspected bodies and for those in keys.
#[derive(Debug)]
pub struct Bodies(Arc<Ration>);

/// The limit for all bodies together, in bytes.
const MAX_OF_ALL: u64 = 64 << 20;

/// The copies of a body: as received, canonical, and as sent.
const COPIES: u64 = 4;

/// The overhead per body, in bytes.
const OVERHEAD: u64 = 512;

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Ration::new(MAX_OF_ALL, (OF_NETWORK, OF_CLIENT))))
    }
}

impl Bodies {
    /// Reserves memory for a body of `length` bytes from `client`, if available.
    fn of(&self, client: &Client, length: u64) -> Option<Taken> {
        let owner = Owner { network: client.address.map(AddressBucket::of), client: 0 };
        self.0.take(owner, length * COPIES + OVERHEAD)
    }
}

/// A body that may only read.
pub(in crate::proxy) struct Body<'a> {
    pub(in crate::proxy) method: &'a Method,
    pub(in crate::proxy) target: Target<'a>,
    pub(in crate::proxy) headers: &'a HeaderMap,
    pub(in crate::proxy) bytes: &'a [u8],
}

impl Gateway {
    /// Returns whether `request` only reads, according to its body. If so, the body has been taken off `wire` and
    /// recorded in `request`; otherwise it stays in the buffer.
    pub(in crate::proxy) async fn reads_by_body(
        &self,
        route: &Route,
        request: &RequestView<'_>,
        wire: &mut Downstream,
    ) -> bool {
        let Some(length) = request.readable_body() else { return false };
        let Some(memory) = self.bodies.of(&request.client, length) else {
            self.metrics.limit_hit("request_size");
            return false;
        };
        let Ok(bytes) = wire.peek_body(length, self.options().head_timeout).await else { return false };
        let body =
            Body { method: &request.head.method, target: request.target, headers: request.headers(), bytes: &bytes };
        let Some(read) = judge(route, &body, memory) else { return false };
        wire.discard_body(length);
        request.read.set(Arc::new(read)).is_ok()
    }

    /// Does the same for a request of `client` that arrived on a stream.
    pub(in crate::proxy) fn judge_body(&self, route: &Route, client: &Client, body: &Body<'_>) -> Option<BodyRead> {
        let length = u64::try_from(body.bytes.len()).ok().filter(|length| (1..=post::MAX_BODY).contains(length))?;
        judge(route, body, self.bodies.of(client, length)?)
    }

    /// Records the read of `request`, which arrived on a stream with the body `bytes`, if it only reads.
    pub(in crate::proxy) fn note_read(&self, request: &RequestView<'_>, bytes: &[u8]) {
        let routes = self.routes.load();
        let method = &request.head.method;
        let route = routes.find(method, request.target.path).filter(|route| route.reads_bodies(method));
        let body = Body { method, target: request.target, headers: request.headers(), bytes };
        if let Some(read) = route.and_then(|route| self.judge_body(route, &request.client, &body)) {
            // No other read has been recorded.
            let _ = request.read.set(Arc::new(read));
        }
    }
}

/// Returns whether a request by `method` may be repeated (RFC 9110 section 9.2.2).
pub(in crate::proxy) fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent() || method.as_str() == QUERY
}

/// Changes a QUERY, sent as `request`, to POST if the application needs that or `as_post` demands it now.
pub(in crate::proxy) fn set_method(request: &mut RequestHeader, as_post: bool) {
    if let Some(read) = request.extensions.get::<Arc<BodyRead>>().cloned() {
        request.set_method(if as_post { Method::POST } else { read.body.sent_by().clone() });
    }
}

/// Returns whether the QUERY with this `head` is to be sent again as POST, because of a response with `status`. Records in `as_post`
/// that it is, and for the route that the application needs that once such a POST succeeds.
pub(in crate::proxy) fn needs_post(head: &RequestHeader, status: StatusCode, as_post: &mut bool) -> bool {
    let Some(read) = head.extensions.get::<Arc<BodyRead>>() else { return false };
    if *as_post {
        if status.is_success() {
            read.body.needs_post();
        }
        return false;
    }
    *as_post = read.body.may_need_post(status);
    *as_post
}

/// Returns the error that makes pingora send a request again after a refusal with `status`: the request had no effect.
pub(in crate::proxy) fn retry(status: StatusCode) -> Box<Error> {
    let mut again = Error::new_up(ErrorType::HTTPStatus(status.as_u16()));
    again.set_retry(true);
    again
}

fn judge(route: &Route, body: &Body<'_>, memory: Taken) -> Option<BodyRead> {
    let content_type = body.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let posted = Posted { method: body.method, query: body.target.query, content_type, body: body.bytes };
    match &route.post {
        rules if body.method.as_str() == QUERY => post::query(posted, rules.as_deref(), memory),
        Some(rules) => rules.read(posted, memory),
        None => None,
    }
}
