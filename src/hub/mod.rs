//! Finds the resource for a key, or starts it.
//!
//! ```text
//! ResourceKey ──▶ Hub::join ──▶ Subscription (the resource is watched while one is held)
//!                     └── not there yet: it is born, and `Birth::start` sees to its poller
//! ```
//!
//! Joining and retiring happen under one lock, so a client never joins a resource whose poller has just decided to end.

mod accounts;
mod owed;
mod traffic;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use self::accounts::{Accounts, Charge};
use self::owed::Owed;
pub use self::traffic::Crowd;
use self::traffic::Traffic;
use crate::model::share::{OF_CLIENT, OF_NETWORK};
use crate::model::{Network, Owner, Ration, Representation, ResourceKey};
use crate::resource::{Bell, CookieIndex, Pulse, Registered, Resource, Retire, Revocable, Subscription};

/// What the hub may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Resources in all.
    pub max_resources: usize,
    /// Resources for clients with the same credentials.
    pub max_resources_per_identity: usize,
    /// Resources that clients at one address asked for first.
    pub max_resources_per_address: usize,
    /// Bytes of all bodies in all histories.
    pub max_history_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_resources: 10_000,
            max_resources_per_identity: 500,
            max_resources_per_address: 5000,
            max_history_bytes: 256 << 20,
        }
    }
}

/// No further resource can be watched now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// In all.
    #[error("all {0} places for watched resources are taken")]
    Resources(usize),
    /// With these credentials.
    #[error("all {0} places for resources of one identity are taken")]
    Identity(usize),
    /// From this address.
    #[error("all {0} places for resources of one address are taken")]
    Address(usize),
    /// The histories leave no memory.
    #[error("all {0} bytes for what is watched are taken")]
    History(u64),
}

impl Full {
    /// The limit's name in metrics.
    pub fn limit(self) -> &'static str {
        match self {
            Self::Resources(_) => "resources",
            Self::Identity(_) => "resources_per_identity",
            Self::Address(_) => "resources_per_address",
            Self::History(_) => "history_bytes",
        }
    }
}

/// All watched resources.
#[derive(Debug)]
pub struct Hub {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    len: AtomicUsize,
    options: ArcSwap<Options>,
    accounts: Arc<Accounts>,
    room: Arc<Ration>,
    owed: Owed,
    cookies: Arc<CookieIndex>,
    /// When resources that could make way were last searched for and not found: those of one network, and any.
    vain: Mutex<[Option<Instant>; 2]>,
    /// Plain requests so far.
    arrivals: AtomicU64,
    /// Of the names by which resources appear in logs.
    seed: u64,
}

/// Resources whose targets hash alike, and the plain requests for them.
#[derive(Debug, Default)]
struct Shard {
    /// By target, then by key: a write names a target, and all who watch it are to look.
    targets: HashMap<Arc<str>, HashMap<ResourceKey, Entry>>,
    traffic: Traffic,
}

/// A watched resource, and on whose account it is.
#[derive(Debug)]
struct Entry {
    resource: Arc<Resource>,
    _charge: Charge,
    _cookies: Option<Registered>,
}

const SHARDS: usize = 16;

/// Where there is no place left, this part of those that nobody holds makes way at once, so that a flood does not cost a
/// search each time.
const EVICTED_SHARE: usize = 16;

/// Where none could make way, none is searched for again so soon: a search goes through all resources.
const SEARCH_GAP: Duration = Duration::from_millis(200);

