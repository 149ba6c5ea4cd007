//! Plain requests of routes: answered from memory, held until there is news, or proxied.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, USER_AGENT, VARY};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::clock;
use crate::deliver::{
    CACHE_STATUS, CachedResponse, Downstream, FirstState, Hold, Holding, LocalResponse, Poll, PollOutcome,
    STREAM_FIRST_STATE_TIMEOUT, Treatment, await_ready, from_memory, holds_unknown, with_body,
};
use crate::hub::Crowd;
use crate::model::{AddressBucket, Owner, Representation, ResourceKey, Snapshot};
use crate::post::{BodyRead, check_answer, restore};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::forwarded::has_own_via;
use crate::proxy::request::view::RequestView;
use crate::proxy::watched::dispatch::Dispatch;
use crate::proxy::watched::identity::IDENTITY;
use crate::resource::{Resource, ResourceState, TaskNotify, WaitLimit};
use crate::route::{PathFacts, Route, Shim};

/// No client needs to wait for longer before it asks again.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// How a poll is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HoldMode {
    /// The client said that it waits (RFC 7240 section 4.3).
    Asked,
    /// The route says that polls are held.
    Routed,
}

/// The body of `snapshot` with what `read` is to be given back.
fn echoed(snapshot: &Snapshot, read: &BodyRead) -> Option<Bytes> {
    let body = &snapshot.representation.body;
    let places = snapshot.echoes.get_or_init(|| check_answer(&read.body, body).ok()).as_ref()?;
    restore(body, places, &read.echoed, &read.body)
}

/// A plain request for what may be watched.
struct Plain<'a> {
    route: &'a Arc<Route>,
    request: &'a RequestView<'a>,
    facts: PathFacts,
    /// What it asks for.
    key: ResourceKey,
    /// Others that ask for the same.
    crowd: Crowd,
    now: Instant,
}

impl Gateway {
    /// Answers a plain GET of a route: from memory if what we know is as fresh as the client's own poll would be.
    pub(in crate::proxy) async fn answer_get(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &RequestView<'_>,
        wire: &mut Downstream,
    ) -> Dispatch {
        let now = clock::now();
        let facts = route.facts(&request.asks(), now);
        let watchable = facts.unwatchable.is_none() && facts.own_stream.get() != Some(&true);
        let wait = request.wait_preference().filter(|_| route.long_poll);
        // What is in memory is the page as the backend made it, without the browser script.
        let is_page = route.shim != Shim::Off && request.is_navigation();
        let mut is_held = false;
        let dispatch = if !watchable || is_page || request.is_reload() || request.has_unsupported_preconditions() {
            Dispatch::Proxy
        } else {
            let key = route.key(&request.asks(), &facts, false);
            let crowd = self.crowd(route, request, &key, now);
            let plain = Plain { route, request, facts, key, crowd, now };
            let held = match (wait, route.hold) {
                (Some(wait), _) => Some((HoldMode::Asked, wait.min(MAX_WAIT))),
                (None, Some(hold)) => self.may_hold(&plain, hold),
                _ => None,
            };
            is_held = held.is_some();
            match held {
                Some((how, longest)) => Box::pin(self.long_poll(&plain, wire, longest, how)).await,
                None => self.from_cache(&plain).await.unwrap_or(Dispatch::Proxy),
            }
        };
        let dispatch = match dispatch {
            Dispatch::Proxy if self.hub.has_consumed() && request.read.get().is_none() => {
                self.consumed_response(route, request).unwrap_or(Dispatch::Proxy)
            }
            other => other,
        };
        route.metrics.answered(match &dispatch {
            Dispatch::Answer(_) if is_held => "held",
            Dispatch::Answer(_) | Dispatch::Cached(_) => "memory",
            _ => "proxied",
        });
        dispatch
    }

