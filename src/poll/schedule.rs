//! When to fetch. Pure: the time comes in, the seed is given.

use std::time::Duration;

use tokio::time::Instant;

use super::early_fetch::EarlyFetchPolicy;
use crate::resource::{ClientInterval, Trigger, Verdict};

/// How often a route's resources are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The interval while things change.
    pub every: Duration,
    /// The longest interval while nothing does.
    pub every_max: Duration,
    /// The shortest time between two fetches, whatever triggers them.
    pub refresh_gap: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            every_max: Duration::from_secs(30),
            refresh_gap: Duration::from_millis(50),
        }
    }
}

/// While nothing changes, the interval is this part of the time that nothing has changed for: news is late by a tenth
/// of how rare it is.
const QUIET_SHARE: u32 = 10;

/// Intervals are stretched by up to this part, so that resources that began together drift apart. Never shortened: the
/// backend is not asked more often than the route says.
const JITTER: f64 = 0.1;

/// Who says that he would fetch more often by himself is not taken at his word.
const MIN_CLIENT_INTERVAL: Duration = Duration::from_millis(250);

/// An upstream that asks to be left alone for longer than this is asked again nevertheless.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A backend may answer a write before it has done it. It is fetched once more after this.
const FOLLOW_UP_DELAY: Duration = Duration::from_millis(400);

/// The plan of one resource.
#[derive(Clone, Debug)]
pub struct Schedule {
    options: Options,
    rng: fastrand::Rng,
    /// When the last fetch began.
    last_started: Option<Instant>,
    /// Since when nothing has changed, and nothing suggested that it might.
    quiet_since: Option<Instant>,
    failures: u32,
    /// Until when the upstream asked to be left alone.
    not_before: Option<Instant>,
    /// Whether that was cut short because the upstream seemed to be well, and how often in a row that was a mistake.
    hopeful: bool,
    mistakes: u32,
    /// A fetch out of turn that is still to be made.
    follow_up: Option<Instant>,
    interval: Duration,
    /// How often those who are held would fetch by themselves.
    client_interval: ClientInterval,
    early_fetch: EarlyFetchPolicy,
    /// When the last fetch began that a write had caused.
    last_write_fetch: Option<Instant>,
}

impl Schedule {
    /// A plan in which nothing has been fetched.
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
            client_interval: ClientInterval::default(),
            early_fetch: EarlyFetchPolicy::new(),
            last_write_fetch: None,
        }
    }

    /// Heeds that those who are held would fetch this often by themselves.
    ///
    /// Nobody is to learn of anything later than he would himself. And where all say how often they would fetch, they are
    /// not to cause more fetches than one of them would make, unless that pays.
    pub fn set_client_interval(&mut self, pace: ClientInterval) {
        self.client_interval = pace;
    }

    /// When the next fetch is due if nothing triggers one before; `now` if there was none yet.
    pub fn due(&self, now: Instant) -> Instant {
        let regular = self.last_started.map_or(now, |fetched| fetched + self.interval());
        let next = self.follow_up.map_or(regular, |after| after.min(regular));
        next.max(self.not_before.unwrap_or(now)).max(now)
    }

    /// When a trigger that is pending may be served.
    pub fn triggered_due(&self, now: Instant) -> Instant {
        self.last_started
            .map_or(now, |fetched| fetched + self.options.refresh_gap)
            .max(self.not_before.unwrap_or(now))
            .max(now)
    }

    /// When a fetch that a client waits for may be made. Without it the client would ask by itself.
    pub fn demanded_due(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now).max(now)
    }

    /// Until when no fetch is made, whoever asks for one.
    pub fn rests_until(&self) -> Option<Instant> {
        self.not_before
    }

    /// Somebody has said that there is something to be seen: the upstream is asked, whatever it asked for itself.
    pub fn hinted(&mut self) {
        self.not_before = None;
    }

    /// The upstream was seen to be well at `seen`. Returns whether that is a reason to fetch again after fetches have failed: it is
    /// one, at once; where fetches fail although the upstream is well for others, after a while that doubles each time.
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

    /// The interval that is in force, jitter included.
    pub fn interval(&self) -> Duration {
        match self.min_client_interval() {
            Some(pace) if self.is_client_paced() && !self.early_fetch.is_worthwhile() => pace,
            Some(pace) => self.interval.min(pace),
            None => self.interval,
        }
    }

    /// Whether all who are held said how often they would fetch, so that no more fetches need to be made. A route whose
    /// interval is always the same wants that one.
    pub fn is_client_paced(&self) -> bool {
        self.client_interval.declared_by_all && self.options.every < self.options.every_max
    }

    /// Whether a write is reason enough to fetch. What is restless anyway, no more than once in the time in which it is fetched
    /// without reason.
    pub fn write_may_trigger(&self, now: Instant) -> bool {
        let (Some(pace), Some(told)) = (self.min_client_interval(), self.last_write_fetch) else { return true };
        !(self.is_client_paced() && self.early_fetch.changes_every_time()) || now >= told + pace
    }

    fn min_client_interval(&self) -> Option<Duration> {
        self.client_interval.min.map(|pace| pace.max(MIN_CLIENT_INTERVAL))
    }

    /// The longest interval while nothing changes.
    fn max_interval(&self) -> Duration {
        let pace = self.min_client_interval().filter(|_| self.is_client_paced());
        self.options.every_max.max(pace.unwrap_or_default())
    }

    /// Takes in a fetch that was made because of `trigger`, began at `started` and came to `verdict`; `None` if its answer
    /// was not used.
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
        let pays = !self.is_client_paced() || self.early_fetch.is_worthwhile();
        self.follow_up = match trigger {
            Trigger::Write => pays.then(|| started + FOLLOW_UP_DELAY),
            // A fetch that is made shortly before it anyway is as good.
            _ => self.follow_up.filter(|after| *after > started + FOLLOW_UP_DELAY / 2),
        };
        // Whatever triggered it suggests that news is near.
        let stirred = matches!(trigger, Trigger::Write | Trigger::File | Trigger::Hook);
        if stirred || verdict == Some(&Verdict::Changed) {
            self.quiet_since = Some(started);
        }
        let base = match verdict {
            Some(Verdict::Failed(failure)) => {
                self.not_before = failure.retry_after.map(|wait| started + wait.min(MAX_RETRY_AFTER));
                self.failures = self.failures.saturating_add(1);
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
        self.interval = base.mul_f64(1.0 + JITTER * self.rng.f64()).min(self.max_interval());
    }
}

#[cfg(test)]
mod tests;
