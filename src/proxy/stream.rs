//! Streams of a resource on its own URL.

use std::sync::Arc;

use http::header::{AUTHORIZATION, EXPECT};
use http::{HeaderName, HeaderValue};
use tracing::debug;

use super::decide::Disposition;
use super::forward::forward;
use super::request::Request;
use super::site::Site;
use crate::clock;
use crate::deliver::{
    Answer, Asked, Delivery, Follower, Followers, Form, Ready, STREAM_PATIENCE, Session, Source, Wire, await_ready,
};
use crate::hub::Full;
use crate::model::{DeltaKind, EndReason, MediaType, fields};
use crate::resource::{Bell, Decline, Ended, Patience};
use crate::route::Route;

/// What tells the client that it gets the deltas that it prefers (RFC 7240 section 3).
fn applied(delta: DeltaKind) -> Vec<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_str(&format!("delta={delta}"));
    value.into_iter().map(|value| (HeaderName::from_static("preference-applied"), value)).collect()
}

/// How often the key of a request is made anew because an answer taught something about it.
const MOST_KEYS: usize = 4;

/// Whether the backend may still answer the client itself with an event stream, though a look was answered like this.
fn leaves_open(ready: &Ready) -> bool {
    match ready {
        Ready::Gone | Ready::Declined(_) => false,
        Ready::Refused(refusal) => !matches!(refusal.status.as_u16(), 401 | 403 | 407),
        Ready::Stream | Ready::Ended | Ready::Late => true,
    }
}

/// Whether a request has credentials that are good for one request alone: a count is part of them (RFC 7616 section 3.4).
fn is_counted(request: &Request<'_>) -> bool {
    let credentials = request.headers().get(AUTHORIZATION);
    credentials.is_some_and(|value| value.as_bytes().get(..7).is_some_and(|kind| kind.eq_ignore_ascii_case(b"digest ")))
}

impl Site {
    /// Opens a stream of a resource on its own URL.
    pub(super) async fn open(
        self: &Arc<Self>,
        route: &Arc<Route>,
        delivery: &'static dyn Delivery,
        request: &Request<'_>,
        wire: &mut Wire,
    ) -> Disposition {
        for _ in 0..MOST_KEYS {
            let now = clock::now();
            let facts = route.facts(&request.client, request.target, request.headers(), now);
            if facts.own_stream.get() == Some(&true) {
                return Disposition::Tunnel;
            }
            if facts.unwatchable.is_some() {
                return Disposition::Proxy;
            }
            let key = route.key(&request.client, request.target, request.headers(), &facts, true);
            self.note_headers(route, &request.client, request.headers(), &key);
            let bell = Arc::<Bell>::default();
            let place = match self.enter(request, &bell, false) {
                Ok(place) => place,
                Err(overload) => return self.turn_away("streams", &overload.to_string()),
            };
            let subscription = match self.hub.join(
                &key,
                request.client.address,
                delivery.name(),
                Arc::clone(&bell),
                now,
                self.birth(route),
            ) {
                Ok(subscription) => subscription,
                Err(full) => return self.turn_away(full.limit(), &full.to_string()),
            };
            let resource = Arc::clone(subscription.resource());
            let since = self.current_since(route.plan.schedule.every, &resource, &request.client, now);
            let ready = if resource.is_stale() && !resource.head().has_tried(since) {
                // It could not be read the last time. The client is told that, and then whether it can be now.
                Ready::Late
            } else {
                let patience = Patience { begin: STREAM_PATIENCE, end: self.fetch_timeout() };
                await_ready(wire, &subscription, since, patience).await
            };
            // Who has left need not wait for what the backend would have shown.
            if delivery.accept() == "text/event-stream"
                && leaves_open(&ready)
                && !resource.is_stale()
                && !is_counted(request)
            {
                tokio::select! {
                    own = route.learned.streams_itself(&key.target, now, self.peek(request)) => if own {
                        return Disposition::Tunnel;
                    },
                    () = wire.gone() => return Disposition::Gone,
                }
            }
            match ready {
                Ready::Gone => return Disposition::Gone,
                Ready::Refused(refusal)
                    if self.heed_refusal(route, &request.client, request.target, request.headers(), &refusal) => {}
                // Where a client is sent, or what it is challenged with, is made for it alone.
                Ready::Refused(refusal) if refusal.is_for_one_request() => return Disposition::Proxy,
                Ready::Refused(refusal) => return Disposition::Answer(Answer::refused(&refusal)),
                Ready::Ended if matches!(resource.head().ended(), Some(Ended::Closed(EndReason::Overload))) => {
                    let full = Full::History(self.hub.room().most());
                    return self.turn_away(full.limit(), &full.to_string());
                }
                Ready::Ended => {}
                Ready::Declined(decline) => {
                    debug!(resource = resource.handle(), "not watched: {decline}");
                    self.learn(route, &request.client, request.target, request.headers(), &decline);
                    match decline {
                        Decline::OwnStream => return Disposition::Tunnel,
                        decline if decline.is_rekey() => {}
                        _ => return Disposition::Proxy,
                    }
                }
                Ready::Stream | Ready::Late => {
                    if resource.head().newest().is_some_and(|newest| !delivery.carries(&newest.representation)) {
                        return Disposition::Proxy;
                    }
                    if facts.is_plain() {
                        route.learned.note_watched(request.target.path);
                    }
                    self.sample(route, request, &facts, &key);
                    let delta = request.delta().filter(|_| delivery.shape().is_some());
                    let asked = Asked {
                        url: Arc::clone(&key.target),
                        claim: request.resumes_from().map(Box::new),
                        delta,
                        ..Asked::default()
                    };
                    let source = Source::Resource(subscription);
                    // What the client did while its stream was opened, that may not show.
                    let mut since = self.writes.last(request.client.address);
                    let mut late = clock::now();
                    if matches!(ready, Ready::Late) {
                        // It is told at once that there is nothing to tell.
                        since = since.max(resource.fenced());
                    } else {
                        late += STREAM_PATIENCE;
                    }
                    let (name, metrics) = (delivery.name(), Arc::clone(&route.metrics));
                    let mut follower = Follower::new(asked, source, Some(since), name, metrics);
                    follower.hurry(late);
                    return Disposition::Hold(Box::new(Session {
                        followers: Followers::one(follower),
                        desk: None,
                        bell,
                        place,
                        delivery: Form::Common(delta.and_then(|_| delivery.with_deltas()).unwrap_or(delivery)),
                        options: route.deliver,
                        gzip: request.takes_gzip(),
                        headers: delta.map(applied).unwrap_or_default(),
                        once: false,
                        seed: clock::seed(),
                    }));
                }
            }
        }
        Disposition::Proxy
    }

    /// Whether the backend answers this request, as the client sent it, with an event stream of its own. `None` if it
    /// did not show: it was away, or it refused.
    async fn peek(&self, request: &Request<'_>) -> Option<bool> {
        let mut head = request.head.clone();
        for name in fields::hop_by_hop(&request.head.headers) {
            head.remove_header(&name);
        }
        head.remove_header(&EXPECT);
        let upstream = self.upstream();
        forward(&mut head, request.peer, &self.options().trusted, &upstream).ok()?;
        let target = std::str::from_utf8(request.head.raw_path()).ok()?;
        let answer = upstream.peek(target, &head.headers).await?;
        answer.status.is_success().then(|| MediaType::of(&answer.headers).is_event_stream())
    }
}
