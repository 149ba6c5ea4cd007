//! One URL that a held client follows.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use tokio::time::Instant;

use super::STREAM_FIRST_STATE_TIMEOUT;
use super::format::{StreamFormat, Url};
use super::subscriptions::SubscribeRequest;
use crate::clock;
use crate::model::{DeltaRequest, EndReason, Frame, Update};
use crate::resource::{Cursor, Ended, EventListener, Resource, ResourceState, ResourceStatus, Subscription};
use crate::telemetry::{HeldGuard, RouteMetrics};

/// Where news of a URL comes from.
#[derive(Debug)]
pub enum Source {
    /// A resource that we fetch.
    Resource(Subscription),
    /// A resource whose changes are a reason to ask for something else.
    TickOn(Subscription),
    /// The triggers of a route that we may not ask for ourselves.
    RouteEvents {
        /// The route's.
        listening: EventListener,
        /// At most one tick in this time.
        gap: Duration,
    },
}

/// One URL that a client follows.
#[derive(Debug)]
pub struct UrlSubscription {
    pub(super) request: SubscribeRequest,
    /// By which name it is told of.
    pub(super) url: Url,
    pub(super) source: Source,
    pub(super) cursor: Cursor,
    /// No state is told before there is one that the upstream had at this moment or later.
    pub(super) since: Option<Instant>,
    /// When the client is told that there is none, if it still waits for it then.
    pub(super) late: Option<Instant>,
    /// When it came.
    pub(super) came: Instant,
    /// Nothing that was fetched before this is told: it says that it holds something of which nobody here knows how new it is.
    pub(super) after: Option<Instant>,
    /// Ticks that have been told of, and when.
    pub(super) seen_events: u64,
    pub(super) last_told: Option<Instant>,
    /// Whether the client has been told that what it holds may be old, and nothing since.
    pub(super) down: bool,
    /// How often another resource was sought because an answer taught something about the key.
    pub(super) reresolved: usize,
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) _counted: HeldGuard,
}

/// How often a follower may be sent to another resource.
pub(super) const MAX_RERESOLVED: usize = 4;

impl UrlSubscription {
    /// A client that follows what it asked for by `delivery`. No state is told before there is one that the upstream had at
    /// `since` or later.
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
            reresolved: 0,
            metrics,
            _counted: counted,
        }
    }

    /// The same for a client that came at `came`, before there was something to tell it.
    pub fn since(mut self, came: Instant) -> Self {
        self.came = came;
        self
    }

    /// The same, told with each state whose it is.
    pub fn marked(mut self, identity: Option<String>) -> Self {
        self.url.identity = identity.map(Into::into);
        self
    }

    /// Has its resource fetched, if it does not know a state that is recent enough. If nothing has come of that at `late`, the
    /// client is told so.
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

    /// The client has written at `wrote`: if it has not been told anything yet, then nothing that was read before.
    pub(super) fn require_after(&mut self, wrote: Instant) {
        if self.since.is_some_and(|since| since < wrote) {
            self.since = Some(wrote);
            self.demand_fresh(wrote + STREAM_FIRST_STATE_TIMEOUT);
        }
    }

    /// Whether there is something to begin with, given that it may be waited for.
    pub(super) fn is_ready(&mut self, resource: &Resource, head: &ResourceState) -> bool {
        if let Some(since) = self.since {
            if !head.attempted_since(since) {
                resource.wake_on_next_fetch();
                // It may have been made before we said that we wait for it.
                if !resource.state().attempted_since(since) {
                    return false;
                }
            }
            self.since = None;
            self.late = None;
        }
        true
    }

    /// What there is to tell instead, if the client waits in vain: the upstream is left alone, or what should be read is not
    /// soon.
    pub(super) fn stale_instead(&mut self, resource: &Resource, head: &ResourceState, now: Instant) -> Option<Update> {
        if resource.is_untried() {
            // The client's own next poll is waited for: nothing has failed, and a client that was told so would give up.
            self.late = None;
            return None;
        }
        let is_late = self.late.is_some_and(|late| now >= late);
        if is_late {
            self.late = None;
        }
        // A fetch that is under way comes to an end by itself; but if the last one failed it is not waited for.
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

    /// Frames for all that there is to tell a client that last wrote at `wrote`; `Some` if it is over.
    pub(super) fn collect(
        &mut self,
        delivery: &dyn StreamFormat,
        wrote: Option<Instant>,
        now: Instant,
        frames: &mut Vec<Frame>,
    ) -> Option<Ended> {
        wrote.into_iter().for_each(|wrote| self.require_after(wrote));
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
                // Where it stands when the client comes is no news.
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
                // What a client begins with may have been known for long.
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
        if is_asked || self.down {
            self.down = false;
            self.metrics.tell(delivery, &Update::Live, &self.url, frames);
        }
        None
    }

    /// Takes the client at its word, the first time. What it holds may be newer than all that is known here.
    pub(super) fn resume(&mut self, head: &ResourceState) {
        if let Some(claim) = self.request.resume_from.take() {
            self.after = (!head.knows(&claim)).then_some(self.came);
            self.cursor.take_up(&claim, head);
        }
    }

    /// The head to tell of, if it is not from before `fence`, the client's last write. If it is, the client is told nothing until
    /// there is another: not the news in it, nor that it is current. A client that answers requests from what it is told
    /// hears that it must not.
    ///
    /// *Races.* A fetch that ends while this decides wakes the client again, as it is awaited before the head is read.
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
            // There is news for which nobody else may be waiting.
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

/// Whether what is known was fetched before a client wrote.
fn is_from_before(head: &ResourceState, wrote: Instant) -> bool {
    head.last_success.is_some_and(|fetched| fetched.started < wrote)
}

impl RouteMetrics {
    /// Adds the frame that says `reason`, and counts the end.
    pub(super) fn end(&self, delivery: &dyn StreamFormat, reason: EndReason, url: &Url, frames: &mut Vec<Frame>) {
        self.tell(delivery, &Update::End(reason), url, frames);
        self.ended(reason.as_str());
    }

    /// Adds the frame of `update`, if `delivery` has words for it, and counts it.
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
