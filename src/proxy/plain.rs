//! Plain requests of routes: answered from memory, held until there is news, or proxied.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderValue, StatusCode};
use tokio::time::{Instant, timeout};

use super::decide::Disposition;
use super::forward::came_through_us;
use super::identity::IDENTITY;
use super::request::Request;
use super::site::Site;
use crate::clock;
use crate::deliver::{Answer, Hold, PollOutcome, Ready, Whole, Wire, await_ready, from_memory, holds_unknown};
use crate::model::{Representation, Snapshot};
use crate::resource::{Bell, Trigger};
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
        let disposition = match (wait, route.hold) {
            _ if !watchable || request.is_reload() || request.is_particular() => Disposition::Proxy,
            // What is in memory is the page as the backend made it, without the browser script.
            _ if route.shim != Shim::Off && request.is_navigation() => Disposition::Proxy,
            (Some(wait), _) => {
                Box::pin(self.held(route, request, wire, &facts, wait.min(LONGEST_WAIT), How::Asked)).await
            }
            (None, Some(hold))
                if !request.is_navigation() && request.mark().is_none() && !came_through_us(request.headers()) =>
            {
                Box::pin(self.held(route, request, wire, &facts, hold, How::Routed)).await
            }
            _ => self.remembered(route, request, &facts, now).await.unwrap_or(Disposition::Proxy),
        };
        let disposition = match disposition {
            Disposition::Proxy if self.hub.owes() => self.owed(route, request).unwrap_or(Disposition::Proxy),
            other => other,
        };
        route.metrics.answered(match &disposition {
            Disposition::Answer(_) if wait.is_some() || route.hold.is_some() => "held",
            Disposition::Answer(_) | Disposition::Whole(_) => "memory",
            _ => "proxied",
        });
        disposition
    }

    /// What a look has taken away that this request would have been given.
    fn owed(&self, route: &Route, request: &Request<'_>) -> Option<Disposition> {
        let now = clock::now();
        let facts = route.facts(&request.client, request.target, request.headers(), now);
        let key = route.key(&request.client, request.target, request.headers(), &facts, false);
        let fits = |answer: &Representation| request.takes_type(&answer.media_type().essence);
        self.hub.pay(&key, fits, now).map(Answer::kept).map(Disposition::Answer)
    }

    /// A whole answer, marked as one of several that this URL can give.
    fn whole(route: &Route, snapshot: &Arc<Snapshot>, request: &Request<'_>) -> Answer {
        let mut answer = from_memory(snapshot, request.headers());
        if let Some(negotiates) = route.negotiates() {
            answer.headers.append(VARY, HeaderValue::from_static(negotiates));
        }
        answer
    }

    /// The answer from memory. If memory is too old but others want the same, one look is made for all of them.
    async fn remembered(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &Request<'_>,
        facts: &Facts,
        now: Instant,
    ) -> Option<Disposition> {
        // What a page asks for with something of its own in the URL is looked at for all as it is followed.
        let followed =
            request.polls_for().map(|target| route.key(&request.client, target, request.headers(), facts, true));
        let followed = followed.filter(|key| self.hub.get(key).is_some_and(|resource| resource.held() > 0));
        let is_followed = followed.is_some();
        let own = route.key(&request.client, request.target, request.headers(), facts, false);
        self.note_headers(route, &request.client, request.headers(), &own);
        let is_other = followed.as_ref().is_some_and(|key| key.target != own.target);
        let key = followed.unwrap_or(own);
        let window = route.plan.schedule.every / 2;
        let polled = self.hub.poll(&key, request.client.address, now, window, self.birth(route));
        let polled = polled.inspect_err(|full| self.metrics.limit_hit(full.limit())).ok()??;
        let resource = polled.resource;
        // Who follows it is told of it as often as it is looked at, and would not have asked.
        let since = if is_followed {
            resource.current_since().max(self.last_write(request))
        } else {
            Self::current_since(route.plan.schedule.every, &resource, self.last_write(request), now)
        };
        if resource.is_untried()
            || (resource.is_page() && resource.written_by_page() > resource.head().looked.map(|looked| looked.started))
        {
            // Nothing waits for a look that may not be made before the client itself has been answered.
            return None;
        }
        let mut head = resource.head_full();
        let mut since = since;
        loop {
            if head.current_as_of(since).is_none() && polled.shared && !came_through_us(request.headers()) {
                resource.demand(since);
                if is_followed && head.has_tried(since) {
                    // It could not be read then. It is tried again soon, and nobody waits for that.
                    resource.trigger(Trigger::Demand);
                }
                let known = resource.wait_for(|head| head.has_tried(since));
                head = timeout(self.fetch_timeout(), known).await.ok()?;
            }
            if since >= now || !holds_unknown(&head, request.headers()) {
                break;
            }
            // It holds something that may be newer than all that is known here.
            since = now;
        }
        if let Some(ended) = head.ended() {
            self.heed(route, &request.client, request.target, request.headers(), ended);
        }
        // What the client did while others' look was waited for, that may not show.
        let snapshot = head.current_as_of(since.max(self.last_write(request)))?;
        self.sample(route, request, facts, &key);
        if snapshot.representation.sets_cookie {
            return None;
        }
        if request.mark().is_some() {
            let mut answer = Self::whole(route, snapshot, request);
            if is_other {
                // A cache on the way that does not heed the header by which the page said so must not keep this as what is at
                // the URL that was asked for.
                answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            if let Some(identity) = self.identity(route, request) {
                answer.headers.insert(IDENTITY, identity);
            }
            return Some(Disposition::Answer(answer));
        }
        let whole = Whole::of(snapshot, request.headers(), route.negotiates());
        Some(whole.map_or_else(|| Disposition::Answer(Self::whole(route, snapshot, request)), Disposition::Whole))
    }

    /// Holds a poll until there is news, for at most `longest`.
    async fn held(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &Request<'_>,
        wire: &mut Wire,
        facts: &Facts,
        longest: Duration,
        how: How,
    ) -> Disposition {
        let now = clock::now();
        let key = route.key(&request.client, request.target, request.headers(), facts, false);
        self.note_headers(route, &request.client, request.headers(), &key);
        let bell = Arc::<Bell>::default();
        let place = self.enter(request, &bell, how == How::Routed);
        let writes = self.writes.clients.fence(&self.who(request)).listen(Arc::clone(&bell), false);
        let transport = if how == How::Asked { "long-poll" } else { "poll" };
        let joined = self.hub.join(&key, request.client.address, transport, Arc::clone(&bell), now, self.birth(route));
        let subscription = match joined {
            Ok(subscription) => subscription,
            Err(full) => {
                self.metrics.limit_hit(full.limit());
                return Disposition::Proxy;
            }
        };
        subscription.resource().vouch();
        let since = Self::current_since(route.plan.schedule.every, subscription.resource(), writes.latest(), now);
        let mut since = since;
        let mut ready = await_ready(wire, &subscription, since).await;
        if matches!(ready, Ready::Stream) && holds_unknown(&subscription.resource().head(), request.headers()) {
            // It holds something that may be newer than all that is known here.
            since = since.max(now);
            ready = await_ready(wire, &subscription, since).await;
        }
        match ready {
            Ready::Gone => return Disposition::Gone,
            Ready::Stream => {}
            Ready::Declined(decline) => {
                self.learn(route, &request.client, request.target, request.headers(), &decline);
                return Disposition::Proxy;
            }
            Ready::Refused(refusal) => {
                self.heed_refusal(route, &request.client, request.target, request.headers(), &refusal);
                return Disposition::Proxy;
            }
            Ready::Ended => return Disposition::Proxy,
        }
        let head = subscription.resource().head_full();
        let since = since.max(writes.latest());
        let Some(snapshot) = head.current_as_of(since).filter(|snapshot| !snapshot.representation.sets_cookie) else {
            return Disposition::Proxy;
        };
        let place = match place {
            Ok(place) => place,
            // Without a place to wait in it is answered at once; but who would ask again at once is told to wait.
            Err(overload) => {
                let answer = Self::whole(route, snapshot, request);
                let spins = how == How::Asked && answer.status == StatusCode::NOT_MODIFIED;
                return if spins {
                    self.turn_away("streams", &overload.to_string())
                } else {
                    Disposition::Answer(answer)
                };
            }
        };
        let poll = match how {
            How::Asked => self.habits.asked(),
            How::Routed => {
                let handle = subscription.resource().handle();
                self.habits.begin(self.habits.client(request.client.address, request.headers(), handle), handle, now)
            }
        };
        let _counted = route.metrics.hold(transport);
        let hold = Hold { subscription, bell, place, longest };
        match poll.run(&hold, wire, request.headers(), now, || writes.latest()).await {
            PollOutcome::Gone => Disposition::Gone,
            PollOutcome::Unknown => Disposition::Proxy,
            PollOutcome::Answer(snapshot) => {
                let mut answer = Self::whole(route, &snapshot, request);
                if how == How::Asked
                    && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", longest.as_secs()))
                {
                    answer.headers.insert("preference-applied", applied);
                }
                Disposition::Answer(answer)
            }
        }
    }
}
