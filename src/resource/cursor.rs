//! Where a subscriber stands, and what it is to be told next.

use super::{Condition, Head};
use crate::model::{Claim, Update};

/// A place in a resource's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The position that the client is current with; 0 before anything was sent.
    at: u64,
    /// Whether the client was last told that the upstream cannot be read.
    told_stale: bool,
}

impl Cursor {
    /// The cursor of a client that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cursor of a client that says what it holds, as far as `head` can tell what that is.
    ///
    /// A version with the newest meaning counts as current even if its bytes are not at hand: only ignored parts can
    /// differ. One that history does not know counts as nothing.
    pub fn resume(claim: &Claim, head: &Head) -> Self {
        let at = match head.newest() {
            Some(newest) if claim.is_meaning_of(&newest.version) => newest.version.position,
            _ => head.history.find(claim).map_or(0, |snapshot| snapshot.version.position),
        };
        Self { at, told_stale: false }
    }

    /// The position that the client is current with; 0 if it holds nothing.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The next thing to tell the client, or `None` if it knows all of `head`. The cursor then stands behind it.
    ///
    /// However many versions were missed, the answer is one update: the newest state.
    pub fn next(&mut self, head: &Head) -> Option<Update> {
        match &head.condition {
            Condition::Ended(ended) => return Some(Update::End(ended.reason())),
            Condition::Live if self.told_stale => {
                self.told_stale = false;
                return Some(Update::Live);
            }
            _ => {}
        }
        if self.at < head.since
            && let Some(newest) = head.newest()
        {
            self.at = newest.version.position;
            return Some(Update::Snapshot(newest.clone()));
        }
        if let Condition::Stale { since, status } = head.condition
            && !self.told_stale
        {
            self.told_stale = true;
            return Some(Update::Stale { since, status });
        }
        None
    }
}
