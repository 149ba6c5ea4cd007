//! Finds the resource for a key, or starts it.
//!
//! ```text
//! ResourceKey ──▶ Hub::join ──▶ Subscription (the resource is watched while one is held)
//!                     └── missing: it is created, and `NewResource::spawn_poller` starts its poller
//! ```
//!
//! Joining and removing take place under one lock, so a client never joins a resource whose poller has just decided to
//! end.

mod consumed;
mod observed;
mod quotas;
mod shard;
mod traffic;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::COOKIE;
use tokio::time::Instant;

use self::consumed::{ConsumedResponses, without_busters};
use self::observed::Observed;
use self::quotas::{QuotaGuard, Quotas};
use self::shard::{Entry, Shard, lock};
pub use self::traffic::Crowd;
use crate::model::share::{OF_CLIENT, OF_NETWORK};
use crate::model::{AddressBucket, Owner, Ration, Representation, ResourceKey, fields};
use crate::resource::{
    CookieIndex, Evidence, Resource, ResourceRegistry, Revocable, RouteEvents, Subscription, TaskNotify,
};

/// The limits of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The maximum number of resources.
    pub max_resources: usize,
    /// The maximum number of resources for clients with the same credentials.
    pub max_resources_per_identity: usize,
    /// The maximum number of resources that clients at one address requested first.
    pub max_resources_per_address: usize,
    /// The maximum size of all bodies in all histories, in bytes.
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
pub enum LimitReached {
    /// The total limit is reached.
    #[error("all {0} places for watched resources are taken")]
    Resources(usize),
    /// The limit for these credentials is reached.
    #[error("all {0} places for resources of one identity are taken")]
    Identity(usize),
    /// The limit for this address is reached.
    #[error("all {0} places for resources of one address are taken")]
    Address(usize),
    /// The histories use all memory.
    #[error("all {0} bytes for what is watched are taken")]
    History(u64),
}

impl LimitReached {
    /// Returns the limit's name in metrics.
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
    quotas: Arc<Quotas>,
    memory_budget: Arc<Ration>,
    consumed: ConsumedResponses,
    cookies: Arc<CookieIndex>,
    /// When a search for evictable resources last failed: within one network, and overall.
    vain: Mutex<[Option<Instant>; 2]>,
    /// The number of plain requests so far.
    arrivals: AtomicU64,
    observed: Observed,
    /// The seed for the names of resources in logs.
    seed: u64,
}

const SHARDS: usize = 16;

/// The fraction of idle resources that is evicted at once when the hub is full, so that a flood does not cost a search
/// for each request.
const EVICTION_FRACTION: usize = 16;

/// The minimum time between two searches for evictable resources after a search failed. A search visits all resources.
const SEARCH_GAP: Duration = Duration::from_millis(200);

/// A plain request in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    shard: usize,
    key: u64,
    id: u64,
    client: u64,
    since: Instant,
}

/// The data for creating a resource.
pub struct NewResource<'a, F> {
    /// The events of its route.
    pub events: &'a Arc<RouteEvents>,
    /// Starts a poller for it.
    pub spawn_poller: F,
}