/// A plain request on its way through, as the hub knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    shard: usize,
    key: u64,
    id: u64,
    client: u64,
    since: Instant,
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
        let room = Arc::new(Ration::new(options.max_history_bytes, (OF_NETWORK, OF_CLIENT)));
        let options = ArcSwap::from_pointee(options);
        let len = AtomicUsize::new(0);
        Self {
            shards,
            hasher: RandomState::new(),
            len,
            options,
            accounts: Arc::default(),
            room,
            owed: Owed::default(),
            cookies: Arc::default(),
            vain: Mutex::default(),
            arrivals: AtomicU64::new(0),
            seed,
        }
    }

    /// Changes what it may hold. What it holds beyond that stays until nobody needs it.
    pub fn set_options(&self, options: Options) {
        self.options.store(Arc::new(options));
        self.room.resize(options.max_history_bytes);
    }

    /// The memory of all histories.
    pub fn room(&self) -> &Ration {
        &self.room
    }

    /// Who is held, and what is watched, under which cookies.
    pub fn cookies(&self) -> &Arc<CookieIndex> {
        &self.cookies
    }

    /// Whether looks have taken anything away that was not given to anybody yet.
    pub fn owes(&self) -> bool {
        self.owed.any()
    }

    /// What a look has taken away from the next who asks for `key`, who is to be given it now.
    pub fn pay(&self, key: &ResourceKey, now: Instant) -> Option<Representation> {
        self.owed.take(key, now)
    }

    /// Subscribes to the resource `key` for a client at `address` that is held by `delivery` and woken by `bell`. If nobody
    /// watches it yet it is born.
    ///
    /// # Errors
    /// [`Full`] if the resource is not there and no further one may be.
    pub fn join(
        &self,
        key: &ResourceKey,
        address: Option<IpAddr>,
        delivery: &'static str,
        bell: Arc<Bell>,
        now: Instant,
        birth: Birth<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Subscription, Full> {
        self.make_way(key, address, now);
        let mut shard = self.shard(&key.target);
        Ok(self.find_or_start(&mut shard, key, address, now, birth)?.subscribe(
            address.map(Network::of),
            delivery,
            bell,
        ))
    }

    /// A plain request for `key` from `client`, of which it is known who it may be but not who it is, has arrived at `now`.
    /// Returns what is known of others like it. To be told when it [leaves](Hub::leave).
    pub fn arrive(&self, key: &ResourceKey, client: u64, now: Instant) -> (Arrival, Crowd) {
        let shard = self.shard_of(&key.target);
        let id = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival { shard, key: self.hasher.hash_one(key), id, client, since: now };
        let mut shard = lock(&self.shards[shard]);
        let crowd = shard.traffic.crowd(arrival.key, client, now);
        shard.traffic.arrive(arrival.key, id, now);
        (arrival, crowd)
    }

    /// The request is answered by us, and may be held.
    pub fn withhold(&self, arrival: &Arrival) {
        lock(&self.shards[arrival.shard]).traffic.withhold(arrival.key, arrival.id);
    }

    /// The request has been answered, or given up.
    pub fn leave(&self, arrival: &Arrival, now: Instant) {
        let Arrival { shard, key, id, client, since } = *arrival;
        lock(&self.shards[shard]).traffic.leave(key, id, client, since, now);
    }

    /// The application itself has answered the request, and all of that is there.
    pub fn answered(&self, arrival: &Arrival, now: Instant) {
        let took = now.saturating_duration_since(arrival.since);
        lock(&self.shards[arrival.shard]).traffic.answered(arrival.key, took, now);
    }

    /// The resource `key`, which is born if it is not there yet.
    ///
    /// # Errors
    /// [`Full`] if the resource is not there and no further one may be.
    pub fn obtain(
        &self,
        key: &ResourceKey,
        address: Option<IpAddr>,
        now: Instant,
        birth: Birth<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Arc<Resource>, Full> {
        self.make_way(key, address, now);
        self.find_or_start(&mut self.shard(&key.target), key, address, now, birth)
    }

    /// The resource `key`, if it is watched.
    pub fn get(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        self.shard(&key.target).find(key).cloned()
    }

    /// Stands for whose the state of `key` is: equal for equal keys in this process, and gives nothing away of them.
    pub fn mark(&self, key: &ResourceKey) -> String {
        format!("{:016x}", self.hash(key))
    }

    /// Stands for `key` in this process.
    pub fn hash(&self, key: &ResourceKey) -> u64 {
        self.hasher.hash_one(key)
    }

    /// All resources with this target, whoever watches them.
    pub fn with_target(&self, target: &str) -> Vec<Arc<Resource>> {
        let resources = |found: &HashMap<_, Entry>| found.values().map(|entry| Arc::clone(&entry.resource)).collect();
        self.shard(target).targets.get(target).map_or_else(Vec::new, resources)
    }

    /// All resources.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = lock(shard);
            all.extend(shard.targets.values().flat_map(HashMap::values).map(|entry| Arc::clone(&entry.resource)));
        }
        all
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
        address: Option<IpAddr>,
        now: Instant,
        birth: Birth<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Arc<Resource>, Full> {
        if let Some(found) = shard.find(key) {
            return Ok(Arc::clone(found));
        }
        let network = address.map(Network::of);
        if !self.room.has_room(Owner::of(network, key)) {
            return Err(Full::History(self.room.most()));
        }
        let charge = self.charge(key, address)?;
        let most = self.options.load().max_resources;
        if self.len.fetch_add(1, Ordering::AcqRel) >= most {
            self.len.fetch_sub(1, Ordering::AcqRel);
            return Err(Full::Resources(most));
        }
        let (pulse, room) = (Arc::clone(birth.pulse), Arc::clone(&self.room));
        let resource = Arc::new(Resource::new(key.clone(), key.handle(self.seed), pulse, room, now));
        resource.born_for(network);
        (birth.start)(Arc::clone(&resource));
        let revocable: Weak<dyn Revocable> = Arc::downgrade(&(Arc::clone(&resource) as Arc<dyn Revocable>));
        let cookies = self.cookies.register(key.identity.cookies(), revocable);
        let entry = Entry { resource: Arc::clone(&resource), _charge: charge, _cookies: cookies };
        shard.targets.entry(Arc::clone(&key.target)).or_default().insert(key.clone(), entry);
        Ok(resource)
    }

    /// Puts one more resource on the accounts of its identity, if it has one, and of its first client's address.
    fn charge(&self, key: &ResourceKey, address: Option<IpAddr>) -> Result<Charge, Full> {
        let options = self.options.load();
        let (identity, place) = (options.max_resources_per_identity, options.max_resources_per_address);
        let place_of = |address| (self.hasher.hash_one(Network::of(address)), place, Full::Address(place));
        let mut on: Vec<_> = address.map(place_of).into_iter().collect();
        if key.identity.fields().next().is_some() {
            on.push((self.hasher.hash_one(&key.identity), identity, Full::Identity(identity)));
        }
        self.accounts.charge(&on)
    }

    /// If there is no place for `key`, those that nobody holds make way, the least recently used first: any, or only those of
    /// the network at `address` if that alone has too much.
    fn make_way(&self, key: &ResourceKey, address: Option<IpAddr>, now: Instant) {
        let network = address.map(Network::of);
        let is_full = self.room.is_full() || self.len() >= self.options.load().max_resources;
        if !is_full && self.room.has_room(Owner::of(network, key)) || self.get(key).is_some() {
            return;
        }
        let mut vain = self.vain.lock().unwrap_or_else(PoisonError::into_inner);
        let vain = &mut vain[usize::from(is_full)];
        if vain.is_some_and(|last| now < last + SEARCH_GAP) {
            return;
        }
        *vain = Some(now);
        let mut idle: Vec<_> = self.resources();
        idle.retain(|resource| resource.held() == 0 && (is_full || resource.first_asked_from() == network));
        idle.sort_by_cached_key(|resource| resource.last_used());
        for resource in idle.iter().take(idle.len().div_ceil(EVICTED_SHARE)) {
            if self.remove_if(resource, |resource| resource.held() == 0) {
                resource.close();
                *vain = None;
            }
        }
    }

    fn shard(&self, target: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.shard_of(target)])
    }

    fn shard_of(&self, target: &str) -> usize {
        self.hasher.hash_one(target) as usize % SHARDS
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
        Some(&self.targets.get(&key.target)?.get(key)?.resource)
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

    fn owe(&self, resource: &Resource, answers: Vec<Representation>, now: Instant) {
        self.owed.owe(resource.key(), answers, now);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
