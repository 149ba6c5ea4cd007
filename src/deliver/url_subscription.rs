//! One URL that a held client subscribes to.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use tokio::time::Instant;

use super::STREAM_FIRST_STATE_TIMEOUT;
use super::format::{StreamFormat, Url};
use super::noise::NoiseUpdates;
use super::subscriptions::SubscribeRequest;
use crate::clock;
use crate::model::{DeltaRequest, EndReason, Frame, Update};
use crate::resource::{Cursor, Ended, EventListener, Resource, ResourceState, ResourceStatus, Subscription};
use crate::telemetry::{HeldGuard, RouteMetrics};

/// The source of updates for a URL.
#[derive(Debug)]
pub enum Source {
    /// A resource that Sungrazer fetches.
    Resource(Subscription),
    /// A resource whose changes are a reason for the client to request the URL itself.
    TickOn(Subscription),
    /// The triggers of a route that Sungrazer may not fetch itself.
    RouteEvents {
        /// The events of the route.
        listening: EventListener,
        /// The minimum time between two ticks.
        gap: Duration,
    },
}

/// One URL that a client subscribes to.
#[derive(Debug)]
pub struct UrlSubscription {
    pub(super) request: SubscribeRequest,
    /// The URL under which updates are sent.
    pub(super) url: Url,
    pub(super) source: Source,
    pub(super) cursor: Cursor,
    /// No state is sent before there is one that the upstream had at this time or later.
    pub(super) since: Option<Instant>,
    /// When the client is told that no state is available, if it is still waiting.
    pub(super) late: Option<Instant>,
    /// When the client arrived.
    pub(super) came: Instant,
    /// No state fetched before this time is sent, because the client holds a state of unknown age.
    pub(super) after: Option<Instant>,
    /// The number of ticks already sent, and the time of the last one.
    pub(super) seen_events: u64,
    pub(super) last_told: Option<Instant>,
    /// Whether the client's last message was that its state may be old.
    pub(super) down: bool,
    /// The state of noise updates.
    pub(super) noise: NoiseUpdates,
    /// How often the subscription moved to another resource because a response taught something about the key.
    pub(super) reresolved: usize,
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) _counted: HeldGuard,
}

/// How often a subscription may move to another resource.
pub(super) const MAX_RERESOLVED: usize = 4;

impl UrlSubscription {
    /// Creates the subscription for `asked` in the format `delivery`. No state is sent before there is one that the
    /// upstream had at `since` or later.
    pub fn new(
        asked: SubscribeRequest,
        source: Source,
        since: Option<Instant>,
        delivery: &'static str,
        metrics: Arc<RouteMetrics>,
    ) -> Self {
        let heard = match &source {
            Source::RouteEvents { listening, .. } => listening.events().ticks(),
            _ => 0,
        };
        let canonical = match &source {
            Source::Resource(subscription) => subscription.resource().key().target == asked.url,
            Source::TickOn(_) | Source::RouteEvents { .. } => false,
        };
        let url = Url { text: Arc::clone(&asked.url), canonical, identity: None };
        let counted = metrics.hold(delivery);
        Self {
            request: asked,
            url,
            source,
            cursor: Cursor::new(),
            since,
            late: None,
            came: clock::now(),
            after: None,
            seen_events: heard,
            last_told: None,
            down: false,
            noise: NoiseUpdates::default(),
            reresolved: 0,
            metrics,
            _counted: counted,
        }
    }

    /// Sets the arrival time of a client that arrived before there was an update for it.
    pub fn since(mut self, came: Instant) -> Self {
        self.came = came;
        self
    }

    /// Adds the identity tag that accompanies each state.
    pub fn marked(mut self, identity: Option<String>) -> Self {
        self.url.identity = identity.map(Into::into);
        self
    }

    /// Requests a fetch if no recent enough state is known. If there is still none at `late`, the client is told so.
    pub fn demand_fresh(&mut self, late: Instant) {
        if self.request.patient && self.request.resume_from.is_some() && self.request.interval.is_some() {
            return;
        }
        self.late = Some(late);
        if let (Source::Resource(subscription) | Source::TickOn(subscription), Some(since)) = (&self.source, self.since)
            && !subscription.resource().state().attempted_since(since)
        {
            subscription.resource().wake_on_next_fetch();
            subscription.resource().demand(since);
        }
    }

