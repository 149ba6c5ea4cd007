//! From where a resource is asked for: on whose account its fetches are made.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Resource;
use crate::model::{AddressBucket, Owner, ResourceKey};

/// The networks of those who are held or wait, and how many clients each has.
#[derive(Debug)]
pub(super) struct Askers {
    /// Tells the resource's clients from others of their networks: by their credentials.
    client: u64,
    /// From where it was asked for first.
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

    /// The one on whose account the next fetch is made: the one with the least `load`, so that nobody who asks for what
    /// everybody asks for makes it wait with what only he wants. If nobody asks any more, whoever was the first.
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

/// What tells the clients that ask for `key` from others of their networks.
fn client(key: &ResourceKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.identity.hash(&mut hasher);
    hasher.finish()
}

/// A client that waits for a fetch of a resource without being held.
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
    /// Counts a client of `network` among those who ask for it, until what is returned is dropped.
    pub fn asked_from(&self, network: Option<AddressBucket>) -> Asking<'_> {
        self.askers.add(network);
        Asking { resource: self, network }
    }

    /// A client of `network` was the first to ask for it.
    pub fn born_for(&self, network: Option<AddressBucket>) {
        let _ = self.askers.first.set(network);
    }

    /// From where it was asked for first.
    pub fn first_asked_from(&self) -> Option<AddressBucket> {
        self.askers.first.get().copied().flatten()
    }

    /// On whose account its next fetch is made, where owners have so much `load`.
    pub fn owner(&self, load: impl Fn(Owner) -> usize) -> Owner {
        self.askers.cheapest(load)
    }
}

impl Owner {
    /// A client of `network` that asks for `key`.
    pub fn of(network: Option<AddressBucket>, key: &ResourceKey) -> Self {
        Self { network, client: client(key) }
    }
}
