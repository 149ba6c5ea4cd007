//! What is done with a request.

use std::sync::Arc;

use http::StatusCode;
use tracing::warn;

use super::endpoints::WebSocketOpening;
use super::forward::goes_in_circles;
use super::request::{Request, is_from_here};
use super::site::Site;
use crate::clock;
use crate::deliver::{Answer, Overload, Place, Session, Whole, Wire};
use crate::model::fields;
use crate::resource::Bell;
use crate::telemetry::brief;

/// What is done with a request.
pub(super) enum Disposition {
    /// The backend answers it, through pingora's proxy.
    Proxy,
    /// The backend answers it, and the connection is its own from then on.
    Tunnel,
    /// This answers it.
    Answer(Answer),
    /// This does, and has been made for others before.
    Whole(Whole),
    /// The client is held.
    Hold(Box<Session>),
    /// The client is held on a WebSocket.
    Socket(Box<WebSocketOpening>),
    /// The client has gone.
    Gone,
}

impl Disposition {
    /// A short text of our own.
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        Self::Answer(Answer::text(status, text))
    }
}

impl Site {
    /// Decides about `request`, which came over `wire`. Whatever cannot be decided is proxied.
    ///
    /// What takes long is boxed: each request would have to make room for it, and most are none of that.
    pub(super) async fn dispose(self: &Arc<Self>, request: &Request<'_>, wire: &mut Wire) -> Disposition {
        if goes_in_circles(request.headers()) {
            self.circles.call_once(|| {
                warn!(
                    path = &*brief(request.target.path),
                    "a request came here again and again, and was answered 508: the url of [upstream], or the application \
                     itself, leads back to this server. Name where the application listens. This is said once"
                );
            });
            let text = "This request passed through this proxy again and again: the upstream's url leads back here.";
            return Disposition::text(StatusCode::LOOP_DETECTED, text);
        }
        if let Some(rest) = self.own_path(request.target.path) {
            if request.is_oversized() {
                self.metrics.limit_hit("request_size");
                let text = "The head of this request is too large.";
                return Disposition::text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text);
            }
            return Box::pin(self.endpoint(rest, request, wire)).await;
        }
        if let Some(answer) = self.purge(request) {
            return Disposition::Answer(answer);
        }
        if self.bindings.concern(request) {
            // Whatever it is, it belongs to the connection on which its client is signed in.
            return Disposition::Proxy;
        }
        if request.is_tunnelled() {
            return Disposition::Tunnel;
        }
        if self.habits.is_used() && request.is_navigation() {
            self.habits.navigates(request.client.address, request.headers());
        }
        let routes = self.routes.load();
        let path = request.target.path;
        let route = routes.find(&request.head.method, path);
        // What no route takes may be followed nevertheless.
        let route = route.or_else(|| request.polls_for().and_then(|_| routes.learns(path))).cloned();
        drop(routes);
        match route {
            Some(route)
                if route.fetch && request.is_plain_get() && !request.is_upgrade() && self.may_watch(request) =>
            {
                match request.delivery(&route.transports) {
                    Some(delivery) => Box::pin(self.open(&route, delivery, request, wire)).await,
                    None => self.plain(&route, request, wire).await,
                }
            }
            _ if request.is_plain_get() && request.accepts("text/event-stream") => Disposition::Tunnel,
            _ => Disposition::Proxy,
        }
    }

    /// Whether an answer to `request` may come from memory, or wait. A page of another site is answered by the backend,
    /// which alone knows whether it may read the answer.
    fn may_watch(&self, request: &Request<'_>) -> bool {
        if request.is_oversized() {
            self.metrics.limit_hit("request_size");
            return false;
        }
        is_from_here(request)
    }

    /// What follows our own prefix in `path`, if it is below that.
    pub(super) fn own_path<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&self.options().prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// A place for the client of `request`, which is woken by `bell`. With `optional` it asked for an ordinary answer.
    pub(super) fn enter(&self, request: &Request<'_>, bell: &Arc<Bell>, optional: bool) -> Result<Place, Overload> {
        let place = self.streams.enter(Arc::clone(bell), request.entering(optional))?;
        Ok(place.under(self.hub.cookies(), fields::cookies(request.headers()), bell, clock::now()))
    }

    /// 503: a limit was reached.
    pub(super) fn turn_away(&self, limit: &'static str, text: &str) -> Disposition {
        self.metrics.limit_hit(limit);
        Disposition::Answer(Answer::overload(&format!("No further stream can be held now: {text}.")))
    }
}
