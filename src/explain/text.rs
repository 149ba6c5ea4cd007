//! Locations in text: lines.

use std::ops::Range;

use super::places::{ChangeKind, Explanation, Location};
use crate::diff::{Budget, Exhausted, hunks};
use crate::normalise::Rules;

/// Adds the differences between `old` and `new` to `found`.
pub(super) fn compare(
    old: &str,
    new: &str,
    rules: &Rules,
    found: &mut Explanation,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    let (old_cuts, new_cuts) = (rules.cuts(old, None), rules.cuts(new, None));
    let mut lines = Lines { text: new, at: 0, line: 1 };
    for hunk in hunks(old, new, budget)? {
        budget.spend(1)?;
        let name = match (lines.number(hunk.new.start), lines.last(&hunk.new)) {
            (first, last) if first == last => format!("line {first}"),
            (first, last) => format!("lines {first} to {last}"),
        };
        let verb = match (hunk.old.is_empty(), hunk.new.is_empty()) {
            (true, false) => ChangeKind::Added,
            (false, true) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let ignored = old_cuts.contains(&hunk.old) && new_cuts.contains(&hunk.new);
        found.push(Location { name, verb, count: 1, ignored, rule: None });
    }
    Ok(())
}

/// Counts lines while moving forward through a text.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    /// Returns the line number, from 1, of a position at or behind the previous one.
    fn number(&mut self, place: usize) -> usize {
        self.line += self.text.as_bytes()[self.at..place].iter().filter(|byte| **byte == b'\n').count();
        self.at = place;
        self.line
    }

    /// Returns the last line of a stretch that begins at the current position.
    fn last(&mut self, range: &Range<usize>) -> usize {
        let end = if self.text.as_bytes()[range.clone()].last() == Some(&b'\n') { range.end - 1 } else { range.end };
        self.number(end.max(self.at))
    }
}
