//! Distinguishes unsafe requests that are polls from writes.
//!
//! A page that polls by `POST` repeats the same request: the same target, and a body that differs at most in numbers (a
//! call id, a time). A sensor that writes does the same, but its writes have visible effects. A request that came three
//! times without a change in between counts as a poll: if it counted as a write, it would trigger a fetch each time,
//! and a tick that makes the page poll.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::debounced_counter::DebouncedCounter;

/// Recent repeated requests. Bounded: the least recent are dropped.
#[derive(Debug, Default)]
pub struct PostPollDetector {
    seen: HashMap<u64, Repeated>,
}

#[derive(Clone, Copy, Debug)]
struct Repeated {
    tally: DebouncedCounter,
    /// The number of changes found until then.
    changes: u64,
}

/// From this repetition on it counts as a poll.
const TIMES: u32 = 3;

/// Unless two of them are this far apart.
const WINDOW: Duration = Duration::from_secs(60);

const MAX_ENTRIES: usize = 4096;

impl PostPollDetector {
    /// Records a request with this signature, and returns whether it is a poll. `changes` is the number of changes
    /// found in the resources that the request might write.
    pub fn record(&mut self, signature: u64, changes: u64, now: Instant) -> bool {
        if self.seen.len() >= MAX_ENTRIES && !self.seen.contains_key(&signature) {
            self.seen.retain(|_, repeated| now.saturating_duration_since(repeated.tally.last) < WINDOW);
            if self.seen.len() >= MAX_ENTRIES {
                self.seen.clear();
            }
        }
        let first = Repeated { tally: DebouncedCounter::first(now), changes };
        let repeated = self.seen.entry(signature).or_insert(first);
        if repeated.changes != changes || now.saturating_duration_since(repeated.tally.last) > WINDOW {
            *repeated = first;
        }
        repeated.tally.again(now);
        repeated.tally.times >= TIMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_is_sent_again_and_again_without_effect_is_a_poll() {
        let mut repetitions = PostPollDetector::default();
        let mut now = clock::now();
        assert!(!repetitions.record(1, 0, now));
        for (pause, changes, poll) in [
            (5_000, 0, false),
            (5_000, 0, true),
            (59_000, 0, true),
            (10, 0, true),
            (61_000, 0, false),
            (1_000, 0, false),
            (1_000, 0, true),
            (1_000, 1, false),
            (1_000, 2, false),
            (1_000, 2, false),
            (1_000, 2, true),
        ] {
            now += Duration::from_millis(pause);
            assert_eq!(repetitions.record(1, changes, now), poll, "after {pause} ms and {changes} changes");
        }
    }

    #[test]
    fn a_storm_is_no_poll() {
        let mut repetitions = PostPollDetector::default();
        let now = clock::now();
        for n in 0..800 {
            assert!(!repetitions.record(1, 0, now + Duration::from_millis(n)));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut repetitions = PostPollDetector::default();
        let now = clock::now();
        for signature in 0..3 * MAX_ENTRIES as u64 {
            repetitions.record(signature, 0, now + Duration::from_millis(signature));
        }
        assert!(repetitions.seen.len() <= MAX_ENTRIES);
    }
}
