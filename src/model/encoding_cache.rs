//! A cache of encoded forms of a snapshot and of patches that lead to it. Each is computed on first demand and once
//! only.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::{DeltaKind, DeltaRequest, Frame};

/// Identifies one encoded form: the stream format and, for a patch, its base position and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingKey {
    /// The name of the form.
    pub form: &'static str,
    /// `None` for the whole body.
    pub delta: Option<(u64, DeltaKind)>,
}

/// Identifies one patch document: its base and the kind of client that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchKey {
    /// The position of the base version.
    pub base: u64,
    /// The kind of the patch, and the form in which clients hold the base.
    pub ask: DeltaRequest,
}

/// Small tables of encodings. The first caller computes a value; concurrent callers wait for it and share it.
#[derive(Default)]
pub struct EncodingCache {
    forms: Table<EncodingKey, Frame>,
    patches: Table<PatchKey, Option<Bytes>>,
}

/// The maximum number of forms. A snapshot needs only a handful, and deltas from many bases must not accumulate.
const MAX_FORMS: usize = 32;

impl EncodingCache {
    /// Returns the form `key`, encoding it on first use.
    pub fn form(&self, key: EncodingKey, encode: impl FnOnce() -> Frame) -> Frame {
        // Most clients want the whole body, so deltas are evicted first and recomputed if needed.
        self.forms.get(key, |known| known.delta.is_some(), encode)
    }

    /// Returns the patch `key`, computing it on first use. `None` is cached too: it means that no patch is worth
    /// sending.
    pub fn patch(&self, key: PatchKey, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        self.patches.get(key, |_| true, make)
    }

    /// Returns the patch `key` if it was computed before and exists.
    pub fn known_patch(&self, key: PatchKey) -> Option<Bytes> {
        self.patches.known(key).flatten()
    }

    /// Removes everything except the patches that `keep` accepts. Frames being written stay alive until they are
    /// written.
    pub fn evict(&self, keep: impl Fn(&PatchKey, &Bytes) -> bool) {
        self.forms.retain(|_, _| false);
        self.patches.retain(|key, patch| patch.as_ref().is_some_and(|patch| keep(key, patch)));
    }
}

impl fmt::Debug for EncodingCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

/// A small table of values that are computed on first demand.
struct Table<K, V>(Mutex<Vec<(K, Slot<V>)>>);

type Slot<V> = Arc<OnceLock<V>>;

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + PartialEq, V: Clone> Table<K, V> {
    /// Returns the value of `key`. If the table is full, it evicts the oldest `minor` entry, or else the oldest entry.
    fn get(&self, key: K, minor: impl Fn(&K) -> bool, make: impl FnOnce() -> V) -> V {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match slots.iter().find(|(known, _)| *known == key) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    if slots.len() >= MAX_FORMS {
                        let oldest = slots.iter().position(|(known, _)| minor(known));
                        slots.remove(oldest.unwrap_or(0));
                    }
                    let slot = Slot::default();
                    slots.push((key, Arc::clone(&slot)));
                    slot
                }
            }
        };
        slot.get_or_init(make).clone()
    }

    fn known(&self, key: K) -> Option<V> {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().find(|(known, _)| *known == key)?.1.get().cloned()
    }

    fn retain(&self, keep: impl Fn(&K, &V) -> bool) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(key, slot)| slot.get().is_some_and(|value| keep(key, value)));
    }
}
