//! What is done with a request.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;
use tracing::debug;

use super::forward::{forward, goes_in_circles};
use super::request::Request;
use super::site::Site;
use crate::clock;
use crate::deliver::{Answer, Delivery, Hold, PollOutcome, Ready, Session, Wire, await_ready, from_memory};
use crate::model::{MediaType, fields};
use crate::normalise::text_of;
use crate::resource::{Decline, Trigger};
use crate::route::Route;

/// What is done with a request.
pub(super) enum Disposition {
    /// The backend answers it, through pingora's proxy.
    Proxy,
    /// The backend answers it, and the connection is its own from then on.
    Tunnel,
    /// This answers it.
    Answer(Answer),
    /// The client is held.
    Hold(Box<Session>),
    /// The client has gone.
    Gone,
}

/// How often the key of a request is made anew because an answer taught something about it.
const MOST_KEYS: usize = 4;

impl Site {
    /// Decides about `request`, which came over `wire`. Whatever cannot be decided is proxied.
    pub(super) async fn dispose(&self, request: &Request<'_>, wire: &mut Wire) -> Disposition {
        if goes_in_circles(request.headers()) {
            let text = "This request passed through this proxy again and again: the upstream's url leads back here.";
            return Disposition::Answer(Answer::text(StatusCode::LOOP_DETECTED, text));
        }
        if self.is_own(request.target.path) {
            return Disposition::Answer(Answer::text(StatusCode::NOT_FOUND, "There is nothing here."));
        }
        if request.is_websocket() {
            return Disposition::Tunnel;
        }
        let routes = self.routes.load();
        let route = routes.find(&request.head.method, request.target.path).cloned();
        drop(routes);
        match route {
            Some(route) if route.fetch && request.is_plain_get() && !request.is_upgrade() => {
                match request.delivery(&route.transports) {
                    Some(delivery) => self.open(&route, delivery, request, wire).await,
                    None => self.plain(&route, request, wire).await,
                }
            }
            _ if request.is_plain_get() && request.accepts("text/event-stream") => Disposition::Tunnel,
            _ => Disposition::Proxy,
        }
    }

