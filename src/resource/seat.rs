//! Where a resource is looked at, if the backend runs several times, and in which manner it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::Manner;

/// The replica of the last look, by its number. Replicas may differ for a moment; as long as all looks of a resource are
/// made at one of them, nobody sees it go back and forth.
#[derive(Debug, Default)]
pub struct Seat {
    replica: AtomicUsize,
    manner: ArcSwap<Manner>,
    /// Whether that is how a client asked for the resource itself, and not for a stream that names it.
    is_settled: AtomicBool,
}

impl Seat {
    /// The number, if there was a look.
    pub fn get(&self) -> Option<usize> {
        self.replica.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Looks are made at replica `number` from now on.
    pub fn take(&self, number: usize) {
        self.replica.store(number + 1, Ordering::Relaxed);
    }

    /// The next look is made at another of `count` replicas.
    pub fn leave(&self, count: usize) {
        if let Some(number) = self.get() {
            self.take((number + 1) % count.max(1));
        }
    }

    /// How the resource is asked for.
    pub fn manner(&self) -> Arc<Manner> {
        self.manner.load_full()
    }

    /// A client asks for it in a manner; `is_own` if for nothing else. The first counts, and one that is its own more than
    /// one that is not. Returns whether looks have been made in another manner until now.
    pub fn note(&self, manner: impl FnOnce() -> Manner, is_own: bool) -> bool {
        if self.is_settled.load(Ordering::Acquire) {
            return false;
        }
        let manner = manner();
        if manner.is_empty() {
            return false;
        }
        let is_own = is_own || manner.is_navigation();
        let is_unlike = **self.manner.load() != manner;
        if is_unlike {
            self.manner.store(Arc::new(manner));
        }
        self.is_settled.store(is_own, Ordering::Release);
        is_unlike
    }
}
