//! Finds the common subsequence of two sequences.
//!
//! Tokens that occur once on either side are most likely the same thing (as in patience diff): the longest increasing
//! chain of such tokens becomes the anchors, and each stretch between two anchors is compared by itself. Where there
//! are no anchors, Myers' algorithm finds the shortest edit script, up to a maximum distance beyond which the whole
//! stretch counts as replaced.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Budget, Exhausted};

/// A stretch that is the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommonRun {
    /// The start in the first sequence.
    pub(super) a: usize,
    /// The start in the second sequence.
    pub(super) b: usize,
    /// The length in tokens.
    pub(super) len: usize,
}

/// The cost in steps of looking a token up.
const TOKEN: usize = 6;

/// Maps two sequences to numbers that are equal exactly where the tokens are equal.
pub(super) fn interned<T: Eq + Hash>(
    a: impl Iterator<Item = T>,
    b: impl Iterator<Item = T>,
    budget: &mut Budget,
) -> Result<(Vec<u32>, Vec<u32>), Exhausted> {
    let mut known: HashMap<T, u32> = HashMap::new();
    let mut number = |token: T| {
        budget.spend(TOKEN)?;
        let next = known.len() as u32;
        Ok(*known.entry(token).or_insert(next))
    };
    let a = a.map(&mut number).collect::<Result<Vec<_>, _>>()?;
    let b = b.map(&mut number).collect::<Result<Vec<_>, _>>()?;
    Ok((a, b))
}

/// Returns the stretches that `a` and `b` have in common, in order. The result is not always the longest common
/// subsequence.
pub(super) fn common(a: &[u32], b: &[u32], budget: &mut Budget) -> Result<Vec<CommonRun>, Exhausted> {
    let tokens = a.iter().chain(b).max().map_or(0, |most| *most as usize + 1);
    let mut search = Search { a, b, seen: vec![Seen::default(); tokens], runs: Vec::new(), budget };
    search.stretch(Stretch { a: (0, a.len()), b: (0, b.len()) }, 0)?;
    Ok(search.runs)
}

/// Returns the indices of the longest increasing subsequence of `values`.
pub(super) fn longest_increasing(values: &[usize]) -> Vec<usize> {
    // For each length, the index of the smallest value that ends a chain of that length; for each value, the index
    // before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![usize::MAX; values.len()];
    for (at, value) in values.iter().enumerate() {
        let length = ends.partition_point(|end| values[*end] < *value);
        if let Some(last) = length.checked_sub(1) {
            before[at] = ends[last];
        }
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut chain = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied().unwrap_or(usize::MAX);
    while at != usize::MAX {
        chain.push(at);
        at = before[at];
    }
    chain.reverse();
    chain
}

/// The maximum recursion depth of the search for tokens that occur once.
const MAX_ROUNDS: usize = 16;

/// The maximum edit distance that Myers' algorithm follows in a stretch without anchors.
const MAX_DISTANCE: usize = 512;

#[derive(Clone, Copy)]
struct Stretch {
    a: (usize, usize),
    b: (usize, usize),
}

/// The position of a token in a stretch, and its number of occurrences: 0, 1, or more.
#[derive(Clone, Copy, Default)]
struct Seen {
    a: usize,
    times_in_a: u8,
    b: usize,
    times_in_b: u8,
}

struct Search<'s> {
    a: &'s [u32],
    b: &'s [u32],
    seen: Vec<Seen>,
    runs: Vec<CommonRun>,
    budget: &'s mut Budget,
}

