//! Streams of a resource on its own URL.

use std::sync::Arc;

use http::header::{AUTHORIZATION, EXPECT};
use http::{HeaderName, HeaderValue};
use tracing::debug;

use crate::clock;
use crate::deliver::{
    Downstream, FirstState, FormatRef, LocalResponse, STREAM_FIRST_STATE_TIMEOUT, Session, Source, StreamFormat,
    SubscribeRequest, UrlSubscription, UrlSubscriptions, await_ready,
};
use crate::hub::LimitReached;
use crate::model::{DeltaKind, EndReason, MediaType, fields};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::forwarded::forward;
use crate::proxy::request::view::RequestView;
use crate::proxy::watched::dispatch::Dispatch;
use crate::resource::{Decline, Ended, TaskNotify, WaitLimit};
use crate::route::Route;

/// Returns the header that confirms the client's preferred delta kind (RFC 7240 section 3).
fn preference_applied(delta: DeltaKind) -> Vec<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&format!("delta={delta}"));
    value.into_iter().map(|value| (HeaderName::from_static("preference-applied"), value)).collect()
}

/// How many times the key of a request is recomputed because a response taught something about it.
const MAX_KEYS: usize = 4;

/// Returns whether the backend may still answer the client itself with an event stream, given the result of the first
/// fetch.
fn leaves_open(ready: &FirstState) -> bool {
    match ready {
        FirstState::Gone | FirstState::Declined(_) => false,
        FirstState::Refused(refusal) => !matches!(refusal.status.as_u16(), 401 | 403 | 407),
        FirstState::Stream | FirstState::Ended | FirstState::Late => true,
    }
}

/// Returns whether a request has credentials that are valid for one request only because they contain a counter (RFC
/// 7616 section 3.4).
fn is_counted(request: &RequestView<'_>) -> bool {
    let credentials = request.headers().get(AUTHORIZATION);
    credentials.is_some_and(|value| value.as_bytes().get(..7).is_some_and(|kind| kind.eq_ignore_ascii_case(b"digest ")))
}

