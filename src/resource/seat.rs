//! Where a resource is looked at, if the backend runs several times.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The replica of the last look, by its number. Replicas may differ for a moment; as long as all looks of a resource are
/// made at one of them, nobody sees it go back and forth.
#[derive(Debug, Default)]
pub struct Seat {
    replica: AtomicUsize,
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
}