impl Search<'_> {
    fn push(&mut self, a: usize, b: usize, len: usize) {
        match self.runs.last_mut() {
            _ if len == 0 => {}
            Some(last) if last.a + last.len == a && last.b + last.len == b => last.len += len,
            _ => self.runs.push(CommonRun { a, b, len }),
        }
    }

    fn stretch(&mut self, Stretch { a: (a, a_end), b: (b, b_end) }: Stretch, round: usize) -> Result<(), Exhausted> {
        let (one, other) = (&self.a[a..a_end], &self.b[b..b_end]);
        let head = one.iter().zip(other).take_while(|(x, y)| x == y).count();
        let (one, other) = (&one[head..], &other[head..]);
        let tail = one.iter().rev().zip(other.iter().rev()).take_while(|(x, y)| x == y).count();
        self.budget.spend((head + tail) / 4 + 1)?;
        self.push(a, b, head);
        let inside = Stretch { a: (a + head, a_end - tail), b: (b + head, b_end - tail) };
        if inside.a.0 < inside.a.1 && inside.b.0 < inside.b.1 {
            let anchors = if round < MAX_ROUNDS { self.anchors(inside)? } else { Vec::new() };
            if anchors.is_empty() {
                self.shortest_way(inside)?;
            } else {
                let mut from = (inside.a.0, inside.b.0);
                for (at, bt) in anchors {
                    // Text around an anchor belongs to the stretch before it or behind it.
                    self.stretch(Stretch { a: (from.0, at), b: (from.1, bt) }, round + 1)?;
                    self.push(at, bt, 1);
                    from = (at + 1, bt + 1);
                }
                self.stretch(Stretch { a: (from.0, inside.a.1), b: (from.1, inside.b.1) }, round + 1)?;
            }
        }
        self.push(a_end - tail, b_end - tail, tail);
        Ok(())
    }

    /// Returns the longest chain of tokens that occur once on either side.
    fn anchors(&mut self, stretch: Stretch) -> Result<Vec<(usize, usize)>, Exhausted> {
        let (a, b) = (stretch.a.0..stretch.a.1, stretch.b.0..stretch.b.1);
        self.budget.spend(a.len() + b.len())?;
        for at in a.clone() {
            let seen = &mut self.seen[self.a[at] as usize];
            (seen.a, seen.times_in_a) = (at, seen.times_in_a.saturating_add(1));
        }
        for at in b.clone() {
            let seen = &mut self.seen[self.b[at] as usize];
            (seen.b, seen.times_in_b) = (at, seen.times_in_b.saturating_add(1));
        }
        let once: Vec<(usize, usize)> = a
            .clone()
            .map(|at| self.seen[self.a[at] as usize])
            .filter(|seen| seen.times_in_a == 1 && seen.times_in_b == 1)
            .map(|seen| (seen.a, seen.b))
            .collect();
        for token in self.a[a].iter().chain(&self.b[b]) {
            self.seen[*token as usize] = Seen::default();
        }
        self.budget.spend(once.len() * 4)?;
        let places: Vec<usize> = once.iter().map(|(_, b)| *b).collect();
        Ok(longest_increasing(&places).into_iter().map(|at| once[at]).collect())
    }

    /// Runs Myers' greedy algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986) on the tokens of both
    /// sides.
    fn shortest_way(&mut self, stretch: Stretch) -> Result<(), Exhausted> {
        let (a, b) = (stretch.a.0..stretch.a.1, stretch.b.0..stretch.b.1);
        self.budget.spend(a.len() + b.len())?;
        for at in a.clone() {
            self.seen[self.a[at] as usize].times_in_a = 1;
        }
        for at in b.clone() {
            self.seen[self.b[at] as usize].times_in_b = 1;
        }
        // A token that the other side lacks cannot be part of any match.
        let in_both = |seen: Seen| seen.times_in_a > 0 && seen.times_in_b > 0;
        let one: Vec<usize> = a.clone().filter(|at| in_both(self.seen[self.a[*at] as usize])).collect();
        let other: Vec<usize> = b.clone().filter(|at| in_both(self.seen[self.b[*at] as usize])).collect();
        for token in self.a[a].iter().chain(&self.b[b]) {
            self.seen[*token as usize] = Seen::default();
        }
        for (x, y) in self.shortest_edit(&one, &other)? {
            self.push(one[x], other[y], 1);
        }
        Ok(())
    }

    /// Returns the matching pairs on the shortest edit path from the tokens at `one` to those at `other`, or none if
    /// the path is too long.
    fn shortest_edit(&mut self, one: &[usize], other: &[usize]) -> Result<Vec<(usize, usize)>, Exhausted> {
        let equal = |x: usize, y: usize| self.a[one[x]] == self.b[other[y]];
        // The farthest point on each diagonal, for every distance; diagonal k is stored at k + distance.
        let mut fronts: Vec<Vec<usize>> = Vec::new();
        for distance in 0..=MAX_DISTANCE.min(one.len() + other.len()) {
            self.budget.spend(2 * distance + 1)?;
            let mut front = vec![0; 2 * distance + 1];
            for k in (0..=2 * distance).step_by(2) {
                let mut x = fronts.last().map_or(0, |last| entry(last, k).0);
                let mut y = (x + distance).wrapping_sub(k);
                let start = x;
                while x < one.len() && y < other.len() && equal(x, y) {
                    (x, y) = (x + 1, y + 1);
                }
                self.budget.spend(x - start)?;
                front[k] = x;
                if x >= one.len() && y >= other.len() {
                    fronts.push(front);
                    return Ok(retrace(&fronts, one.len(), other.len()));
                }
            }
            fronts.push(front);
        }
        Ok(Vec::new())
    }
}

