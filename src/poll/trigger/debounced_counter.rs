//! A counter that counts a burst of repetitions once.

use std::time::Duration;

use tokio::time::Instant;

/// The minimum time between two counted occurrences: a fetch that would show the effect of the previous one may still
/// be in progress.
const MIN_SPACING: Duration = Duration::from_millis(900);

/// The number of occurrences.
#[derive(Clone, Copy, Debug)]
pub(super) struct DebouncedCounter {
    pub(super) times: u32,
    /// When it was last counted.
    counted: Instant,
    /// When it last occurred.
    pub(super) last: Instant,
}

impl DebouncedCounter {
    /// Creates a counter with its first occurrence.
    pub(super) fn first(now: Instant) -> Self {
        Self { times: 1, counted: now, last: now }
    }

    /// Records another occurrence.
    pub(super) fn again(&mut self, now: Instant) {
        if now.saturating_duration_since(self.counted) >= MIN_SPACING {
            self.times = self.times.saturating_add(1);
            self.counted = now;
        }
        self.last = now;
    }
}
