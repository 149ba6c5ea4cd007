//! What is made of a snapshot on demand, each made once: encoded forms, and patches that lead to it.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::{DeltaKind, DeltaRequest, Frame};

/// Names one encoded form: which delivery made it and, for a patch, from which position and in which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingKey {
    /// The form's name.
    pub form: &'static str,
    /// `None` for the whole body.
    pub delta: Option<(u64, DeltaKind)>,
}

/// Names one patch document: from which position it leads here, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchKey {
    /// The position of what it is applied to.
    pub base: u64,
    /// Its kind, and the shape in which clients hold the base.
    pub ask: DeltaRequest,
}

/// Small tables of what was made. Whoever asks first makes, the others wait for it and share.
#[derive(Default)]
pub struct EncodingCache {
    forms: Table<EncodingKey, Frame>,
    patches: Table<PatchKey, Option<Bytes>>,
}

/// A snapshot is asked for in a handful of forms; deltas from many bases must not pile up on it.
const MAX_FORMS: usize = 32;

impl EncodingCache {
    /// The form `key`, made by `encode` if nobody asked for it before.
    pub fn form(&self, key: EncodingKey, encode: impl FnOnce() -> Frame) -> Frame {
        // The whole body is what most clients want; deltas are made anew for the few.
        self.forms.get(key, |known| known.delta.is_some(), encode)
    }

    /// The patch `key`, made by `make` if nobody asked for it before. `None` is remembered as well: it means that there is
    /// no patch worth sending.
    pub fn patch(&self, key: PatchKey, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        self.patches.get(key, |_| true, make)
    }

    /// The patch `key`, if somebody asked for it before and it exists.
    pub fn known_patch(&self, key: PatchKey) -> Option<Bytes> {
        self.patches.known(key).flatten()
    }

    /// Forgets everything but the patches that `keep` wants to keep; what is being written lives on until it is.
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

/// Values that are made on first demand, and not many of them.
struct Table<K, V>(Mutex<Vec<(K, Slot<V>)>>);

type Slot<V> = Arc<OnceLock<V>>;

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + PartialEq, V: Clone> Table<K, V> {
    /// The value of `key`. Where there are too many, the oldest that is `minor` goes, or the oldest of all.
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
