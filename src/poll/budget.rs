//! The hard caps over all looks: how many at a time, how many a second.
//!
//! Looks that may not start yet wait in one queue. Triggered ones are served first, but only by so much: a look that
//! has been due for longer than [`PATIENCE`] goes before any newer trigger, so no resource starves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::clock;

/// The caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Looks in flight.
    pub max_fetches: usize,
    /// Looks begun in any one second.
    pub max_fetch_rate: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_fetches: 32, max_fetch_rate: 100 }
    }
}

impl Options {
    /// A cap of nothing would be a stop.
    fn at_least_one(self) -> Self {
        Self { max_fetches: self.max_fetches.max(1), max_fetch_rate: self.max_fetch_rate.max(1) }
    }
}

/// How a look ranks among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Its interval is over.
    Routine,
    /// Something asked for it.
    Triggered,
}

/// By how much a trigger may go before a look that was due earlier.
const PATIENCE: Duration = Duration::from_secs(5);

const WINDOW: Duration = Duration::from_secs(1);

/// The pure part: who waits, who runs, and who may go next.
#[derive(Debug)]
pub(crate) struct Queue {
    options: Options,
    running: usize,
    /// When the last `max_fetch_rate` looks began, oldest first.
    begun: VecDeque<Instant>,
    /// By rank, then by arrival.
    waiting: BTreeMap<(Instant, u64), Arc<Notify>>,
    arrivals: u64,
}

/// Whether the first in the queue may go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// Not before this moment.
    At(Instant),
    /// Not before a running look ends.
    Full,
}

impl Queue {
    pub(crate) fn set_options(&mut self, options: Options) {
        self.options = options.at_least_one();
        while self.begun.len() > self.options.max_fetch_rate {
            self.begun.pop_front();
        }
    }

    pub(crate) fn new(options: Options) -> Self {
        let options = options.at_least_one();
        Self { options, running: 0, begun: VecDeque::new(), waiting: BTreeMap::new(), arrivals: 0 }
    }

    /// Takes a place. A trigger ranks as if it had been due [`PATIENCE`] earlier.
    pub(crate) fn join(&mut self, urgency: Urgency, due: Instant) -> ((Instant, u64), Arc<Notify>) {
        let rank = match urgency {
            Urgency::Routine => due + PATIENCE,
            Urgency::Triggered => due,
        };
        self.arrivals += 1;
        let place = (rank, self.arrivals);
        let call = Arc::new(Notify::new());
        self.waiting.insert(place, Arc::clone(&call));
        (place, call)
    }

    pub(crate) fn leave(&mut self, place: &(Instant, u64)) {
        self.waiting.remove(place);
    }

    pub(crate) fn is_first(&self, place: &(Instant, u64)) -> bool {
        self.waiting.first_key_value().is_some_and(|(first, _)| first == place)
    }

    pub(crate) fn gate(&self, now: Instant) -> Gate {
        if self.running >= self.options.max_fetches {
            return Gate::Full;
        }
        match self.begun.front() {
            Some(oldest) if self.begun.len() >= self.options.max_fetch_rate && *oldest + WINDOW > now => {
                Gate::At(*oldest + WINDOW)
            }
            _ => Gate::Open,
        }
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        self.running += 1;
        if self.begun.len() >= self.options.max_fetch_rate {
            self.begun.pop_front();
        }
        self.begun.push_back(now);
    }

    pub(crate) fn end(&mut self) {
        self.running -= 1;
    }

    fn call_first(&self) {
        if let Some((_, call)) = self.waiting.first_key_value() {
            call.notify_one();
        }
    }
}

/// The budget that all pollers share.
#[derive(Debug)]
pub struct Budget {
    queue: Mutex<Queue>,
    stretched: AtomicBool,
}

/// How much of a budget is spent at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spending {
    /// The caps.
    pub options: Options,
    /// Looks in flight.
    pub running: usize,
    /// Looks that wait for others.
    pub waiting: usize,
    /// Looks that began within the last second.
    pub last_second: usize,
}

/// Leave to make one look; dropping it makes room for the next.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
}

