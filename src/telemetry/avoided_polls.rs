//! Counts the polls that held clients did not have to make.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The number of polls that were not made because clients were held: each client's time divided by its interval.
///
/// The sum over all clients is kept as a linear function of time: a new client increases the slope, a leaving client
/// decreases it. The total is therefore exact, and its cost does not depend on the number of clients.
#[derive(Debug, Default)]
pub(super) struct AvoidedPolls(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// The poll rate of all held clients, in millionths of a poll per second.
    slope: i128,
    /// Millionths of a poll, times a million.
    offset: i128,
}

/// Converts a polling interval to a rate in millionths of a poll per second.
pub(super) fn rate(every: Duration) -> u64 {
    u64::try_from(1_000_000_000_000 / every.as_micros().max(1)).unwrap_or(u64::MAX)
}

impl AvoidedPolls {
    /// Adds a client that would poll at `rate`, held from `now` on.
    pub(super) fn begin(&self, rate: u64, now: Duration) {
        self.change_slope(i128::from(rate), now);
    }

    /// Removes a client with `rate`.
    pub(super) fn end(&self, rate: u64, now: Duration) {
        self.change_slope(-i128::from(rate), now);
    }

    /// Returns the number of whole polls up to `now`.
    pub(super) fn total(&self, now: Duration) -> u64 {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from((line.offset + line.slope * micros(now)) / 1_000_000_000_000).unwrap_or(0)
    }

    fn change_slope(&self, by: i128, now: Duration) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.slope += by;
        line.offset -= by * micros(now);
    }
}

fn micros(time: Duration) -> i128 {
    i128::try_from(time.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn clients_that_come_and_go_count_for_as_long_as_they_were_there() {
        let (replaced, second) = (AvoidedPolls::default(), rate(at(1)));
        assert_eq!(replaced.total(at(100)), 0);
        replaced.begin(second, at(100));
        replaced.begin(rate(Duration::from_millis(500)), at(100));
        assert_eq!(replaced.total(at(110)), 30);
        replaced.end(second, at(110));
        assert_eq!(replaced.total(at(120)), 50);
        replaced.end(rate(Duration::from_millis(500)), at(120));
        assert_eq!(replaced.total(at(1_000_000)), 50);
    }

    #[test]
    fn it_never_falls() {
        let replaced = AvoidedPolls::default();
        let mut last = 0;
        for round in 0..1000 {
            let every = rate(Duration::from_millis(7 + round % 13));
            replaced.begin(every, Duration::from_micros(round * 977));
            let total = replaced.total(Duration::from_micros(round * 977 + 400));
            assert!(total >= last, "{total} after {last}");
            last = total;
            replaced.end(every, Duration::from_micros(round * 977 + 900));
        }
    }
}
