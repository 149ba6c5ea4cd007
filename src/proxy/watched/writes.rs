//! Forwarded writes: the affected clients and resources, and the states that must not be served afterwards.
//!
//! ```text
//! unsafe request ─▶ answered ─▶ Clients: older states no longer count for this client; its held polls and
//!                      │          streams are told before the answer is sent
//!                      ├▶ routes whose refresh_on matches: fetch now, since a failed request may have changed something first
//!                      └ 2xx, 3xx ─▶ own URI, Location, Content-Location, cache groups: fetch now
//! ```

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use pingora::http::RequestHeader;
use tokio::time::Instant;

use crate::clock;
use crate::model::fields::{self, CACHE_GROUP_INVALIDATION, CACHE_GROUPS};
use crate::poll::PostPollDetector;
use crate::proxy::gateway::Gateway;
use crate::proxy::request::uri_reference::resolve;
use crate::proxy::request::view::{Peer, RequestView};
use crate::proxy::watched::clients::{Clients, Who};
use crate::resource::{Trigger, UNKNOWN_WRITE, Writing};
use crate::route::Target;

/// The writes of clients, and repeated requests.
#[derive(Debug)]
pub struct WriteLog {
    hasher: RandomState,
    pub(in crate::proxy) clients: Clients,
    repetitions: Mutex<PostPollDetector>,
}

/// The maximum number of body bytes that are examined to distinguish a poll from a write.
const MAX_SHAPE: usize = 4096;

/// How long the response to a write waits at most until the client's own streams have announced it.
const TOLD_WITHIN: Duration = Duration::from_millis(50);

/// How long a write waits at most for the end of fetches of a page that its client displays. A one-time message about
/// the write would otherwise go to the fetch.
const CLEAR_WITHIN: Duration = Duration::from_millis(500);

impl WriteLog {
    /// Creates an empty log.
    pub fn new(now: Instant) -> Self {
        Self { hasher: RandomState::new(), clients: Clients::new(now), repetitions: Mutex::default() }
    }

    fn is_poll(&self, signature: u64, changes: u64, now: Instant) -> bool {
        self.repetitions.lock().unwrap_or_else(PoisonError::into_inner).record(signature, changes, now)
    }
}

/// The signature of an upload: its text without numbers.
#[derive(Debug, Default)]
pub(in crate::proxy) struct BodySignature {
    text: Vec<u8>,
}

impl BodySignature {
    /// Adds a piece of the upload.
    pub(in crate::proxy) fn push(&mut self, piece: &[u8]) {
        for byte in piece.iter().take(MAX_SHAPE.saturating_sub(self.text.len())) {
            let digit = byte.is_ascii_digit();
            if !(digit && self.text.last() == Some(&b'#')) {
                self.text.push(if digit { b'#' } else { *byte });
            }
        }
    }
}

impl Gateway {
    /// Records `request` if it may have changed something. The backend has answered it with `status` and `headers`; the
    /// client has not received the response yet.
    pub(in crate::proxy) fn record_write(
        &self,
        request: &RequestView<'_>,
        shape: &BodySignature,
        status: StatusCode,
        headers: &HeaderMap,
    ) {
        if !request.may_write() {
            return;
        }
        let method = &request.head.method;
        let now = clock::now();
        // Every such request may be a write, whatever its purpose.
        self.writes.clients.wrote(&self.who(request), now);
        let routes = self.routes.load();
        let path = request.target.path;
        let concerned: Vec<_> = routes
            .iter()
            .filter(|route| route.refresh_on.iter().any(|pattern| pattern.matches(method, path)))
            .collect();
        let named = concerned
            .iter()
            .any(|route| route.refresh_on.iter().any(|pattern| !pattern.is_general() && pattern.matches(method, path)));
        let signature = self.writes.hasher.hash_one((request.client.address, method, request.target, &shape.text));
        let changes = concerned.iter().map(|route| route.events.changes()).sum();
        // A write without an observable effect may still have one.
        let seen = concerned.iter().any(|route| route.metrics.resources().get() > 0 || route.events.has_listeners());
        let repeated = seen && self.writes.is_poll(signature, changes, now);
        if !named && repeated {
            return;
        }
        // A request that a timer repeats may be a write, but it does not trigger the polls of others or its own.
        let by_timer = request.is_marked_as_poll();
        let said = if by_timer { &BodySignature::default() } else { shape };
        let write_class = self.writes.hasher.hash_one(write_class(method, path, said));
        let is_well = is_well(status);
        for route in concerned {
            if is_well {
                route.events.record_well(now);
            }
            // A route that names such requests declares their effect.
            let named = route.refresh_on.iter().any(|pattern| !pattern.is_general() && pattern.matches(method, path));
            route.events.publish_write(Trigger::Write, if named { UNKNOWN_WRITE } else { write_class }, now);
            if named || !by_timer {
                route.events.tick();
            }
        }
        if status.is_success() || status.is_redirection() {
            self.invalidate(request, headers, now);
        }
    }

    /// The same for a request from `peer` of which only the head is known: it moves the fence but triggers no fetch.
    pub(in crate::proxy) fn wrote_unread(&self, head: &RequestHeader, peer: Peer) {
        if !head.method.is_safe() || fields::overrides_method(&head.headers) {
            let address = self.options().trusted.client_address(peer.address, &head.headers);
            self.writes.clients.wrote(&self.writes.clients.who(address, &head.headers), clock::now());
        }
    }

    /// Returns the client that sent `request`.
    pub(in crate::proxy) fn who(&self, request: &RequestView<'_>) -> Who {
        self.writes.clients.who(request.client.address, request.headers())
    }