    /// Handles a write of the client at `wrote`: if it has not received anything yet, older states no longer count.
    pub(super) fn require_after(&mut self, wrote: Instant) {
        if self.since.is_some_and(|since| since < wrote) {
            self.since = Some(wrote);
            self.demand_fresh(wrote + STREAM_FIRST_STATE_TIMEOUT);
        }
    }

    /// Returns whether the first state is available, if the subscription waits for one.
    pub(super) fn is_ready(&mut self, resource: &Resource, head: &ResourceState) -> bool {
        if let Some(since) = self.since {
            if !head.attempted_since(since) {
                resource.wake_on_next_fetch();
                // The fetch may have ended before the registration.
                if !resource.state().attempted_since(since) {
                    return false;
                }
            }
            self.since = None;
            self.late = None;
        }
        true
    }

    /// Returns `stale` for a waiting client if the upstream is resting after failures, or if no state will be available
    /// soon.
    pub(super) fn stale_instead(&mut self, resource: &Resource, head: &ResourceState, now: Instant) -> Option<Update> {
        if resource.is_untried() {
            // Nothing has failed: the fetch waits for the client's own next poll, and a `stale` would make the client
            // give up.
            self.late = None;
            return None;
        }
        let is_late = self.late.is_some_and(|late| now >= late);
        if is_late {
            self.late = None;
        }
        // A fetch that is in progress will end by itself, but if the previous one failed the client does not wait for
        // it.
        let is_near = self.since.is_some_and(|since| resource.is_fetched_since(since)) && !resource.is_stale();
        if !resource.rests(now) && (!is_late || is_near) {
            return None;
        }
        let (since, status) = match head.status {
            ResourceStatus::Stale { since, status } => (since, status),
            _ => (clock::wall(), None),
        };
        self.cursor.stale(since, status)
    }
}

impl UrlSubscription {
    pub(super) fn end_reason(&self, ended: &Ended) -> EndReason {
        match &self.source {
            Source::Resource(subscription) | Source::TickOn(subscription) => subscription.resource().end_reason(ended),
            Source::RouteEvents { .. } => ended.reason(),
        }
    }

    /// Adds frames for all pending updates of a client that last wrote at `wrote`. Returns `Some` if the watch ended.
    pub(super) fn collect(
        &mut self,
        delivery: &dyn StreamFormat,
        wrote: Option<Instant>,
        now: Instant,
        frames: &mut Vec<Frame>,
    ) -> Option<Ended> {
        wrote.into_iter().for_each(|wrote| self.require_after(wrote));
        self.noise.collected();
        let subscription = match &self.source {
            Source::Resource(subscription) | Source::TickOn(subscription) => subscription,
            Source::RouteEvents { listening, .. } if listening.events().is_closed() => {
                return Some(Ended::Closed(EndReason::Reload));
            }
            Source::RouteEvents { .. } => {
                self.tick(delivery, now, frames);
                return None;
            }
        };
        let mut head = subscription.resource().state();
        let is_reason = matches!(self.source, Source::TickOn(_));
        let fence = |follower: &Self| wrote.max(follower.after).filter(|_| !is_reason);
        if self.since.is_some()
            || self.request.resume_from.is_some()
            || fence(self).is_some_and(|fence| is_from_before(&head, fence))
        {
            let resource = Arc::clone(subscription.resource());
            if !self.is_ready(&resource, &head) {
                if let Source::Resource(_) = self.source
                    && let Some(stale) = self.stale_instead(&resource, &head, now)
                {
                    self.metrics.tell(delivery, &stale, &self.url, frames);
                }
                return None;
            }
            head = resource.state();
            if head.ended().is_none() {
                self.resume(&head);
                if let Some(fence) = fence(self).filter(|fence| is_from_before(&head, *fence)) {
                    head = self.withhold(&resource, fence, delivery, frames)?;
                }
            }
        }
        if let Some(ended) = head.ended() {
            return Some(ended.clone());
        }
        let before = frames.len();
        let ask = self.request.delta.zip(delivery.body_form()).map(|(kind, shape)| DeltaRequest { kind, form: shape });
        while let Some(update) = self.cursor.next(&head, ask) {
            if is_reason {
                // The initial position of a client is not an update.
                if self.last_told.replace(now).is_some() && matches!(update, Update::Snapshot(_)) {
                    self.metrics.tell(delivery, &Update::Tick, &self.url, frames);
                }
                continue;
            }
            if let Update::Snapshot(snapshot) = &update
                && delivery.must_end_at(&snapshot.representation)
            {
                return Some(Ended::Closed(EndReason::Gone));
            }
            if let Update::Snapshot(snapshot) | Update::Patch { snapshot, .. } = &update {
                // The initial state may have been known for long, so its delay is not counted.
                if self.last_told.replace(now).is_some() {
                    self.metrics.delayed(now.saturating_duration_since(snapshot.arrived));
                }
            }
            self.metrics.tell(delivery, &update, &self.url, frames);
            self.reresolved = 0;
            self.down = false;
        }
        let is_asked =
            mem::take(&mut self.request.confirm) && !is_reason && frames.len() == before && self.cursor.at() > 0;
        if !is_reason {
            self.collect_noise(&head, delivery, (frames.len() > before, is_asked), now, frames);
        } else if self.down {
            self.down = false;
            self.metrics.tell(delivery, &Update::Live, &self.url, frames);
        }
        None
    }

