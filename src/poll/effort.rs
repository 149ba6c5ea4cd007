//! Fetch intervals without a configured interval: as short as a small effort of the application allows.
//!
//! ```text
//! a fetch took so long ─ less what the network takes ─▶ its cost ─▶ cost / effort: its interval ─┐
//!                  └ longer than usual: the application is busy ─▶ rarer, until that is over      ├─▶ Pacer::interval
//! all resources together ─▶ Efforts: what they would cost in all, against five times the effort ─┘
//! ```
//!
//! The work of the application matters, not the number of requests. Fetching begins gently, at the pace of the clients.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::poller::Poller;
use super::{Fetcher, Schedule};
use crate::resource::{CompletedFetch, FetchOutcome};

/// The minimum interval.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// The number of clients whose own polls are always at least as many as the fetches of a resource for which all clients declare
/// an interval: an application with that many open pages has less to do than without us, and a change is found several
/// times sooner than by polling.
const FEWER_THAN_CLIENTS: u32 = 6;

/// The first interval, before the cost of a fetch is known, if no client declares an interval.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// The factor between consecutive intervals until the effort is reached; the inverse applies if it is exceeded.
const SOONER: f64 = 0.8;
const LATER: f64 = 1.5;

/// The effort of all resources together, as a multiple of the effort of one.
const IN_ALL: f64 = 5.0;

/// The weight of a new cost in the average; larger when costs rise.
const RISES: f64 = 0.3;
const FALLS: f64 = 0.1;

/// The factor by which a fetch must exceed its usual duration for the application to count as busy.
const BUSY_TIMES: f64 = 2.0;
const BUSY_BEYOND: f64 = 0.010;

/// The growth of the usual duration per fetch. It is the minimum of recent durations.
const FORGETS: f64 = 0.01;

/// How long an application that rejected a fetch for too many requests is fetched no more often than its pages would
/// poll.
const LIMITED_FOR: Duration = Duration::from_secs(600);

/// The fetch interval of one resource. Pure.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    effort: f64,
    /// The cost of one fetch, in seconds of the application's time.
    cost: Option<f64>,
    /// The usual duration of a fetch in seconds.
    usual: f64,
    /// The minimum interval in seconds.
    shortest: f64,
    /// The interval in seconds; `None` before the first fetch.
    interval: Option<f64>,
    /// The factor by which all intervals are stretched because of shared resources.
    crowding: f64,
    limited_until: Option<Instant>,
}

impl Pacer {
    /// Creates a pacer without knowledge. `effort` is the fraction of one worker's time.
    pub(super) fn new(effort: f64) -> Self {
        let shortest = MIN_INTERVAL.as_secs_f64();
        Self { effort, cost: None, usual: 0.0, shortest, interval: None, crowding: 1.0, limited_until: None }
    }

    /// Sets the interval at which clients would poll, if all of them declare one.
    pub(super) fn set_declared(&mut self, pace: Option<Duration>) {
        let shortest = pace.map_or(MIN_INTERVAL, |pace| MIN_INTERVAL.max(pace / FEWER_THAN_CLIENTS));
        self.shortest = shortest.as_secs_f64();
    }

    /// Records a fetch that was answered after `took`, including `network` for the network. Clients would poll at the
    /// interval `pace`.
    pub(super) fn record(&mut self, took: Duration, network: Duration, pace: Option<Duration>) {
        let took = took.as_secs_f64();
        // The small response that measured the network may have been this one.
        let network = network.as_secs_f64();
        let work = if network <= took / 2.0 { took - network } else { took };
        let cost = self.cost.map_or(work, |known| known + (work - known) * if work > known { RISES } else { FALLS });
        self.cost = Some(cost);
        let is_busy = self.interval.is_some() && took > self.usual * BUSY_TIMES + BUSY_BEYOND;
        self.usual = if self.interval.is_none() || took < self.usual {
            took
        } else {
            self.usual + (took - self.usual) * FORGETS
        };
        let target = self.target();
        self.interval = Some(match self.interval {
            None => pace.unwrap_or(FIRST_INTERVAL).as_secs_f64().max(target),
            Some(interval) if is_busy => interval.max(target) * LATER,
            Some(interval) => (interval * SOONER).max(target),
        });
    }

    /// Records a failed fetch.
    pub(super) fn failed(&mut self, pace: Option<Duration>) {
        // Pacing begins again once the application recovers.
        self.interval = self.interval.map(|interval| pace.unwrap_or(FIRST_INTERVAL).as_secs_f64().max(interval));
    }

    /// Sets the values that are shared with other resources.
    pub(super) fn set_shared(&mut self, crowding: f64, limited_until: Option<Instant>) {
        self.crowding = crowding.max(1.0);
        self.limited_until = limited_until;
    }

