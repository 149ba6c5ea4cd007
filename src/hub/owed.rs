//! What looks took away, for those who ask for it themselves.
//!
//! Some applications hand something out to whoever asks and have it no more, or count who asks. That they do is found out by
//! looking, and what was found belongs to the client whose next request would have been given it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::{Representation, ResourceKey};

/// Answers in the order in which they came, each for one request. Bounded: the oldest goes first.
#[derive(Debug, Default)]
pub(super) struct Owed {
    answers: Mutex<VecDeque<Debt>>,
    /// Asked by each request that is passed on.
    any: AtomicBool,
}

#[derive(Debug)]
struct Debt {
    key: ResourceKey,
    answer: Representation,
    since: Instant,
}

const MOST: usize = 64;

/// Bytes of all bodies.
const MOST_BYTES: usize = 8 << 20;

/// A page that has not asked for so long has gone.
const LAPSE: Duration = Duration::from_secs(60);

impl Owed {
    /// The next requests for `key` are to be given these.
    pub(super) fn owe(&self, key: &ResourceKey, found: Vec<Representation>, now: Instant) {
        let mut answers = self.answers.lock();
        answers.extend(found.into_iter().map(|answer| Debt { key: key.clone(), answer, since: now }));
        while answers.len() > MOST || answers.iter().map(|debt| debt.answer.body.len()).sum::<usize>() > MOST_BYTES {
            answers.pop_front();
        }
        self.any.store(!answers.is_empty(), Ordering::Release);
    }

    /// What a request for `key` is to be given, if there is something; it is given to nobody else.
    pub(super) fn take(&self, key: &ResourceKey, now: Instant) -> Option<Representation> {
        let mut answers = self.answers.lock();
        answers.retain(|debt| now.saturating_duration_since(debt.since) < LAPSE);
        let taken = answers.iter().position(|debt| debt.key == *key).and_then(|at| answers.remove(at));
        self.any.store(!answers.is_empty(), Ordering::Release);
        taken.map(|debt| debt.answer)
    }

    /// Whether anybody is owed anything.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}
