//! Approximate counts with bounded memory.

use std::collections::BTreeSet;
use std::time::Duration;

/// The number of fingerprints kept. Up to this number counts are exact.
const KEPT: usize = 256;

/// Counts different fingerprints: exactly if there are few, and within some percent otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Distinct {
    /// The smallest fingerprints.
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
            // The distance between the smallest of many random numbers shows how many there are.
            Some(last) if self.full => (KEPT as f64 / (*last as f64 / u64::MAX as f64)) as u64,
            _ => self.smallest.len() as u64,
        }
    }
}

/// The upper bound of the first bucket of a histogram, in seconds.
const FIRST: f64 = 0.01;

/// The ratio between the widths of consecutive buckets.
const STEP: f64 = 1.15;

/// The number of buckets. The last one begins at almost two hours.
const BUCKETS: usize = 96;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub(super) struct Times {
    counts: [u32; BUCKETS],
    /// The sum of all durations in a bucket, in seconds.
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

    /// Returns an approximate median: the mean of the bucket that contains it. Returns `None` if the histogram is
    /// empty.
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

/// A table with two generations: entries that are not used while the younger generation fills are dropped.
#[derive(Clone, Debug)]
pub(super) struct Recent<V> {
    young: std::collections::HashMap<u64, V>,
    old: std::collections::HashMap<u64, V>,
    most: usize,
}

impl<V: Default> Recent<V> {
    /// Creates a table of at most twice `half` entries.
    pub(super) fn new(half: usize) -> Self {
        Self { young: std::collections::HashMap::new(), old: std::collections::HashMap::new(), most: half }
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Returns the entry for `key`, creating it if necessary.
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
