//! The published state of a resource.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Decline, History, Refusal};
use crate::model::{EndReason, ResumeFrom, Snapshot, Version};
use crate::probe::NoisePart;

/// When a fetch began and when its response was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchTimes {
    /// When the request was sent.
    pub started: Instant,
    /// When the response was complete.
    pub finished: Instant,
}

/// Whether the upstream can be read.
#[derive(Clone, Debug)]
pub enum ResourceStatus {
    /// There was no fetch yet.
    Unknown,
    /// The last fetch succeeded.
    Live,
    /// The last fetch failed.
    Stale {
        /// Since when fetches have failed.
        since: SystemTime,
        /// The status of the response, if there was one.
        status: Option<u16>,
    },
    /// The watch has ended. This resource does not recover; another one may take its place under the same key.
    Ended(Ended),
}

/// The reason why a watch ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The upstream refused.
    Refused(Arc<Refusal>),
    /// The response may not be watched.
    Declined(Decline),
    /// This server ended the watch.
    Closed(EndReason),
}

impl Ended {
    /// Returns the reason that an open stream receives.
    pub fn reason(&self) -> EndReason {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Declined(decline) => decline.reason(),
            Self::Closed(reason) => *reason,
        }
    }
}

/// An immutable view of a resource, replaced as a whole whenever a fetch ends.
#[derive(Clone, Debug)]
pub struct ResourceState {
    /// The last versions.
    pub history: History,
    /// The position at which the newest meaning first appeared. A client at this position or later is up to date,
    /// because versions since then differ only in ignored parts.
    pub meaning_position: u64,
    /// Whether the upstream can be read.
    pub status: ResourceStatus,
    /// The last fetch that succeeded: the newest version is what the upstream had at `started`, or later.
    pub last_success: Option<FetchTimes>,
    /// When the last fetch, good or bad, was sent.
    pub last_attempt: Option<Instant>,
    /// Advice for operators about the way in which this resource changes.
    pub advice: Option<Arc<str>>,
    /// The learned noise.
    pub noise: Arc<[NoisePart]>,
    /// The position at which noise last changed; 0 if it never did.
    pub noise_position: u64,
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
            noise: Arc::default(),
            noise_position: 0,
        }
    }
}

impl ResourceState {
    /// Whether parts of it change by themselves, so that what is known of those parts is soon too old to be shown.
    pub fn is_noisy(&self) -> bool {
        !self.noise.is_empty()
    }

    /// Returns the newest version.
    pub fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.newest()
    }

    /// Returns the newest version, if the upstream is known to have had it at `when` or later.
    pub fn current_as_of(&self, when: Instant) -> Option<&Arc<Snapshot>> {
        match self.status {
            ResourceStatus::Live => self.last_success.filter(|fetched| fetched.started >= when).and(self.newest()),
            _ => None,
        }
    }

    /// Returns whether the state that a client says it holds is known not to be newer than this state: it has the
    /// newest meaning, or is a version of this process. Contents may recur, and positions are valid in one process
    /// only.
    pub fn knows(&self, claim: &ResumeFrom) -> bool {
        let is_newest = |newest: &Version| claim.matches_meaning(newest) || claim.matches_content(newest);
        let is_own =
            |held: &Version| self.history.at(held.position).is_some_and(|known| claim.matches_content(&known.version));
        self.newest().is_some_and(|newest| is_newest(&newest.version))
            || matches!(claim, ResumeFrom::Version(held) if is_own(held))
    }

    /// Returns whether a fetch that began at `when` or later has been made, with any outcome, or none ever will be.
    pub fn attempted_since(&self, when: Instant) -> bool {
        self.ended().is_some() || self.last_attempt.is_some_and(|tried| tried >= when)
    }

    /// Returns why the watch ended, if it did.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.status {
            ResourceStatus::Ended(ended) => Some(ended),
            _ => None,
        }
    }
}
