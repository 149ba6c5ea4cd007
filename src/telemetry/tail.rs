//! What happened last, for the dashboard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Something that happened to a resource.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Counts up by one from happening to happening.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// The pattern of its route.
    pub route: Arc<str>,
    /// The resource's short name.
    pub resource: String,
    /// Its path and query.
    pub url: Arc<str>,
    /// What: `first`, `changed`, `stale`, `live` or `ended`.
    pub what: &'static str,
    /// Why, in words.
    pub because: String,
    /// Why the look was made that showed it.
    pub trigger: &'static str,
    /// What the upstream answered, if it did.
    pub status: Option<u16>,
    /// The size of the body, if there was one.
    pub bytes: Option<usize>,
    /// How long the look took.
    pub took: Duration,
}

/// As many as anybody reads.
const MOST: usize = 64;

/// The last happenings of the process. Bounded, whatever goes on.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<Happening>,
    count: u64,
}

impl Tail {
    pub(super) fn push(&self, mut happening: Happening) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        happening.number = kept.count;
        if kept.last.len() >= MOST {
            kept.last.pop_front();
        }
        kept.last.push_back(happening);
    }

    /// The newest first.
    pub(super) fn read(&self) -> Vec<Happening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.iter().rev().cloned().collect()
    }
}