    /// Applies the client's resume position, once. The client's state may be newer than all known states.
    pub(super) fn resume(&mut self, head: &ResourceState) {
        if let Some(claim) = self.request.resume_from.take() {
            self.after = (!head.knows(&claim)).then_some(self.came);
            self.cursor.take_up(&claim, head);
        }
    }

    /// Returns the state to send if it is not older than `fence`, the client's last write. Otherwise the client
    /// receives nothing until there is a newer state: neither the older state nor a confirmation. A client that answers
    /// requests from received data is told to stop.
    ///
    /// # Races
    /// A fetch that ends during this decision wakes the client again, because the registration for it precedes the read
    /// of the state.
    pub(super) fn withhold(
        &mut self,
        resource: &Resource,
        fence: Instant,
        delivery: &dyn StreamFormat,
        frames: &mut Vec<Frame>,
    ) -> Option<Guard<Arc<ResourceState>>> {
        resource.wake_on_next_fetch();
        let head = resource.state();
        let has_news = self.cursor.at() < head.meaning_position;
        let is_told = has_news || matches!(head.status, ResourceStatus::Live);
        if head.ended().is_some() || !(is_told && is_from_before(&head, fence)) {
            return Some(head);
        }
        if self.url.identity.is_some() && self.cursor.at() > 0 && !mem::replace(&mut self.down, true) {
            self.metrics.tell(delivery, &Update::Down, &self.url, frames);
        }
        if has_news && self.request.interval.is_none() {
            // There may be no other client waiting for this state.
            resource.demand(fence);
        }
        if let Some(update) = self.cursor.stale_head(&head) {
            self.metrics.tell(delivery, &update, &self.url, frames);
        }
        None
    }

    pub(super) fn tick(&mut self, delivery: &dyn StreamFormat, now: Instant, frames: &mut Vec<Frame>) {
        let Source::RouteEvents { listening, gap } = &self.source else { return };
        let ticks = listening.events().ticks();
        if ticks != self.seen_events && self.last_told.is_none_or(|told| now.saturating_duration_since(told) >= *gap) {
            self.seen_events = ticks;
            self.last_told = Some(now);
            self.metrics.tell(delivery, &Update::Tick, &self.url, frames);
        }
    }
}

/// Returns whether the last successful fetch began before the client's write.
fn is_from_before(head: &ResourceState, wrote: Instant) -> bool {
    head.last_success.is_some_and(|fetched| fetched.started < wrote)
}

impl RouteMetrics {
    /// Adds the frame that carries `reason`, and counts the end.
    pub(super) fn end(&self, delivery: &dyn StreamFormat, reason: EndReason, url: &Url, frames: &mut Vec<Frame>) {
        self.tell(delivery, &Update::End(reason), url, frames);
        self.ended(reason.as_str());
    }

    /// Adds the frame of `update`, if `delivery` can represent it, and counts it.
    pub(super) fn tell(&self, delivery: &dyn StreamFormat, update: &Update, url: &Url, frames: &mut Vec<Frame>) {
        if let Some(frame) = delivery.frame(update, url) {
            frames.push(frame);
            self.written(match update {
                Update::Snapshot(_) => "snapshot",
                Update::Patch { .. } => "patch",
                Update::Stale { .. } => "stale",
                Update::Live => "live",
                Update::Tick => "tick",
                Update::Down => "down",
                Update::End(_) => "end",
            });
        }
    }
}
