//! Plain requests that are being answered, and how the application has answered the last of their kind.
//!
//! One fetch may answer several requests only where that cannot be noticed: they are under way at the same time, and the
//! application answers what they ask for at once and whole. An application that holds requests until it has something to
//! say, streams its answers, or is slow, is asked by each client itself.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// The requests for some keys, by the keys' hashes. What is not known here is not shared.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    keys: HashMap<u64, Record>,
}

#[derive(Debug)]
struct Record {
    /// Requests that the application has not answered yet, and since when.
    pending: Vec<(u64, Instant)>,
    /// Answers in a row that were quick.
    quick: u32,
    /// How long these took.
    usual: Duration,
    /// Until when it is known for being slow.
    slow_until: Option<Instant>,
    /// When which client was last answered, oldest first.
    answered: VecDeque<(u64, Instant)>,
    /// When the last of those clients was answered that are not listed any more.
    forgotten: Option<Instant>,
    seen: Instant,
}

/// What is known of the requests for one key when another arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Whether another request for it is being answered at this moment.
    pub concurrent: bool,
    /// How long the application usually takes, if it answers quickly.
    pub usual: Option<Duration>,
    /// When this client was last answered, or may have been.
    pub answered: Option<Instant>,
}

const MOST_KEYS: usize = 64;
const MOST_PENDING: usize = 64;
const MOST_ANSWERED: usize = 512;

/// What takes longer is slow, whatever is usual.
const SLOW: Duration = Duration::from_millis(500);

/// So many quick answers in a row are needed.
const ENOUGH: u32 = 2;

/// How long it is remembered that an answer was slow, and anything at all.
const REMEMBERED: Duration = Duration::from_secs(600);

impl Traffic {
    /// What is known of the requests for `key` when `client` asks.
    pub(super) fn crowd(&self, key: u64, client: u64, now: Instant) -> Crowd {
        let Some(record) = self.keys.get(&key) else { return Crowd::default() };
        let usual = record.usual(now);
        let young = record.pending.iter().any(|(_, since)| usual.is_some_and(|usual| *since + limit(usual) > now));
        let answered = record.answered.iter().rev().find(|(known, _)| *known == client).map(|(_, when)| *when);
        Crowd { concurrent: young, usual, answered: answered.or(record.forgotten) }
    }

    /// A request for `key` has arrived. `id` is its own.
    pub(super) fn arrive(&mut self, key: u64, id: u64, now: Instant) {
        if self.keys.len() >= MOST_KEYS && !self.keys.contains_key(&key) {
            self.keys.retain(|_, record| !record.pending.is_empty() && now < record.seen + REMEMBERED);
            if self.keys.len() >= MOST_KEYS {
                return;
            }
        }
        let record = self.keys.entry(key).or_insert_with(|| Record::new(now));
        if now > record.seen + REMEMBERED {
            *record = Record::new(now);
        }
        record.seen = now;
        // Of too many, the oldest say most: whether the application holds them.
        if record.pending.len() < MOST_PENDING {
            record.pending.push((id, now));
        }
    }

    /// The request `id` is answered by us, sooner or later: that says nothing of the application.
    pub(super) fn withhold(&mut self, key: u64, id: u64) {
        if let Some(record) = self.keys.get_mut(&key) {
            record.pending.retain(|(known, _)| *known != id);
        }
    }

    /// The request `id` of `client`, which arrived at `since`, is over, however it ended.
    pub(super) fn leave(&mut self, key: u64, id: u64, client: u64, since: Instant, now: Instant) {
        let Some(record) = self.keys.get_mut(&key) else { return };
        let asked = record.pending.iter().position(|(known, _)| *known == id);
        if let Some(at) = asked {
            record.pending.remove(at);
        }
        record.seen = now;
        record.answered.retain(|(known, _)| *known != client);
        if record.answered.len() >= MOST_ANSWERED
            && let Some((_, when)) = record.answered.pop_front()
        {
            record.forgotten = record.forgotten.max(Some(when));
        }
        record.answered.push_back((client, now));
        if asked.is_some() && record.is_slow(now.saturating_duration_since(since)) {
            record.slow(now);
        }
    }

