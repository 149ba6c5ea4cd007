//! Requests that read by their bodies: looked into before anybody answers them.
//!
//! ```text
//! a body of known, small length ─▶ read, and kept so that pingora reads it, too ─▶ judged by the route's rules
//!     ├ certainly a read ─▶ like a GET from here on, with its body in the key; if the backend is to answer it, it gets all of it
//!     └ anything else ─────▶ passes through as it came
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

/// The memory for bodies that are looked into, and for those that are parts of keys.
#[derive(Debug)]
pub struct Bodies(Arc<Ration>);

/// All of them together, in bytes.
const MAX_OF_ALL: u64 = 64 << 20;

/// A body is kept as it came, in its canonical form, and as it is sent.
const COPIES: u64 = 4;

/// What one costs besides.
const OVERHEAD: u64 = 512;

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Ration::new(MAX_OF_ALL, (OF_NETWORK, OF_CLIENT))))
    }
}

impl Bodies {
    /// The memory for one of `length` bytes of `client`, if there is so much.
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
    /// Whether `request` only reads what its body asks for. If so the body has been taken off `wire`, and `request` knows it;
    /// otherwise it is where it was.
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

    /// The same of a request of `client` that came over a stream.
    pub(in crate::proxy) fn judge_body(&self, route: &Route, client: &Client, body: &Body<'_>) -> Option<BodyRead> {
        let length = u64::try_from(body.bytes.len()).ok().filter(|length| (1..=post::MAX_BODY).contains(length))?;
        judge(route, body, self.bodies.of(client, length)?)
    }

    /// Takes note of what `request`, which came over a stream with the body `bytes`, reads by that, if it only reads.
    pub(in crate::proxy) fn note_read(&self, request: &RequestView<'_>, bytes: &[u8]) {
        let routes = self.routes.load();
        let method = &request.head.method;
        let route = routes.find(method, request.target.path).filter(|route| route.reads_bodies(method));
        let body = Body { method, target: request.target, headers: request.headers(), bytes };
        if let Some(read) = route.and_then(|route| self.judge_body(route, &request.client, &body)) {
            // Nothing else has been noted of it.
            let _ = request.read.set(Arc::new(read));
        }
    }
}

/// Returns whether a request by `method` may be repeated (RFC 9110 section 9.2.2).
pub(in crate::proxy) fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent() || method.as_str() == QUERY
}

/// Makes the QUERY that is sent as `request` a POST if the application needs that, or is to be asked so now (`as_post`).
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

/// The error by which pingora sends a request again that was refused with `status`: it has done nothing.
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
