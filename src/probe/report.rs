//! The result of a probe.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::change_series::{ChangeSeries, Changes, Timeline};
use super::volatility::{Volatility, classify};
use crate::explain::Rule;

/// A location that changes, and the reason why the change counts as noise or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that would ignore it.
    pub rule: Option<Rule>,
    /// The name of the location.
    pub name: String,
    /// The observation.
    pub why: String,
}

impl Finding {
    pub(super) fn note(why: &str) -> Self {
        Self { rule: None, name: String::new(), why: why.to_owned() }
    }
}

/// The result of a probe about the bodies.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The number of fetches.
    pub fetches: usize,
    /// The number of pairs of fetches in direct succession.
    pub back_to_back: usize,
    /// The number of pairs of fetches with a pause between them.
    pub spaced: usize,
    /// The number of pairs with different bodies.
    pub differing: usize,
    /// Locations that change by themselves.
    pub ignored: Vec<Finding>,
    /// Locations whose changes may be real.
    pub undecided: Vec<Finding>,
    /// The number of pairs that still differ under the rules.
    pub loud: usize,
    /// The number of those in direct succession.
    pub loud_back_to_back: usize,
    /// The remaining differences.
    pub left: Vec<String>,
    /// The reason why the bodies are not compared as their type suggests.
    pub fallback: Option<String>,
    /// Whether the bodies are JSON although their type does not say so.
    pub unsaid_json: bool,
}

/// The maximum number of rules of a kind. More indicate that the changes were not understood.
const MAX_RULES: usize = 80;
const MAX_PATTERNS: usize = 40;

impl Report {
    pub(super) fn take(&mut self, traces: ChangeSeries, timeline: &Timeline) {
        let patterns = traces.list.iter().filter(|(_, trace)| matches!(trace.rule, Some(Rule::Regex(_)))).count();
        if patterns > MAX_PATTERNS {
            self.undecided.push(Finding::note(&format!(
                "text changes in {patterns} places, too many to name: see whether one pattern of your own covers them"
            )));
        }
        let mut known: BTreeSet<Rule> = BTreeSet::new();
        for (name, trace) in traces.list {
            if patterns > MAX_PATTERNS && matches!(trace.rule, Some(Rule::Regex(_))) {
                continue;
            }
            let nature = classify(&trace, timeline);
            let finding = Finding { why: why(nature, &trace, timeline), rule: trace.rule.clone(), name };
            if finding.rule.as_ref().is_some_and(|rule| !known.insert(rule.clone())) {
                continue;
            }
            if nature.is_noise() && trace.doubt.is_none() && finding.rule.is_some() && self.ignored.len() < MAX_RULES {
                self.ignored.push(finding);
            } else {
                self.undecided.push(finding);
            }
        }
    }

    /// Adds a rule for ages that are too old to have changed during the probe.
    pub(super) fn ages(&mut self, texts: &[&str]) {
        #[allow(clippy::expect_used, reason = "the pattern is written above, and tests compile it")]
        static FIND: LazyLock<Regex> = LazyLock::new(|| Regex::new(AGE).expect("a pattern"));
        let Some(text) = texts.last() else { return };
        let rules = self.rules();
        let outline = crate::markup::Outline::read(text, crate::markup::Dialect::Html);
        let cuts = rules.cuts(text, outline.as_ref());
        let open: usize = FIND.find_iter(text).filter(|found| !cuts.contains(&found.range())).count();
        let pointed = self.ignored.iter().any(|finding| matches!(finding.rule, Some(Rule::Json(_))));
        if open > 0 && !pointed {
            self.ignored.push(Finding {
                rule: Some(Rule::Regex(AGE.to_owned())),
                name: AGES.to_owned(),
                why: format!("ages, {open} of them: they grow by themselves"),
            });
        }
    }

    /// Removes unnecessary rules, the widest first, as long as `is_silent_with` accepts the rest.
    pub(super) fn prune(&mut self, is_silent_with: impl Fn(&[Finding]) -> bool) {
        let width = |finding: &Finding| match &finding.rule {
            Some(Rule::Css(text)) if text.contains("nth-child") => 0,
            Some(Rule::Css(_)) => 1,
            Some(Rule::Regex(_)) => 2,
            Some(Rule::Json(_)) | None => 3,
        };
        let mut order: Vec<String> = self.ignored.iter().map(|finding| finding.name.clone()).collect();
        order.sort_by_key(|name| self.ignored.iter().find(|finding| finding.name == *name).map(width));
        for name in order.into_iter().filter(|name| name != AGES) {
            let rest: Vec<Finding> = self.ignored.iter().filter(|finding| finding.name != name).cloned().collect();
            if is_silent_with(&rest) {
                self.ignored = rest;
            }
        }
    }

    /// Returns whether the rules make all samples equal.
    pub fn is_silent(&self) -> bool {
        self.loud == 0
    }
}

/// The name of the finding about unchanged ages.
const AGES: &str = "ages";

const AGE: &str = r"\b(?:\d+|an?) (?:second|minute|min|hour|day|week|month|year)s? ago\b";

fn why(nature: Volatility, trace: &Changes, timeline: &Timeline) -> String {
    let fetches: BTreeSet<usize> =
        trace.seen.iter().map(|seen| seen.fetch).chain(trace.structural.iter().copied()).collect();
    let quick = fetches.iter().filter(|fetch| !timeline.spaced[**fetch]).count();
    let slow = fetches.len() - quick;
    let often = match (timeline.pairs(false), timeline.pairs(true)) {
        (pairs, 0) => format!("{quick} of {pairs}"),
        (pairs, spaced) => format!("{quick} of {pairs}, and {slow} of {spaced} with a pause"),
    };
    let what = match nature {
        Volatility::Unknown if !trace.structural.is_empty() => "something comes, goes or moves there",
        nature => nature.describe(),
    };
    match &trace.doubt {
        Some(doubt) => format!("{what}; {often}; {doubt}"),
        None => format!("{what}; {often}"),
    }
}
