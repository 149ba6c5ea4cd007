//! What is kept on record of a look.

use std::time::{Duration, SystemTime};

use super::{Look, Trigger};

/// One look, as the admin API tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
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
    pub because: String,
}

impl Entry {
    /// What is known of a look before it is judged.
    pub fn of(look: &Look, trigger: Trigger) -> Self {
        Self {
            at: look.at,
            took: look.finished.saturating_duration_since(look.started),
            trigger,
            status: look.outcome.status(),
            bytes: look.outcome.bytes(),
            result: "",
            because: String::new(),
        }
    }
}
