//! Finds the resource for a key, or starts it.
//!
//! ```text
//! ResourceKey ──▶ Hub::join ──▶ Subscription (the resource is watched while one is held)
//!                     └── not there yet: it is born, and `Birth::start` sees to its poller
//! ```
//!
//! Joining and retiring happen under one lock, so a client never joins a resource whose poller has just decided to end.

mod recent;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::recent::Recent;
use crate::model::ResourceKey;
use crate::resource::{Bell, Pulse, Resource, Retire, Subscription};

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
    len: AtomicUsize,
    max_resources: AtomicUsize,
    /// Of the names by which resources appear in logs.
    seed: u64,
}

/// Resources whose targets hash alike, and what was lately polled but is not watched.
#[derive(Debug, Default)]
struct Shard {
    /// By target, then by key: a write names a target, and all who watch it are to look.
    targets: HashMap<Arc<str>, HashMap<ResourceKey, Arc<Resource>>>,
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

/// How a new resource comes into being.
pub struct Birth<'a, F> {
    /// What happens to all resources of its route.
    pub pulse: &'a Arc<Pulse>,
    /// Sees to it that somebody looks at it.
    pub start: F,
}

impl Hub {
    /// A hub with nothing in it.
    pub fn new(options: Options, seed: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let max_resources = AtomicUsize::new(options.max_resources);
        Self { shards, hasher: RandomState::new(), len: AtomicUsize::new(0), max_resources, seed }
    }

    /// Changes what it may hold. What it holds beyond that stays until nobody needs it.
    pub fn set_options(&self, options: Options) {
        self.max_resources.store(options.max_resources, Ordering::Relaxed);
    }

    /// Subscribes to the resource `key` for a client that is held by `delivery` and woken by `bell`. If nobody watches it
    /// yet it is born.
    ///
    /// # Errors
    /// [`Full`] if the resource is not there and no further one may be.
    pub fn join(
        &self,
        key: &ResourceKey,
        delivery: &'static str,
        bell: Arc<Bell>,
        now: Instant,
        birth: Birth<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Subscription, Full> {
        let mut shard = self.shard(&key.target);
        Ok(self.find_or_start(&mut shard, key, now, birth)?.subscribe(delivery, bell))
    }

    /// The resource `key` for a plain request, if it is watched, or if the same was polled within `window`: then one
    /// look can answer both, and the resource is born.
    pub fn poll(
        &self,
        key: &ResourceKey,
        now: Instant,
        window: Duration,
        birth: Birth<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Option<Polled> {
        let mut shard = self.shard(&key.target);
        if let Some(resource) = shard.find(key) {
            let before = resource.note_poll(now);
            let shared =
                resource.held() > 0 || before.is_some_and(|before| now.saturating_duration_since(before) <= window);
            return Some(Polled { resource: Arc::clone(resource), shared });
        }
        let before = shard.recent.note(self.hasher.hash_one(key), now)?;
        if now.saturating_duration_since(before) > window {
            return None;
        }
        let resource = self.find_or_start(&mut shard, key, now, birth).ok()?;
        resource.note_poll(now);
        Some(Polled { resource, shared: true })
    }

    /// The resource `key`, if it is watched.
    pub fn get(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        self.shard(&key.target).find(key).cloned()
    }

    /// All resources with this target, whoever watches them.
    pub fn with_target(&self, target: &str) -> Vec<Arc<Resource>> {
        self.shard(target).targets.get(target).map_or_else(Vec::new, |found| found.values().cloned().collect())
    }

    /// All resources.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        let all =
            |shard: &Mutex<Shard>| lock(shard).targets.values().flat_map(HashMap::values).cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(all).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
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
        birth: Birth<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Arc<Resource>, Full> {
        if let Some(found) = shard.find(key) {
            return Ok(Arc::clone(found));
        }
        let most = self.max_resources.load(Ordering::Relaxed);
        if self.len.fetch_add(1, Ordering::AcqRel) >= most {
            self.len.fetch_sub(1, Ordering::AcqRel);
            return Err(Full(most));
        }
        let resource = Arc::new(Resource::new(key.clone(), key.handle(self.seed), Arc::clone(birth.pulse), now));
        (birth.start)(Arc::clone(&resource));
        shard.targets.entry(Arc::clone(&key.target)).or_default().insert(key.clone(), Arc::clone(&resource));
        Ok(resource)
    }

    fn shard(&self, target: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(target) as usize % SHARDS])
    }

    /// Removes `resource` if `condition` holds. `true` also if another has taken its place.
    fn remove_if(&self, resource: &Arc<Resource>, condition: impl FnOnce(&Resource) -> bool) -> bool {
        let key = resource.key();
        let mut shard = self.shard(&key.target);
        if !shard.find(key).is_some_and(|found| Arc::ptr_eq(found, resource)) {
            return true;
        }
        let remove = condition(resource);
        if remove {
            shard.remove(key);
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        remove
    }
}

impl Shard {
    fn find(&self, key: &ResourceKey) -> Option<&Arc<Resource>> {
        self.targets.get(&key.target)?.get(key)
    }

    fn remove(&mut self, key: &ResourceKey) {
        let Some(variants) = self.targets.get_mut(&key.target) else { return };
        variants.remove(key);
        if variants.is_empty() {
            self.targets.remove(&key.target);
        }
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
