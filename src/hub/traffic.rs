//! Plain requests in progress, and the application's recent response times for similar requests.
//!
//! One fetch may answer several requests only if that is unnoticeable: the requests are concurrent, and the application
//! answers them promptly and completely. If an application holds requests until an event, streams its responses, or is
//! slow, each client's request is forwarded.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// The requests by the hash of their key. Requests for unknown keys are not shared.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    keys: HashMap<u64, Record>,
}

#[derive(Debug)]
struct Record {
    /// Requests that the application has not answered yet, with their arrival times.
    pending: Vec<(u64, Instant)>,
    /// The number of consecutive prompt responses, and the time of the first.
    quick: u32,
    quick_since: Option<Instant>,
    /// A moving average of their durations.
    usual: Duration,
    /// Until when the application counts as slow.
    slow_until: Option<Instant>,
    /// When each client was last answered, oldest first.
    answered: VecDeque<(u64, Instant)>,
    /// The time of the last response to a client that is no longer listed.
    forgotten: Option<Instant>,
    seen: Instant,
}

/// The known facts about requests for one key when another arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Whether another request for the key is being answered now.
    pub concurrent: bool,
    /// The application's usual response time, if it answers promptly.
    pub usual: Option<Duration>,
    /// When this client was, or may have been, last answered.
    pub answered: Option<Instant>,
}

const MAX_KEYS: usize = 64;
const MAX_PENDING: usize = 64;
const MAX_ANSWERED: usize = 512;

/// A longer response time always counts as slow.
const SLOW: Duration = Duration::from_millis(500);

/// The number of prompt responses in a row, and the time that they must span. An application that holds requests may
/// have many events at first.
const ENOUGH: u32 = 5;
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// How long a slow response, and any record, is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

impl Traffic {
    /// Returns the facts about requests for `key` when `client` sends one.
    pub(super) fn crowd(&self, key: u64, client: u64, now: Instant) -> Crowd {
        let Some(record) = self.keys.get(&key) else { return Crowd::default() };
        let usual = record.usual(now);
        let young = record.pending.iter().any(|(_, since)| usual.is_some_and(|usual| *since + limit(usual) > now));
        let answered = record.answered.iter().rev().find(|(known, _)| *known == client).map(|(_, when)| *when);
        Crowd { concurrent: young, usual, answered: answered.or(record.forgotten) }
    }

    /// Records the arrival of request `id` for `key`.
    pub(super) fn arrive(&mut self, key: u64, id: u64, now: Instant) {
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&key) {
            self.keys.retain(|_, record| !record.pending.is_empty() && now < record.seen + REMEMBERED);
            if self.keys.len() >= MAX_KEYS {
                return;
            }
        }
        let record = self.keys.entry(key).or_insert_with(|| Record::new(now));
        if now > record.seen + REMEMBERED {
            *record = Record::new(now);
        }
        record.seen = now;
        // If there are too many, the oldest are the most informative: they show whether the application holds requests.
        if record.pending.len() < MAX_PENDING {
            record.pending.push((id, now));
        }
    }

    /// Records that request `id` is answered by this server, so its duration says nothing about the application.
    pub(super) fn withhold(&mut self, key: u64, id: u64) {
        if let Some(record) = self.keys.get_mut(&key) {
            record.pending.retain(|(known, _)| *known != id);
        }
    }

    /// Records the end of request `id` of `client`, which arrived at `since`.
    pub(super) fn leave(&mut self, key: u64, id: u64, client: u64, since: Instant, now: Instant) {
        let Some(record) = self.keys.get_mut(&key) else { return };
        let asked = record.pending.iter().position(|(known, _)| *known == id);
        if let Some(at) = asked {
            record.pending.remove(at);
        }
        record.seen = now;
        record.answered.retain(|(known, _)| *known != client);
        if record.answered.len() >= MAX_ANSWERED
            && let Some((_, when)) = record.answered.pop_front()
        {
            record.forgotten = record.forgotten.max(Some(when));
        }
        record.answered.push_back((client, now));
        if asked.is_some() && record.is_slow(now.saturating_duration_since(since)) {
            record.slow(now);
        }
    }

    /// Records that the application itself has answered a request for `key` completely in `took`.
    pub(super) fn answered(&mut self, key: u64, took: Duration, now: Instant) {
        let Some(record) = self.keys.get_mut(&key) else { return };
        if record.is_slow(took) {
            record.slow(now);
        } else {
            record.usual = if record.quick == 0 { took } else { (record.usual * 3 + took) / 4 };
            record.quick = record.quick.saturating_add(1);
            record.quick_since.get_or_insert(now);
        }
    }
}

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            pending: Vec::new(),
            quick: 0,
            quick_since: None,
            usual: Duration::ZERO,
            slow_until: None,
            answered: VecDeque::new(),
            forgotten: None,
            seen: now,
        }
    }

    /// Returns the usual response time, if responses are prompt and no pending request contradicts that.
    fn usual(&self, now: Instant) -> Option<Duration> {
        let is_slow = self.slow_until.is_some_and(|until| now < until)
            || self.pending.iter().any(|(_, since)| self.is_slow(now.saturating_duration_since(*since)));
        let is_known = self.quick >= ENOUGH && self.quick_since.is_some_and(|since| now >= since + LONG_ENOUGH);
        (is_known && !is_slow).then_some(self.usual)
    }

    fn is_slow(&self, took: Duration) -> bool {
        took > SLOW || self.quick >= ENOUGH && took > limit(self.usual)
    }

    fn slow(&mut self, now: Instant) {
        self.quick = 0;
        self.quick_since = None;
        self.slow_until = Some(now + REMEMBERED);
    }
}

