//! A lock-free histogram. It is updated once per event and client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The number of buckets with a bound; each bound is twice the previous one.
const BUCKETS: usize = 18;

/// The bound of the first bucket: 0.1 ms. The last bound is 13 s.
const FIRST: u64 = 100_000;

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub(super) struct LatencyHistogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    nanos: AtomicU64,
    /// The last bucket has no bound.
    buckets: [AtomicU64; BUCKETS + 1],
}

impl LatencyHistogram {
    pub(super) fn observe(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.0.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the count of each bucket.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Returns the bounds of the buckets in seconds.
pub(super) fn bounds() -> impl Iterator<Item = f64> {
    (0..BUCKETS).map(|at| (FIRST << at) as f64 / 1e9)
}

/// Returns the first bucket with a bound of at least `nanos`.
fn bucket(nanos: u64) -> usize {
    let times = nanos.div_ceil(FIRST).max(1);
    (times.next_power_of_two().trailing_zeros() as usize).min(BUCKETS)
}

impl EncodeMetric for LatencyHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        let buckets: Vec<(f64, u64)> = bounds().chain([f64::INFINITY]).zip(counts.iter().copied()).collect();
        let sum = self.0.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for LatencyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let at = |micros: u64| bucket(micros * 1000);
        assert_eq!([0, 1, 100, 101, 200, 201, 400, 401].map(at), [0, 0, 0, 1, 1, 2, 2, 3]);
        assert_eq!((bucket(FIRST << 17), bucket((FIRST << 17) + 1), bucket(u64::MAX)), (17, 18, 18));
    }
}
