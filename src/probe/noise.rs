//! Learns which parts of one resource are noise, while it is fetched.
//!
//! ```text
//! each fetch ─ keep ─▶ a few samples, apart in time ─ the analysis of `probe` ─▶ rules ─ each with a law ─▶ parts
//! each change ─ what the rules leave is the same, and each part goes on as it did? ─▶ noise, else news
//! ```
//!
//! The rules only say where noise may be. Whether a change there is noise is decided each time, spot by spot, so that a
//! rule that is too wide hides nothing. Pure: the samples are taken elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::Instant;

use super::Sample;
use super::change_series::{ChangeSeries, Changes, Observation, Timeline};
use super::learned::{Part, Read};
use super::time_value::{Kind, time_value};
use super::value::untagged;
use super::volatility::{Volatility, classify};
use crate::explain::Rule;
use crate::model::{Digest, Representation};
use crate::normalise::{BodyKind, Rules};

/// The maximum size of a body that is learned from.
const MAX_BODY: usize = 256 << 10;

/// The maximum size of the samples of one resource in bytes, and their number apart in time.
const MAX_BYTES: usize = 768 << 10;
const MAX_SPACED: usize = 8;

/// How long fetches in direct succession count.
const QUICK_COUNTS_FOR: Duration = Duration::from_secs(60);

/// The minimum distance between samples; at least the clients' polling interval.
const MIN_SPACING: Duration = Duration::from_secs(1);
const MAX_SPACING: Duration = Duration::from_secs(5);

/// How long after a trigger numbers may change because of it.
const STIRRED_FOR: Duration = Duration::from_secs(1);

/// The number of consecutive samples, apart in time, after which a number that always differs is a measurement.
const MEASURED: usize = 6;

/// The step budget for comparing two samples: a few milliseconds.
const MAX_STEPS: usize = 300_000;

/// The maximum number of parts. More indicate that the resource was not understood.
const MAX_PARTS: usize = 48;

/// The number of first changes that are all analysed; later analyses become rarer if they find nothing.
const EAGER: u32 = 8;
const MAX_WAIT: u32 = 16;

/// The learned noise of a resource.
#[derive(Debug)]
pub struct NoiseLearner {
    base: Arc<Rules>,
    samples: Vec<Sample>,
    started: Option<Instant>,
    /// The clients' polling interval.
    pace: Duration,
    parts: Vec<Part>,
    /// The rules for all parts together.
    rules: Rules,
    /// The content of the last body, and its meaning under `rules`.
    meaning: Option<(Digest, Digest)>,
    /// The time until which a number may have changed because of what triggered a fetch.
    stirred_until: Option<Instant>,
    /// The number of consecutive analyses without a result, and the number of changes to skip before the next.
    fruitless: u32,
    wait: u32,
}

/// A learned part, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoisePart {
    /// The rule that matches it.
    pub rule: Rule,
    /// The reason why it is noise.
    pub why: &'static str,
}

impl NoiseLearner {
    /// Creates the state without knowledge, for bodies under `base`.
    pub fn new(base: Arc<Rules>) -> Self {
        let rules = base.and(&[], &[], &[]);
        Self {
            base,
            samples: Vec::new(),
            started: None,
            pace: Duration::ZERO,
            parts: Vec::new(),
            rules,
            meaning: None,
            stirred_until: None,
            fruitless: 0,
            wait: 0,
        }
    }

    /// Sets the clients' polling interval.
    pub fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// Records that a write, a file or an operator triggered the fetch that began at `at`. A number that changes now may have been
    /// changed by that, even if it usually changes by itself.
    pub fn stirred(&mut self, at: Instant) {
        self.stirred_until = Some(at + STIRRED_FOR);
    }

    /// Returns the learned parts.
    pub fn parts(&self) -> Vec<NoisePart> {
        self.parts.iter().map(|part| NoisePart { rule: part.rule.clone(), why: part.nature.describe() }).collect()
    }

    /// Returns the route's rules and the learned ones.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns the size of the kept bodies in bytes.
    pub fn weight(&self) -> u64 {
        self.samples.iter().map(|sample| sample.representation.body.len() as u64).sum()
    }

    /// Drops the samples.
    pub fn forget_samples(&mut self) {
        self.samples = Vec::new();
    }

    /// Records a fetch in direct succession to the previous one.
    pub fn sample(&mut self, representation: &Representation, at: Instant, wall: SystemTime) {
        self.keep(representation, at, wall, false);
    }