/// Returns the response time above which the application must be holding the request.
fn limit(usual: Duration) -> Duration {
    (usual * 4).max(usual + Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    /// Simulates a request of `client` that the application answers in `took`.
    fn request(traffic: &mut Traffic, id: u64, client: u64, at: Instant, took: Duration) {
        traffic.arrive(1, id, at);
        traffic.answered(1, took, at + took);
        traffic.leave(1, id, client, at, at + took);
    }

    /// Returns traffic with a known response time of 5 ms, and the current time.
    fn known() -> (Traffic, Instant) {
        let (mut traffic, now) = (Traffic::default(), start());
        for id in 0..6 {
            request(&mut traffic, id, id, now + ms(1200 * id), ms(5));
        }
        (traffic, now + ms(7000))
    }

    #[test]
    fn requests_are_concurrent_while_another_is_being_answered_and_answers_are_known_to_be_quick() {
        let (mut traffic, now) = (Traffic::default(), start());
        // Many concurrent requests prove little.
        for id in 0..20 {
            request(&mut traffic, id, id, now + ms(id), ms(5));
            traffic.arrive(1, 100, now + ms(id));
            assert_eq!(traffic.crowd(1, 99, now + ms(id)), Crowd::default());
            traffic.withhold(1, 100);
        }
        let (mut traffic, now) = known();
        let crowd = traffic.crowd(1, 5, now);
        assert_eq!(crowd, Crowd { concurrent: false, usual: Some(ms(5)), answered: Some(now - ms(995)) });
        traffic.arrive(1, 9, now);
        assert!(traffic.crowd(1, 7, now + ms(3)).concurrent);
    }

    #[test]
    fn what_is_held_back_streamed_or_slow_is_not_shared_for_ten_minutes() {
        for slow in [ms(200), ms(600), ms(30_000)] {
            let (mut traffic, at) = known();
            // The request is already being held.
            traffic.arrive(1, 9, at);
            let crowd = traffic.crowd(1, 7, at + slow);
            assert_eq!((crowd.concurrent, crowd.usual), (false, None));
            // Whether it was answered or abandoned does not matter.
            traffic.leave(1, 9, 9, at, at + slow);
            for id in 10..20 {
                let later = at + slow + ms(1000 * id);
                request(&mut traffic, id, id, later, ms(5));
                traffic.arrive(1, 100 + id, later + ms(5));
                assert!(!traffic.crowd(1, 7, later + ms(6)).concurrent, "{slow:?}");
                traffic.withhold(1, 100 + id);
            }
            assert_eq!(traffic.crowd(1, 7, at + slow + ms(590_000)).usual, None);
        }
    }

    #[test]
    fn how_long_we_hold_a_poll_says_nothing_of_the_application() {
        let (mut traffic, now) = known();
        traffic.arrive(1, 9, now);
        traffic.withhold(1, 9);
        assert_eq!(traffic.crowd(1, 7, now + ms(20_000)).usual, Some(ms(5)));
        traffic.leave(1, 9, 9, now, now + ms(20_000));
        assert_eq!(traffic.crowd(1, 7, now + ms(20_000)).usual, Some(ms(5)));
    }

    #[test]
    fn clients_that_are_not_listed_any_more_may_have_been_answered_last() {
        let (mut traffic, now) = (Traffic::default(), start());
        for id in 0..1000 {
            request(&mut traffic, id, id, now + ms(id), ms(0));
        }
        assert_eq!(traffic.crowd(1, 999, now).answered, Some(now + ms(999)));
        let forgotten = now + ms(999 - MAX_ANSWERED as u64);
        assert_eq!(traffic.crowd(1, 5, now).answered, Some(forgotten));
        assert_eq!(traffic.crowd(1, 12_345, now).answered, Some(forgotten));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut traffic, now) = (Traffic::default(), start());
        for key in 0..10_000 {
            for id in 0..20 {
                traffic.arrive(key, id, now);
            }
        }
        assert!(traffic.keys.len() <= MAX_KEYS);
        assert!(traffic.keys.values().all(|record| record.pending.len() <= MAX_PENDING));
    }
}
