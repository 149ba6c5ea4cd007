//! Finds the resource for a key, or starts it.
//!
//! ```text
//! ResourceKey ──▶ Hub::join ──▶ Subscription (the resource is watched while one is held)
//!                     └── not there yet: it is born, and `NewResource::spawn_poller` sees to its poller
//! ```
//!
//! Joining and retiring happen under one lock, so a client never joins a resource whose poller has just decided to end.

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
pub enum LimitReached {
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

impl LimitReached {
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
    quotas: Arc<Quotas>,
    memory_budget: Arc<Ration>,
    consumed: ConsumedResponses,
    cookies: Arc<CookieIndex>,
    /// When resources that could make way were last searched for and not found: those of one network, and any.
    vain: Mutex<[Option<Instant>; 2]>,
    /// Plain requests so far.
    arrivals: AtomicU64,
    observed: Observed,
    /// Of the names by which resources appear in logs.
    seed: u64,
}

const SHARDS: usize = 16;

/// Where there is no place left, this part of those that nobody holds makes way at once, so that a flood does not cost a
/// search each time.
const EVICTION_FRACTION: usize = 16;

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
pub struct NewResource<'a, F> {
    /// What happens to all resources of its route.
    pub events: &'a Arc<RouteEvents>,
    /// Sees to it that somebody fetches it.
    pub spawn_poller: F,
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

    /// Changes what it may hold. What it holds beyond that stays until nobody needs it.
    pub fn set_options(&self, options: Options) {
        self.options.store(Arc::new(options));
        self.memory_budget.resize(options.max_history_bytes);
    }

    /// The memory of all histories.
    pub fn memory_budget(&self) -> &Ration {
        &self.memory_budget
    }

    /// Who is held, and what is watched, under which cookies.
    pub fn cookies(&self) -> &Arc<CookieIndex> {
        &self.cookies
    }

    /// Whether fetches have taken anything away that was not given to anybody yet.
    pub fn has_consumed(&self) -> bool {
        self.consumed.has_any()
    }

    /// What a fetch has taken away from the client who asks for `key`, of such as `fits` what it accepts: it is to be given it
    /// now.
    pub fn take_consumed(
        &self,
        key: &ResourceKey,
        fits: impl Fn(&Representation) -> bool,
        now: Instant,
    ) -> Option<Representation> {
        self.consumed.take(self.client(key), &key.target, fits, now)
    }

    /// The application has answered a request for `key` itself; `None` is a 304. Who waits to be known as a poll may be now.
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

    /// A client at one path: by its cookies and authorization, without such cookies as nobody is known by.
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

    /// Subscribes to the resource `key` for a client at `address` that is held by `delivery` and woken by `notify`. If nobody
    /// watches it yet it is born.
    ///
    /// # Errors
    /// [`LimitReached`] if the resource is not there and no further one may be.
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
    /// [`LimitReached`] if the resource is not there and no further one may be.
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

    /// The resource `key`, if it is watched.
    pub fn get(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        self.shard(&key.target).find(key).cloned()
    }

    /// The backend itself shows the client of `key` something at `now`: it may be newer than what is known of any variant.
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

    /// The same for all variants of a target for clients with the same credentials.
    fn family(&self, key: &ResourceKey) -> u64 {
        self.hasher.hash_one((&key.origin, &key.target, key.identity.credentials().collect::<Vec<_>>()))
    }

    /// Stands for whose the state of `key` is: equal for equal keys in this process, and gives nothing away of them.
    pub fn identity_tag(&self, key: &ResourceKey) -> String {
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

    /// Puts one more resource on the accounts of its identity, if it has one, and of its first client's address.
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

    /// If there is no place for `key`, those that nobody holds make way, the least recently used first: any, or only those of
    /// the network at `address` if that alone has too much.
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

    /// Removes `resource` if `condition` holds. `true` also if another has taken its place.
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
