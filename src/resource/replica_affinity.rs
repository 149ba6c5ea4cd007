//! Where a resource is fetched, if the backend runs several times.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The replica of the last fetch, by its number. Replicas may differ for a moment; as long as all fetches of a resource are
/// made at one of them, nobody sees it go back and forth.
#[derive(Debug, Default)]
pub struct ReplicaAffinity {
    replica: AtomicUsize,
}

impl ReplicaAffinity {
    /// The number, if there was a fetch.
    pub fn get(&self) -> Option<usize> {
        self.replica.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Fetches are made at replica `number` from now on.
    pub fn pin(&self, number: usize) {
        self.replica.store(number + 1, Ordering::Relaxed);
    }

    /// The next fetch is made at another of `count` replicas.
    pub fn advance(&self, count: usize) {
        if let Some(number) = self.get() {
            self.pin((number + 1) % count.max(1));
        }
    }
}
