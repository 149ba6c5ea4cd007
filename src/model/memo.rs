//! Encoded forms of a snapshot, each made once, on first demand.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{DeltaKind, Frame};

/// Names one encoded form: which delivery made it and, for a delta, from which position and in which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoKey {
    /// The form's name.
    pub form: &'static str,
    /// `None` for the whole body.
    pub delta: Option<(u64, DeltaKind)>,
}

/// A small table of encoded forms. Whoever asks first encodes, the others wait for it and share the bytes.
#[derive(Default)]
pub struct Memo {
    forms: Mutex<Vec<(MemoKey, Slot)>>,
}

type Slot = Arc<OnceLock<Option<Frame>>>;

/// A snapshot is asked for in a handful of forms; deltas from many bases must not pile up on it.
const MOST_FORMS: usize = 32;

impl Memo {
    /// The form `key`, made by `encode` if nobody asked for it before. `None` is remembered as well: it means that the
    /// form does not exist (a delta that is not worth sending).
    pub fn get(&self, key: MemoKey, encode: impl FnOnce() -> Option<Frame>) -> Option<Frame> {
        let slot = {
            let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
            match forms.iter().find(|(known, _)| *known == key) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    if forms.len() >= MOST_FORMS {
                        forms.remove(0);
                    }
                    let slot = Slot::default();
                    forms.push((key, Arc::clone(&slot)));
                    slot
                }
            }
        };
        slot.get_or_init(encode).clone()
    }

    /// Forgets all forms; those that are being written live on until they are.
    pub fn clear(&self) {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}
