//! The last events, for the dashboard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// An event of a resource.
#[derive(Clone, Debug)]
pub struct Event {
    /// The sequence number of the event.
    pub number: u64,
    /// When it happened.
    pub at: SystemTime,
    /// The pattern of the resource's route.
    pub route: Arc<str>,
    /// The resource's short name.
    pub resource: String,
    /// The path and query of the resource.
    pub url: Arc<str>,
    /// The kind: `first`, `changed`, `stale`, `live` or `ended`.
    pub kind: &'static str,
    /// The reason, in words.
    pub reason: String,
    /// The trigger of the fetch that caused it.
    pub trigger: &'static str,
    /// The status of the upstream's response, if there was one.
    pub status: Option<u16>,
    /// The size of the body, if there was one.
    pub bytes: Option<usize>,
    /// How long the fetch took.
    pub took: Duration,
}

/// The maximum number of events.
const MAX_ENTRIES: usize = 64;

/// The last events of the process. Bounded.
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

    /// Returns the events, newest first.
    pub(super) fn read(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.iter().rev().cloned().collect()
    }
}
