//! Limits how long clients wait for a fetch.
//!
//! ```text
//! fetch_since ─▶ a fetch that is recent enough begins soon ─▶ and ends in about its usual time ─▶ its head
//!                    └ it rests, or the budget is spent           └ it is late
//!                                 └────────── None: the client is served in another way ─┘
//! ```
//!
//! A client never waits for a fetch that will not be made soon: because the application asked for a delay, the fetch
//! budget is used up, or an earlier fetch is still in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::Guard;
use tokio::time::{Instant, timeout_at};

use super::{Resource, ResourceState, ResourceStatus};

/// The time that a client waits for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimit {
    /// Until a recent enough fetch begins.
    pub begin: Duration,
    /// From then on until it ends.
    pub end: Duration,
}

impl WaitLimit {
    /// Returns the limit for a plain request that could be proxied, given the usual duration of a fetch.
    pub fn plain(usual: Duration) -> Self {
        Self { begin: SOON, end: (usual * 3 / 2).max(usual + SOON) }
    }
}

/// How soon a possible fetch begins: the time to wake a task.
const SOON: Duration = Duration::from_millis(25);

/// How long to wait for a fetch of unknown duration.
const UNKNOWN: Duration = Duration::from_millis(100);

/// The number of recent fetches whose duration is considered.
const MAX_MEASURED: usize = 5;

/// The waiting clients, and the times that limit their wait. Times are in nanoseconds since the resource's creation,
/// plus one; 0 is none.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Until when no fetch is made.
    rest_until: AtomicU64,
    /// When the application was last known to be healthy.
    well: AtomicU64,
    /// The number of clients that wait for a fetch without being held.
    waiting: AtomicUsize,
}

/// A client that waits for a fetch without being held.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Resource);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waits.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.alert();
        }
    }
}

impl Resource {
    /// Waits for the result of a fetch that began at `since` or later, and demands one if there is none. `now` is the
    /// time of the request. Returns `None` if that takes longer than `patience` allows, or is certain to.
    ///
    /// # Races
    /// A fetch that begins between two reads of this state wakes the client, because both its beginning and its end
    /// notify. The demand ends with the client.
    pub async fn fetch_since(&self, since: Instant, now: Instant, patience: WaitLimit) -> Option<Arc<ResourceState>> {
        let known = self.state_full();
        if known.attempted_since(since) {
            return Some(known);
        }
        if self.rests(now) {
            return None;
        }
        let _waiting = self.wait();
        self.demand(since);
        let hopeless = now + patience.begin;
        loop {
            let progress = self.progress();
            tokio::pin!(progress);
            // Registered before the state is read, so that no notification in between is missed.
            progress.as_mut().enable();
            let head = self.state();
            if head.attempted_since(since) {
                return Some(Guard::into_inner(head));
            }
            drop(head);
            let deadline = self.fetch_started_since(since).map_or(hopeless, |began| began + patience.end);
            if timeout_at(deadline, progress).await.is_err()
                && self.fetch_started_since(since).is_none_or(|began| began + patience.end <= deadline)
            {
                let head = self.state_full();
                return head.attempted_since(since).then_some(head);
            }
        }
    }

    /// Returns how long a plain request waits for a fetch, where `usual` is the usual duration if known. Returns `None`
    /// if the last fetch failed or was late, since the next one may be too.
    pub fn wait_limit(&self, usual: Option<Duration>) -> Option<WaitLimit> {
        if self.is_stale() {
            return None;
        }
        let last = self.durations(MAX_MEASURED);
        let Some(latest) = last.first().copied() else { return Some(WaitLimit::plain(usual.unwrap_or(UNKNOWN))) };
        let mut sorted = last;
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        let is_late = latest > (median * 2).max(median + UNKNOWN);
        (!is_late).then(|| WaitLimit::plain(median))
    }

    /// Records that no fetch is made before `until`.
    pub fn rest(&self, until: Option<Instant>) {
        let until = until.map_or(0, |until| self.offset(until).saturating_add(1));
        self.waits.rest_until.store(until, Ordering::Release);
    }

    /// Returns whether it is known that no fetch is made now.
    pub fn rests(&self, now: Instant) -> bool {
        self.waits.rest_until.load(Ordering::Acquire) > self.offset(now).saturating_add(1)
    }

    /// Returns whether a fetch has begun that is recent enough for a client that needs one from `since` or later.
    pub fn is_fetched_since(&self, since: Instant) -> bool {
        self.fetch_started_since(since).is_some()
    }

    /// Returns whether the last fetch failed.
    pub fn is_stale(&self) -> bool {
        matches!(self.state().status, ResourceStatus::Stale { .. })
    }

    /// Records that the application was healthy at `now`, so a failing resource may be readable again.
    pub fn record_well(&self, now: Instant) {
        self.waits.well.fetch_max(self.offset(now).saturating_add(1), Ordering::AcqRel);
        self.alert();
    }

    /// Returns when the application was last known to be healthy, from this resource or its route.
    pub fn seen_well(&self) -> Option<Instant> {
        let own = self.waits.well.load(Ordering::Acquire).checked_sub(1).map(|offset| self.at(offset));
        own.max(self.route_events().seen_well())
    }

    /// Counts a waiting client until the returned guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waits.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Returns whether a client waits for a fetch in place of its own request.
    pub fn is_awaited(&self) -> bool {
        self.waits.waiting.load(Ordering::SeqCst) > 0 && self.is_demanded()
    }

    /// Returns whether any client waits for a fetch or is held.
    pub fn is_wanted(&self) -> bool {
        !self.is_closing() && (self.waits.waiting.load(Ordering::SeqCst) > 0 || self.held() > 0)
    }
}
