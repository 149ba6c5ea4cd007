//! What is kept on record of a fetch.

use std::time::{Duration, SystemTime};

use super::{CompletedFetch, Trigger};

/// One fetch, as the admin API tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchLogEntry {
    /// When its answer was complete.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Why it was made.
    pub trigger: Trigger,
    /// What the upstream answered, if it did.
    pub status: Option<u16>,
    /// The size of the decoded body, if there was one.
    pub bytes: Option<usize>,
    /// What it meant: `changed`, `unchanged`, `not_modified`, `error`, `overtaken` or `ended`.
    pub result: &'static str,
    /// Why it was or was not a change.
    pub reason: String,
}

impl FetchLogEntry {
    /// What is known of a fetch before it is judged.
    pub fn from_fetch(fetch: &CompletedFetch, trigger: Trigger) -> Self {
        Self {
            at: fetch.at,
            took: fetch.finished.saturating_duration_since(fetch.started),
            trigger,
            status: fetch.outcome.status(),
            bytes: fetch.outcome.bytes(),
            result: "",
            reason: String::new(),
        }
    }
}
