//! Ranges of a text that are left out of a comparison.

use std::ops::Range;

/// Disjoint ranges in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredRanges(Vec<Range<usize>>);

impl IgnoredRanges {
    /// Creates the set from ranges in any order, which may overlap.
    pub fn new(mut stretches: Vec<Range<usize>>) -> Self {
        stretches.retain(|stretch| !stretch.is_empty());
        stretches.sort_by_key(|stretch| stretch.start);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            match merged.last_mut() {
                Some(last) if stretch.start <= last.end => last.end = last.end.max(stretch.end),
                _ => merged.push(stretch),
            }
        }
        Self(merged)
    }

    /// Returns the ranges in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter()
    }

    /// Returns whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether all of `range` is left out. An empty range is if it lies in or at a cut.
    pub fn contains(&self, range: &Range<usize>) -> bool {
        let after = self.0.partition_point(|cut| cut.start <= range.start);
        after.checked_sub(1).is_some_and(|at| self.0[at].end >= range.end)
            || (range.is_empty() && self.0.get(after).is_some_and(|cut| cut.start == range.start))
    }

    /// Returns whether any of `range` is left out.
    pub fn intersects(&self, range: &Range<usize>) -> bool {
        let at = self.0.partition_point(|cut| cut.end <= range.start);
        self.0.get(at).is_some_and(|cut| cut.start < range.end)
    }

    /// Returns the parts of `range` that are not left out.
    pub fn remaining(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let first = self.0.partition_point(|cut| cut.end <= range.start);
        let mut cuts = self.0[first..].iter().take_while({
            let end = range.end;
            move |cut| cut.start < end
        });
        let mut from = Some(range.start);
        std::iter::from_fn(move || {
            let start = from?;
            match cuts.next() {
                Some(cut) => {
                    from = Some(cut.end);
                    Some(start..cut.start.max(start))
                }
                None => {
                    from = None;
                    Some(start..range.end.max(start))
                }
            }
        })
        .filter(|kept| !kept.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_is_not_cut() {
        let cuts = IgnoredRanges::new(vec![8..9, 2..4, 3..6, 5..5]);
        assert_eq!(cuts.remaining(0..10).collect::<Vec<_>>(), [0..2, 6..8, 9..10]);
        assert!(cuts.remaining(3..7).eq(std::iter::once(6..7)));
        assert_eq!(cuts.remaining(2..6).count(), 0);
        assert!(IgnoredRanges::default().remaining(1..3).eq(std::iter::once(1..3)));
        assert!(cuts.contains(&(2..6)) && cuts.contains(&(3..3)) && !cuts.contains(&(5..7)));
        assert!(cuts.intersects(&(5..7)) && !cuts.intersects(&(6..8)));
    }
}
