//! Plain requests of routes: answered from memory, held until a change, or proxied.

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
use crate::resource::{Resource, ResourceState, TaskNotify, WaitLimit, noise_lasts};
use crate::route::{PathFacts, Route, Shim};

/// The maximum hold time of a poll.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The reason for holding a poll.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HoldMode {
    /// The client is willing to wait (RFC 7240 section 4.3).
    Asked,
    /// The route holds polls.
    Routed,
}

/// Returns the body of `snapshot` with the values of the client of `read`.
fn echoed(snapshot: &Snapshot, read: &BodyRead) -> Option<Bytes> {
    let body = &snapshot.representation.body;
    let places = snapshot.echoes.get_or_init(|| check_answer(&read.body, body).ok()).as_ref()?;
    restore(body, places, &read.echoed, &read.body)
}

/// A plain request for a resource that may be watched.
struct Plain<'a> {
    route: &'a Arc<Route>,
    request: &'a RequestView<'a>,
    facts: PathFacts,
    /// The key of the requested resource.
    key: ResourceKey,
    /// The known facts about concurrent requests for the same key.
    crowd: Crowd,
    now: Instant,
}

impl Gateway {
    /// Answers a plain GET of a route: from memory if the known state is as fresh as the client's own poll would be.
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
        // Memory contains the page as the backend created it, without the browser script.
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

    /// Returns the known facts about concurrent requests for `key`. On paths that are not configured as safe to fetch,
    /// responses are not shared on that account.
    fn crowd(&self, route: &Route, request: &RequestView<'_>, key: &ResourceKey, now: Instant) -> Crowd {
        if route.watch_for(key.body.as_deref()).verify_safe {
            return Crowd::default();
        }
        // Several clients on one connection may be one, whatever their headers say.
        let client =
            self.agents.hash_one((request.client.address, request.peer.port, request.headers().get(USER_AGENT)));
        let (arrival, crowd) = self.hub.arrive(key, client, now);
        request.under_way.crosses(&self.hub, arrival);
        crowd
    }

    /// Returns whether a poll of a route with `hold` may be held, how, and for how long. Polls are held only if the
    /// application answers promptly, so that it is not holding polls itself.
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

    /// Returns a consumed response that this request would have received.
    fn consumed_response(&self, route: &Route, request: &RequestView<'_>) -> Option<Dispatch> {
        let now = clock::now();
        let facts = route.facts(&request.asks(), now);
        let key = route.key(&request.asks(), &facts, false);
        let fits = |answer: &Representation| request.takes_type(&answer.media_type().essence);
        self.hub.take_consumed(&key, fits, now).map(LocalResponse::from_representation).map(Dispatch::Answer)
    }

    /// Returns a complete response with a `Vary` for the variants of this URL. Returns `None` if the client accepts no
    /// available form.
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

    /// Answers from memory. If the known state is too old but other clients want the same, one fetch serves all of
    /// them, if that is not slower.
    async fn from_cache(self: &Arc<Self>, plain: &Plain<'_>) -> Option<Dispatch> {
        let Plain { route, request, facts, now, .. } = plain;
        // A URL with a value that is unique to a page is fetched for all clients as it is followed.
        let followed = request.poll_target().map(|target| route.key(&request.asks_for(target), facts, true));
        let followed = followed.filter(|key| self.hub.get(key).is_some_and(|resource| resource.held() > 0));
        let is_followed = followed.is_some();
        self.record_headers(route, &request.client, request.headers(), &plain.key);
        let is_other = followed.as_ref().is_some_and(|key| key.target != plain.key.target);
        let key = followed.as_ref().unwrap_or(&plain.key);
        let (resource, is_shared) = self.gathered(plain, key)?;
        resource.record_poll(*now);
        // A subscriber is notified at the fetch interval, and would not have polled in between.
        let since = if is_followed {
            resource.current_since().max(self.last_write(request))
        } else {
            Self::current_since(route.watch.schedule.every, &resource, self.last_write(request), *now)
        };
        // Noise is soon older than the client would see it.
        let lasts =
            resource.state().is_noisy().then(|| now.checked_sub(noise_lasts(resource.client_interval().min))).flatten();
        let since = since.max(lasts.unwrap_or(since));
        // A client never receives a state fetched before its previous response, unless the resource is kept up to date.
        let since = since.max(plain.crowd.answered.filter(|_| resource.held() == 0).unwrap_or(since));
        if resource.is_untried()
            || (resource.page().is_shown()
                && resource.page().written() > resource.state().last_success.map(|fetched| fetched.started))
        {
            // No client waits for a fetch that may not be made before the backend has answered the client itself.
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
            // The client holds a state that may be newer than all known ones.
            since = *now;
        }
        if let Some(ended) = head.ended() {
            self.on_watch_ended(route, &request.asks(), ended);
        }
        // The state must reflect writes of the client during the wait for another client's fetch.
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
                // A cache that ignores the header with the page's real URL must not store this response under the
                // requested URL.
                answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            if let Ok(status) = HeaderValue::from_str(&format!("sungrazer; hit; detail=\"{}\"", snapshot.version)) {
                // The entity tag is the application's and has no order, so the version is sent here.
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

    /// Returns the resource that may answer, and whether a fetch of it would serve other clients too: held clients, or
    /// clients with concurrent requests.
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

    /// Returns the state after a recent enough fetch, if one can be made at once and takes no longer than usual.
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

    /// Returns how long a fetch may take in place of the application's own response; `None` if it would begin late or
    /// take long.
    fn patience(&self, plain: &Plain<'_>, resource: &Resource, since: Instant) -> Option<WaitLimit> {
        let owner = Owner::of(plain.request.client.address.map(AddressBucket::of), resource.key());
        let has_room = || self.application(resource.key().path()).limiter().has_room(owner);
        let begins = resource.is_fetched_since(since) || has_room();
        resource.wait_limit(plain.crowd.usual).filter(|_| begins)
    }

    /// Holds a poll until a change, for at most `longest`.
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
            HoldMode::Asked => {
                Some(WaitLimit { begin: STREAM_FIRST_STATE_TIMEOUT, end: self.fetch_timeout(request.target.path) })
            }
            HoldMode::Routed => self.patience(plain, &resource, since),
        };
        let Some(patience) = patience else { return Dispatch::Proxy };
        let mut ready = await_ready(wire, &subscription, since, patience).await;
        if matches!(ready, FirstState::Stream) && holds_unknown(&resource.state(), request.headers()) {
            // The client holds a state that may be newer than all known ones.
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
            // Without a permit the poll is answered at once, but a client that would poll again at once is told to
            // wait.
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

    /// Returns the response with `snapshot`, and records that the page has it; `None` if it is not suitable for this
    /// client.
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
