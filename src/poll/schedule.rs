//! The schedule of fetches. Pure: the time and the seed are arguments.

use std::time::Duration;

use tokio::time::Instant;

use super::early_fetch::EarlyFetchPolicy;
use super::effort::{Pacer, Wants};
use crate::resource::{ClientInterval, Trigger, Verdict};

/// The fetch intervals of a route's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The interval while things change.
    pub every: Duration,
    /// The longest interval while nothing does.
    pub every_max: Duration,
    /// The minimum time between two fetches, whatever triggers them.
    pub refresh_gap: Duration,
    /// The effort that determines the interval in place of `every`.
    pub effort: Option<Effort>,
}

/// A fraction of one worker's time, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort(pub u32);

impl Effort {
    /// Returns the fraction as a number from 0 to 1.
    pub(super) fn share(self) -> f64 {
        f64::from(self.0.max(1)) / 1e6
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            every_max: Duration::from_secs(30),
            refresh_gap: Duration::from_millis(50),
            effort: None,
        }
    }
}

/// While nothing changes, the interval is the quiet time divided by this: a change is detected late by a tenth of the
/// time between changes.
const QUIET_SHARE: u32 = 10;

/// Intervals are stretched by up to this fraction, so that resources that began together drift apart. They are never
/// shortened, so the backend is not fetched more often than the route says.
const JITTER: f64 = 0.1;

/// The minimum interval that clients can cause by declaring their own.
const MIN_CLIENT_INTERVAL: Duration = Duration::from_millis(250);

/// The maximum `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The delay of a second fetch after a write, because a backend may respond to a write before it takes effect.
const FOLLOW_UP_DELAY: Duration = Duration::from_millis(400);

/// The schedule of one resource.
#[derive(Clone, Debug)]
pub struct Schedule {
    options: Options,
    rng: fastrand::Rng,
    /// When the last fetch began.
    last_started: Option<Instant>,
    /// Since when nothing has changed, and nothing suggested a change.
    quiet_since: Option<Instant>,
    failures: u32,
    /// The time until which the upstream asked not to be fetched.
    not_before: Option<Instant>,
    /// Whether that time was cut short because the upstream seemed healthy, and how many times in a row that was wrong.
    hopeful: bool,
    mistakes: u32,
    /// The time of an additional fetch.
    follow_up: Option<Instant>,
    interval: Duration,
    /// The interval without a configured one.
    pacer: Option<Pacer>,
    jitter: f64,
    /// The polling intervals that held clients declare.
    client_interval: ClientInterval,
    early_fetch: EarlyFetchPolicy,
    /// When the last fetch triggered by a write began.
    last_write_fetch: Option<Instant>,
}

