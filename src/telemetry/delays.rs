//! From a change to a client: how long it took, in buckets that can be read back.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many buckets have a bound.
const BOUNDS: usize = 18;

/// The bounds of the buckets, in seconds: from 0.1 ms to 13 s.
pub(super) fn bounds() -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.0001), |bound| Some(bound * 2.0)).take(BOUNDS)
}

/// Counts by bucket; what is longer than all bounds is in the last.
#[derive(Debug, Default)]
pub(super) struct Delays([AtomicU64; BOUNDS + 1]);

impl Delays {
    pub(super) fn note(&self, seconds: f64) {
        let bucket = bounds().position(|bound| seconds <= bound).unwrap_or(BOUNDS);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Each bucket's own count.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}