    /// Returns the interval without other resources, in seconds.
    fn target(&self) -> f64 {
        (self.cost.unwrap_or_default() / self.effort).max(self.shortest)
    }

    /// Returns the demand of the resource: the application's time, and fetches per second.
    pub(super) fn wants(&self) -> Wants {
        let target = self.target();
        Wants { work: self.cost.unwrap_or_default() / target, rate: 1.0 / target }
    }

    /// Returns the delay between a fetch that began at `fetched` and the next one.
    pub(super) fn interval(&self, fetched: Instant, longest: Duration) -> Duration {
        if self.limited_until.is_some_and(|until| fetched < until) {
            return longest;
        }
        let interval = self.interval.unwrap_or(FIRST_INTERVAL.as_secs_f64()).max(self.target() * self.crowding);
        Duration::from_secs_f64(interval.min(longest.as_secs_f64())).max(MIN_INTERVAL.min(longest))
    }
}

/// The demand of resources.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Wants {
    work: f64,
    rate: f64,
}

impl Wants {
    /// Returns the demand of one of so many resources that take turns.
    fn divided(self, turns: usize) -> Self {
        Self { work: self.work / turns as f64, rate: self.rate / turns as f64 }
    }
}

/// The state shared by all resources of one application.
#[derive(Debug, Default)]
pub(super) struct Efforts(Mutex<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wants: Wants,
    /// The minimum duration of a small response, in seconds.
    network: Option<f64>,
    limited_until: Option<Instant>,
}

/// The maximum size of a response that measures the network.
const SMALL: usize = 1024;

impl Efforts {
    /// Records a fetch of this size and duration. Returns the duration of the network, as far as known.
    pub(super) fn record(&self, took: Duration, bytes: usize) -> Duration {
        let mut shared = self.lock();
        if bytes <= SMALL {
            let took = took.as_secs_f64();
            shared.network = Some(shared.network.map_or(took, |known| took.min(known * (1.0 + FORGETS))));
        }
        Duration::from_secs_f64(shared.network.unwrap_or_default())
    }

    /// Records at `now` that the application rejected a fetch for too many requests.
    pub(super) fn limit(&self, now: Instant) {
        self.lock().limited_until = Some(now + LIMITED_FOR);
    }

    /// Returns the time until which the application is fetched no more often than its pages would poll.
    pub(super) fn limited_until(&self) -> Option<Instant> {
        self.lock().limited_until
    }

