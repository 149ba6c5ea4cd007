//! Locations and the values observed there.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Sample;
use crate::explain::Rule;

/// The times of the samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// The time of each fetch in seconds since the first.
    pub(super) at: Vec<f64>,
    /// Whether there was a pause before each fetch.
    pub(super) spaced: Vec<bool>,
    /// The wall-clock time of the first fetch in seconds.
    pub(super) begin: f64,
}

impl Timeline {
    pub(super) fn of(samples: &[Sample]) -> Self {
        Self {
            at: samples.iter().map(|sample| sample.at.as_secs_f64()).collect(),
            spaced: samples.iter().map(|sample| sample.spaced).collect(),
            begin: samples.first().map_or(0.0, |sample| sample.wall),
        }
    }

    /// Returns the number of pairs of consecutive fetches, with or without a pause between them.
    pub(super) fn pairs(&self, spaced: bool) -> usize {
        self.spaced.iter().skip(1).filter(|known| **known == spaced).count()
    }
}

/// A difference between two texts, as found.
#[derive(Clone, Debug)]
pub(super) struct RawSpan {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
    /// The end of the part of the new text that has already been handled.
    pub(super) last: usize,
}

/// A value that differs from the one in the previous fetch.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The fetch in which it was new.
    pub(super) fetch: usize,
    /// The spot among those with the same name.
    pub(super) spot: String,
    pub(super) old: String,
    pub(super) new: String,
    /// The unit of time after it; empty if there is none.
    pub(super) unit: &'static str,
    /// Its position, if it may have to be named in another way.
    pub(super) raw: Option<RawSpan>,
}

/// All changes at the spots with one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) seen: Vec<Observation>,
    /// The fetches in which something was added, removed or moved.
    pub(super) structural: Vec<usize>,
    /// Whether that also happens in direct succession.
    pub(super) churns: bool,
    /// The rule that would ignore the changes, as narrowly as possible.
    pub(super) rule: Option<Rule>,
    /// The reason why the rule ignores more than the observed changes, or why there is none.
    pub(super) doubt: Option<String>,
}

/// Changes by the name of their location, in the order of their first appearance.
#[derive(Clone, Debug)]
pub(super) struct ChangeSeries {
    /// The step budget for comparing two samples.
    pub(super) steps: usize,
    names: BTreeMap<String, usize>,
    pub(super) list: Vec<(String, Changes)>,
}

impl ChangeSeries {
    /// Creates an empty series with a step budget for comparing two samples.
    pub(super) fn within(steps: usize) -> Self {
        Self { steps, names: BTreeMap::new(), list: Vec::new() }
    }

    pub(super) fn at(&mut self, name: &str) -> &mut Changes {
        let at = match self.names.get(name) {
            Some(at) => *at,
            None => {
                self.names.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), Changes::default()));
                self.list.len() - 1
            }
        };
        &mut self.list[at].1
    }
}
