//! Detects whether one client polls a URL, and compares its responses.

use std::time::Duration;

use super::exchange::Exchange;

/// The number of intervals kept.
const KEPT: usize = 6;

/// The minimum number of intervals for a decision.
const ENOUGH: usize = 3;

/// The maximum polling interval in seconds.
const RAREST: f32 = 900.0;

/// The requests of one client for one URL.
#[derive(Clone, Debug, Default)]
pub(super) struct Rhythm {
    /// Whether there was any request.
    pub(super) seen: bool,
    last: Duration,
    /// The intervals in seconds, the newest last.
    intervals: [f32; KEPT],
    filled: usize,
    /// Whether the requests are polls.
    pub(super) polls: bool,
    /// The first requests of a series, which count once it is recognised as polls.
    pub(super) pending: Pending,
    pub(super) content: Option<u64>,
    pub(super) bytes: Option<u64>,
    before: Before,
}

/// The observations of a series before it is recognised as polls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) compared: u64,
    pub(super) same: u64,
}

impl Pending {
    pub(super) fn add(&mut self, exchange: &Exchange, news: News) {
        self.requests += 1;
        self.bytes += exchange.answer.bytes.unwrap_or_default();
        self.compared += u64::from(news == News::Same);
        self.same += u64::from(news == News::Same);
    }
}

/// The response before the last, used to detect messages that are delivered once.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    content: Option<u64>,
    bytes: u64,
    /// Whether the last response was new.
    is_new: bool,
}

/// The comparison of a response with the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There was no previous response, or it cannot be compared.
    Unknown,
    /// It is the same.
    Same,
    /// It differs.
    Other,
}

impl Rhythm {
    /// Records a request `at` a time. Returns the interval since the previous one.
    pub(super) fn ask(&mut self, at: Duration) -> Option<Duration> {
        let interval = at.saturating_sub(self.last);
        let first = !std::mem::replace(&mut self.seen, true);
        self.last = self.last.max(at);
        if first {
            return None;
        }
        if self.filled == KEPT {
            self.intervals.rotate_left(1);
            self.filled -= 1;
        }
        self.intervals[self.filled] = interval.as_secs_f32();
        self.filled += 1;
        Some(interval)
    }

    /// Returns the median of the last intervals.
    pub(super) fn interval(&self) -> Option<f32> {
        let mut known = self.intervals[..self.filled].to_vec();
        known.sort_by(f32::total_cmp);
        known.get(known.len() / 2).copied()
    }

    /// Returns whether the requests come from a timer: most intervals are about equal.
    pub(super) fn is_regular(&self) -> bool {
        let Some(middle) = self.interval() else { return false };
        let known = &self.intervals[..self.filled];
        let near = known.iter().filter(|time| (**time - middle).abs() <= (0.51 * middle).max(0.1)).count();
        known.len() >= ENOUGH && near * 3 >= known.len() * 2 && middle <= RAREST && middle > 0.02
    }

    /// Records a response. `not_modified` means that it equals the previous one.
    pub(super) fn answer(&mut self, content: Option<u64>, bytes: Option<u64>, not_modified: bool) -> News {
        if not_modified {
            self.before.is_new = false;
            return News::Same;
        }
        match (self.content, content) {
            (Some(old), Some(new)) if old == new => News::Same,
            (Some(_), Some(_)) => News::Other,
            // A log only contains the size of a response.
            (None, None) => match (self.bytes, bytes) {
                (Some(old), Some(new)) if old == new => News::Same,
                (Some(_), Some(_)) => News::Other,
                _ => News::Unknown,
            },
            _ => News::Unknown,
        }
    }

    /// Makes a response the last one. Returns whether the previous one looks like a message that is delivered once: it
    /// replaced a shorter response, and has disappeared with the next request.
    pub(super) fn turn(&mut self, news: News, content: Option<u64>, bytes: Option<u64>) -> bool {
        if news == News::Same {
            self.before.is_new = false;
            return false;
        }
        let is_back = content.is_some() && self.before.content == content && self.before.is_new;
        let consumed = is_back && self.bytes.is_some_and(|last| last > self.before.bytes);
        self.before =
            Before { content: self.content, bytes: self.bytes.unwrap_or_default(), is_new: news == News::Other };
        (self.content, self.bytes) = (content, bytes);
        consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular(intervals: &[f64]) -> bool {
        let mut rhythm = Rhythm::default();
        let mut at = 100.0;
        rhythm.ask(Duration::from_secs_f64(at));
        for interval in intervals {
            at += interval;
            rhythm.ask(Duration::from_secs_f64(at));
        }
        rhythm.is_regular()
    }

    #[test]
    fn timers_are_told_from_people() {
        for (intervals, expected) in [
            (&[3.0, 3.0, 3.0][..], true),
            (&[3.1, 2.9, 4.0], true),
            (&[0.25, 0.26, 0.24, 0.25], true),
            (&[5.0, 5.0, 60.0, 5.0], true),
            (&[1.0, 2.0, 1.0, 2.0], true),
            (&[3.0, 3.0], false),
            (&[1.0, 20.0, 3.0, 90.0], false),
            (&[0.0, 0.0, 0.0, 0.0], false),
            (&[2000.0, 2000.0, 2000.0], false),
            (&[7.0, 40.0, 2.0, 300.0, 15.0, 1.0], false),
        ] {
            assert_eq!(regular(intervals), expected, "{intervals:?}");
        }
    }

    #[test]
    fn messages_that_are_given_out_once_are_noticed() {
        let mut rhythm = Rhythm::default();
        let mut consumed = Vec::new();
        for (content, bytes) in [(1, 2), (1, 2), (7, 50), (1, 2), (1, 2), (8, 60), (9, 60), (1, 2)] {
            rhythm.seen = true;
            let news = rhythm.answer(Some(content), Some(bytes), false);
            consumed.push(rhythm.turn(news, Some(content), Some(bytes)));
        }
        assert_eq!(consumed, [false, false, false, true, false, false, false, false]);
    }
}