    /// Returns the factor by which intervals must be stretched so that all resources together stay within their effort,
    /// where each may take `effort`, and within half of `rate` fetches per second.
    pub(super) fn crowding(&self, effort: f64, rate: usize) -> f64 {
        let Wants { work, rate: wanted } = self.lock().wants;
        (work / (effort * IN_ALL)).max(wanted / (rate as f64 / 2.0)).max(1.0)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The demand of one resource, counted until this is dropped.
pub(super) struct Share {
    all: Arc<Efforts>,
    wants: Wants,
}

impl Share {
    pub(super) fn new(all: Arc<Efforts>) -> Self {
        Self { all, wants: Wants::default() }
    }

    pub(super) fn set(&mut self, wants: Wants) {
        let mut shared = self.all.lock();
        shared.wants.work = (shared.wants.work + wants.work - self.wants.work).max(0.0);
        shared.wants.rate = (shared.wants.rate + wants.rate - self.wants.rate).max(0.0);
        self.wants = wants;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(Wants::default());
    }
}

/// The weight of a fetch for the application.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchWeight {
    took: Duration,
    finished: Instant,
    /// The size of the response in bytes; `None` if the fetch failed.
    bytes: Option<usize>,
    is_limit: bool,
}

impl FetchWeight {
    pub(super) fn of(fetch: &CompletedFetch) -> Self {
        let bytes = match &fetch.outcome {
            FetchOutcome::Fresh(found) => Some(found.body.len()),
            FetchOutcome::NotModified(_) => Some(0),
            _ => None,
        };
        Self {
            took: fetch.finished.saturating_duration_since(fetch.started),
            finished: fetch.finished,
            bytes,
            is_limit: fetch.outcome.status() == Some(429),
        }
    }
}

impl<F: Fetcher + ?Sized> Poller<F> {
    /// Accounts for a fetch of a resource that takes turns with others, `turns` in all.
    pub(super) fn account(&self, schedule: &mut Schedule, share: &mut Share, weight: FetchWeight, turns: usize) {
        let Some(effort) = self.config.schedule.effort else { return };
        let efforts = self.limiter.efforts();
        if let Some(bytes) = weight.bytes {
            schedule.answered(weight.took, efforts.record(weight.took, bytes));
        } else if weight.is_limit {
            efforts.limit(weight.finished);
        }
        share.set(schedule.wants().divided(turns));
        let rate = self.limiter.stats().options.max_fetch_rate;
        schedule.set_shared(efforts.crowding(effort.share(), rate), efforts.limited_until());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const LONGEST: Duration = Duration::from_secs(30);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Returns the interval after this many fetches of this duration.
    fn after(pacer: &mut Pacer, fetches: usize, took: Duration, pace: Option<Duration>) -> Duration {
        for _ in 0..fetches {
            pacer.record(took, Duration::ZERO, pace);
        }
        pacer.interval(clock::now(), LONGEST)
    }

    #[test]
    fn the_interval_is_what_the_effort_allows() {
        for (took, expected) in [(1, 250), (2, 250), (5, 500), (40, 4000), (900, 30_000)] {
            let interval = after(&mut Pacer::new(0.01), 60, ms(took), None);
            assert!(interval.abs_diff(ms(expected)) < ms(2), "{interval:?} for {took} ms");
        }
    }

    #[test]
    fn it_begins_at_the_pace_of_those_who_follow_and_becomes_faster() {
        let mut pacer = Pacer::new(0.01);
        let pace = Some(Duration::from_secs(10));
        assert_eq!(after(&mut pacer, 1, ms(1), pace), Duration::from_secs(10));
        let mut passed = Duration::ZERO;
        let mut fetches = 0;
        while passed < Duration::from_secs(30) {
            passed += after(&mut pacer, 1, ms(1), pace);
            fetches += 1;
        }
        assert!((4..=8).contains(&fetches), "{fetches} in the next half minute");
        assert_eq!(after(&mut pacer, 20, ms(1), pace), ms(250));
    }

    #[test]
    fn six_pages_would_ask_as_often_by_themselves() {
        for (pace, expected) in [(1, 250), (3, 500), (60, 10_000)] {
            let pace = Duration::from_secs(pace);
            let mut pacer = Pacer::new(0.01);
            pacer.set_declared(Some(pace));
            assert_eq!(after(&mut pacer, 40, ms(1), Some(pace)), ms(expected), "{pace:?}");
            // A client without an interval of its own has all that the effort allows.
            pacer.set_declared(None);
            assert_eq!(after(&mut pacer, 40, ms(1), Some(pace)), ms(250), "{pace:?}");
        }
    }

    #[test]
    fn a_busy_application_is_asked_more_rarely() {
        let mut pacer = Pacer::new(0.01);
        assert_eq!(after(&mut pacer, 40, ms(2), None), ms(250));
        let busy = after(&mut pacer, 4, ms(60), None);
        assert!(busy > ms(1500), "{busy:?}");
        let calm = after(&mut pacer, 60, ms(2), None);
        assert!(calm < ms(400), "{calm:?}");
    }

    #[test]
    fn the_network_is_not_the_applications_time_where_that_is_beyond_doubt() {
        let mut pacer = Pacer::new(0.01);
        for _ in 0..60 {
            pacer.record(ms(42), ms(40), None);
        }
        assert!(pacer.interval(clock::now(), LONGEST).abs_diff(ms(4200)) < ms(5));
        let mut near = Pacer::new(0.01);
        for _ in 0..60 {
            near.record(ms(42), ms(10), None);
        }
        assert!(near.interval(clock::now(), LONGEST).abs_diff(ms(3200)) < ms(5));
    }

    #[test]
    fn all_together_take_five_times_the_effort_and_half_of_the_rate() {
        for (took, most) in [(2.0, 0.05), (0.1, 0.05)] {
            let all = Arc::new(Efforts::default());
            let mut watched: Vec<_> = (0..400).map(|_| (Pacer::new(0.01), Share::new(Arc::clone(&all)))).collect();
            for _ in 0..40 {
                for (pacer, share) in &mut watched {
                    pacer.record(Duration::from_secs_f64(took / 1000.0), Duration::ZERO, None);
                    share.set(pacer.wants());
                    pacer.set_shared(all.crowding(0.01, 100), None);
                }
            }
            for (pacer, _) in &mut watched {
                pacer.set_shared(all.crowding(0.01, 100), None);
            }
            let rate: f64 =
                watched.iter().map(|(pacer, _)| 1.0 / pacer.interval(clock::now(), LONGEST * 100).as_secs_f64()).sum();
            assert!(rate <= 50.1 && rate * took / 1000.0 <= most * 1.01, "{rate} a second of {took} ms");
            watched.clear();
            assert!((all.crowding(0.01, 100) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn an_application_that_says_it_is_too_much_is_left_at_its_pages_pace() {
        let all = Efforts::default();
        let now = clock::now();
        all.limit(now);
        let mut pacer = Pacer::new(0.01);
        after(&mut pacer, 40, ms(1), None);
        pacer.set_shared(1.0, all.limited_until());
        assert_eq!(pacer.interval(now, LONGEST), LONGEST);
        assert_eq!(pacer.interval(now + LIMITED_FOR, LONGEST), ms(250));
    }
}
