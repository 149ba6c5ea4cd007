//! The log of a resource's fetches.

use std::time::{Duration, SystemTime};

use super::{CompletedFetch, Trigger};

/// One fetch in the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchLogEntry {
    /// When the response was complete.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The trigger.
    pub trigger: Trigger,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// The size of the decoded body, if there was one.
    pub bytes: Option<usize>,
    /// The verdict: `changed`, `unchanged`, `not_modified`, `error`, `overtaken` or `ended`.
    pub result: &'static str,
    /// The reason for the verdict.
    pub reason: String,
}

impl FetchLogEntry {
    /// Creates the entry of a fetch before its verdict is known.
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
