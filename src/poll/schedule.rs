//! When to look. Pure: the time comes in, the seed is given.

use std::time::Duration;

use tokio::time::Instant;

use super::eagerness::Eagerness;
use crate::resource::{Pace, Trigger, Verdict};

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
    /// Whether that was cut short because the upstream seemed to be well, and how often in a row that was a mistake.
    hopeful: bool,
    mistakes: u32,
    /// A look out of turn that is still to be made.
    afterthought: Option<Instant>,
    interval: Duration,
    /// How often those who are held would look by themselves.
    pace: Pace,
    eagerness: Eagerness,
    /// When the last look began that a write had caused.
    told: Option<Instant>,
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
            hopeful: false,
            mistakes: 0,
            afterthought: None,
            interval: options.every,
            pace: Pace::default(),
            eagerness: Eagerness::new(),
            told: None,
        }
    }

    /// Heeds that those who are held would look this often by themselves.
    ///
    /// Nobody is to learn of anything later than he would himself. And where all say how often they would look, they are
    /// not to cause more looks than one of them would make, unless that pays.
    pub fn keep_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// When the next look is due if nothing triggers one before; `now` if there was none yet.
    pub fn due(&self, now: Instant) -> Instant {
        let regular = self.looked.map_or(now, |looked| looked + self.interval());
        let next = self.afterthought.map_or(regular, |after| after.min(regular));
        next.max(self.not_before.unwrap_or(now)).max(now)
    }

    /// When a trigger that is pending may be served.
    pub fn triggered_due(&self, now: Instant) -> Instant {
        self.looked.map_or(now, |looked| looked + self.options.refresh_gap).max(self.not_before.unwrap_or(now)).max(now)
    }

    /// When a look that a client waits for may be made. Without it the client would ask by itself.
    pub fn demanded_due(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now).max(now)
    }

    /// Until when no look is made, whoever asks for one.
    pub fn rests_until(&self) -> Option<Instant> {
        self.not_before
    }

    /// Somebody has said that there is something to be seen: the upstream is asked, whatever it asked for itself.
    pub fn told(&mut self) {
        self.not_before = None;
    }

    /// The upstream was seen to be well at `seen`. Returns whether that is a reason to look again after looks have failed: it is
    /// one, at once; where looks fail although the upstream is well for others, after a while that doubles each time.
    pub fn seen_well(&mut self, seen: Instant) -> bool {
        let Some(looked) = self.looked.filter(|looked| self.failures > 0 && !self.hopeful && *looked < seen) else {
            return false;
        };
        self.hopeful = true;
        let wary = self.options.every.saturating_mul(1 << self.mistakes.min(16)).min(self.options.every_max);
        self.not_before = (self.mistakes > 0).then_some(looked + wary).filter(|earliest| *earliest > seen);
        true
    }

    /// The interval that is in force, jitter included.
    pub fn interval(&self) -> Duration {
        match self.fastest() {
            Some(pace) if self.is_measured() && !self.eagerness.pays() => pace,
            Some(pace) => self.interval.min(pace),
            None => self.interval,
        }
    }

    /// Whether all who are held said how often they would look, so that no more looks need to be made. A route whose
    /// interval is always the same wants that one.
    pub fn is_measured(&self) -> bool {
        self.pace.of_all && self.options.every < self.options.every_max
    }

    /// Whether a write is reason enough to look. What is restless anyway, no more than once in the time in which it is looked
    /// at without reason.
    pub fn heeds_writes(&self, now: Instant) -> bool {
        let (Some(pace), Some(told)) = (self.fastest(), self.told) else { return true };
        !(self.is_measured() && self.eagerness.is_restless()) || now >= told + pace
    }

    fn fastest(&self) -> Option<Duration> {
        self.pace.fastest.map(|pace| pace.max(FASTEST_PACE))
    }

    /// The longest interval while nothing changes.
    fn longest(&self) -> Duration {
        let pace = self.fastest().filter(|_| self.is_measured());
        self.options.every_max.max(pace.unwrap_or_default())
    }

    /// Takes in a look that was made because of `trigger`, began at `started` and came to `verdict`; `None` if its answer
    /// was not used.
    pub fn looked(&mut self, started: Instant, trigger: Trigger, verdict: Option<&Verdict>) {
        let before = self.looked.replace(started);
        self.not_before = None;
        if trigger == Trigger::Write {
            self.told = Some(started);
        }
        if let Some(verdict) = verdict {
            let sooner = before.zip(self.fastest()).is_some_and(|(before, pace)| started < before + pace);
            self.eagerness.looked(trigger, verdict, sooner && trigger == Trigger::Timer, self.options.every);
        }
        let pays = !self.is_measured() || self.eagerness.pays();
        self.afterthought = match trigger {
            Trigger::Write => pays.then(|| started + AFTERTHOUGHT),
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
                (quiet / QUIET_SHARE).clamp(self.options.every, self.longest())
            }
        };
        self.interval = base.mul_f64(1.0 + JITTER * self.rng.f64()).min(self.longest());
    }
}

#[cfg(test)]
mod tests;
