//! Plain requests of routes: answered from memory, held until there is news, or proxied.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, USER_AGENT, VARY};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::decide::Disposition;
use super::forward::came_through_us;
use super::identity::IDENTITY;
use super::request::Request;
use super::site::Site;
use crate::clock;
use crate::deliver::{
    Answer, CACHE_STATUS, Hold, Holding, Poll, PollOutcome, Ready, STREAM_PATIENCE, Treatment, Whole, Wire,
    await_ready, from_memory,
};
use crate::hub::Crowd;
use crate::model::{Network, Owner, ResourceKey, Snapshot};
use crate::resource::{Bell, Head, Patience, Resource};
use crate::route::{Facts, Route, Shim};

/// No client needs to wait for longer before it asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How a poll is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The client said that it waits (RFC 7240 section 4.3).
    Asked,
    /// The route says that polls are held.
    Routed,
}

/// A plain request for what may be watched.
struct Plain<'a> {
    route: &'a Arc<Route>,
    request: &'a Request<'a>,
    facts: Facts,
    /// What it asks for.
    key: ResourceKey,
    /// Others that ask for the same.
    crowd: Crowd,
    now: Instant,
}

impl Site {
    /// Answers a plain GET of a route: from memory if what we know is as fresh as the client's own poll would be.
    pub(super) async fn plain(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &Request<'_>,
        wire: &mut Wire,
    ) -> Disposition {
        let now = clock::now();
        let facts = route.facts(&request.client, request.target, request.headers(), now);
        let watchable = facts.unwatchable.is_none() && facts.own_stream.get() != Some(&true);
        let wait = request.waits().filter(|_| route.long_poll);
        // What is in memory is the page as the backend made it, without the browser script.
        let is_page = route.shim != Shim::Off && request.is_navigation();
        let mut is_held = false;
        let disposition = if !watchable || is_page || request.is_reload() || request.is_particular() {
            Disposition::Proxy
        } else {
            let key = route.key(&request.client, request.target, request.headers(), &facts, false);
            let crowd = self.crowd(route, request, &key, now);
            let plain = Plain { route, request, facts, key, crowd, now };
            let held = match (wait, route.hold) {
                (Some(wait), _) => Some((How::Asked, wait.min(LONGEST_WAIT))),
                (None, Some(hold)) => self.may_hold(&plain, hold),
                _ => None,
            };
            is_held = held.is_some();
            match held {
                Some((how, longest)) => Box::pin(self.held(&plain, wire, longest, how)).await,
                None => self.remembered(&plain).await.unwrap_or(Disposition::Proxy),
            }
        };
        let disposition = match disposition {
            Disposition::Proxy if self.hub.owes() => self.owed(route, request).unwrap_or(Disposition::Proxy),
            other => other,
        };
        route.metrics.answered(match &disposition {
            Disposition::Answer(_) if is_held => "held",
            Disposition::Answer(_) | Disposition::Whole(_) => "memory",
            _ => "proxied",
        });
        disposition
    }

    /// What is known of others that ask for `key`. Where nobody has said that it may be looked at, nothing is shared on account
    /// of that.
    fn crowd(&self, route: &Route, request: &Request<'_>, key: &ResourceKey, now: Instant) -> Crowd {
        if route.plan.proves {
            return Crowd::default();
        }
        // Those who come over one connection may be one, whatever they say.
        let client =
            self.agents.hash_one((request.client.address, request.peer.port, request.headers().get(USER_AGENT)));
        let (arrival, crowd) = self.hub.arrive(key, client, now);
        request.under_way.crosses(&self.hub, arrival);
        crowd
    }

    /// Whether a poll of a route with `hold` may be held, how, and for how long. Only where the application answers quickly, so
    /// that it is not holding polls itself.
    fn may_hold(&self, plain: &Plain<'_>, hold: Duration) -> Option<(How, Duration)> {
        let request = plain.request;
        if request.is_navigation() || request.mark().is_some() || came_through_us(request.headers()) {
            return None;
        }
        let (address, number) = (request.client.address, self.hub.hash(&plain.key));
        let poll = request.under_way.is(self.habits.ask(address, request.headers(), number, plain.now));
        plain.crowd.usual?;
        let longest = match poll.treatment() {
            Treatment::AtOnce => return None,
            Treatment::Meet => Duration::ZERO,
            Treatment::Delay(delay) => delay.min(hold),
            Treatment::Hold(longest) => longest.min(hold).min(poll.patience().unwrap_or(Duration::MAX)),
        };
        Some((How::Routed, longest))
    }

