//! What was polled lately, in a fixed amount of memory.

use tokio::time::Instant;

const SLOTS: usize = 256;

/// The last poll of each of a few hundred keys, by the keys' hashes. Where two hashes meet in one slot the newer wins,
/// so that at worst a repetition goes unnoticed.
#[derive(Debug)]
pub(super) struct Recent {
    slots: Box<[Option<(u64, Instant)>]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS].into() }
    }
}

impl Recent {
    /// Notes a poll of the key with this hash, and returns when the one before came, if that is still known.
    pub(super) fn note(&mut self, hash: u64, now: Instant) -> Option<Instant> {
        let slot = &mut self.slots[hash as usize % SLOTS];
        let before = slot.filter(|(known, _)| *known == hash).map(|(_, when)| when);
        *slot = Some((hash, now));
        before
    }
}
