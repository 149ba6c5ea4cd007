//! The cohorts of a route, and the place of each poller in its cohort.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cohort::{Cohort, Found, Orders};
use crate::resource::{Resource, ResourceState, Trigger, Verdict};
use crate::telemetry::RouteMetrics;

/// The cohorts of a route: one for each URL, variant and body.
#[derive(Debug, Default)]
pub struct Cohorts {
    hasher: RandomState,
    places: Mutex<HashMap<u64, Arc<Mutex<Place>>>>,
}

#[derive(Debug, Default)]
struct Place {
    cohort: Cohort,
    resources: HashMap<usize, Arc<Resource>>,
}

/// The membership of a resource in the cohort of its URL; ends when it is dropped.
pub(super) struct CohortSeat {
    cohorts: Arc<Cohorts>,
    key: u64,
    place: Arc<Mutex<Place>>,
    id: usize,
    metrics: Arc<RouteMetrics>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CohortSeat {
    /// Adds `resource` to the cohort of its URL.
    pub(super) fn new(cohorts: &Arc<Cohorts>, resource: &Arc<Resource>, metrics: &Arc<RouteMetrics>) -> Self {
        let key = resource.key();
        let key = cohorts.hasher.hash_one((&key.origin, &key.target, &key.variant, &key.body));
        let mut places = lock(&cohorts.places);
        let place = Arc::clone(places.entry(key).or_default());
        let id = {
            let mut place = lock(&place);
            let id = place.cohort.join();
            place.resources.insert(id, Arc::clone(resource));
            id
        };
        drop(places);
        Self { cohorts: Arc::clone(cohorts), key, place, id, metrics: Arc::clone(metrics) }
    }

    /// Returns when the next fetch of a held resource is due, where its own interval would be `interval` and may be
    /// `longest`; `None` if it does not take turns.
    pub(super) fn due(&self, interval: Duration, longest: Duration) -> Option<Instant> {
        self.with(|cohort, id| cohort.due(id, interval, longest))
    }

    /// Records that the resource has no held clients.
    pub(super) fn away(&self) {
        self.order(Cohort::away);
    }

    /// Records that a fetch begins.
    pub(super) fn begin(&self, now: Instant) {
        self.order(|cohort, id| cohort.begin(id, now));
    }

    /// Records the outcome of a fetch that ended at `finished` and led to `state`.
    pub(super) fn record(&self, state: &ResourceState, verdict: &Verdict, finished: Instant) {
        let content = state.newest().filter(|_| !matches!(verdict, Verdict::Failed(_) | Verdict::Ended));
        let found = content.map_or(Found::Failure, |newest| Found::Content(newest.version.meaning));
        self.order(|cohort, id| cohort.record(id, found, finished));
    }

    /// Returns among how many resources the fetches are divided.
    pub(super) fn turns(&self) -> usize {
        lock(&self.place).cohort.turns().max(1)
    }

    fn order(&self, work: impl FnOnce(&mut Cohort, usize) -> Orders) {
        let orders = self.with(work);
        if orders == Orders::default() {
            return;
        }
        let place = lock(&self.place);
        let resources =
            |ids: &[usize]| ids.iter().filter_map(|id| place.resources.get(id).cloned()).collect::<Vec<_>>();
        let (fetch, next) = (resources(&orders.fetch), resources(orders.next.as_slice()));
        drop(place);
        fetch.iter().for_each(|resource| resource.trigger(Trigger::Cohort));
        next.iter().for_each(|resource| resource.wake());
    }

    fn with<T>(&self, work: impl FnOnce(&mut Cohort, usize) -> T) -> T {
        let mut place = lock(&self.place);
        let before = place.cohort.turns() > 1;
        let outcome = work(&mut place.cohort, self.id);
        let after = place.cohort.turns() > 1;
        if before != after {
            self.metrics.cohorts(after);
        }
        outcome
    }
}

impl Drop for CohortSeat {
    fn drop(&mut self) {
        let mut places = lock(&self.cohorts.places);
        self.order(Cohort::leave);
        let mut place = lock(&self.place);
        place.resources.remove(&self.id);
        if place.cohort.is_empty() {
            places.remove(&self.key);
        }
    }
}