impl Hub {
    /// Creates an empty hub.
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
            quotas: Arc::default(),
            memory_budget: room,
            consumed: ConsumedResponses::default(),
            cookies: Arc::default(),
            vain: Mutex::default(),
            arrivals: AtomicU64::new(0),
            observed: Observed::default(),
            seed,
        }
    }

    /// Changes the limits. Existing resources beyond them stay until they are idle.
    pub fn set_options(&self, options: Options) {
        self.options.store(Arc::new(options));
        self.memory_budget.resize(options.max_history_bytes);
    }

    /// Returns the memory budget of all histories.
    pub fn memory_budget(&self) -> &Ration {
        &self.memory_budget
    }

    /// Returns the index of held clients and watched resources by cookie.
    pub fn cookies(&self) -> &Arc<CookieIndex> {
        &self.cookies
    }

    /// Returns whether any consumed responses are waiting for their clients.
    pub fn has_consumed(&self) -> bool {
        self.consumed.has_any()
    }

    /// Takes a consumed response for the client that requests `key`, if there is one that `fits` the client.
    pub fn take_consumed(
        &self,
        key: &ResourceKey,
        fits: impl Fn(&Representation) -> bool,
        now: Instant,
    ) -> Option<Representation> {
        self.consumed.take(self.client(key), &key.target, fits, now)
    }

    /// Records the application's own response to a request for `key`; `None` is a 304. A resource that waits for such
    /// evidence is woken.
    pub fn observe(&self, key: &ResourceKey, answer: Option<Representation>, now: Instant) {
        let client = self.client(key);
        match answer {
            Some(answer) => self.observed.note(client, &key.target, answer, now),
            None => self.observed.repeat(client, &key.target, now),
        }
        let plain = without_busters(&key.target);
        let other = (*plain != *key.target).then_some(plain);
        for target in std::iter::once(key.target.to_string()).chain(other) {
            self.with_target(&target)
                .iter()
                .filter(|resource| resource.is_untried() || resource.page().is_shown())
                .for_each(|resource| resource.wake());
        }
    }

    /// Returns the hash of a client at one path: of its cookies and authorization, without statistics cookies.
    fn client(&self, key: &ResourceKey) -> u64 {
        let mut known: Vec<&[u8]> = Vec::new();
        for (name, value) in key.identity.credentials() {
            if *name == COOKIE {
                let pairs = value.expose().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                known.extend(
                    pairs.filter(|pair| !pair.is_empty() && !fields::is_of_statistics(fields::cookie_name(pair))),
                );
            } else {
                known.push(value.expose());
            }
        }
        known.sort_unstable();
        let path = key.target.split('?').next().unwrap_or_default();
        self.hasher.hash_one((&key.origin, path, known))
    }

    /// Subscribes a client at `address`, held by `delivery` and woken by `notify`, to the resource `key`. Creates the
    /// resource if it does not exist.
    ///
    /// # Errors
    /// Returns [`LimitReached`] if the resource does not exist and a limit is reached.
    pub fn join(
        &self,
        key: &ResourceKey,
        address: Option<IpAddr>,
        delivery: &'static str,
        notify: Arc<TaskNotify>,
        now: Instant,
        new_resource: NewResource<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Subscription, LimitReached> {
        self.evict_idle(key, address, now);
        let mut shard = self.shard(&key.target);
        Ok(self.find_or_start(&mut shard, key, address, now, new_resource)?.subscribe(
            address.map(AddressBucket::of),
            delivery,
            notify,
        ))
    }

    /// Records the arrival of a plain request for `key` at `now`. `client` is a hash of the client, which may be
    /// ambiguous. Returns the known facts about similar requests. The caller must call [`leave`](Hub::leave) at the
    /// end.
    pub fn arrive(&self, key: &ResourceKey, client: u64, now: Instant) -> (Arrival, Crowd) {
        let shard = self.shard_of(&key.target);
        let id = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival { shard, key: self.hasher.hash_one(key), id, client, since: now };
        let mut shard = lock(&self.shards[shard]);
        let crowd = shard.traffic.crowd(arrival.key, client, now);
        shard.traffic.arrive(arrival.key, id, now);
        (arrival, crowd)
    }

    /// Records that this server answers the request itself, and may hold it.
    pub fn withhold(&self, arrival: &Arrival) {
        lock(&self.shards[arrival.shard]).traffic.withhold(arrival.key, arrival.id);
    }

    /// Records that the request was answered or abandoned.
    pub fn leave(&self, arrival: &Arrival, now: Instant) {
        let Arrival { shard, key, id, client, since } = *arrival;
        lock(&self.shards[shard]).traffic.leave(key, id, client, since, now);
    }

    /// Records that the application itself has answered the request completely.
    pub fn answered(&self, arrival: &Arrival, now: Instant) {
        let took = now.saturating_duration_since(arrival.since);
        lock(&self.shards[arrival.shard]).traffic.answered(arrival.key, took, now);
    }

    /// Returns the resource `key`, creating it if it does not exist.
    ///
    /// # Errors
    /// Returns [`LimitReached`] if the resource does not exist and a limit is reached.
    pub fn obtain(
        &self,
        key: &ResourceKey,
        address: Option<IpAddr>,
        now: Instant,
        new_resource: NewResource<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Arc<Resource>, LimitReached> {
        self.evict_idle(key, address, now);
        self.find_or_start(&mut self.shard(&key.target), key, address, now, new_resource)
    }

    /// Returns the resource `key`, if it is watched.
    pub fn get(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        self.shard(&key.target).find(key).cloned()
    }

    /// Records that the backend itself shows the client of `key` a state at `now`, which may be newer than the known
    /// states of all variants.
    pub fn shown(&self, key: &ResourceKey, now: Instant) {
        let shard = self.shard(&key.target);
        if let Some(resource) = shard.find(key) {
            resource.fence(now);
            if resource.page().is_shown() {
                resource.pass(now);
            }
        }
        if let Some((siblings, _)) = shard.siblings.get(&self.family(key)) {
            siblings.show("", now);
        }
    }

    /// Returns a hash that is equal for all variants of a target for clients with the same credentials.
    fn family(&self, key: &ResourceKey) -> u64 {
        self.hasher.hash_one((&key.origin, &key.target, key.identity.credentials().collect::<Vec<_>>()))
    }

    /// Returns an opaque tag of the key's identity. It is equal for equal keys in this process, and reveals nothing
    /// about them.
    pub fn identity_tag(&self, key: &ResourceKey) -> String {
        format!("{:016x}", self.hash(key))
    }

    /// Returns a hash of `key` that is valid in this process.
    pub fn hash(&self, key: &ResourceKey) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Returns all resources with this target, for all clients.
    pub fn with_target(&self, target: &str) -> Vec<Arc<Resource>> {
        let resources = |found: &HashMap<_, Entry>| found.values().map(|entry| Arc::clone(&entry.resource)).collect();
        self.shard(target).targets.get(target).map_or_else(Vec::new, resources)
    }

    /// Returns all resources.
    pub fn resources(&self) -> Vec<Arc<Resource>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = lock(shard);
            all.extend(shard.targets.values().flat_map(HashMap::values).map(|entry| Arc::clone(&entry.resource)));
        }
        all
    }

    /// Returns the number of resources.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Returns whether there are no resources.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find_or_start(
        &self,
        shard: &mut Shard,
        key: &ResourceKey,
        address: Option<IpAddr>,
        now: Instant,
        new_resource: NewResource<'_, impl FnOnce(Arc<Resource>)>,
    ) -> Result<Arc<Resource>, LimitReached> {
        if let Some(found) = shard.find(key) {
            return Ok(Arc::clone(found));
        }
        let network = address.map(AddressBucket::of);
        if !self.memory_budget.has_room(Owner::of(network, key)) {
            return Err(LimitReached::History(self.memory_budget.most()));
        }
        let charge = self.acquire_quota(key, address)?;
        let most = self.options.load().max_resources;
        if self.len.fetch_add(1, Ordering::AcqRel) >= most {
            self.len.fetch_sub(1, Ordering::AcqRel);
            return Err(LimitReached::Resources(most));
        }
        let (route_events, room) = (Arc::clone(new_resource.events), Arc::clone(&self.memory_budget));
        let (siblings, count) = shard.siblings.entry(self.family(key)).or_default();
        *count += 1;
        let siblings = Arc::clone(siblings);
        let resource = Arc::new(Resource::among(key.clone(), key.handle(self.seed), route_events, room, siblings, now));
        resource.born_for(network);
        (new_resource.spawn_poller)(Arc::clone(&resource));
        let revocable: Weak<dyn Revocable> = Arc::downgrade(&(Arc::clone(&resource) as Arc<dyn Revocable>));
        let cookies = self.cookies.register(key.identity.cookies(), revocable);
        let entry = Entry { resource: Arc::clone(&resource), _quota: charge, _cookies: cookies };
        shard.targets.entry(Arc::clone(&key.target)).or_default().insert(key.clone(), entry);
        Ok(resource)
    }

    /// Counts one more resource against the quotas of its identity, if it has one, and of its first client's address.
    fn acquire_quota(&self, key: &ResourceKey, address: Option<IpAddr>) -> Result<QuotaGuard, LimitReached> {
        let options = self.options.load();
        let (identity, place) = (options.max_resources_per_identity, options.max_resources_per_address);
        let place_of =
            |address| (self.hasher.hash_one(AddressBucket::of(address)), place, LimitReached::Address(place));
        let mut on: Vec<_> = address.map(place_of).into_iter().collect();
        if key.identity.fields().next().is_some() {
            on.push((self.hasher.hash_one(&key.identity), identity, LimitReached::Identity(identity)));
        }
        self.quotas.acquire(&on)
    }

    /// If there is no room for `key`, evicts idle resources, the least recently used first: any, or only those of the
    /// network at `address` if that network alone exceeds its share.
    fn evict_idle(&self, key: &ResourceKey, address: Option<IpAddr>, now: Instant) {
        let network = address.map(AddressBucket::of);
        let is_full = self.memory_budget.is_full() || self.len() >= self.options.load().max_resources;
        if !is_full && self.memory_budget.has_room(Owner::of(network, key)) || self.get(key).is_some() {
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
        for resource in idle.iter().take(idle.len().div_ceil(EVICTION_FRACTION)) {
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

    /// Removes `resource` if `condition` holds. Also returns `true` if another resource has taken its place.
    fn remove_if(&self, resource: &Arc<Resource>, condition: impl FnOnce(&Resource) -> bool) -> bool {
        let key = resource.key();
        let mut shard = self.shard(&key.target);
        if !shard.find(key).is_some_and(|found| Arc::ptr_eq(found, resource)) {
            return true;
        }
        let remove = condition(resource);
        if remove {
            shard.remove(key, self.family(key));
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        remove
    }
}

impl ResourceRegistry for Hub {
    fn remove_if_idle(&self, resource: &Arc<Resource>) -> bool {
        self.remove_if(resource, |resource| resource.held() == 0 && !resource.is_triggered())
    }

    fn remove(&self, resource: &Arc<Resource>) {
        self.remove_if(resource, |_| true);
    }

    fn store_consumed(&self, resource: &Resource, answers: Vec<Representation>, now: Instant) {
        let key = resource.key();
        self.consumed.store(self.client(key), &key.target, answers, resource.client_interval().min, now);
    }

    fn evidence(&self, resource: &Resource, now: Instant) -> Option<Evidence> {
        self.observed.evidence(self.client(resource.key()), &resource.key().target, now)
    }
}
