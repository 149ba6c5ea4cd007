//! Encoded forms of a snapshot, each made once, on first demand.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::DeltaKind;

/// Names one encoded form: which delivery made it and, for a delta, from which position and in which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoKey {
    /// The delivery's name.
    pub delivery: &'static str,
    /// `None` for the whole body.
    pub delta: Option<(u64, DeltaKind)>,
}

/// A small table of encoded forms. Whoever asks first encodes, the others wait for it and share the bytes.
#[derive(Default)]
pub struct Memo {
    forms: Mutex<Vec<(MemoKey, Slot)>>,
}

type Slot = Arc<std::sync::OnceLock<Option<Bytes>>>;

/// A snapshot is asked for in a handful of forms; deltas from many bases must not pile up on it.
const MOST_FORMS: usize = 32;

impl Memo {
    /// The form `key`, made by `encode` if nobody asked for it before. `None` is remembered as well: it means that the
    /// form does not exist (a delta that is not worth sending).
    pub fn get(&self, key: MemoKey, encode: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let slot = {
            let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
            match forms.iter().find(|(known, _)| *known == key) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    if forms.len() >= MOST_FORMS {
                        // The whole body is what most clients want; deltas are made anew for the few.
                        let delta = forms.iter().position(|(known, _)| known.delta.is_some());
                        forms.remove(delta.unwrap_or(0));
                    }
                    let slot = Slot::default();
                    forms.push((key, Arc::clone(&slot)));
                    slot
                }
            }
        };
        slot.get_or_init(encode).clone()
    }

    /// The form `key`, if somebody asked for it before and it exists.
    pub fn peek(&self, key: MemoKey) -> Option<Bytes> {
        let forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        forms.iter().find(|(known, _)| *known == key)?.1.get()?.clone()
    }

    /// Forgets all forms but those that `keep` wants to keep; those that are being written live on until they are.
    pub fn retain(&self, keep: impl Fn(&MemoKey, &Bytes) -> bool) {
        let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        forms.retain(|(key, slot)| slot.get().and_then(Option::as_ref).is_some_and(|form| keep(key, form)));
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}
