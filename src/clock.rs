//! The one place that reads the clocks and draws real randomness. Everything else takes `now` and a seed.

use std::time::SystemTime;

use tokio::time::Instant;

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

/// A seed from the operating system.
#[allow(clippy::disallowed_methods, reason = "this is where seeds come from")]
pub fn seed() -> u64 {
    fastrand::u64(..)
}
