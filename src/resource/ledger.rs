//! What is kept on record of a look.

use std::time::{Duration, SystemTime};

use super::Trigger;

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
    /// What it meant: `changed`, `unchanged`, `not_modified`, `error` or `ended`.
    pub result: &'static str,
    /// Why it was or was not a change.
    pub because: String,
}
