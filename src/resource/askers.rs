//! The networks of a resource's clients, which determine the owner of its fetches.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Resource;
use crate::model::{AddressBucket, Owner, ResourceKey};

/// The networks of held and waiting clients, with the number of clients in each.
#[derive(Debug)]
pub(super) struct Askers {
    /// The hash of the credentials, which distinguishes the resource's clients from others in their networks.
    client: u64,
    /// The network of the first client.
    first: OnceLock<Option<AddressBucket>>,
    networks: Mutex<BTreeMap<Option<AddressBucket>, usize>>,
}

impl Askers {
    pub(super) fn new(key: &ResourceKey) -> Self {
        Self { client: client(key), first: OnceLock::new(), networks: Mutex::default() }
    }

    pub(super) fn add(&self, network: Option<AddressBucket>) {
        *self.networks().entry(network).or_default() += 1;
    }

    pub(super) fn remove(&self, network: Option<AddressBucket>) {
        let mut networks = self.networks();
        if let Some(count) = networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&network);
            }
        }
    }

    /// Returns the owner of the next fetch: the one with the least `load`, so that a shared resource does not wait
    /// because one of its clients has requested much else. Without clients it is the first client's.
    pub(super) fn cheapest(&self, load: impl Fn(Owner) -> usize) -> Owner {
        let owner = |network| Owner { network, client: self.client };
        let mut cheapest: Option<(usize, Owner)> = None;
        for owner in self.networks().keys().map(|network| owner(*network)) {
            let load = load(owner);
            if cheapest.is_none_or(|(least, _)| load < least) {
                cheapest = Some((load, owner));
            }
            if load == 0 {
                break;
            }
        }
        cheapest.map_or_else(|| owner(self.first.get().copied().flatten()), |(_, owner)| owner)
    }

    fn networks(&self) -> MutexGuard<'_, BTreeMap<Option<AddressBucket>, usize>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the hash that distinguishes clients that request `key` from others in their networks.
fn client(key: &ResourceKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.identity.hash(&mut hasher);
    hasher.finish()
}

/// A client that waits for a fetch without being held.
#[derive(Debug)]
pub struct Asking<'a> {
    resource: &'a Resource,
    network: Option<AddressBucket>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.resource.askers.remove(self.network);
    }
}

impl Resource {
    /// Counts a client of `network` as asking for the resource until the returned guard is dropped.
    pub fn asked_from(&self, network: Option<AddressBucket>) -> Asking<'_> {
        self.askers.add(network);
        Asking { resource: self, network }
    }

    /// Records that a client of `network` was the first to request the resource.
    pub fn born_for(&self, network: Option<AddressBucket>) {
        let _ = self.askers.first.set(network);
    }

    /// Returns the network of the first client.
    pub fn first_asked_from(&self) -> Option<AddressBucket> {
        self.askers.first.get().copied().flatten()
    }

    /// Returns the owner of the next fetch, given the `load` of each owner.
    pub fn owner(&self, load: impl Fn(Owner) -> usize) -> Owner {
        self.askers.cheapest(load)
    }
}

impl Owner {
    /// Returns the owner for a client of `network` that requests `key`.
    pub fn of(network: Option<AddressBucket>, key: &ResourceKey) -> Self {
        Self { network, client: client(key) }
    }
}
