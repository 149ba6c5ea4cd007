//! How long clients wait for a fetch.
//!
//! ```text
//! fetch_since ─▶ a fetch that is recent enough begins soon ─▶ and ends in about its usual time ─▶ its head
//!                    └ it rests, or the budget is spent           └ it is late
//!                                 └────────── None: the client is served in another way ─┘
//! ```
//!
//! Nobody waits for a fetch that is not going to be made soon, whatever the reason: the application asked to be left alone,
//! the budget is spent, or an earlier fetch is still under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::Guard;
use tokio::time::{Instant, timeout_at};

use super::{Resource, ResourceState, ResourceStatus};

/// How long a client waits for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimit {
    /// Until one begins that is recent enough.
    pub begin: Duration,
    /// From then on, until it has ended.
    pub end: Duration,
}

impl WaitLimit {
    /// For a plain request that could be proxied, where a fetch usually takes so long.
    pub fn plain(usual: Duration) -> Self {
        Self { begin: SOON, end: (usual * 3 / 2).max(usual + SOON) }
    }
}

/// A fetch that can be made begins within this time: it takes no more than that a task is woken.
const SOON: Duration = Duration::from_millis(25);

/// How long a fetch is waited for where it is not known how long fetches take.
const UNKNOWN: Duration = Duration::from_millis(100);

/// So many of the last fetches say how long they take.
const MAX_MEASURED: usize = 5;

/// Who waits, and until when there is nothing to wait for. Moments are nanoseconds since the resource's birth, plus one; 0
/// is none.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Until when no fetch is made.
    rest_until: AtomicU64,
    /// When the application was last seen to be well.
    well: AtomicU64,
    /// Clients that wait for a fetch without being held.
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
    /// Waits for the head of a fetch that began at `since` or later; `now` is when the client asked. Has one made if nobody
    /// has yet. `None` if that takes longer than `patience` allows, or is sure to.
    ///
    /// *Races.* A fetch that begins between two looks at this state wakes the waiting client, since both its beginning and
    /// its end notify; the demand ends with the client.
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
            // Registered before the state is read, so that what happens in between wakes us.
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

    /// How long a plain request waits for a fetch, `usual` being what its like take if that is known. `None`: not at all. The
    /// last fetch failed or was late, so that the next may be, too.
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

    /// No fetch is made before `until`.
    pub fn rest(&self, until: Option<Instant>) {
        let until = until.map_or(0, |until| self.offset(until).saturating_add(1));
        self.waits.rest_until.store(until, Ordering::Release);
    }

    /// Whether it is known that no fetch is made now.
    pub fn rests(&self, now: Instant) -> bool {
        self.waits.rest_until.load(Ordering::Acquire) > self.offset(now).saturating_add(1)
    }

    /// Whether a fetch has begun that is recent enough for whoever needs one from `since` or later.
    pub fn is_fetched_since(&self, since: Instant) -> bool {
        self.fetch_started_since(since).is_some()
    }

    /// Whether the application could not be read the last time.
    pub fn is_stale(&self) -> bool {
        matches!(self.state().status, ResourceStatus::Stale { .. })
    }

    /// The application was seen to be well at `now`: if it could not be read before, it may be readable again.
    pub fn record_well(&self, now: Instant) {
        self.waits.well.fetch_max(self.offset(now).saturating_add(1), Ordering::AcqRel);
        self.alert();
    }

    /// When the application was last seen to be well, by this resource or by its route.
    pub fn seen_well(&self) -> Option<Instant> {
        let own = self.waits.well.load(Ordering::Acquire).checked_sub(1).map(|offset| self.at(offset));
        own.max(self.route_events().seen_well())
    }

    /// Counts a client that waits for a fetch, until what is returned is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waits.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Whether a client waits for a fetch that would otherwise ask by itself.
    pub fn is_awaited(&self) -> bool {
        self.waits.waiting.load(Ordering::SeqCst) > 0 && self.is_demanded()
    }

    /// Whether anybody waits for a fetch, or is held.
    pub fn is_wanted(&self) -> bool {
        !self.is_closing() && (self.waits.waiting.load(Ordering::SeqCst) > 0 || self.held() > 0)
    }
}
