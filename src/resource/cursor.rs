//! Where a subscriber stands, and what it is to be told next.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::{ResourceState, ResourceStatus, patch};
use crate::model::{BodyForm, DeltaKind, DeltaRequest, ResumeFrom, Snapshot, Update, Version};

/// A place in a resource's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The position that the client is current with; 0 before anything was sent.
    at: u64,
    /// Whose exact content the client holds, if that is known: the position here, and the version as the client knows it,
    /// perhaps from another process. It may be current with a later one that differs only in ignored parts.
    holds: Option<(u64, Version)>,
    /// Whether we only have its own word for that.
    claimed: bool,
    /// Up to which position it is being led step by step.
    led_to: u64,
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
    pub fn resume(claim: &ResumeFrom, head: &ResourceState) -> Self {
        let found = head.history.find(claim).map(|snapshot| snapshot.version.position);
        let at = match head.newest() {
            Some(newest) if claim.matches_meaning(&newest.version) => newest.version.position,
            _ => found.unwrap_or(0),
        };
        // A patch names its base as the client does, and that only a whole version tells.
        let holds = match claim {
            ResumeFrom::Version(version) => found.map(|position| (position, *version)),
            ResumeFrom::Content(_) => None,
        };
        Self { at, holds, claimed: true, ..Self::default() }
    }

    /// Takes in what the client says it holds. What it has been told since stays told.
    pub fn take_up(&mut self, claim: &ResumeFrom, head: &ResourceState) {
        *self = Self { told_stale: self.told_stale, ..Self::resume(claim, head) };
    }

    /// The position that the client is current with; 0 if it holds nothing.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The client is told that the upstream cannot be read, whatever heads say, unless it has been told.
    pub fn stale(&mut self, since: SystemTime, status: Option<u16>) -> Option<Update> {
        (!std::mem::replace(&mut self.told_stale, true)).then_some(Update::Stale { since, status })
    }

    /// The next thing to tell the client, which may wish for deltas, or `None` if it knows all of `head`. The cursor then stands behind it.
    ///
    /// However many versions were missed, the answer leads to the newest state: by a patch from what the client holds, or
    /// several where those are at hand and smaller together, or by saying all of it.
    pub fn next(&mut self, head: &ResourceState, ask: Option<DeltaRequest>) -> Option<Update> {
        match &head.status {
            ResourceStatus::Ended(ended) => return Some(Update::End(ended.reason())),
            ResourceStatus::Live if self.told_stale => {
                self.told_stale = false;
                return Some(Update::Live);
            }
            _ => {}
        }
        if self.at < head.meaning_position
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
        self.stale_head(head)
    }

    /// The same where no state may be told: only that the upstream cannot be read, if it cannot and the client does not know.
    pub fn stale_head(&mut self, head: &ResourceState) -> Option<Update> {
        let ResourceStatus::Stale { since, status } = head.status else { return None };
        self.stale(since, status)
    }

    /// The first patch on the cheapest way from what the client holds to `newest`; `None` if that is a snapshot.
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

/// Whether a client that got `base` in some way holds it in the very form to which a patch for `ask` applies. Text that
/// came as a response of its own has the line ends that it was sent with, text that came in events has others.
fn is_held_as_told(base: &Snapshot, ask: DeltaRequest) -> bool {
    (ask.kind, ask.form) != (DeltaKind::Splice, BodyForm::Data) || !base.representation.body.contains(&b'\r')
}