    /// The application has answered a request for `key` itself, whole, in `took`.
    pub(super) fn answered(&mut self, key: u64, took: Duration, now: Instant) {
        let Some(record) = self.keys.get_mut(&key) else { return };
        if record.is_slow(took) {
            record.slow(now);
        } else {
            record.usual = if record.quick == 0 { took } else { (record.usual * 3 + took) / 4 };
            record.quick += 1;
        }
    }
}

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            pending: Vec::new(),
            quick: 0,
            usual: Duration::ZERO,
            slow_until: None,
            answered: VecDeque::new(),
            forgotten: None,
            seen: now,
        }
    }

    /// How long answers take, if they are quick, and none of the requests under way says otherwise.
    fn usual(&self, now: Instant) -> Option<Duration> {
        let is_slow = self.slow_until.is_some_and(|until| now < until)
            || self.pending.iter().any(|(_, since)| self.is_slow(now.saturating_duration_since(*since)));
        (self.quick >= ENOUGH && !is_slow).then_some(self.usual)
    }

    fn is_slow(&self, took: Duration) -> bool {
        took > SLOW || self.quick >= ENOUGH && took > limit(self.usual)
    }

    fn slow(&mut self, now: Instant) {
        self.quick = 0;
        self.slow_until = Some(now + REMEMBERED);
    }
}

/// What takes longer than this, where so much is usual, is held back for a reason.
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

    /// A request of `client` that the application answers in `took`.
    fn request(traffic: &mut Traffic, id: u64, client: u64, at: Instant, took: Duration) {
        traffic.arrive(1, id, at);
        traffic.answered(1, took, at + took);
        traffic.leave(1, id, client, at, at + took);
    }

    #[test]
    fn requests_are_concurrent_while_another_is_being_answered_and_answers_are_known_to_be_quick() {
        let (mut traffic, now) = (Traffic::default(), start());
        traffic.arrive(1, 1, now);
        assert_eq!(traffic.crowd(1, 7, now + ms(1)), Crowd::default(), "nothing is known of it");
        traffic.answered(1, ms(10), now + ms(10));
        traffic.leave(1, 1, 7, now, now + ms(10));
        request(&mut traffic, 2, 8, now + ms(100), ms(10));
        let crowd = traffic.crowd(1, 7, now + ms(200));
        assert_eq!(crowd, Crowd { concurrent: false, usual: Some(ms(10)), answered: Some(now + ms(10)) });
        traffic.arrive(1, 3, now + ms(300));
        assert!(traffic.crowd(1, 7, now + ms(305)).concurrent);
    }

    #[test]
    fn what_is_held_back_streamed_or_slow_is_not_shared_for_ten_minutes() {
        for slow in [ms(200), ms(600), ms(30_000)] {
            let (mut traffic, now) = (Traffic::default(), start());
            for id in 0..5 {
                request(&mut traffic, id, id, now + ms(100 * id), ms(5));
            }
            // While it is being held back already.
            let at = now + ms(1000);
            traffic.arrive(1, 9, at);
            let crowd = traffic.crowd(1, 7, at + slow);
            assert_eq!((crowd.concurrent, crowd.usual), (false, None));
            // Whether it was answered, or given up.
            traffic.leave(1, 9, 9, at, at + slow);
            for id in 10..15 {
                request(&mut traffic, id, id, at + slow + ms(id), ms(5));
                traffic.arrive(1, 100 + id, at + slow + ms(id));
                assert!(!traffic.crowd(1, 7, at + slow + ms(id + 1)).concurrent, "{slow:?}");
            }
            assert_eq!(traffic.crowd(1, 7, at + slow + ms(590_000)).usual, None);
        }
    }

    #[test]
    fn how_long_we_hold_a_poll_says_nothing_of_the_application() {
        let (mut traffic, now) = (Traffic::default(), start());
        for id in 0..3 {
            request(&mut traffic, id, id, now, ms(5));
        }
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
        let forgotten = now + ms(999 - MOST_ANSWERED as u64);
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
        assert!(traffic.keys.len() <= MOST_KEYS);
        assert!(traffic.keys.values().all(|record| record.pending.len() <= MOST_PENDING));
    }
}
