//! Dispatches requests.

use std::sync::Arc;

use http::StatusCode;
use http::header::CACHE_CONTROL;
use tracing::warn;

use crate::clock;
use crate::deliver::{AdmissionError, CachedResponse, Downstream, LocalResponse, Session, StreamPermit};
use crate::model::fields;
use crate::proxy::gateway::Gateway;
use crate::proxy::request::forwarded::is_forwarding_loop;
use crate::proxy::request::view::{RequestView, is_same_site};
use crate::proxy::watched::endpoints::WebSocketOpening;
use crate::resource::TaskNotify;
use crate::telemetry::brief;

/// The handling of a request.
pub(in crate::proxy) enum Dispatch {
    /// The backend answers, through pingora's proxy.
    Proxy,
    /// The backend answers, and takes over the connection.
    Tunnel,
    /// Answer with this response.
    Answer(LocalResponse),
    /// Answer with this cached response.
    Cached(CachedResponse),
    /// Hold the client on a stream.
    HoldStream(Box<Session>),
    /// Hold the client on a WebSocket.
    Socket(Box<WebSocketOpening>),
    /// The client has gone.
    ClientGone,
}

impl Dispatch {
    /// Returns a short text response of this server.
    pub(in crate::proxy) fn text(status: StatusCode, text: &str) -> Self {
        Self::Answer(LocalResponse::text(status, text))
    }
}

impl Gateway {
    /// Decides how to handle `request`, which arrived over `wire`. Undecidable requests are proxied.
    ///
    /// Large futures are boxed, because otherwise every request would reserve memory for them.
    pub(in crate::proxy) async fn dispatch(
        self: &Arc<Self>,
        request: &RequestView<'_>,
        wire: &mut Downstream,
    ) -> Dispatch {
        if let Some(refusal) = self.exceeds_limits(request.client.address, request.head) {
            return Dispatch::Answer(refusal);
        }
        if is_forwarding_loop(request.headers()) {
            self.circles.call_once(|| {
                warn!(
                    path = &*brief(request.target.path),
                    "a request came here again and again, and was answered 508: the url of [upstream], or the application \
                     itself, leads back to this server. Name where the application listens. This is said once"
                );
            });
            let text = "This request passed through this proxy again and again: the upstream's url leads back here.";
            return Dispatch::text(StatusCode::LOOP_DETECTED, text);
        }
        if let Some(rest) = self.own_path(request.target.path) {
            if request.is_oversized() {
                self.metrics.limit_hit("request_size");
                let text = "The head of this request is too large.";
                return Dispatch::text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text);
            }
            return Box::pin(self.endpoint(rest, request, wire)).await;
        }
        if self.passive.is_none()
            && let Some(answer) = self.purge(request)
        {
            return Dispatch::Answer(answer);
        }
        if self.bindings.concern(request) {
            // Every request of a signed-in connection belongs to that connection.
            return Dispatch::Proxy;
        }
        if request.is_tunnelled() {
            return Dispatch::Tunnel;
        }
        if self.habits.is_used() && request.is_navigation() {
            self.habits.navigates(request.client.address, request.headers());
        }
        let routes = self.routes.load();
        let path = request.target.path;
        let route = routes.find(&request.head.method, path);
        // Pages may subscribe to some URLs that no route matches.
        let route = route.or_else(|| request.poll_target().and_then(|_| routes.learning_route(path))).cloned();
        drop(routes);
        let is_watched = match &route {
            Some(route) if !route.fetch || request.is_upgrade() => false,
            Some(_) if request.is_plain_get() => self.may_watch(request),
            Some(route) if route.reads_bodies(&request.head.method) && self.may_watch(request) => {
                Box::pin(self.reads_by_body(route, request, wire)).await
            }
            _ => false,
        };
        match route {
            // The result is not stored between the two calls, because each request in flight would have room for it.
            Some(route) if is_watched => match request.delivery(&route.transports) {
                Some(delivery) => {
                    self.edited(Box::pin(self.open_stream(&route, delivery, request, wire)).await, request)
                }
                None => self.edited(self.answer_get(&route, request, wire).await, request),
            },
            _ if request.is_plain_get() && request.accepts("text/event-stream") => Dispatch::Tunnel,
            _ => Dispatch::Proxy,
        }
    }

    /// Changes the headers of the response to `request` as the configuration says.
    fn edited(&self, mut dispatch: Dispatch, request: &RequestView<'_>) -> Dispatch {
        if !matches!(dispatch, Dispatch::Answer(_) | Dispatch::Cached(_) | Dispatch::HoldStream(_)) {
            return dispatch;
        }
        let application = self.application(request.target.path);
        let edits = application.response_headers();
        match &mut dispatch {
            _ if edits.is_empty() => {}
            Dispatch::Answer(answer) => {
                // The browser script's polls must not be stored where it is said that they must not.
                let kept = request.poll_marker().and_then(|_| answer.headers.get(CACHE_CONTROL).cloned());
                edits.apply(&mut answer.headers);
                if let Some(kept) = kept {
                    answer.headers.insert(CACHE_CONTROL, kept);
                }
            }
            Dispatch::Cached(whole) => whole.edit(edits),
            // What the stream itself needs takes the place of these.
            Dispatch::HoldStream(held) => {
                let set = edits.iter().filter_map(|edit| Some((edit.name.clone(), edit.value.clone()?)));
                held.headers.extend(set);
            }
            _ => {}
        }
        dispatch
    }

    /// Returns whether a response to `request` may come from memory or be delayed. A request from a page of another
    /// site is forwarded, because only the backend can decide whether the page may read the response.
    fn may_watch(&self, request: &RequestView<'_>) -> bool {
        if request.is_oversized() {
            self.metrics.limit_hit("request_size");
            return false;
        }
        is_same_site(request)
    }

    /// Returns the rest of `path` after our own prefix, if it has that prefix.
    pub(in crate::proxy) fn own_path<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.passive.is_some() {
            // In observe mode no URL belongs to this server, so that all of the application is observed.
            return None;
        }
        path.strip_prefix(&self.options().prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns a permit for the client of `request`, which is woken by `notify`. `optional` means that it expects an
    /// ordinary response.
    pub(in crate::proxy) fn enter(
        &self,
        request: &RequestView<'_>,
        notify: &Arc<TaskNotify>,
        optional: bool,
    ) -> Result<StreamPermit, AdmissionError> {
        let place = self.streams.try_admit(Arc::clone(notify), request.admission(optional))?;
        Ok(place.under(self.hub.cookies(), fields::cookies(request.headers()), notify, clock::now()))
    }

    /// Returns a 503 for a reached limit.
    pub(in crate::proxy) fn reject_overloaded(&self, limit: &'static str, text: &str) -> Dispatch {
        self.metrics.limit_hit(limit);
        Dispatch::Answer(LocalResponse::overload(&format!("No further stream can be held now: {text}.")))
    }
}
