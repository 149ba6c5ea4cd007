//! The position of a subscriber in a history, and the next update for it.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::{ResourceState, ResourceStatus, patch};
use crate::model::{BodyForm, DeltaKind, DeltaRequest, ResumeFrom, Snapshot, Update, Version};

/// A position in a resource's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The position that the client is current with; 0 before anything was sent.
    at: u64,
    /// The version that the client holds exactly, if known: its position here, and the version as the client knows it,
    /// perhaps from another process. The client may be current with a later version that differs only in ignored parts.
    holds: Option<(u64, Version)>,
    /// Whether only the client itself claims to hold it.
    claimed: bool,
    /// The position up to which the client is led patch by patch.
    led_to: u64,
    /// Whether the last message told the client that the upstream cannot be read.
    told_stale: bool,
}

impl Cursor {
    /// Creates the cursor of a client that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the cursor of a client from the state that it says it holds, as far as `head` knows that state.
    ///
    /// A version with the newest meaning counts as current even if its bytes are unknown, since only ignored parts can
    /// differ. A version that the history does not contain counts as nothing.
    pub fn resume(claim: &ResumeFrom, head: &ResourceState) -> Self {
        let found = head.history.find(claim).map(|snapshot| snapshot.version.position);
        let at = match head.newest() {
            Some(newest) if claim.matches_meaning(&newest.version) => newest.version.position,
            _ => found.unwrap_or(0),
        };
        // A patch names its base as the client does, which requires a full version.
        let holds = match claim {
            ResumeFrom::Version(version) => found.map(|position| (position, *version)),
            ResumeFrom::Content(_) => None,
        };
        Self { at, holds, claimed: true, ..Self::default() }
    }

    /// Applies the state that the client says it holds. Earlier messages still count.
    pub fn take_up(&mut self, claim: &ResumeFrom, head: &ResourceState) {
        *self = Self { told_stale: self.told_stale, ..Self::resume(claim, head) };
    }

    /// Returns the position that the client is current with; 0 if it holds nothing.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Returns the message that the upstream cannot be read, independent of the resource state, unless the client was
    /// told already.
    pub fn stale(&mut self, since: SystemTime, status: Option<u16>) -> Option<Update> {
        (!std::mem::replace(&mut self.told_stale, true)).then_some(Update::Stale { since, status })
    }

    /// Returns the next update for the client, which may request deltas, and advances the cursor. Returns `None` if the
    /// client is current with `head`.
    ///
    /// However many versions were missed, the updates lead to the newest state: by one patch from the client's version,
    /// by several existing patches if they are smaller together, or by a snapshot.
    pub fn next(&mut self, head: &ResourceState, ask: Option<DeltaRequest>) -> Option<Update> {
        match &head.status {
            ResourceStatus::Ended(ended) => return Some(Update::End(ended.reason())),
            ResourceStatus::Live if self.told_stale => {
                self.told_stale = false;
                return Some(Update::Live);
            }
            _ => {}
        }
        self.lead_to(head, ask, head.meaning_position).or_else(|| self.stale_head(head))
    }

    /// Returns the newest version, if the client's state differs from it in noise.
    pub fn next_noise(&mut self, head: &ResourceState, ask: Option<DeltaRequest>) -> Option<Update> {
        let is_live = matches!(head.status, ResourceStatus::Live) && !self.told_stale;
        is_live.then(|| self.lead_to(head, ask, head.noise_position)).flatten()
    }

    /// Returns the next step towards the newest version, if the client is not current with the version at `position`.
    fn lead_to(&mut self, head: &ResourceState, ask: Option<DeltaRequest>, position: u64) -> Option<Update> {
        if self.at < position
            && let Some(newest) = head.newest()
        {
            let update = ask
                .and_then(|ask| self.patch(head, newest, ask))
                .unwrap_or_else(|| Update::Snapshot(Arc::clone(newest)));
            if let Update::Snapshot(snapshot) | Update::Patch { snapshot, .. } = &update {
                self.at = snapshot.version.position;
                self.holds = Some((self.at, snapshot.version));
                self.claimed = false;
            }
            return Some(update);
        }
        None
    }

    /// Returns only `stale` updates, for a client that must not receive the state.
    pub fn stale_head(&mut self, head: &ResourceState) -> Option<Update> {
        let ResourceStatus::Stale { since, status } = head.status else { return None };
        self.stale(since, status)
    }

    /// Returns the first patch on the cheapest path from the client's version to `newest`; `None` if a snapshot is
    /// cheapest.
    fn patch(&mut self, head: &ResourceState, newest: &Arc<Snapshot>, ask: DeltaRequest) -> Option<Update> {
        let (position, called) = self.holds?;
        let base = head.history.at(position)?;
        if self.claimed && !is_held_as_told(base, ask) {
            return None;
        }
        let steps = head.history.after(position);
        let first = steps.first()?;
        let update = |snapshot: &Arc<Snapshot>, patch| Update::Patch {
            base: base.version,
            client_base: called,
            snapshot: Arc::clone(snapshot),
            delta: ask.kind,
            patch,
        };
        if first.version.position <= self.led_to
            && let Some(patch) = patch::known(base, first, ask)
        {
            return Some(update(first, patch));
        }
        let direct = patch::patch(base, newest, ask);
        let chain = std::iter::once(base)
            .chain(steps)
            .zip(steps)
            .map(|(base, target)| Some(patch::known(base, target, ask)?.len()))
            .sum::<Option<usize>>();
        let most = direct.as_ref().map_or(newest.weight(), Bytes::len);
        if steps.len() > 1 && chain.is_some_and(|chain| chain < most) {
            self.led_to = newest.version.position;
            return Some(update(first, patch::known(base, first, ask)?));
        }
        Some(update(newest, direct?))
    }
}

/// Returns whether a client that received `base` holds it in the form to which a patch for `ask` applies. Text in a
/// plain response keeps its line ends, but text in events does not.
fn is_held_as_told(base: &Snapshot, ask: DeltaRequest) -> bool {
    (ask.kind, ask.form) != (DeltaKind::Splice, BodyForm::Data) || !base.representation.body.contains(&b'\r')
}