impl Gateway {
    /// Opens a stream of a resource on its own URL.
    pub(in crate::proxy) async fn open_stream(
        self: &Arc<Self>,
        route: &Arc<Route>,
        delivery: &'static dyn StreamFormat,
        request: &RequestView<'_>,
        wire: &mut Downstream,
    ) -> Dispatch {
        for _ in 0..MAX_KEYS {
            let now = clock::now();
            let facts = route.facts(&request.asks(), now);
            if facts.own_stream.get() == Some(&true) {
                return Dispatch::Tunnel;
            }
            if facts.unwatchable.is_some() {
                return Dispatch::Proxy;
            }
            let key = route.key(&request.asks(), &facts, true);
            self.record_headers(route, &request.client, request.headers(), &key);
            let notify = Arc::<TaskNotify>::default();
            let place = match self.enter(request, &notify, false) {
                Ok(place) => place,
                Err(overload) => return self.reject_overloaded("streams", &overload.to_string()),
            };
            let subscription = match self.hub.join(
                &key,
                request.client.address,
                delivery.name(),
                Arc::clone(&notify),
                now,
                self.new_resource(route),
            ) {
                Ok(subscription) => subscription,
                Err(full) => return self.reject_overloaded(full.limit(), &full.to_string()),
            };
            let resource = Arc::clone(subscription.resource());
            resource.vouch();
            let fence = self.writes.clients.fence(&self.who(request));
            let since = Self::current_since(route.watch.schedule.every, &resource, fence.at(), now);
            let ready = if resource.is_stale() && !resource.state().attempted_since(since) {
                // The last fetch failed. The client is told so at once, and later whether the resource has recovered.
                FirstState::Late
            } else {
                let end = self.fetch_timeout(request.target.path);
                let patience = WaitLimit { begin: STREAM_FIRST_STATE_TIMEOUT, end };
                await_ready(wire, &subscription, since, patience).await
            };
            // A client that has left need not wait for the backend's response.
            let name = route.known_as(&request.asks());
            if delivery.accept() == "text/event-stream"
                && leaves_open(&ready)
                && !resource.is_stale()
                && !is_counted(request)
            {
                tokio::select! {
                    own = route.knowledge.has_own_event_stream(&name, now, self.probe_event_stream(request)) => if own {
                        return Dispatch::Tunnel;
                    },
                    () = wire.closed() => return Dispatch::ClientGone,
                }
            }
            match ready {
                FirstState::Gone => return Dispatch::ClientGone,
                FirstState::Refused(refusal) if self.on_refused(route, &request.asks(), &refusal) => {}
                // A redirect or a challenge is for one client alone, and so is the refusal of a body.
                FirstState::Refused(refusal) if refusal.is_for_one_request() || key.body.is_some() => {
                    return Dispatch::Proxy;
                }
                FirstState::Refused(refusal) => return Dispatch::Answer(LocalResponse::refused(&refusal)),
                FirstState::Ended if matches!(resource.state().ended(), Some(Ended::Closed(EndReason::Overload))) => {
                    let full = LimitReached::History(self.hub.memory_budget().most());
                    return self.reject_overloaded(full.limit(), &full.to_string());
                }
                FirstState::Ended => {}
                FirstState::Declined(decline) => {
                    debug!(resource = resource.handle(), "not watched: {decline}");
                    self.record_decline(route, &request.asks(), &decline);
                    match decline {
                        Decline::OwnStream => return Dispatch::Tunnel,
                        decline if decline.is_rekey() => {}
                        _ => return Dispatch::Proxy,
                    }
                }
                FirstState::Stream | FirstState::Late => {
                    if resource.state().newest().is_some_and(|newest| !delivery.supports(&newest.representation)) {
                        return Dispatch::Proxy;
                    }
                    if facts.is_plain() {
                        route.knowledge.record_watched(request.target.path);
                    }
                    self.audit_audience(route, request, &facts, &key);
                    let delta = request.delta().filter(|_| delivery.body_form().is_some());
                    let asked = SubscribeRequest {
                        url: Arc::clone(&key.target),
                        resume_from: request.resumes_from().map(Box::new),
                        delta,
                        ..SubscribeRequest::default()
                    };
                    let source = Source::Resource(subscription);
                    // The stream must reflect writes of the client during its opening.
                    let mut since = fence.at();
                    let mut late = clock::now();
                    if matches!(ready, FirstState::Late) {
                        // The client is told at once that there is no state.
                        since = since.max(resource.fenced());
                    } else {
                        late += STREAM_FIRST_STATE_TIMEOUT;
                    }
                    let (name, metrics) = (delivery.name(), Arc::clone(&route.metrics));
                    let mut follower = UrlSubscription::new(asked, source, Some(since), name, metrics).since(now);
                    follower.demand_fresh(late);
                    return Dispatch::HoldStream(Box::new(Session {
                        followers: UrlSubscriptions::one(follower).of_client(fence.listen(Arc::clone(&notify), false)),
                        desk: None,
                        notify,
                        place,
                        delivery: FormatRef::Static(delta.and_then(|_| delivery.with_deltas()).unwrap_or(delivery)),
                        options: route.deliver,
                        gzip: request.accepts_gzip(),
                        headers: delta.map(preference_applied).unwrap_or_default(),
                        once: false,
                        seed: clock::seed(),
                    }));
                }
            }
        }
        Dispatch::Proxy
    }

    /// Returns whether the backend answers this request, exactly as the client sent it, with an event stream of its
    /// own. Returns `None` if the test was inconclusive, because the backend was down or refused.
    async fn probe_event_stream(&self, request: &RequestView<'_>) -> Option<bool> {
        let mut head = request.head.clone();
        for name in fields::hop_by_hop(&request.head.headers) {
            head.remove_header(&name);
        }
        head.remove_header(&EXPECT);
        let upstream = self.upstream(request.target.path);
        forward(&mut head, request.peer, &self.options().trusted, &upstream).ok()?;
        let target = std::str::from_utf8(request.head.raw_path()).ok()?;
        let body = request.read.get().map(|read| &read.raw);
        let answer = upstream.probe_head(&request.head.method, target, &head.headers, body).await?;
        answer.status.is_success().then(|| MediaType::of(&answer.headers).is_event_stream())
    }
}
