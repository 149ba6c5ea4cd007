//! Places, and what was seen at them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Sample;
use crate::explain::Rule;

/// When the samples were taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// Seconds since the first fetch, of each.
    pub(super) at: Vec<f64>,
    /// Whether there was a pause before each.
    pub(super) spaced: Vec<bool>,
    /// The calendar's seconds at the first fetch.
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

    /// How many pairs of successive fetches there are, with or without a pause between them.
    pub(super) fn pairs(&self, spaced: bool) -> usize {
        self.spaced.iter().skip(1).filter(|known| **known == spaced).count()
    }
}

/// A difference between two texts, as it was found.
#[derive(Clone, Debug)]
pub(super) struct RawSpan {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
    /// What of the new text is taken into account already.
    pub(super) last: usize,
}

/// A value at one spot that is another than in the fetch before.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The fetch at which it was new.
    pub(super) fetch: usize,
    /// Which of the spots that share a name.
    pub(super) spot: String,
    pub(super) old: String,
    pub(super) new: String,
    /// The unit of time that stands behind it; empty if none does.
    pub(super) unit: &'static str,
    /// Where it was found, if it may have to be named in another way.
    pub(super) raw: Option<RawSpan>,
}

/// All that happened at the spots that share a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) seen: Vec<Observation>,
    /// The fetches at which something came, went or moved there.
    pub(super) structural: Vec<usize>,
    /// Whether they do in direct succession as well.
    pub(super) churns: bool,
    /// What would ignore it, and nothing else if that is possible.
    pub(super) rule: Option<Rule>,
    /// Why that rule ignores more than what was seen to change, or why there is none.
    pub(super) doubt: Option<String>,
}

/// Traces by the names of their places, in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeSeries {
    names: BTreeMap<String, usize>,
    pub(super) list: Vec<(String, Changes)>,
}

impl ChangeSeries {
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