impl Budget {
    /// A budget with nothing spent.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(Queue::new(options)), stretched: AtomicBool::new(false) })
    }

    /// Changes the caps.
    pub fn set_options(&self, options: Options) {
        let mut queue = self.lock();
        queue.set_options(options);
        queue.call_first();
    }

    /// Waits until a look may begin. `due` is when it should have.
    pub async fn admit(self: &Arc<Self>, urgency: Urgency, due: Instant) -> Permit {
        let (place, call) = self.lock().join(urgency, due);
        let place = Place { budget: self, place };
        loop {
            let gate = {
                let mut queue = self.lock();
                let now = clock::now();
                match queue.gate(now) {
                    Gate::Open if queue.is_first(&place.place) => {
                        queue.begin(now);
                        drop(queue);
                        // Leaving the queue calls whoever is first now, so that all who may go do.
                        drop(place);
                        return Permit { budget: Arc::clone(self) };
                    }
                    Gate::At(when) if queue.is_first(&place.place) => Some(when),
                    _ => None,
                }
            };
            match gate {
                Some(when) => tokio::select! {
                    () = sleep_until(when) => {}
                    () = call.notified() => {}
                },
                None => call.notified().await,
            }
        }
    }

    /// How much of it is spent now.
    pub fn spending(&self) -> Spending {
        let now = clock::now();
        let queue = self.lock();
        Spending {
            options: queue.options,
            running: queue.running,
            waiting: queue.waiting.len(),
            last_second: queue.begun.iter().rev().take_while(|begun| **begun + WINDOW > now).count(),
        }
    }

    /// Whether a look could begin at once.
    pub fn has_room(&self) -> bool {
        let queue = self.lock();
        queue.waiting.is_empty() && queue.gate(clock::now()) == Gate::Open
    }

    /// Whether looks have to wait for so long that intervals are longer than routes say.
    pub fn is_stretched(&self) -> bool {
        self.stretched.load(Ordering::Relaxed)
    }

    /// Notes that a look whose interval is `every` waited so long for its permit. Says so once when intervals begin to
    /// stretch, and once when nobody waits any more.
    pub fn note_wait(&self, waited: Duration, every: Duration) {
        if waited > every {
            if !self.stretched.swap(true, Ordering::Relaxed) {
                warn!("looks wait for max_fetches and max_fetch_rate: intervals are longer than routes say");
            }
        } else if self.is_stretched() && self.lock().waiting.is_empty() && self.stretched.swap(false, Ordering::Relaxed)
        {
            info!("looks do not have to wait any more");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut queue = self.budget.lock();
        queue.end();
        queue.call_first();
    }
}

/// A place in the queue, given up when the look is called off.
struct Place<'a> {
    budget: &'a Budget,
    place: (Instant, u64),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.budget.lock();
        queue.leave(&self.place);
        queue.call_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max_fetches: usize, max_fetch_rate: usize) -> (Queue, Instant) {
        (Queue::new(Options { max_fetches, max_fetch_rate }), clock::now())
    }

    #[test]
    fn a_trigger_goes_first_but_not_before_one_that_waits_long() {
        let (mut queue, now) = queue(1, 100);
        let (old, _) = queue.join(Urgency::Routine, now);
        let (trigger, _) = queue.join(Urgency::Triggered, now + Duration::from_secs(1));
        assert!(queue.is_first(&trigger));
        queue.leave(&trigger);
        let (late, _) = queue.join(Urgency::Triggered, now + PATIENCE + Duration::from_secs(1));
        assert!(queue.is_first(&old));
        queue.leave(&old);
        assert!(queue.is_first(&late));
    }

    #[test]
    fn no_second_holds_more_looks_than_the_rate() {
        let (mut queue, now) = queue(1000, 3);
        for ms in [0, 10, 20] {
            assert_eq!(queue.gate(now + Duration::from_millis(ms)), Gate::Open);
            queue.begin(now + Duration::from_millis(ms));
        }
        assert_eq!(queue.gate(now + Duration::from_millis(30)), Gate::At(now + WINDOW));
        assert_eq!(queue.gate(now + WINDOW), Gate::Open);
        queue.begin(now + WINDOW);
        assert_eq!(queue.gate(now + WINDOW), Gate::At(now + WINDOW + Duration::from_millis(10)));
    }

    #[test]
    fn no_more_run_than_may() {
        let (mut queue, now) = queue(2, 100);
        queue.begin(now);
        queue.begin(now);
        assert_eq!(queue.gate(now), Gate::Full);
        queue.end();
        assert_eq!(queue.gate(now), Gate::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_called_off_does_not_hold_up_the_others() {
        let budget = Budget::new(Options { max_fetches: 1, max_fetch_rate: 100 });
        let running = budget.admit(Urgency::Routine, clock::now()).await;
        let due = clock::now();
        let called_off = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.admit(Urgency::Triggered, due).await }
        });
        let next = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.admit(Urgency::Routine, due).await }
        });
        tokio::task::yield_now().await;
        called_off.abort();
        drop(running);
        tokio::time::timeout(Duration::from_secs(1), next).await.expect("admitted").expect("not cancelled");
    }
}