impl Schedule {
    /// Creates a schedule without any fetch.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            rng: fastrand::Rng::with_seed(seed),
            last_started: None,
            quiet_since: None,
            failures: 0,
            not_before: None,
            hopeful: false,
            mistakes: 0,
            follow_up: None,
            interval: options.every,
            pacer: options.effort.map(|effort| Pacer::new(effort.share())),
            jitter: 1.0,
            client_interval: ClientInterval::default(),
            early_fetch: EarlyFetchPolicy::new(),
            last_write_fetch: None,
        }
    }

    /// Sets the polling intervals that held clients declare.
    ///
    /// A client must not learn of a change later than it would by polling. If all clients declare an interval, they
    /// must not cause more fetches than one of them would make, unless early fetches are worthwhile.
    pub fn set_client_interval(&mut self, pace: ClientInterval) {
        self.client_interval = pace;
    }

    /// Returns when the next fetch is due without a trigger; `now` if there was none yet.
    pub fn due(&self, now: Instant) -> Instant {
        let regular = self.last_started.map_or(now, |fetched| fetched + self.interval());
        let next = self.follow_up.map_or(regular, |after| after.min(regular));
        next.max(self.not_before.unwrap_or(now)).max(now)
    }

    /// Returns when the next fetch is due without a trigger, where the turn in a cohort is at `turn`.
    pub fn due_in_turn(&self, turn: Instant, now: Instant) -> Instant {
        let next = self.follow_up.map_or(turn, |after| after.min(turn));
        next.max(self.not_before.unwrap_or(now)).max(now)
    }

    /// Returns the interval within which the resource is fetched in any case.
    pub fn longest(&self) -> Duration {
        self.max_interval().max(self.interval())
    }

    /// Returns when a pending trigger may be served.
    pub fn triggered_due(&self, now: Instant) -> Instant {
        self.last_started
            .map_or(now, |fetched| fetched + self.options.refresh_gap)
            .max(self.not_before.unwrap_or(now))
            .max(now)
    }

    /// Returns when a fetch that a client waits for may be made. Without that fetch, the client's request would be
    /// forwarded.
    pub fn demanded_due(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now).max(now)
    }

    /// Returns the time until which no fetch is made for any reason.
    pub fn rests_until(&self) -> Option<Instant> {
        self.not_before
    }

    /// Records that an operator or a file announced a change: the upstream is fetched even if it asked not to be.
    pub fn hinted(&mut self) {
        self.not_before = None;
    }

    /// Records that the upstream was healthy at `seen`. Returns whether that is a reason to fetch again after failures.
    /// It is one at once; if fetches still fail although the upstream is healthy otherwise, after a delay that doubles
    /// each time.
    pub fn seen_well(&mut self, seen: Instant) -> bool {
        let Some(fetched) = self.last_started.filter(|fetched| self.failures > 0 && !self.hopeful && *fetched < seen)
        else {
            return false;
        };
        self.hopeful = true;
        let wary = self.options.every.saturating_mul(1 << self.mistakes.min(16)).min(self.options.every_max);
        self.not_before = (self.mistakes > 0).then_some(fetched + wary).filter(|earliest| *earliest > seen);
        true
    }

    /// Returns the current interval, including jitter.
    pub fn interval(&self) -> Duration {
        if let Some(interval) = self.pacer.as_ref().and_then(|pacer| self.paced_interval(pacer)) {
            return interval;
        }
        match self.min_client_interval() {
            Some(pace) if self.is_client_paced() && !self.early_fetch.is_worthwhile() => pace,
            Some(pace) => self.interval.min(pace),
            None => self.interval,
        }
    }

    /// Returns whether all held clients declare an interval, so that no more fetches are needed than they would make. A
    /// route with a fixed interval keeps that interval.
    pub fn is_client_paced(&self) -> bool {
        self.client_interval.declared_by_all && self.options.every < self.options.every_max
    }

    /// Returns whether a write may trigger a fetch. For a resource that changes on every fetch: at most one
    /// write-triggered fetch per client interval.
    pub fn write_may_trigger(&self, now: Instant) -> bool {
        let (Some(pace), Some(told)) = (self.min_client_interval(), self.last_write_fetch) else { return true };
        !(self.is_client_paced() && self.early_fetch.changes_every_time()) || now >= told + pace
    }

    /// Returns the interval that the application's response times allow; `None` after a failure.
    fn paced_interval(&self, pacer: &Pacer) -> Option<Duration> {
        let fetched = self.last_started.filter(|_| self.failures == 0)?;
        let longest = match self.min_client_interval() {
            Some(pace) if self.is_client_paced() => pace,
            Some(pace) => pace.min(self.options.every_max),
            None => self.options.every_max,
        };
        if self.is_client_paced() && self.early_fetch.changes_every_time() {
            return Some(longest);
        }
        Some(pacer.interval(fetched, longest).mul_f64(self.jitter).min(longest))
    }

    /// Records a fetch that was answered after `took`, including `network` for the network.
    pub(super) fn answered(&mut self, took: Duration, network: Duration) {
        let pace = self.min_client_interval();
        let declared = pace.filter(|_| self.client_interval.declared_by_all);
        if let Some(pacer) = &mut self.pacer {
            pacer.set_declared(declared);
            pacer.record(took, network, pace);
        }
    }

    /// Sets the values shared with all other resources: the factor by which intervals are stretched, and the time until
    /// which the application is fetched no more often than pages would poll.
    pub(super) fn set_shared(&mut self, crowding: f64, limited_until: Option<Instant>) {
        if let Some(pacer) = &mut self.pacer {
            pacer.set_shared(crowding, limited_until);
        }
    }

    /// Returns the demand of its fetches without other resources.
    pub(super) fn wants(&self) -> Wants {
        self.pacer.as_ref().map(Pacer::wants).unwrap_or_default()
    }

    fn min_client_interval(&self) -> Option<Duration> {
        self.client_interval.min.map(|pace| pace.max(MIN_CLIENT_INTERVAL))
    }

    /// Returns the maximum interval while nothing changes.
    fn max_interval(&self) -> Duration {
        let pace = self.min_client_interval().filter(|_| self.is_client_paced());
        self.options.every_max.max(pace.unwrap_or_default())
    }

    /// Records a fetch with its trigger, start time and verdict; `None` if its response was not used.
    pub fn record(&mut self, started: Instant, trigger: Trigger, verdict: Option<&Verdict>) {
        let before = self.last_started.replace(started);
        self.not_before = None;
        if trigger == Trigger::Write {
            self.last_write_fetch = Some(started);
        }
        if let Some(verdict) = verdict {
            let sooner = before.zip(self.min_client_interval()).is_some_and(|(before, pace)| started < before + pace);
            self.early_fetch.record(trigger, verdict, sooner && trigger == Trigger::Timer, self.options.every);
        }
        let is_worthwhile = match self.pacer {
            Some(_) => !self.early_fetch.changes_every_time(),
            None => self.early_fetch.is_worthwhile(),
        };
        let pays = !self.is_client_paced() || is_worthwhile;
        self.follow_up = match trigger {
            Trigger::Write => pays.then(|| started + FOLLOW_UP_DELAY),
            // A fetch shortly before the additional one replaces it.
            _ => self.follow_up.filter(|after| *after > started + FOLLOW_UP_DELAY / 2),
        };
        // The trigger suggests that a change is near.
        let stirred = matches!(trigger, Trigger::Write | Trigger::File | Trigger::Hook);
        if stirred || verdict == Some(&Verdict::Changed) {
            self.quiet_since = Some(started);
        }
        let base = match verdict {
            Some(Verdict::Failed(failure)) => {
                self.not_before = failure.retry_after.map(|wait| started + wait.min(MAX_RETRY_AFTER));
                self.failures = self.failures.saturating_add(1);
                let pace = self.min_client_interval();
                if let Some(pacer) = &mut self.pacer {
                    pacer.failed(pace);
                }
                if std::mem::take(&mut self.hopeful) {
                    self.mistakes = self.mistakes.saturating_add(1);
                }
                let doubled = self.options.every.saturating_mul(1 << self.failures.min(16).saturating_sub(1));
                doubled.min(self.options.every_max)
            }
            _ => {
                self.failures = 0;
                self.mistakes = 0;
                self.hopeful = false;
                let quiet = started.saturating_duration_since(*self.quiet_since.get_or_insert(started));
                (quiet / QUIET_SHARE).clamp(self.options.every, self.max_interval())
            }
        };
        self.jitter = 1.0 + JITTER * self.rng.f64();
        self.interval = base.mul_f64(self.jitter).min(self.max_interval());
    }
}

#[cfg(test)]
mod tests;