    /// Returns whether a fetch that began at `at` and changed `known` to `new` differs only in noise. `is_news` means
    /// that other reasons exclude noise.
    pub fn is_noise(
        &mut self,
        known: &Representation,
        new: &Representation,
        at: Instant,
        wall: SystemTime,
        is_news: bool,
    ) -> bool {
        if new.body.len() > MAX_BODY || known.body.len() > MAX_BODY {
            self.forget();
            return false;
        }
        if self.samples.is_empty() {
            self.keep(known, at, wall, true);
        }
        self.keep(new, at, wall, true);
        let goes_on = self.observe(new, at);
        let is_noise = !is_news
            && (goes_on && self.leaves_the_same(known, new)
                // Parts that were just learned from the same fetch count.
                || self.analyse().is_some_and(|goes_on| goes_on && self.leaves_the_same(known, new)));
        if !is_noise {
            self.parts.iter_mut().for_each(Part::told);
        }
        is_noise
    }

    /// Records that a fetch that began at `at` returned `known` again. Returns `false` if a part stands still that
    /// counted as noise, so that the clients' noise is not equivalent any more.
    pub fn rests(&mut self, known: &Representation, at: Instant, wall: SystemTime) -> bool {
        if !self.samples.is_empty() {
            self.keep(known, at, wall, true);
        }
        let expected = all(&mut self.parts, |part| part.rests(at));
        if !expected {
            self.parts.iter_mut().for_each(Part::told);
        }
        expected
    }

    fn forget(&mut self) {
        *self = Self { pace: self.pace, ..Self::new(Arc::clone(&self.base)) };
    }

    /// Returns whether both are equal under `rules`.
    fn leaves_the_same(&mut self, known: &Representation, new: &Representation) -> bool {
        if self.parts.is_empty() {
            return false;
        }
        let meaning = |representation: &Representation| {
            let content = representation.digest();
            let kept = self.meaning.filter(|(known, _)| *known == content);
            kept.unwrap_or_else(|| (content, self.rules.meaning(representation, content).digest))
        };
        let (before, after) = (meaning(known), meaning(new));
        self.meaning = Some(after);
        before.1 == after.1
    }

    /// Updates all parts with the current values.
    fn observe(&mut self, representation: &Representation, at: Instant) -> bool {
        if self.parts.is_empty() {
            return true;
        }
        let body = self.rules.read(representation);
        let read = Read::of(&body);
        let is_stirred = self.stirred_until.is_some_and(|until| at <= until);
        let goes_on =
            all(&mut self.parts, |part| part.observe(&read, at) && !(is_stirred && part.has_moved_freely(at)));
        if self.parts.iter().any(Part::is_over) {
            self.parts.retain(|part| !part.is_over());
            self.compile();
        }
        goes_on
    }

    fn compile(&mut self) {
        let (mut json, mut css, mut regex) = (Vec::new(), Vec::new(), Vec::new());
        for part in &self.parts {
            match &part.rule {
                Rule::Json(text) => json.extend(text.parse().ok()),
                Rule::Css(text) => css.extend(text.parse().ok()),
                Rule::Regex(text) => regex.extend(text.parse().ok()),
            }
        }
        self.rules = self.base.and(&json, &css, &regex);
        self.meaning = None;
    }

    /// Keeps a sample. The last one is replaced if the next arrives before it is far enough from its predecessor.
    fn keep(&mut self, representation: &Representation, at: Instant, wall: SystemTime, spaced: bool) {
        if representation.body.len() > MAX_BODY {
            return;
        }
        let started = *self.started.get_or_insert(at);
        let since = at.saturating_duration_since(started);
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let spacing = self.pace.clamp(MIN_SPACING, MAX_SPACING);
        if let [.., before, last] = self.samples.as_slice()
            && spaced
            && last.spaced
            && last.at.saturating_sub(before.at) < spacing
        {
            self.samples.pop();
        }
        self.samples.push(Sample {
            representation: representation.clone(),
            headers: HeaderMap::new(),
            at: since,
            wall,
            took: Duration::ZERO,
            spaced,
        });
        self.samples.retain(|sample| sample.spaced || since.saturating_sub(sample.at) < QUICK_COUNTS_FOR);
        let spaced = |samples: &[Sample]| samples.iter().filter(|sample| sample.spaced).count();
        while spaced(&self.samples) > MAX_SPACED || (self.weight() > MAX_BYTES as u64 && self.samples.len() > 2) {
            let Some(oldest) = self.samples.iter().position(|sample| sample.spaced) else { break };
            // With those in direct succession to it: they would follow another one.
            let group = 1 + self.samples[oldest + 1..].iter().take_while(|sample| !sample.spaced).count();
            self.samples.drain(oldest..oldest + group);
        }
    }

