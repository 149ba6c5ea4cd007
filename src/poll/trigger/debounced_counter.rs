//! Counts what comes again and again, a storm of it once.

use std::time::Duration;

use tokio::time::Instant;

/// What comes sooner than this after the last that was counted is not: the fetch that would show its effect may not be over.
const MIN_SPACING: Duration = Duration::from_millis(900);

/// How often something came.
#[derive(Clone, Copy, Debug)]
pub(super) struct DebouncedCounter {
    pub(super) times: u32,
    /// When it was last counted.
    counted: Instant,
    /// When it came last.
    pub(super) last: Instant,
}

impl DebouncedCounter {
    /// The first of it.
    pub(super) fn first(now: Instant) -> Self {
        Self { times: 1, counted: now, last: now }
    }

    /// It came again.
    pub(super) fn again(&mut self, now: Instant) {
        if now.saturating_duration_since(self.counted) >= MIN_SPACING {
            self.times = self.times.saturating_add(1);
            self.counted = now;
        }
        self.last = now;
    }
}