    /// Whether `path` is below our own prefix.
    fn is_own(&self, path: &str) -> bool {
        path.strip_prefix(&self.options.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Opens a stream of a resource on its own URL.
    async fn open(
        &self,
        route: &Arc<Route>,
        delivery: &'static dyn Delivery,
        request: &Request<'_>,
        wire: &mut Wire,
    ) -> Disposition {
        let path = request.target.path;
        for _ in 0..MOST_KEYS {
            let now = clock::now();
            let facts = route.learned.facts(path, now);
            if facts.own_stream.get() == Some(&true) {
                return Disposition::Tunnel;
            }
            if facts.unwatchable.is_some() {
                return Disposition::Proxy;
            }
            let key = route.key(&request.client, request.target, request.headers(), &facts, true);
            let bell = Arc::default();
            let place = match self.streams.enter(Arc::clone(&bell)) {
                Ok(place) => place,
                Err(overload) => return self.turn_away("streams", &overload.to_string()),
            };
            let joined = self.hub.join(&key, delivery.name(), Arc::clone(&bell), now, self.birth(route));
            let subscription = match joined {
                Ok(subscription) => subscription,
                Err(full) => return self.turn_away("resources", &full.to_string()),
            };
            let resource = Arc::clone(subscription.resource());
            let since = self.current_since(route, &resource, &request.client, now);
            let own = async {
                delivery.accept() == "text/event-stream"
                    && route.learned.streams_itself(path, now, self.peek(request)).await
            };
            let (ready, own) = tokio::join!(await_ready(wire, &subscription, since), own);
            if own {
                return Disposition::Tunnel;
            }
            match ready {
                Ready::Gone => return Disposition::Gone,
                Ready::Refused(refusal) => return Disposition::Answer(Answer::refused(&refusal)),
                Ready::Declined(decline) => {
                    debug!(resource = resource.handle(), "not watched: {decline}");
                    route.learned.note(path, &decline, now);
                    match decline {
                        Decline::OwnStream => return Disposition::Tunnel,
                        decline if decline.is_rekey() => {}
                        _ => return Disposition::Proxy,
                    }
                }
                Ready::Ended => {}
                Ready::Stream => {
                    if resource.head().newest().is_some_and(|newest| text_of(&newest.representation).is_none()) {
                        return Disposition::Proxy;
                    }
                    return Disposition::Hold(Box::new(Session {
                        subscription,
                        bell,
                        place,
                        delivery,
                        options: route.deliver,
                        metrics: Arc::clone(&route.metrics),
                        resume: request.resumes_from(),
                        seed: clock::seed(),
                    }));
                }
            }
        }
        Disposition::Proxy
    }

    /// Answers a plain GET of a route: from memory if what we know is as fresh as the client's own poll would be.
    async fn plain(&self, route: &Arc<Route>, request: &Request<'_>, wire: &mut Wire) -> Disposition {
        let answer = match route.hold {
            _ if request.is_reload() => None,
            Some(hold) if !request.is_navigation() => match self.held(route, request, wire, hold).await {
                Disposition::Proxy => None,
                other => return other,
            },
            _ => self.remembered(route, request).await,
        };
        match answer {
            Some(answer) => {
                route.metrics.answered("memory");
                Disposition::Answer(answer)
            }
            None => {
                route.metrics.answered("proxied");
                Disposition::Proxy
            }
        }
    }

    /// The answer from memory. If memory is too old but others want the same, one look is made for all of them.
    async fn remembered(&self, route: &Arc<Route>, request: &Request<'_>) -> Option<Answer> {
        let now = clock::now();
        let facts = route.learned.facts(request.target.path, now);
        if facts.unwatchable.is_some() || facts.own_stream.get() == Some(&true) {
            return None;
        }
        let key = route.key(&request.client, request.target, request.headers(), &facts, false);
        let window = route.plan.schedule.every / 2;
        let polled = self.hub.poll(&key, now, window, self.birth(route))?;
        let resource = polled.resource;
        let since = self.current_since(route, &resource, &request.client, now);
        let mut head = resource.head_full();
        if head.current_as_of(since).is_none() && polled.shared {
            resource.trigger(Trigger::Demand);
            let known =
                resource.wait_for(|head| head.ended().is_some() || head.tried.is_some_and(|tried| tried >= since));
            head = timeout(self.upstream.options().fetch_timeout, known).await.ok()?;
        }
        if let Some(crate::resource::Ended::Declined(decline)) = head.ended() {
            route.learned.note(request.target.path, decline, now);
        }
        let snapshot = head.current_as_of(since)?;
        (!snapshot.representation.sets_cookie).then(|| from_memory(snapshot, request.headers()))
    }

    /// Holds a plain poll until there is news.
    async fn held(&self, route: &Arc<Route>, request: &Request<'_>, wire: &mut Wire, longest: Duration) -> Disposition {
        let now = clock::now();
        let path = request.target.path;
        let facts = route.learned.facts(path, now);
        if facts.unwatchable.is_some() || facts.own_stream.get() == Some(&true) {
            return Disposition::Proxy;
        }
        let key = route.key(&request.client, request.target, request.headers(), &facts, false);
        let bell = Arc::default();
        let Ok(place) = self.streams.enter(Arc::clone(&bell)) else { return Disposition::Proxy };
        let joined = self.hub.join(&key, "poll", Arc::clone(&bell), now, self.birth(route));
        let Ok(subscription) = joined else { return Disposition::Proxy };
        let since = self.current_since(route, subscription.resource(), &request.client, now);
        match await_ready(wire, &subscription, since).await {
            Ready::Gone => return Disposition::Gone,
            Ready::Stream => {}
            Ready::Declined(decline) => {
                route.learned.note(path, &decline, now);
                return Disposition::Proxy;
            }
            Ready::Refused(_) | Ready::Ended => return Disposition::Proxy,
        }
        let head = subscription.resource().head_full();
        if head.current_as_of(since).is_none_or(|snapshot| snapshot.representation.sets_cookie) {
            return Disposition::Proxy;
        }
        let client = self.habits.client(request.client.address, request.headers(), subscription.resource().handle());
        let poll = self.habits.begin(client, now);
        let _counted = route.metrics.hold("poll");
        let hold = Hold { subscription, bell, place, longest };
        match poll.run(&hold, wire, request.headers(), now).await {
            PollOutcome::Answer(snapshot) => {
                route.metrics.answered("held");
                Disposition::Answer(from_memory(&snapshot, request.headers()))
            }
            PollOutcome::Gone => Disposition::Gone,
            PollOutcome::Unknown => Disposition::Proxy,
        }
    }

    /// Whether the backend answers this request, as the client sent it, with an event stream of its own. `None` if it
    /// did not show: it was away, or it refused.
    async fn peek(&self, request: &Request<'_>) -> Option<bool> {
        let mut head = request.head.clone();
        for name in fields::hop_by_hop(&request.head.headers) {
            head.remove_header(&name);
        }
        forward(&mut head, request.peer, &self.options.trusted, &self.upstream).ok()?;
        let target = std::str::from_utf8(request.head.raw_path()).ok()?;
        let answer = self.upstream.peek(target, &head.headers).await?;
        answer.status.is_success().then(|| MediaType::of(&answer.headers).is_event_stream())
    }

    fn turn_away(&self, limit: &'static str, text: &str) -> Disposition {
        self.metrics.limit_hit(limit);
        Disposition::Answer(Answer::overload(&format!("No further stream can be held now: {text}.")))
    }
}