    /// What is known of others that ask for `key`. Where nobody has said that it may be fetched, nothing is shared on account
    /// of that.
    fn crowd(&self, route: &Route, request: &RequestView<'_>, key: &ResourceKey, now: Instant) -> Crowd {
        if route.watch_for(key.body.as_deref()).verify_safe {
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
    fn may_hold(&self, plain: &Plain<'_>, hold: Duration) -> Option<(HoldMode, Duration)> {
        let request = plain.request;
        if request.is_navigation() || request.poll_marker().is_some() || has_own_via(request.headers()) {
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
        Some((HoldMode::Routed, longest))
    }

    /// What a fetch has taken away that this request would have been given.
    fn consumed_response(&self, route: &Route, request: &RequestView<'_>) -> Option<Dispatch> {
        let now = clock::now();
        let facts = route.facts(&request.asks(), now);
        let key = route.key(&request.asks(), &facts, false);
        let fits = |answer: &Representation| request.takes_type(&answer.media_type().essence);
        self.hub.take_consumed(&key, fits, now).map(LocalResponse::from_representation).map(Dispatch::Answer)
    }

    /// A whole answer, marked as one of several that this URL can give. `None` if the client takes it in no form.
    fn cached_response(route: &Route, snapshot: &Arc<Snapshot>, request: &RequestView<'_>) -> Option<LocalResponse> {
        let mut answer = match request.read.get().filter(|read| !read.body.echo_slots.is_empty()) {
            Some(read) => with_body(snapshot, echoed(snapshot, read)?),
            None => from_memory(snapshot, request.headers())?,
        };
        if let Some(negotiates) = route.negotiates() {
            answer.headers.append(VARY, HeaderValue::from_static(negotiates));
        }
        Some(answer)
    }

    /// The answer from memory. If memory is too old but others want the same, one fetch is made for all of them, if that is not
    /// slower.
    async fn from_cache(self: &Arc<Self>, plain: &Plain<'_>) -> Option<Dispatch> {
        let Plain { route, request, facts, now, .. } = plain;
        // What a page asks for with something of its own in the URL is fetched for all as it is followed.
        let followed = request.poll_target().map(|target| route.key(&request.asks_for(target), facts, true));
        let followed = followed.filter(|key| self.hub.get(key).is_some_and(|resource| resource.held() > 0));
        let is_followed = followed.is_some();
        self.record_headers(route, &request.client, request.headers(), &plain.key);
        let is_other = followed.as_ref().is_some_and(|key| key.target != plain.key.target);
        let key = followed.as_ref().unwrap_or(&plain.key);
        let (resource, is_shared) = self.gathered(plain, key)?;
        resource.record_poll(*now);
        // Who follows it is told of it as often as it is fetched, and would not have asked.
        let since = if is_followed {
            resource.current_since().max(self.last_write(request))
        } else {
            Self::current_since(route.watch.schedule.every, &resource, self.last_write(request), *now)
        };
        // Nobody is given what was read before he was last answered, unless it is kept up to date.
        let since = since.max(plain.crowd.answered.filter(|_| resource.held() == 0).unwrap_or(since));
        if resource.is_untried()
            || (resource.page().is_shown()
                && resource.page().written() > resource.state().last_success.map(|fetched| fetched.started))
        {
            // Nothing waits for a fetch that may not be made before the client itself has been answered.
            return None;
        }
        let mut head = resource.state_full();
        let mut since = since;
        loop {
            if head.current_as_of(since).is_none() && is_shared && !has_own_via(request.headers()) {
                head = self.waited_for(plain, &resource, since).await?;
            }
            if since >= *now || !holds_unknown(&head, request.headers()) {
                break;
            }
            // It holds something that may be newer than all that is known here.
            since = *now;
        }
        if let Some(ended) = head.ended() {
            self.on_watch_ended(route, &request.asks(), ended);
        }
        // What the client did while others' fetch was waited for, that may not show.
        let snapshot = head.current_as_of(since.max(self.last_write(request)))?;
        self.audit_audience(route, request, facts, key);
        if snapshot.representation.is_for_one_request() {
            return None;
        }
        if let Some(poll) = request.under_way.poll() {
            poll.answer(snapshot.version);
        }
        if request.poll_marker().is_some() {
            let mut answer = Self::cached_response(route, snapshot, request)?;
            if is_other {
                // A cache on the way that does not heed the header by which the page said so must not keep this as what is at
                // the URL that was asked for.
                answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            if let Ok(status) = HeaderValue::from_str(&format!("sungrazer; hit; detail=\"{}\"", snapshot.version)) {
                // The entity tag is the application's, which tells no order.
                answer.headers.insert(CACHE_STATUS, status);
            }
            if let Some(identity) = self.identity_header(route, request) {
                answer.headers.insert(IDENTITY, identity);
            }
            return Some(Dispatch::Answer(answer));
        }
        let is_for_all = request.read.get().is_none_or(|read| read.body.echo_slots.is_empty());
        let whole = CachedResponse::of(snapshot, request.headers(), route.negotiates());
        match whole.filter(|_| is_for_all) {
            Some(whole) => Some(Dispatch::Cached(whole)),
            None => Self::cached_response(route, snapshot, request).map(Dispatch::Answer),
        }
    }

    /// The resource that may answer, and whether a fetch for it would answer others, too: those who are held, or whose requests
    /// are under way at this moment.
    fn gathered(self: &Arc<Self>, plain: &Plain<'_>, key: &ResourceKey) -> Option<(Arc<Resource>, bool)> {
        let known = self.hub.get(key);
        if known.as_ref().is_some_and(|resource| resource.held() > 0) {
            return known.map(|resource| (resource, true));
        }
        if !plain.crowd.concurrent {
            return known
                .filter(|_| !plain.route.watch_for(key.body.as_deref()).verify_safe)
                .map(|resource| (resource, false));
        }
        let found = self.hub.obtain(key, plain.request.client.address, plain.now, self.new_resource(plain.route));
        found.inspect_err(|full| self.metrics.limit_hit(full.limit())).ok().map(|resource| (resource, true))
    }

    /// The head of a fetch that is recent enough, if one can be made at once and takes no longer than usual.
    async fn waited_for(
        &self,
        plain: &Plain<'_>,
        resource: &Arc<Resource>,
        since: Instant,
    ) -> Option<Arc<ResourceState>> {
        let patience = self.patience(plain, resource, since)?;
        let _asking = resource.asked_from(plain.request.client.address.map(AddressBucket::of));
        resource.fetch_since(since, plain.now, patience).await
    }

    /// How long a fetch is waited for in place of the application's own answer; `None` if it would begin late, or last long.
    fn patience(&self, plain: &Plain<'_>, resource: &Resource, since: Instant) -> Option<WaitLimit> {
        let owner = Owner::of(plain.request.client.address.map(AddressBucket::of), resource.key());
        let begins = resource.is_fetched_since(since) || self.limiter.has_room(owner);
        resource.wait_limit(plain.crowd.usual).filter(|_| begins)
    }

    /// Holds a poll until there is news, for at most `longest`.
    async fn long_poll(
        self: &Arc<Self>,
        plain: &Plain<'_>,
        wire: &mut Downstream,
        longest: Duration,
        how: HoldMode,
    ) -> Dispatch {
        let Plain { route, request, key, now, .. } = plain;
        self.record_headers(route, &request.client, request.headers(), key);
        let notify = Arc::<TaskNotify>::default();
        let place = self.enter(request, &notify, how != HoldMode::Asked);
        let writes = self.writes.clients.fence(&self.who(request)).listen(Arc::clone(&notify), false);
        let transport = if how == HoldMode::Asked { "long-poll" } else { "poll" };
        let joined =
            self.hub.join(key, request.client.address, transport, Arc::clone(&notify), *now, self.new_resource(route));
        let subscription = match joined {
            Ok(subscription) => subscription,
            Err(full) => {
                self.metrics.limit_hit(full.limit());
                return Dispatch::Proxy;
            }
        };
        let resource = Arc::clone(subscription.resource());
        resource.vouch();
        let mut since = Self::current_since(route.watch.schedule.every, &resource, writes.latest(), *now);
        let patience = match how {
            HoldMode::Asked => Some(WaitLimit { begin: STREAM_FIRST_STATE_TIMEOUT, end: self.fetch_timeout() }),
            HoldMode::Routed => self.patience(plain, &resource, since),
        };
        let Some(patience) = patience else { return Dispatch::Proxy };
        let mut ready = await_ready(wire, &subscription, since, patience).await;
        if matches!(ready, FirstState::Stream) && holds_unknown(&resource.state(), request.headers()) {
            // It holds something that may be newer than all that is known here.
            since = since.max(*now);
            ready = await_ready(wire, &subscription, since, patience).await;
        }
        match ready {
            FirstState::Gone => return Self::gone(request),
            FirstState::Stream => {}
            FirstState::Declined(decline) => {
                self.record_decline(route, &request.asks(), &decline);
                return Dispatch::Proxy;
            }
            FirstState::Refused(refusal) => {
                self.on_refused(route, &request.asks(), &refusal);
                return Dispatch::Proxy;
            }
            FirstState::Ended | FirstState::Late => return Dispatch::Proxy,
        }
        let head = resource.state_full();
        let since = since.max(writes.latest());
        let shared = head.current_as_of(since).filter(|snapshot| !snapshot.representation.is_for_one_request());
        let Some(snapshot) = shared else { return Dispatch::Proxy };
        let place = match place {
            Ok(place) => place,
            // Without a place to wait in it is answered at once; but who would ask again at once is told to wait.
            Err(overload) => {
                let Some(answer) = Self::given(plain, snapshot) else { return Dispatch::Proxy };
                let spins = how == HoldMode::Asked && answer.status == StatusCode::NOT_MODIFIED;
                return if spins {
                    self.reject_overloaded("streams", &overload.to_string())
                } else {
                    Dispatch::Answer(answer)
                };
            }
        };
        request.under_way.is_ours();
        let _counted = route.metrics.hold(transport);
        let hold = Hold { subscription, notify, place, longest };
        let poll = request.under_way.poll();
        let known = poll.and_then(Poll::known).filter(|_| longest > Duration::ZERO);
        let holding = Holding { known, is_shared: how == HoldMode::Routed, poll, now: *now };
        match holding.run(&hold, wire, request.headers(), || writes.latest()).await {
            PollOutcome::Gone => Dispatch::ClientGone,
            PollOutcome::Unknown => Dispatch::Proxy,
            PollOutcome::Answer(snapshot) => {
                let shared = Some(snapshot).filter(|snapshot| !snapshot.representation.is_for_one_request());
                let Some(mut answer) = shared.and_then(|snapshot| Self::given(plain, &snapshot)) else {
                    return Dispatch::Proxy;
                };
                if how == HoldMode::Asked
                    && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", longest.as_secs()))
                {
                    answer.headers.insert("preference-applied", applied);
                }
                Dispatch::Answer(answer)
            }
        }
    }

    /// The answer with `snapshot`, which the page has from then on; `None` if it is not one for this client.
    fn given(plain: &Plain<'_>, snapshot: &Arc<Snapshot>) -> Option<LocalResponse> {
        let answer = Self::cached_response(plain.route, snapshot, plain.request)?;
        if let Some(poll) = plain.request.under_way.poll() {
            poll.answer(snapshot.version);
        }
        Some(answer)
    }

    fn gone(request: &RequestView<'_>) -> Dispatch {
        if let Some(poll) = request.under_way.poll() {
            poll.left();
        }
        Dispatch::ClientGone
    }
}