    /// What a look has taken away that this request would have been given.
    fn owed(&self, route: &Route, request: &Request<'_>) -> Option<Disposition> {
        let now = clock::now();
        let facts = route.facts(&request.client, request.target, request.headers(), now);
        let key = route.key(&request.client, request.target, request.headers(), &facts, false);
        self.hub.pay(&key, now).map(Answer::kept).map(Disposition::Answer)
    }

    /// A whole answer, marked as one of several that this URL can give. `None` if the client takes it in no form.
    fn whole(route: &Route, snapshot: &Arc<Snapshot>, request: &Request<'_>) -> Option<Answer> {
        let mut answer = from_memory(snapshot, request.headers())?;
        if let Some(negotiates) = route.negotiates() {
            answer.headers.append(VARY, HeaderValue::from_static(negotiates));
        }
        Some(answer)
    }

    /// The answer from memory. If memory is too old but others want the same, one look is made for all of them, if that is not
    /// slower.
    async fn remembered(self: &Arc<Self>, plain: &Plain<'_>) -> Option<Disposition> {
        let Plain { route, request, facts, now, .. } = plain;
        // What a page asks for with something of its own in the URL is looked at for all as it is followed.
        let followed =
            request.polls_for().map(|target| route.key(&request.client, target, request.headers(), facts, true));
        let followed = followed.filter(|key| self.hub.get(key).is_some_and(|resource| resource.held() > 0));
        let is_followed = followed.is_some();
        self.note_headers(route, &request.client, request.headers(), &plain.key);
        let is_other = followed.as_ref().is_some_and(|key| key.target != plain.key.target);
        let key = followed.as_ref().unwrap_or(&plain.key);
        let (resource, is_shared) = self.gathered(plain, key)?;
        resource.note_poll(*now);
        // Who follows it is told of it as often as it is looked at, and would not have asked.
        let since = if is_followed {
            resource.fenced().max(self.writes.last(request.client.address))
        } else {
            self.current_since(route.plan.schedule.every, &resource, &request.client, *now)
        };
        // Nobody is given what was read before he was last answered, unless it is kept up to date.
        let since = since.max(plain.crowd.answered.filter(|_| resource.held() == 0).unwrap_or(since));
        let mut head = resource.head_full();
        if head.current_as_of(since).is_none() && is_shared && !came_through_us(request.headers()) {
            head = self.waited_for(plain, &resource, since).await?;
        }
        if let Some(ended) = head.ended() {
            self.heed(route, &request.client, request.target, request.headers(), ended);
        }
        // What the client did while others' look was waited for, that may not show.
        let snapshot = head.current_as_of(since.max(self.writes.last(request.client.address)))?;
        self.sample(route, request, facts, key);
        if snapshot.representation.is_for_one_request() {
            return None;
        }
        if let Some(poll) = request.under_way.poll() {
            poll.answer(snapshot.version);
        }
        if request.mark().is_some() {
            let mut answer = Self::whole(route, snapshot, request)?;
            if is_other {
                // A cache on the way that does not heed the header by which the page said so must not keep this as what is at
                // the URL that was asked for.
                answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            if let Ok(status) = HeaderValue::from_str(&format!("sungrazer; hit; detail=\"{}\"", snapshot.version)) {
                // The entity tag is the application's, which tells no order.
                answer.headers.insert(CACHE_STATUS, status);
            }
            if let Some(identity) = self.identity(route, request) {
                answer.headers.insert(IDENTITY, identity);
            }
            return Some(Disposition::Answer(answer));
        }
        let whole = Whole::of(snapshot, request.headers(), route.negotiates());
        match whole {
            Some(whole) => Some(Disposition::Whole(whole)),
            None => Self::whole(route, snapshot, request).map(Disposition::Answer),
        }
    }

    /// The resource that may answer, and whether a look for it would answer others, too: those who are held, or whose requests
    /// are under way at this moment.
    fn gathered(self: &Arc<Self>, plain: &Plain<'_>, key: &ResourceKey) -> Option<(Arc<Resource>, bool)> {
        let known = self.hub.get(key);
        if known.as_ref().is_some_and(|resource| resource.held() > 0) {
            return known.map(|resource| (resource, true));
        }
        if !plain.crowd.concurrent {
            return known.filter(|_| !plain.route.plan.proves).map(|resource| (resource, false));
        }
        let found = self.hub.obtain(key, plain.request.client.address, plain.now, self.birth(plain.route));
        found.inspect_err(|full| self.metrics.limit_hit(full.limit())).ok().map(|resource| (resource, true))
    }

    /// The head of a look that is recent enough, if one can be made at once and takes no longer than usual.
    async fn waited_for(&self, plain: &Plain<'_>, resource: &Arc<Resource>, since: Instant) -> Option<Arc<Head>> {
        let patience = self.patience(plain, resource, since)?;
        let _asking = resource.asked_from(plain.request.client.address.map(Network::of));
        resource.fetch_since(since, plain.now, patience).await
    }

    /// How long a look is waited for in place of the application's own answer; `None` if it would begin late, or last long.
    fn patience(&self, plain: &Plain<'_>, resource: &Resource, since: Instant) -> Option<Patience> {
        let owner = Owner::of(plain.request.client.address.map(Network::of), resource.key());
        let begins = resource.is_looked_at_since(since) || self.budget.has_room(owner);
        resource.patience(plain.crowd.usual).filter(|_| begins)
    }

    /// Holds a poll until there is news, for at most `longest`.
    async fn held(self: &Arc<Self>, plain: &Plain<'_>, wire: &mut Wire, longest: Duration, how: How) -> Disposition {
        let Plain { route, request, key, now, .. } = plain;
        self.note_headers(route, &request.client, request.headers(), key);
        let bell = Arc::<Bell>::default();
        let place = self.enter(request, &bell, how != How::Asked);
        let _hearing = self.writes.hear(request.client.address, Arc::clone(&bell));
        let transport = if how == How::Asked { "long-poll" } else { "poll" };
        let joined = self.hub.join(key, request.client.address, transport, Arc::clone(&bell), *now, self.birth(route));
        let subscription = match joined {
            Ok(subscription) => subscription,
            Err(full) => {
                self.metrics.limit_hit(full.limit());
                return Disposition::Proxy;
            }
        };
        let resource = Arc::clone(subscription.resource());
        let since = self.current_since(route.plan.schedule.every, &resource, &request.client, *now);
        let patience = match how {
            How::Asked => Some(Patience { begin: STREAM_PATIENCE, end: self.fetch_timeout() }),
            How::Routed => self.patience(plain, &resource, since),
        };
        let Some(patience) = patience else { return Disposition::Proxy };
        match await_ready(wire, &subscription, since, patience).await {
            Ready::Gone => return Self::gone(request),
            Ready::Stream => {}
            Ready::Declined(decline) => {
                self.learn(route, &request.client, request.target, request.headers(), &decline);
                return Disposition::Proxy;
            }
            Ready::Refused(refusal) => {
                self.heed_refusal(route, &request.client, request.target, request.headers(), &refusal);
                return Disposition::Proxy;
            }
            Ready::Ended | Ready::Late => return Disposition::Proxy,
        }
        let head = resource.head_full();
        let since = since.max(self.writes.last(request.client.address));
        let shared = head.current_as_of(since).filter(|snapshot| !snapshot.representation.is_for_one_request());
        let Some(snapshot) = shared else { return Disposition::Proxy };
        let place = match place {
            Ok(place) => place,
            // Without a place to wait in it is answered at once; but who would ask again at once is told to wait.
            Err(overload) => {
                let Some(answer) = Self::given(plain, snapshot) else { return Disposition::Proxy };
                let spins = how == How::Asked && answer.status == StatusCode::NOT_MODIFIED;
                return if spins {
                    self.turn_away("streams", &overload.to_string())
                } else {
                    Disposition::Answer(answer)
                };
            }
        };
        request.under_way.is_ours();
        let _counted = route.metrics.hold(transport);
        let hold = Hold { subscription, bell, place, longest };
        let poll = request.under_way.poll();
        let known = poll.and_then(Poll::known).filter(|_| longest > Duration::ZERO);
        let holding = Holding { known, is_shared: how == How::Routed, poll, now: *now };
        let wrote = || self.writes.last(request.client.address);
        match holding.run(&hold, wire, request.headers(), wrote).await {
            PollOutcome::Gone => Disposition::Gone,
            PollOutcome::Unknown => Disposition::Proxy,
            PollOutcome::Answer(snapshot) => {
                let shared = Some(snapshot).filter(|snapshot| !snapshot.representation.is_for_one_request());
                let Some(mut answer) = shared.and_then(|snapshot| Self::given(plain, &snapshot)) else {
                    return Disposition::Proxy;
                };
                if how == How::Asked
                    && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", longest.as_secs()))
                {
                    answer.headers.insert("preference-applied", applied);
                }
                Disposition::Answer(answer)
            }
        }
    }

    /// The answer with `snapshot`, which the page has from then on; `None` if it is not one for this client.
    fn given(plain: &Plain<'_>, snapshot: &Arc<Snapshot>) -> Option<Answer> {
        let answer = Self::whole(plain.route, snapshot, plain.request)?;
        if let Some(poll) = plain.request.under_way.poll() {
            poll.answer(snapshot.version);
        }
        Some(answer)
    }

    fn gone(request: &Request<'_>) -> Disposition {
        if let Some(poll) = request.under_way.poll() {
            poll.left();
        }
        Disposition::Gone
    }
}
