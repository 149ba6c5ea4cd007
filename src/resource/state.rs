//! What everybody sees of a resource at one moment.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Decline, History, Refusal};
use crate::model::{EndReason, ResumeFrom, Snapshot, Version};

/// When a fetch began and when its answer was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchTimes {
    /// When the request was sent.
    pub started: Instant,
    /// When the answer was complete.
    pub finished: Instant,
}

/// Whether the upstream can be read.
#[derive(Clone, Debug)]
pub enum ResourceStatus {
    /// Nobody has fetched yet.
    Unknown,
    /// The last fetch succeeded.
    Live,
    /// The last fetch failed.
    Stale {
        /// Since when fetches have been failing.
        since: SystemTime,
        /// What the upstream answered, if it did.
        status: Option<u16>,
    },
    /// The watch is over; the resource will not come back to life, another under the same key may take its place.
    Ended(Ended),
}

/// Why a watch is over.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The upstream refused.
    Refused(Arc<Refusal>),
    /// The answer may not be watched.
    Declined(Decline),
    /// We ended it ourselves.
    Closed(EndReason),
}

impl Ended {
    /// What an open stream is told.
    pub fn reason(&self) -> EndReason {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Declined(decline) => decline.reason(),
            Self::Closed(reason) => *reason,
        }
    }
}

/// An immutable view: replaced as a whole whenever a fetch ends.
#[derive(Clone, Debug)]
pub struct ResourceState {
    /// The last versions.
    pub history: History,
    /// The position at which the newest meaning first appeared. Whoever stands there or later has nothing to be told:
    /// versions since then differ only in parts whose change alone is no change.
    pub meaning_position: u64,
    /// Whether the upstream can be read.
    pub status: ResourceStatus,
    /// The last fetch that succeeded: the newest version is what the upstream had at `started`, or later.
    pub last_success: Option<FetchTimes>,
    /// When the last fetch, good or bad, was sent.
    pub last_attempt: Option<Instant>,
    /// What an operator should know of how this resource changes.
    pub advice: Option<Arc<str>>,
}

impl Default for ResourceState {
    fn default() -> Self {
        Self {
            history: History::default(),
            meaning_position: 0,
            status: ResourceStatus::Unknown,
            last_success: None,
            last_attempt: None,
            advice: None,
        }
    }
}

impl ResourceState {
    /// The newest version.
    pub fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.newest()
    }

    /// The newest version, if it is known to be what the upstream had at `when` or later.
    pub fn current_as_of(&self, when: Instant) -> Option<&Arc<Snapshot>> {
        match self.status {
            ResourceStatus::Live => self.last_success.filter(|fetched| fetched.started >= when).and(self.newest()),
            _ => None,
        }
    }

    /// Whether what a client says that it holds is known to be no newer than all that is here: it is the newest meaning, or
    /// a version that this process gave it. Contents come back, and positions count in one process alone.
    pub fn knows(&self, claim: &ResumeFrom) -> bool {
        let is_newest = |newest: &Version| claim.matches_meaning(newest) || claim.matches_content(newest);
        let is_own =
            |held: &Version| self.history.at(held.position).is_some_and(|known| claim.matches_content(&known.version));
        self.newest().is_some_and(|newest| is_newest(&newest.version))
            || matches!(claim, ResumeFrom::Version(held) if is_own(held))
    }

    /// Whether a fetch has been made, with whatever outcome, that began at `when` or later, or none ever will be.
    pub fn attempted_since(&self, when: Instant) -> bool {
        self.ended().is_some() || self.last_attempt.is_some_and(|tried| tried >= when)
    }

    /// Why the watch is over, if it is.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.status {
            ResourceStatus::Ended(ended) => Some(ended),
            _ => None,
        }
    }
}