    /// Searches for new parts. If there are any, returns whether the last sample fits them.
    fn analyse(&mut self) -> Option<bool> {
        if self.wait > 0 {
            self.wait -= 1;
            return None;
        }
        let found = self.candidates();
        if found.is_empty() {
            self.fruitless += 1;
            self.wait = (1u32 << (self.fruitless / EAGER).min(MAX_WAIT.ilog2())) - 1;
            return None;
        }
        self.fruitless = 0;
        self.parts.retain(|part| !found.iter().any(|new| new.rule == part.rule));
        self.parts.extend(found);
        self.compile();
        // All knowledge about the past of the new parts is in the samples.
        let started = self.started?;
        let mut goes_on = true;
        for part in &mut self.parts {
            *part = part.afresh();
        }
        for sample in &self.samples {
            let body = self.rules.read(&sample.representation);
            let read = Read::of(&body);
            let at = started + sample.at;
            goes_on = all(&mut self.parts, |part| part.observe(&read, at));
        }
        let is_stirred = |at| self.stirred_until.is_some_and(|until| at <= until);
        let last = self.samples.last().map(|sample| started + sample.at).filter(|at| is_stirred(*at));
        Some(goes_on && !last.is_some_and(|at| self.parts.iter().any(|part| part.has_moved_freely(at))))
    }

    fn candidates(&self) -> Vec<Part> {
        if self.samples.len() < 3 {
            return Vec::new();
        }
        let timeline = Timeline::of(&self.samples);
        let none = Rules::default();
        let readings: Vec<_> = self.samples.iter().map(|sample| none.read(&sample.representation)).collect();
        let form = readings.first().map_or(BodyKind::Bytes, |reading| reading.form);
        if readings.iter().any(|reading| reading.form == BodyKind::Bytes || reading.form != form) {
            return Vec::new();
        }
        let texts: Vec<&str> = readings.iter().map(|reading| &*reading.text).collect();
        let mut series = ChangeSeries::within(MAX_STEPS);
        super::collect(&texts, form, &timeline, &mut series);
        let room = MAX_PARTS.saturating_sub(self.parts.len());
        let is_known = |new: &Part| self.parts.iter().any(|part| part.rule == new.rule && part.law.includes(new.law));
        let mut found: BTreeSet<Rule> = BTreeSet::new();
        let parts = series.list.into_iter().filter_map(|(_, changes)| {
            let rule = changes.rule.clone().filter(|_| changes.doubt.is_none())?;
            let nature = nature(&changes, &timeline)?;
            let part = Part::new(rule, nature).filter(|part| !is_known(part))?;
            found.insert(part.rule.clone()).then_some(part)
        });
        parts.take(room).collect()
    }
}

/// Returns whether all parts behave as expected; each is updated, even after another has failed.
fn all(parts: &mut [Part], goes_on: impl FnMut(&mut Part) -> bool) -> bool {
    parts.iter_mut().map(goes_on).filter(|expected| !expected).count() == 0
}

/// Returns the kind of noise, if it is certain.
fn nature(changes: &Changes, timeline: &Timeline) -> Option<Volatility> {
    let seen = &changes.seen;
    if seen.is_empty() || !changes.structural.is_empty() {
        return None;
    }
    let fetches: BTreeSet<usize> = seen.iter().map(|seen| seen.fetch).collect();
    let quick = fetches.iter().filter(|fetch| !timeline.spaced[**fetch]).count();
    let slow = fetches.len() - quick;
    match classify(changes, timeline) {
        Volatility::Unknown | Volatility::Duration
            if slow >= MEASURED
                && slow == timeline.pairs(true)
                && seen.iter().all(|seen| is_number(&seen.old) && is_number(&seen.new))
                && wavers(seen) =>
        {
            Some(Volatility::Measure)
        }
        Volatility::Unknown | Volatility::Churn => None,
        // A single step may have been caused by a user.
        Volatility::Duration => {
            let value = |text: &str| time_value(&untagged(text)).map(|value| value.value);
            let grows = seen.iter().all(|seen| value(&seen.new) > value(&seen.old));
            (grows && fetches.len() > 1).then_some(Volatility::Duration)
        }
        nature @ (Volatility::Counter | Volatility::Token | Volatility::Noise) => {
            (quick > 1 || (quick > 0 && fetches.len() > 2)).then_some(nature)
        }
        // Events that users wait for may happen once a second for a while.
        Volatility::Age | Volatility::Countdown if slow < MEASURED && seen.iter().all(is_bare) => None,
        // A clock changes all the time; a number may fit by chance.
        nature => (fetches.len() > 2 && slow * 4 >= timeline.pairs(true) * 3).then_some(nature),
    }
}

/// Returns whether values both rise and fall. A number that only rises may count events that users wait for.
fn wavers(seen: &[Observation]) -> bool {
    let number = |text: &str| time_value(&untagged(text)).map(|value| value.value);
    let steps = || seen.iter().filter_map(|seen| Some(number(&seen.new)? - number(&seen.old)?));
    steps().any(|step| step > 0.0) && steps().any(|step| step < 0.0)
}

/// Returns whether a value is a number without a unit of time.
fn is_bare(seen: &Observation) -> bool {
    let kind = |text: &str| time_value(&untagged(text)).map(|value| value.kind);
    seen.unit.is_empty() && kind(&seen.new) == Some(Kind::Number)
}

fn is_number(text: &str) -> bool {
    let text = untagged(text);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    digits > 0 && text.chars().filter(|c| c.is_alphabetic()).count() <= 3
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
