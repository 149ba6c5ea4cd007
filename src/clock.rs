//! The only place that reads clocks and randomness. All other code takes `now` and a seed as arguments.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep_until};

/// Returns the monotonic time; under a paused test runtime, the time of that runtime.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the wall-clock time.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A timer that is postponed often and hardly ever fires. Postponing it is free: the inner timer fires early and is
/// then checked against the deadline. Resetting a timer would take a lock that all tasks share.
#[derive(Debug)]
pub struct LazyTimer(Pin<Box<Sleep>>);

impl LazyTimer {
    /// Creates a timer that has not been awaited yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::pin(sleep_until(now())))
    }

    /// Completes at `deadline`.
    pub async fn at(&mut self, deadline: Instant) {
        if deadline < self.0.deadline() {
            self.0.as_mut().reset(deadline);
        }
        loop {
            self.0.as_mut().await;
            if now() >= deadline {
                return;
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

impl Default for LazyTimer {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a random seed, derived from the process's hash keys, which come from the operating system and protect hash
/// tables.
pub fn seed() -> u64 {
    RandomState::new().hash_one(())
}

/// Formats a duration for people: in whole seconds, or in milliseconds below one second.
pub fn roughly(time: Duration) -> humantime::FormattedDuration {
    let unit = if time.as_secs() > 0 { 1_000_000_000 } else { 1_000_000 };
    humantime::format_duration(time - Duration::from_nanos(u64::from(time.subsec_nanos()) % unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (time, text) in [(12_345, "12s"), (345, "345ms"), (61_000, "1m 1s")] {
            assert_eq!(roughly(Duration::from_millis(time) + Duration::from_nanos(7)).to_string(), text);
        }
    }

    #[test]
    fn no_two_seeds_are_the_same() {
        let seeds: std::collections::HashSet<u64> = (0..1000).map(|_| seed()).collect();
        assert_eq!(seeds.len(), 1000);
    }
}