/// Returns where a diagonal is entered: by a deletion (`true`) from the diagonal below it or by an insertion from the
/// one above, whichever leads farther.
fn entry(last: &[usize], k: usize) -> (usize, bool) {
    let deleted = k.checked_sub(2).map(|k| last[k] + 1);
    let inserted = last.get(k).copied();
    (deleted.max(inserted).unwrap_or(0), deleted >= inserted)
}

/// Returns the matching pairs on the path recorded in `fronts`, in order.
fn retrace(fronts: &[Vec<usize>], mut x: usize, mut y: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for distance in (0..fronts.len()).rev() {
        let k = (x + distance).wrapping_sub(y);
        let entered = distance.checked_sub(1).map(|before| entry(&fronts[before], k));
        let start = entered.map_or(0, |(start, _)| start);
        while x > start && y > 0 {
            (x, y) = (x - 1, y - 1);
            pairs.push((x, y));
        }
        match entered {
            Some((_, true)) => x = x.saturating_sub(1),
            Some((_, false)) => y = y.saturating_sub(1),
            None => {}
        }
    }
    pairs.reverse();
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the length of the longest common subsequence, by dynamic programming.
    fn most(a: &[u32], b: &[u32]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut corner = 0;
            for (at, y) in b.iter().enumerate() {
                let above = row[at + 1];
                row[at + 1] = if x == y { corner + 1 } else { above.max(row[at]) };
                corner = above;
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn what_is_common_is_common(
            a in prop::collection::vec(0u32..8, 0..40),
            b in prop::collection::vec(0u32..8, 0..40),
        ) {
            let runs = common(&a, &b, &mut Budget::default()).unwrap();
            let (mut x, mut y) = (0, 0);
            for run in &runs {
                prop_assert!(run.a >= x && run.b >= y && run.len > 0);
                prop_assert_eq!(&a[run.a..run.a + run.len], &b[run.b..run.b + run.len]);
                (x, y) = (run.a + run.len, run.b + run.len);
            }
            prop_assert!(x <= a.len() && y <= b.len());
        }

        #[test]
        fn the_shortest_way_is_the_shortest(
            a in prop::collection::vec(0u32..4, 0..30),
            b in prop::collection::vec(0u32..4, 0..30),
        ) {
            let (one, other): (Vec<_>, Vec<_>) = ((0..a.len()).collect(), (0..b.len()).collect());
            let mut budget = Budget::default();
            let search = &mut Search { a: &a, b: &b, seen: Vec::new(), runs: Vec::new(), budget: &mut budget };
            let pairs = search.shortest_edit(&one, &other).unwrap();
            prop_assert!(pairs.iter().all(|(x, y)| a[*x] == b[*y]));
            prop_assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
            prop_assert_eq!(pairs.len(), most(&a, &b));
        }

        #[test]
        fn a_chain_increases_and_none_is_longer(values in prop::collection::vec(0usize..50, 0..30)) {
            let chain = longest_increasing(&values);
            prop_assert!(chain.windows(2).all(|pair| pair[0] < pair[1] && values[pair[0]] < values[pair[1]]));
            let mut lengths = vec![1; values.len()];
            for at in 0..values.len() {
                for before in 0..at {
                    if values[before] < values[at] {
                        lengths[at] = lengths[at].max(lengths[before] + 1);
                    }
                }
            }
            prop_assert_eq!(chain.len(), lengths.into_iter().max().unwrap_or(0));
        }
    }

    #[test]
    fn unlike_sequences_cost_no_more_than_the_budget() {
        let a: Vec<u32> = (0..100_000).map(|n| n % 7).collect();
        let b: Vec<u32> = (0..100_000).map(|n| (n / 3) % 7).collect();
        let mut budget = Budget::new(50_000);
        assert_eq!(common(&a, &b, &mut budget), Err(Exhausted));
        let mut budget = Budget::default();
        assert!(common(&a, &b, &mut budget).is_ok());
    }
}
