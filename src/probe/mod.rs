//! Detects parts of a resource that change by themselves (clocks, counters, ages, tokens), and suggests ignore rules
//! for them.
//!
//! ```text
//! Samples (fetches back to back, and fetches with pauses) ─ collect ─▶ ChangeSeries: a place, and its values over time
//!      ─ judge ─▶ Volatility (clock, counter, token, …, or perhaps news) ─▶ Rules ─ tried on all samples ─▶ Report
//! ```
//!
//! A difference between two fetches in direct succession is most likely noise, since nothing happens in that time. A
//! difference after a pause may be either, so it counts as noise only if it follows the clock. Everything else is left
//! to the operator's judgement. Pure: the samples are taken elsewhere.

mod caching_findings;
mod change_series;
mod choices;
mod json;
mod learned;
mod markup;
mod noise;
mod query;
mod report;
mod route;
mod selector;
mod text;
mod time_value;
mod value;
mod volatility;

pub use caching_findings::{CachingFindings, cache_buster, cursor};
pub use noise::{NoiseLearner, NoisePart};
pub use query::{Varying, varying};
pub use report::{Finding, Report};
pub use route::{AnonymousResult, Facts, quoted, route_block};
pub use time_value::tells_time;

use std::time::Duration;

use http::HeaderMap;

use self::change_series::{ChangeSeries, Timeline};
use crate::explain::{Rule, explain};
use crate::json::Document;
use crate::markup::{Dialect, Outline};
use crate::model::Representation;
use crate::normalise::{BodyKind, Rules};

/// One fetch.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The representation.
    pub representation: Representation,
    /// All headers as received.
    pub headers: HeaderMap,
    /// When it arrived, relative to the first fetch.
    pub at: Duration,
    /// The same moment in seconds since 1970.
    pub wall: f64,
    /// Its duration.
    pub took: Duration,
    /// Whether there was a pause before it.
    pub spaced: bool,
}

/// Reports which parts of `samples`, in chronological order, change by themselves.
pub fn examine(samples: &[Sample]) -> Report {
    let mut report = Report { fetches: samples.len(), ..Report::default() };
    let timeline = Timeline::of(samples);
    let none = Rules::default();
    let readings: Vec<_> = samples.iter().map(|sample| none.read(&sample.representation)).collect();
    report.fallback = readings.iter().find_map(|reading| reading.fallback.clone()).map(|fallback| fallback.to_string());
    report.back_to_back = timeline.pairs(false);
    report.spaced = timeline.pairs(true);
    report.differing = samples.windows(2).filter(|pair| !pair[0].representation.same(&pair[1].representation)).count();
    let texts: Vec<&str> = readings.iter().map(|reading| &*reading.text).collect();
    if readings.iter().any(|reading| reading.form == BodyKind::Bytes) {
        if report.differing > 0 {
            report.undecided.push(Finding::note("it is no text: nothing in it can be ignored"));
        }
        return report;
    }
    let mut traces = ChangeSeries::within(MAX_STEPS);
    let is_json =
        collect(&texts, readings.first().map_or(BodyKind::Text, |reading| reading.form), &timeline, &mut traces);
    report.unsaid_json = is_json && readings.iter().any(|reading| reading.form != BodyKind::Json);
    report.take(traces, &timeline);
    report.ages(&texts);
    report.try_out(samples);
    report
}

/// The step budget. It exceeds that of a stream, because only one user waits.
const MAX_STEPS: usize = 50_000_000;

/// Adds the differences between each of `texts` and the previous one. Returns whether they are JSON.
fn collect(texts: &[&str], form: BodyKind, timeline: &Timeline, traces: &mut ChangeSeries) -> bool {
    match Body::of(texts, form) {
        Body::Json(documents) => {
            json::collect(&documents, traces);
            return true;
        }
        Body::Markup(outlines) => markup::collect(&outlines, timeline, traces),
        Body::Text => text::collect(texts, traces),
    }
    false
}

/// The common grammar of all samples.
enum Body<'t> {
    Json(Vec<Document<'t>>),
    Markup(Vec<Outline<'t>>),
    Text,
}

impl<'t> Body<'t> {
    fn of(texts: &[&'t str], form: BodyKind) -> Self {
        let looks_like = |start: &[char]| texts.iter().all(|text| text.trim_start().starts_with(start));
        if form == BodyKind::Json || looks_like(&['{', '[']) {
            let documents: Result<Vec<_>, _> = texts.iter().map(|text| Document::parse(text)).collect();
            if let Ok(documents) = documents {
                return Self::Json(documents);
            }
        }
        let dialect = match form {
            BodyKind::Markup(dialect) => Some(dialect),
            BodyKind::Text if looks_like(&['<']) => {
                Some(if texts.iter().all(|text| text.trim_start().starts_with("<?xml")) {
                    Dialect::Xml
                } else {
                    Dialect::Html
                })
            }
            _ => None,
        };
        let outlines = dialect.and_then(|dialect| texts.iter().map(|text| Outline::read(text, dialect)).collect());
        outlines.map_or(Self::Text, Self::Markup)
    }
}

/// Compiles findings. Invalid ones are left out; [`Report::try_out`] detects that they are missing.
fn compiled<'f>(findings: impl Iterator<Item = &'f Rule>) -> Rules {
    let (mut json, mut css, mut regex) = (Vec::new(), Vec::new(), Vec::new());
    for rule in findings {
        match rule {
            Rule::Json(text) => json.extend(text.parse().ok()),
            Rule::Css(text) => css.extend(text.parse().ok()),
            Rule::Regex(text) => regex.extend(text.parse().ok()),
        }
    }
    Rules::new(json, css, regex)
}

/// The maximum size of bodies that are compared repeatedly to find unnecessary rules.
const MAX_PRUNED: usize = 1 << 20;

/// Returns the pairs of consecutive samples that still differ under the rules of `findings`.
fn still_differing<'s>(samples: &'s [Sample], findings: &[Finding]) -> Vec<(&'s Sample, &'s Sample)> {
    let rules = compiled(findings.iter().filter_map(|finding| finding.rule.as_ref()));
    let meanings: Vec<_> = samples
        .iter()
        .map(|sample| rules.meaning(&sample.representation, sample.representation.digest()).digest)
        .collect();
    let pairs = samples.windows(2).zip(meanings.windows(2));
    pairs.filter(|(_, meanings)| meanings[0] != meanings[1]).map(|(pair, _)| (&pair[0], &pair[1])).collect()
}

impl Report {
    /// Returns the rules that were found.
    pub fn rules(&self) -> Rules {
        compiled(self.ignored.iter().filter_map(|finding| finding.rule.as_ref()))
    }

    /// Compares all samples under the rules that were found.
    fn try_out(&mut self, samples: &[Sample]) {
        let found = still_differing(samples, &self.ignored);
        self.loud = found.len();
        self.loud_back_to_back = found.iter().filter(|(_, next)| !next.spaced).count();
        let rules = self.rules();
        for (one, other) in &found {
            let where_ = explain(&one.representation, &other.representation, &rules);
            for place in where_.places().iter().filter(|place| !place.ignored) {
                if !self.left.contains(&place.name) && self.left.len() < 8 {
                    self.left.push(place.name.clone());
                }
            }
        }
        let size: usize = samples.iter().map(|sample| sample.representation.body.len()).max().unwrap_or(0);
        if found.is_empty() && size <= MAX_PRUNED {
            self.prune(|rest| still_differing(samples, rest).is_empty());
        }
    }
}

#[cfg(test)]
mod tests;
