//! What happened last, for the dashboard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Something that happened to a resource.
#[derive(Clone, Debug)]
pub struct Event {
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
    pub kind: &'static str,
    /// Why, in words.
    pub reason: String,
    /// Why the fetch was made that showed it.
    pub trigger: &'static str,
    /// What the upstream answered, if it did.
    pub status: Option<u16>,
    /// The size of the body, if there was one.
    pub bytes: Option<usize>,
    /// How long the fetch took.
    pub took: Duration,
}

/// As many as anybody reads.
const MAX_ENTRIES: usize = 64;

/// The last happenings of the process. Bounded, whatever goes on.
#[derive(Debug, Default)]
pub(super) struct EventLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<Event>,
    count: u64,
}

impl EventLog {
    pub(super) fn push(&self, mut happening: Event) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        happening.number = kept.count;
        if kept.last.len() >= MAX_ENTRIES {
            kept.last.pop_front();
        }
        kept.last.push_back(happening);
    }

    /// The newest first.
    pub(super) fn read(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.iter().rev().cloned().collect()
    }
}
