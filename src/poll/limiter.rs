//! Hard limits on all fetches, concurrent and per second, shared fairly among clients.
//!
//! # Races
//!
//! A permit is handed over without a lock. A waiter that has been cancelled meanwhile drops the permit with its
//! channel, which admits the next waiter (`a_fetch_that_is_called_off_does_not_hold_up_the_others`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::effort::Efforts;
use super::queue::{self, Priority, Queue};
use crate::clock;
use crate::model::Owner;

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The maximum number of fetches in flight.
    pub max_fetches: usize,
    /// The maximum number of fetches begun in any one second.
    pub max_fetch_rate: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_fetches: 32, max_fetch_rate: 100 }
    }
}

impl Options {
    /// Raises each limit to at least one, because zero would stop all fetches.
    pub(super) fn at_least_one(self) -> Self {
        Self { max_fetches: self.max_fetches.max(1), max_fetch_rate: self.max_fetch_rate.max(1) }
    }
}

/// The limiter that all pollers share.
#[derive(Debug)]
pub struct FetchLimiter {
    queue: Mutex<Queue<oneshot::Sender<Permit>>>,
    /// The measured durations of the application.
    efforts: Arc<Efforts>,
    stretched: AtomicBool,
    /// Whether a task will dispatch again when a second is over.
    timed: AtomicBool,
}

/// The use of the limits at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterStats {
    /// The limits.
    pub options: Options,
    /// Fetches in flight.
    pub running: usize,
    /// Fetches that wait for admission.
    pub waiting: usize,
    /// Fetches that began within the last second.
    pub last_second: usize,
}

/// The permission to make one fetch. Dropping it admits the next.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<FetchLimiter>,
    owner: Owner,
}

impl FetchLimiter {
    /// Creates an unused limiter.
    pub fn new(options: Options) -> Arc<Self> {
        let (stretched, timed) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { queue: Mutex::new(Queue::new(options)), efforts: Arc::default(), stretched, timed })
    }

    /// Returns the state shared by all resources without a configured interval.
    pub(super) fn efforts(&self) -> &Arc<Efforts> {
        &self.efforts
    }

    /// Changes the limits.
    pub fn set_options(self: &Arc<Self>, options: Options) {
        self.lock().set_options(options);
        self.dispatch();
    }

    /// Waits until a fetch of `owner` may begin. `due` is the time at which it should have begun.
    pub async fn admit(self: &Arc<Self>, owner: Owner, priority: Priority, due: Instant) -> Permit {
        loop {
            let (call, admitted) = oneshot::channel();
            let _place = QueueTicket { budget: self, place: self.lock().enqueue(owner, priority, due, call) };
            self.dispatch();
            if let Ok(permit) = admitted.await {
                return permit;
            }
        }
    }

    /// Returns the current use of the limits.
    pub fn stats(&self) -> LimiterStats {
        let now = clock::now();
        let mut queue = self.lock();
        LimiterStats {
            options: queue.options(),
            running: queue.running(),
            waiting: queue.waiting(),
            last_second: queue.last_second(now),
        }
    }

    /// Returns whether a fetch of `owner` could begin at once.
    pub fn has_room(&self, owner: Owner) -> bool {
        self.lock().has_room(owner, clock::now())
    }

    /// Returns the load of `owner`'s network: fetches that run, began within the last second, or wait.
    pub fn load(&self, owner: Owner) -> usize {
        self.lock().load(owner)
    }

    /// Returns whether fetches wait so long that intervals exceed those of their routes.
    pub fn is_saturated(&self) -> bool {
        self.stretched.load(Ordering::Relaxed)
    }

    /// Records that a fetch with the interval `every` waited this long for its permit. Logs once when intervals begin
    /// to stretch, and once when no fetch waits any more.
    pub fn record_wait(&self, waited: Duration, every: Duration) {
        if waited > every {
            if !self.stretched.swap(true, Ordering::Relaxed) {
                warn!("fetches wait for max_fetches and max_fetch_rate: intervals are longer than routes say");
            }
        } else if self.is_saturated() && self.lock().waiting() == 0 && self.stretched.swap(false, Ordering::Relaxed) {
            info!("fetches do not have to wait any more");
        }
    }

    /// Admits all waiting fetches that may begin.
    fn dispatch(self: &Arc<Self>) {
        let (admitted, next) = {
            let mut queue = self.lock();
            (queue.admit(clock::now()), queue.next_moment())
        };
        for (owner, call) in admitted {
            // A cancelled waiter drops the permit.
            let _ = call.send(Permit { budget: Arc::clone(self), owner });
        }
        if let Some(next) = next {
            self.fetch_again_at(next);
        }
    }

    /// Schedules another dispatch at `next`. These times only increase, so an earlier scheduled dispatch is sufficient.
    fn fetch_again_at(self: &Arc<Self>, next: Instant) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.timed.swap(true, Ordering::AcqRel) {
            let budget = Arc::clone(self);
            runtime.spawn(async move {
                sleep_until(next).await;
                budget.timed.store(false, Ordering::Release);
                budget.dispatch();
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Permit>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().end(self.owner);
        self.budget.dispatch();
    }
}

/// A place in the queue. Dropping it gives the place up.
struct QueueTicket<'a> {
    budget: &'a FetchLimiter,
    place: queue::Place,
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        self.budget.lock().dequeue(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_is_called_off_does_not_hold_up_the_others() {
        let budget = FetchLimiter::new(Options { max_fetches: 1, max_fetch_rate: 100 });
        let owner = Owner::default();
        let running = budget.admit(owner, Priority::Routine, clock::now()).await;
        let due = clock::now();
        let called_off = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.admit(owner, Priority::Triggered, due).await }
        });
        let next = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.admit(owner, Priority::Routine, due).await }
        });
        tokio::task::yield_now().await;
        // The fetch is cancelled after its admission but before it has noticed.
        drop(running);
        called_off.abort();
        tokio::time::timeout(Duration::from_secs(1), next).await.expect("admitted").expect("not cancelled");
        assert_eq!(budget.stats().running, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_rate_is_admitted_when_the_second_is_over() {
        let budget = FetchLimiter::new(Options { max_fetches: 10, max_fetch_rate: 1 });
        let began = clock::now();
        for second in 0..3 {
            drop(budget.admit(Owner::default(), Priority::Routine, began).await);
            assert_eq!(clock::now().duration_since(began).as_secs(), second);
        }
    }
}
