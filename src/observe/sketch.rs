//! Counts that take a bounded amount of memory, whatever is counted.

use std::collections::BTreeSet;
use std::time::Duration;

/// How many fingerprints are kept; up to so many are counted exactly.
const KEPT: usize = 256;

/// How many different fingerprints there were: exactly as long as there are few, and within some percent otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Distinct {
    /// The smallest of all.
    smallest: BTreeSet<u64>,
    full: bool,
}

impl Distinct {
    pub(super) fn add(&mut self, print: u64) {
        if self.smallest.insert(print) && self.smallest.len() > KEPT {
            self.smallest.pop_last();
            self.full = true;
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self.smallest.last() {
            // The smallest of many random numbers lie as close as there are many.
            Some(last) if self.full => (KEPT as f64 / (*last as f64 / u64::MAX as f64)) as u64,
            _ => self.smallest.len() as u64,
        }
    }
}

/// The first of a histogram's buckets ends here.
const FIRST: f64 = 0.01;

/// Each is wider than the one before by this.
const STEP: f64 = 1.15;

/// How many there are: the last begins at almost two hours.
const BUCKETS: usize = 96;

/// Lengths of time.
#[derive(Clone, Debug)]
pub(super) struct Times {
    counts: [u32; BUCKETS],
    /// Of all that are in a bucket, in seconds.
    sums: [f32; BUCKETS],
    number: u64,
    sum: Duration,
    longest: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sums: [0.0; BUCKETS], number: 0, sum: Duration::ZERO, longest: Duration::ZERO }
    }
}

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        let at = ((time.as_secs_f64() / FIRST).max(1.0).ln() / STEP.ln()) as usize;
        let at = at.min(BUCKETS - 1);
        self.counts[at] = self.counts[at].saturating_add(1);
        self.sums[at] += time.as_secs_f32();
        self.number += 1;
        self.sum = self.sum.saturating_add(time);
        self.longest = self.longest.max(time);
    }

    /// About the middle one: the mean of those that are near it. `None` if there are none.
    pub(super) fn median(&self) -> Option<Duration> {
        let all: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let mut before = 0;
        let at = self.counts.iter().position(|count| {
            before += u64::from(*count);
            all > 0 && before * 2 >= all
        })?;
        Some(Duration::from_secs_f64(f64::from(self.sums[at]) / f64::from(self.counts[at])))
    }

    pub(super) fn mean(&self) -> Option<Duration> {
        (self.number > 0).then(|| self.sum.div_f64(self.number as f64))
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
}

/// A table of two halves: what was not used while the younger half filled is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Recent<V> {
    young: std::collections::HashMap<u64, V>,
    old: std::collections::HashMap<u64, V>,
    most: usize,
}

impl<V: Default> Recent<V> {
    /// One of at most twice `half` entries.
    pub(super) fn new(half: usize) -> Self {
        Self { young: std::collections::HashMap::new(), old: std::collections::HashMap::new(), most: half }
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// The entry for `key`, a new one if there is none.
    pub(super) fn entry(&mut self, key: u64) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= self.most {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, value);
        }
        self.young.entry(key).or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_exactly_and_many_nearly() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut distinct = Distinct::default();
        for number in [1, 200, 256, 20_000] {
            while distinct.count() < number {
                distinct.add(random.u64(..));
            }
            let mut exact = Distinct::default();
            let mut random = fastrand::Rng::with_seed(number);
            (0..number).for_each(|_| exact.add(random.u64(..)));
            let counted = exact.count();
            assert!(counted.abs_diff(number) * 5 <= number * u64::from(number > 256), "{counted} of {number}");
        }
    }

    #[test]
    fn the_middle_of_times_is_found_within_its_bucket() {
        let mut times = Times::default();
        assert_eq!((times.median(), times.mean()), (None, None));
        for _ in 0..100 {
            times.add(Duration::from_secs(3));
            times.add(Duration::from_millis(2900));
        }
        times.add(Duration::from_secs(1_000_000));
        let median = times.median().unwrap_or_default().as_secs_f64();
        assert!((2.6..3.5).contains(&median), "{median}");
        assert_eq!(times.longest(), Duration::from_secs(1_000_000));
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut recent = Recent::<u32>::new(10);
        for key in 0..1000 {
            *recent.entry(7_000_000) += 1;
            recent.entry(key);
            assert!(recent.len() <= 20);
        }
        assert_eq!(recent.get(7_000_000), Some(&1000));
    }
}
