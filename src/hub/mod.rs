//! Finds the resource for a key, or starts it.
//!
//! ```text
//! ResourceKey ──▶ Hub::join ──▶ Subscription (the resource is watched while one is held)
//!                     └── not there yet: `start` is called once, with the new resource
//! ```
//!
//! Joining and retiring happen under one lock, so a client never joins a resource whose poller has just decided to end.

mod recent;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::recent::Recent;
use crate::model::ResourceKey;
use crate::resource::{Bell, Resource, Retire, Subscription};

/// What the hub may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Resources in all.
    pub max_resources: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_resources: 10_000 }
    }
}

/// The hub is full: no further resource can be watched now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {0} places for watched resources are taken")]
pub struct Full(usize);

/// All watched resources.
#[derive(Debug)]
pub struct Hub {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    options: Options,
    /// Of the names by which resources appear in logs.
    seed: u64,
}

/// Resources whose keys hash alike, and what was lately polled but is not watched.
#[derive(Debug, Default)]
struct Shard {
    resources: HashMap<ResourceKey, Arc<Resource>>,
    recent: Recent,
}

const SHARDS: usize = 16;

/// A resource found for a plain request.
#[derive(Debug)]
pub struct Polled {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Whether somebody else wants it too, so that one look answers more than one request.
    pub shared: bool,
}

impl Hub {
    /// A hub with nothing in it.
    pub fn new(options: Options, seed: u64) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new(), options, seed }
    }

    /// Subscribes to the resource `key` for a client that is held by `delivery`. If nobody watches it yet, `start` is
    /// called with the new resource and must see to it that somebody does.
    ///
    /// # Errors
    /// [`Full`] if the resource is not there and no further one may be.
    pub fn join(
        &self,
        key: &ResourceKey,
        delivery: &'static str,
        bell: Arc<Bell>,
        now: Instant,
        start: impl FnOnce(Arc<Resource>),
    ) -> Result<Subscription, Full> {
        let (mut shard, _) = self.shard(key);
        Ok(self.find_or_start(&mut shard, key, now, start)?.subscribe(delivery, bell))
    }

    /// The resource `key` for a plain request, if it is watched, or if the same was polled within `window`: then one
    /// look can answer both, and the resource is started.
    pub fn poll(
        &self,
        key: &ResourceKey,
        now: Instant,
        window: Duration,
        start: impl FnOnce(Arc<Resource>),
    ) -> Option<Polled> {
        let (mut shard, hash) = self.shard(key);
        if let Some(resource) = shard.resources.get(key) {
            let before = resource.note_poll(now);
            let shared =
                resource.held() > 0 || before.is_some_and(|before| now.saturating_duration_since(before) <= window);
            return Some(Polled { resource: Arc::clone(resource), shared });
        }
        let before = shard.recent.note(hash, now)?;
        if now.saturating_duration_since(before) > window {
            return None;
        }
        let resource = self.find_or_start(&mut shard, key, now, start).ok()?;
        resource.note_poll(now);
        Some(Polled { resource, shared: true })
    }

    /// The resource `key`, if it is watched.
    pub fn get(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        self.shard(key).0.resources.get(key).cloned()
    }

    /// All resources.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        self.shards.iter().flat_map(|shard| lock(shard).resources.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).resources.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find_or_start(
        &self,
        shard: &mut Shard,
        key: &ResourceKey,
        now: Instant,
        start: impl FnOnce(Arc<Resource>),
    ) -> Result<Arc<Resource>, Full> {
        let share = self.options.max_resources.div_ceil(SHARDS).max(1);
        let room = shard.resources.len() < share;
        match shard.resources.entry(key.clone()) {
            Entry::Occupied(found) => Ok(Arc::clone(found.get())),
            Entry::Vacant(place) if room => {
                let resource = Arc::new(Resource::new(key.clone(), key.handle(self.seed), now));
                start(Arc::clone(&resource));
                Ok(Arc::clone(place.insert(resource)))
            }
            Entry::Vacant(_) => Err(Full(self.options.max_resources)),
        }
    }

    fn shard(&self, key: &ResourceKey) -> (MutexGuard<'_, Shard>, u64) {
        let hash = self.hasher.hash_one(key);
        (lock(&self.shards[hash as usize % SHARDS]), hash)
    }

    /// Removes `resource` if `condition` holds. `true` also if another has taken its place.
    fn remove_if(&self, resource: &Arc<Resource>, condition: impl FnOnce(&Resource) -> bool) -> bool {
        let (mut shard, _) = self.shard(resource.key());
        if !shard.resources.get(resource.key()).is_some_and(|found| Arc::ptr_eq(found, resource)) {
            return true;
        }
        let remove = condition(resource);
        if remove {
            shard.resources.remove(resource.key());
        }
        remove
    }
}

impl Retire for Hub {
    fn retire(&self, resource: &Arc<Resource>) -> bool {
        self.remove_if(resource, |resource| resource.held() == 0 && !resource.is_triggered())
    }

    fn forget(&self, resource: &Arc<Resource>) {
        self.remove_if(resource, |_| true);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
