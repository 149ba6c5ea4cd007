//! One shard of the resources, with its own lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::quotas::QuotaGuard;
use super::traffic::Traffic;
use crate::model::ResourceKey;
use crate::resource::{Registered, Resource, Siblings};

/// Resources whose targets have the same hash, and the plain requests for them.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// By target, then by key, because a write names a target and triggers all its resources.
    pub(super) targets: HashMap<Arc<str>, HashMap<ResourceKey, Entry>>,
    /// The states shown of one target to clients with the same credentials, by hash, with the number of resources.
    pub(super) siblings: HashMap<u64, (Arc<Siblings>, usize)>,
    pub(super) traffic: Traffic,
}

/// A watched resource and its quotas.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) resource: Arc<Resource>,
    pub(super) _quota: QuotaGuard,
    pub(super) _cookies: Option<Registered>,
}

impl Shard {
    pub(super) fn find(&self, key: &ResourceKey) -> Option<&Arc<Resource>> {
        Some(&self.targets.get(&key.target)?.get(key)?.resource)
    }

    pub(super) fn remove(&mut self, key: &ResourceKey, family: u64) {
        if let Some((_, count)) = self.siblings.get_mut(&family) {
            *count -= 1;
            if *count == 0 {
                self.siblings.remove(&family);
            }
        }
        let Some(variants) = self.targets.get_mut(&key.target) else { return };
        variants.remove(key);
        if variants.is_empty() {
            self.targets.remove(&key.target);
        }
    }
}

pub(super) fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
