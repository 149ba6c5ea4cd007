//! The hard caps over all fetches: how many at a time, how many a second; shared out fairly among those who want them.
//!
//! *Races.* A permit is handed over under no lock: whoever has stopped to wait for it meanwhile drops it with the channel, which
//! makes room for the next (`a_fetch_that_is_called_off_does_not_hold_up_the_others`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::queue::{self, Priority, Queue};
use crate::clock;
use crate::model::Owner;

/// The caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Fetches in flight.
    pub max_fetches: usize,
    /// Fetches begun in any one second.
    pub max_fetch_rate: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_fetches: 32, max_fetch_rate: 100 }
    }
}

impl Options {
    /// A cap of nothing would be a stop.
    pub(super) fn at_least_one(self) -> Self {
        Self { max_fetches: self.max_fetches.max(1), max_fetch_rate: self.max_fetch_rate.max(1) }
    }
}

/// The budget that all pollers share.
#[derive(Debug)]
pub struct FetchLimiter {
    queue: Mutex<Queue<oneshot::Sender<Permit>>>,
    stretched: AtomicBool,
    /// Whether somebody will see when a second is over.
    timed: AtomicBool,
}

/// How much of a budget is spent at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterStats {
    /// The caps.
    pub options: Options,
    /// Fetches in flight.
    pub running: usize,
    /// Fetches that wait for others.
    pub waiting: usize,
    /// Fetches that began within the last second.
    pub last_second: usize,
}

/// Leave to make one fetch; dropping it makes room for the next.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<FetchLimiter>,
    owner: Owner,
}

impl FetchLimiter {
    /// A budget with nothing spent.
    pub fn new(options: Options) -> Arc<Self> {
        let (stretched, timed) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { queue: Mutex::new(Queue::new(options)), stretched, timed })
    }

    /// Changes the caps.
    pub fn set_options(self: &Arc<Self>, options: Options) {
        self.lock().set_options(options);
        self.dispatch();
    }

    /// Waits until a fetch on the account of `owner` may begin. `due` is when it should have.
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

    /// How much of it is spent now.
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

    /// Whether a fetch on the account of `owner` could begin at once.
    pub fn has_room(&self, owner: Owner) -> bool {
        self.lock().has_room(owner, clock::now())
    }

    /// How much is there already on the account of `owner`'s network: what runs, what began within the last second, and what
    /// waits.
    pub fn load(&self, owner: Owner) -> usize {
        self.lock().load(owner)
    }

    /// Whether fetches have to wait for so long that intervals are longer than routes say.
    pub fn is_saturated(&self) -> bool {
        self.stretched.load(Ordering::Relaxed)
    }

    /// Notes that a fetch whose interval is `every` waited so long for its permit. Says so once when intervals begin to
    /// stretch, and once when nobody waits any more.
    pub fn record_wait(&self, waited: Duration, every: Duration) {
        if waited > every {
            if !self.stretched.swap(true, Ordering::Relaxed) {
                warn!("fetches wait for max_fetches and max_fetch_rate: intervals are longer than routes say");
            }
        } else if self.is_saturated() && self.lock().waiting() == 0 && self.stretched.swap(false, Ordering::Relaxed) {
            info!("fetches do not have to wait any more");
        }
    }

    /// Lets begin whoever may.
    fn dispatch(self: &Arc<Self>) {
        let (admitted, next) = {
            let mut queue = self.lock();
            (queue.admit(clock::now()), queue.next_moment())
        };
        for (owner, call) in admitted {
            // Who does not wait any more drops the permit.
            let _ = call.send(Permit { budget: Arc::clone(self), owner });
        }
        if let Some(next) = next {
            self.fetch_again_at(next);
        }
    }

    /// Sees to it that somebody checks the queue again at `next`. Moments only grow, so one who is waiting for an earlier one will do.
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

/// A place in the queue, given up when the fetch is called off.
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
        // Called off when it has been admitted already, and does not know it yet.
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
