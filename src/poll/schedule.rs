//! When to look. Pure: the time comes in, the seed is given.

use std::time::Duration;

use tokio::time::Instant;

use crate::resource::{Trigger, Verdict};

/// How often a route's resources are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The interval while things change.
    pub every: Duration,
    /// The longest interval while nothing does.
    pub every_max: Duration,
    /// The shortest time between two looks, whatever triggers them.
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

/// Who says that he would look more often by himself is not taken at his word.
const FASTEST_PACE: Duration = Duration::from_millis(250);

/// An upstream that asks to be left alone for longer than this is asked again nevertheless.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A backend may answer a write before it has done it. It is looked at once more after this.
const AFTERTHOUGHT: Duration = Duration::from_millis(400);

/// The plan of one resource.
#[derive(Clone, Debug)]
pub struct Schedule {
    options: Options,
    rng: fastrand::Rng,
    /// When the last look began.
    looked: Option<Instant>,
    /// Since when nothing has changed, and nothing suggested that it might.
    quiet_since: Option<Instant>,
    failures: u32,
    /// Until when the upstream asked to be left alone.
    not_before: Option<Instant>,
    /// A look out of turn that is still to be made.
    afterthought: Option<Instant>,
    interval: Duration,
}

impl Schedule {
    /// A plan in which nothing has been looked at.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            rng: fastrand::Rng::with_seed(seed),
            looked: None,
            quiet_since: None,
            failures: 0,
            not_before: None,
            afterthought: None,
            interval: options.every,
        }
    }

    /// When the next look is due if nothing triggers one before; `now` if there was none yet.
    pub fn due(&self, now: Instant) -> Instant {
        self.due_at(Duration::MAX, now)
    }

    /// The same, if somebody is held who would look at this pace himself. He would even if the route's interval is
    /// longer, and then the look spares one of his own.
    pub fn due_at(&self, pace: Duration, now: Instant) -> Instant {
        let interval = self.interval.min(pace.max(FASTEST_PACE));
        let regular = self.looked.map_or(now, |looked| looked + interval);
        let next = self.afterthought.map_or(regular, |after| after.min(regular));
        next.max(self.not_before.unwrap_or(now)).max(now)
    }

    /// When a trigger that is pending may be served.
    pub fn triggered_due(&self, now: Instant) -> Instant {
        self.looked.map_or(now, |looked| looked + self.options.refresh_gap).max(self.not_before.unwrap_or(now)).max(now)
    }

    /// The interval that is in force, jitter included.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Takes in a look that was made because of `trigger`, began at `started` and came to `verdict`; `None` if its answer
    /// was not used.
    pub fn looked(&mut self, started: Instant, trigger: Trigger, verdict: Option<&Verdict>) {
        self.looked = Some(started);
        self.not_before = None;
        self.afterthought = match trigger {
            Trigger::Write => Some(started + AFTERTHOUGHT),
            // A look that is made shortly before it anyway is as good.
            _ => self.afterthought.filter(|after| *after > started + AFTERTHOUGHT / 2),
        };
        // Whatever triggered it suggests that news is near.
        let stirred = matches!(trigger, Trigger::Write | Trigger::File | Trigger::Hook);
        if stirred || verdict == Some(&Verdict::Changed) {
            self.quiet_since = Some(started);
        }
        let base = match verdict {
            Some(Verdict::Failed(failure)) => {
                self.not_before = failure.retry_after.map(|wait| started + wait.min(LONGEST_RETRY_AFTER));
                self.failures = self.failures.saturating_add(1);
                let doubled = self.options.every.saturating_mul(1 << self.failures.min(16).saturating_sub(1));
                doubled.min(self.options.every_max)
            }
            _ => {
                self.failures = 0;
                let quiet = started.saturating_duration_since(*self.quiet_since.get_or_insert(started));
                (quiet / QUIET_SHARE).clamp(self.options.every, self.options.every_max)
            }
        };
        self.interval = base.mul_f64(1.0 + JITTER * self.rng.f64()).min(self.options.every_max);
    }
}

#[cfg(test)]
mod tests;
