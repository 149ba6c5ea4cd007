//! The one place that reads the clocks and draws real randomness. Everything else takes `now` and a seed.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep_until};

/// The monotonic time; under a paused test runtime, the time of that runtime.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A timer that is put off again and again, and hardly ever goes off. Putting it off costs nothing: it is left to go off early,
/// and looks then whether it is time. Setting one anew takes a lock that all tasks share.
#[derive(Debug)]
pub struct LazyTimer(Pin<Box<Sleep>>);

impl LazyTimer {
    /// One that was never waited for.
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

/// A seed that nobody can tell who does not know the process's own keys, which come from the operating system: what hash
/// tables are protected by.
pub fn seed() -> u64 {
    RandomState::new().hash_one(())
}

/// A time as people read it: whole seconds, or milliseconds where it is less than one.
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
