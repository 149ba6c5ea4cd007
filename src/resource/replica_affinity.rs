//! The replica on which a resource is fetched.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The replica of the last fetch, by number. Replicas may differ temporarily; if all fetches of a resource use one
/// replica, clients do not see the state alternate.
#[derive(Debug, Default)]
pub struct ReplicaAffinity {
    replica: AtomicUsize,
}

impl ReplicaAffinity {
    /// Returns the number, if there was a fetch.
    pub fn get(&self) -> Option<usize> {
        self.replica.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Sends fetches to replica `number` from now on.
    pub fn pin(&self, number: usize) {
        self.replica.store(number + 1, Ordering::Relaxed);
    }

    /// Moves the next fetch to another of `count` replicas.
    pub fn advance(&self, count: usize) {
        if let Some(number) = self.get() {
            self.pin((number + 1) % count.max(1));
        }
    }
}