    /// Returns when the client of `request` last wrote or might have written.
    pub(in crate::proxy) fn last_write(&self, request: &RequestView<'_>) -> Instant {
        self.writes.clients.last(&self.who(request))
    }

    /// Prepares to send `request`. If it may be a write, no fetch of a page that its client displays begins until it
    /// has been answered, which is when the returned guards are dropped, and the page has been loaded again.
    pub(in crate::proxy) async fn begins(&self, request: &RequestView<'_>) -> Vec<Writing> {
        if !request.may_write() {
            return Vec::new();
        }
        let writing = self.writes.clients.writes(&self.who(request), clock::now());
        join_all(writing.iter().map(|writing| writing.cleared(CLEAR_WITHIN))).await;
        writing
    }

    /// Completes when the streams of the client of `request`, which was just recorded as a write, have announced that
    /// their states may be old. The client must not learn earlier that the write is done.
    pub(in crate::proxy) async fn told_of_write(&self, request: &RequestView<'_>) {
        if !request.may_write() {
            return;
        }
        let fences = self.writes.clients.held(&self.who(request));
        let settled = fences.iter().map(|fence| fence.settled(TOLD_WITHIN));
        join_all(settled).await;
    }

    /// Triggers the resources that the response names (RFC 9111 section 4.4), whatever routes say.
    fn invalidate(&self, request: &RequestView<'_>, headers: &HeaderMap, now: Instant) {
        let origin = &request.client.origin;
        let own = request.target.canonical(&[]);
        let named = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| {
            resolve(request.target, headers.get(name)?.to_str().ok()?, origin.scheme.as_str(), &origin.public)
        });
        let routes = self.routes.load();
        for target in std::iter::once(own).chain(named) {
            let Some(parsed) = Target::parse(&target) else { continue };
            let target = routes.find_path(parsed.path).map_or(target.clone(), |route| route.canonical(parsed));
            for resource in self.hub.with_target(&target) {
                resource.fence(now);
                resource.record_well(now);
                resource.trigger(Trigger::Write);
            }
        }
        if headers.contains_key(&CACHE_GROUP_INVALIDATION) {
            let stale = fields::groups(headers, &CACHE_GROUP_INVALIDATION);
            for resource in self.hub.resources() {
                let belongs = resource.state().newest().is_some_and(|newest| {
                    fields::groups(&newest.representation.headers, &CACHE_GROUPS)
                        .iter()
                        .any(|group| stale.contains(group))
                });
                if belongs && resource.key().origin.public == request.client.origin.public {
                    resource.fence(now);
                    resource.trigger(Trigger::Write);
                }
            }
        }
    }
}

/// Returns whether a response shows that the application is healthy and does not object to requests.
pub(in crate::proxy) fn is_well(status: StatusCode) -> bool {
    !status.is_server_error() && ![408, 425, 429].contains(&status.as_u16())
}

/// Returns the class of a write. Writes with equal classes most likely have similar effects: `PUT`, `PATCH` and
/// `DELETE` to siblings of one place; other requests only with the same signature.
fn write_class<'a>(method: &'a Method, path: &'a str, shape: &'a BodySignature) -> (&'a str, Vec<&'a str>, &'a [u8]) {
    let is_of_place = [Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let place = if is_of_place { path.rsplit_once('/').map_or(path, |(place, _)| place) } else { path };
    let is_name = |segment: &str| segment.bytes().any(|byte| byte.is_ascii_digit());
    let segments = place.split('/').map(|segment| if is_name(segment) { "#" } else { segment }).collect();
    (method.as_str(), segments, if is_of_place { &[] } else { &shape.text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_no_difference_to_a_shape() {
        let shape = |pieces: &[&str]| {
            let mut shape = BodySignature::default();
            for piece in pieces {
                shape.push(piece.as_bytes());
            }
            shape.text
        };
        assert_eq!(shape(&["{\"id\":1,\"m\":\"get\"}"]), shape(&["{\"id\":123", "45,\"m\":\"get\"}"]));
        assert_ne!(shape(&["{\"id\":1,\"m\":\"get\"}"]), shape(&["{\"id\":1,\"m\":\"add\"}"]));
        assert!(shape(&["x"; 100_000]).len() <= MAX_SHAPE);
    }

    #[test]
    fn writes_are_alike_that_do_the_same_to_others_of_a_kind() {
        let shape = |text: &str| {
            let mut shape = BodySignature::default();
            shape.push(text.as_bytes());
            shape
        };
        let (one, two) = (shape("a=1&b=x"), shape("a=2&b=y"));
        for (method, path, other, alike) in [
            (Method::PUT, "/layouts/main", "/layouts/other", true),
            (Method::DELETE, "/jobs/17/notes/a", "/jobs/18/notes/b", true),
            (Method::PUT, "/layouts/main", "/files/main", false),
            (Method::POST, "/jobs/17/stop", "/jobs/4f3a-9/stop", false),
        ] {
            let (a, b) = (write_class(&method, path, &one), write_class(&method, other, &two));
            assert_eq!(a == b, alike, "{method} {path} and {other}");
        }
        let (post, again) = (shape("a=1&b=x"), shape("a=77&b=x"));
        assert_eq!(
            write_class(&Method::POST, "/jobs/17/stop", &post),
            write_class(&Method::POST, "/jobs/18/stop", &again)
        );
        assert_ne!(write_class(&Method::POST, "/a", &post), write_class(&Method::PUT, "/a/b", &post));
    }
}
