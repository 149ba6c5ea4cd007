//! The handle by which a poller and any number of clients share a resource.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::askers::Askers;
use super::subscribers::Subscribers;
use super::waiting::Waits;
use super::{
    ClientInterval, Ended, FetchLogEntry, Page, ReplicaAffinity, ResourceState, Revocable, RouteEvents, Siblings,
    Subscription, TaskNotify, Trigger,
};
use crate::model::{AddressBucket, EndReason, Ration, ResourceKey};

/// Whoever is held is so for at least this long when a cookie is replaced: one may change with each answer.
pub const MIN_AGE_FOR_ROTATION: Duration = Duration::from_secs(1);

/// How many fetches are kept on record.
const MAX_ENTRIES: usize = 32;

/// A watched resource.
///
/// The poller publishes resource states; clients read them without a lock and are notified of each.
pub struct Resource {
    key: ResourceKey,
    handle: String,
    route_events: Arc<RouteEvents>,
    memory_budget: Arc<Ration>,
    created_at: Instant,
    state: ArcSwap<ResourceState>,
    subscribers: Mutex<Subscribers>,
    fetch_progress: Notify,
    /// Whether a held client waits for the next fetch, whatever it brings.
    wake_all_on_fetch: AtomicBool,
    /// Whether the watch is to end.
    closing: AtomicBool,
    /// Whether the backend has replaced a cookie that it is fetched with.
    rotated: AtomicBool,
    /// Whether what fetches bring has not been found to be what clients are answered.
    untried: AtomicBool,
    page: Page,
    poller_wakeup: Notify,
    pending: AtomicUsize,
    fence: AtomicU64,
    siblings: Arc<Siblings>,
    /// One more than the moment at which the last fetch began whose outcome is or will be published, as the fence is; 0 if
    /// there is none.
    fetch_started_at: AtomicU64,
    /// One more than the moment from which on clients have demanded a fetch; it is demanded while that is later.
    demanded_since: AtomicU64,
    pub(super) waits: Waits,
    pub(super) askers: Askers,
    polled: Mutex<Option<Instant>>,
    interval: AtomicU64,
    fetch_log: Mutex<VecDeque<FetchLogEntry>>,
    affinity: ReplicaAffinity,
}

impl Resource {
    /// A resource that nobody has fetched. `handle` names it in logs; `route_events` are its route's; its history will stand in
    /// `room`.
    pub fn new(
        key: ResourceKey,
        handle: String,
        route_events: Arc<RouteEvents>,
        room: Arc<Ration>,
        now: Instant,
    ) -> Self {
        Self::among(key, handle, route_events, room, Arc::default(), now)
    }

    /// The same for one that shares its target and its clients with `siblings`.
    pub fn among(
        key: ResourceKey,
        handle: String,
        route_events: Arc<RouteEvents>,
        room: Arc<Ration>,
        siblings: Arc<Siblings>,
        now: Instant,
    ) -> Self {
        Self {
            askers: Askers::new(&key),
            key,
            handle,
            route_events,
            memory_budget: room,
            created_at: now,
            state: ArcSwap::default(),
            subscribers: Mutex::default(),
            fetch_progress: Notify::new(),
            wake_all_on_fetch: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            rotated: AtomicBool::new(false),
            untried: AtomicBool::new(false),
            page: Page::new(now),
            poller_wakeup: Notify::new(),
            pending: AtomicUsize::new(0),
            fence: AtomicU64::new(0),
            siblings,
            fetch_started_at: AtomicU64::new(0),
            demanded_since: AtomicU64::new(0),
            waits: Waits::default(),
            polled: Mutex::default(),
            interval: AtomicU64::new(0),
            fetch_log: Mutex::default(),
            affinity: ReplicaAffinity::default(),
        }
    }

    /// What makes it this resource.
    pub fn key(&self) -> &ResourceKey {
        &self.key
    }

    /// A short name that gives no credential away.
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// The newest head.
    pub fn state(&self) -> Guard<Arc<ResourceState>> {
        self.state.load()
    }

    /// The newest head, to keep.
    pub fn state_full(&self) -> Arc<ResourceState> {
        self.state.load_full()
    }

    // The poller's side.

    /// Replaces the state and wakes those who wait for a fetch; with `ring`, every held client too.
    pub fn publish(&self, head: Arc<ResourceState>, ring: bool) {
        self.state.store(head);
        if self.wake_all_on_fetch.swap(false, Ordering::AcqRel) || ring {
            for (_, notify) in &self.lock_subscribers().tasks {
                notify.notify();
            }
        }
        self.fetch_progress.notify_waiters();
    }

    /// How many clients are held.
    pub fn held(&self) -> usize {
        self.lock_subscribers().tasks.len()
    }

    /// Asks the poller to end the watch: its route is there no more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.poller_wakeup.notify_one();
    }

    /// Whether the watch is to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Why the watch ends when it is closed.
    pub fn close_reason(&self) -> EndReason {
        if self.rotated.load(Ordering::Acquire) { EndReason::Auth } else { EndReason::Reload }
    }

    /// What held clients are told of the end. Those whose cookies the backend has replaced have newer ones by now: they are
    /// told to come again rather than that they are signed out.
    pub fn end_reason(&self, ended: &Ended) -> EndReason {
        match ended.reason() {
            EndReason::Auth if self.rotated.load(Ordering::Acquire) => EndReason::Reload,
            reason => reason,
        }
    }

    /// Completes when the first client came, the last one left, or a trigger is pending. One permit is kept, so nothing
    /// is missed between two waits.
    pub async fn poller_wakeup(&self) {
        self.poller_wakeup.notified().await;
    }

    /// Takes the pending triggers, if there is to be a fetch, and returns the most telling; writes count only if they are
    /// reason enough. Without a watcher, who is `held`, there is no fetch, whatever happened, unless a client demands it:
    /// whoever comes next will ask.
    pub fn take_trigger(&self, held: bool, heeds_writes: bool) -> Option<Trigger> {
        let mut pending = self.pending.swap(0, Ordering::AcqRel);
        if !heeds_writes {
            pending &= !Trigger::Write.bit();
        }
        if self.is_demanded() {
            pending |= Trigger::Demand.bit();
        } else if !held {
            return None;
        }
        Trigger::ALL.into_iter().rev().find(|trigger| pending & trigger.bit() != 0)
    }

    /// Whether a trigger waits to be taken.
    pub fn is_triggered(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0 || self.is_demanded()
    }

    /// Where it is fetched.
    pub fn affinity(&self) -> &ReplicaAffinity {
        &self.affinity
    }

    /// Tells the admin API at what interval the resource is fetched now.
    pub fn set_interval(&self, interval: Duration) {
        self.interval.store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The interval at which the resource is fetched now.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval.load(Ordering::Relaxed))
    }

    /// Keeps a fetch on record, and forgets the oldest.
    pub fn log_fetch(&self, entry: FetchLogEntry) {
        let mut ledger = self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.len() >= MAX_ENTRIES {
            ledger.pop_front();
        }
        ledger.push_back(entry);
    }

    /// The last fetches, oldest first.
    pub fn fetch_log(&self) -> Vec<FetchLogEntry> {
        self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last fetch, if there was one.
    pub fn last_fetch(&self) -> Option<FetchLogEntry> {
        self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    // The clients' side.

    /// How often the clients that are held here would fetch by themselves.
    pub fn client_interval(&self) -> ClientInterval {
        let roster = self.lock_subscribers();
        let fastest = roster.min_interval();
        ClientInterval {
            min: fastest,
            declared_by_all: fastest.is_some() && roster.intervals.len() == roster.tasks.len(),
        }
    }

    /// Nobody has said that fetches bring what clients are answered: until they are found to, nothing waits for one.
    pub fn set_untried(&self, untried: bool) {
        self.untried.store(untried, Ordering::Release);
    }

    /// A client has asked for it in words of our own: whoever wrote it knows that Sungrazer fetches it.
    pub fn vouch(&self) {
        if self.untried.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Whether that is still to be found out.
    pub fn is_untried(&self) -> bool {
        self.untried.load(Ordering::Acquire)
    }

    /// Has the poller see how things stand.
    pub fn wake(&self) {
        self.poller_wakeup.notify_one();
    }

    /// The same as the page that clients show.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// The backend has answered somebody who loads the page.
    pub fn pass(&self, now: Instant) {
        self.page.pass(now);
        self.wake();
    }

    /// Asks for a fetch as soon as the route's `refresh_gap` and the budget allow, if somebody is held. Who needs one
    /// [demands](Resource::demand) it.
    pub fn trigger(&self, trigger: Trigger) {
        self.pending.fetch_or(trigger.bit(), Ordering::AcqRel);
        self.poller_wakeup.notify_one();
    }

    /// Asks for a fetch for a client that needs one from `since` or later. One that is under way, or that has just been
    /// published, will do if it began late enough: a herd that arrives while it lasts asks for no more.
    pub fn demand(&self, since: Instant) {
        self.demanded_since.fetch_max(self.offset(since).saturating_add(1), Ordering::SeqCst);
        if self.is_demanded() {
            self.poller_wakeup.notify_one();
        }
    }

    /// Whether the last fetch began too early for somebody who is still there.
    pub fn is_demanded(&self) -> bool {
        self.demanded_since.load(Ordering::SeqCst) > self.fetch_started_at.load(Ordering::SeqCst) && self.is_wanted()
    }

    /// Whether somebody has said that there is something to be seen: an operator, or a file that was changed.
    pub fn is_hinted(&self) -> bool {
        self.pending.load(Ordering::Acquire) & (Trigger::File.bit() | Trigger::Hook.bit()) != 0
    }

    /// A fetch began that gives whoever waits for one from `started` or earlier what it waits for, unless it is
    /// [discarded](Resource::fetch_discarded).
    pub fn fetch_started(&self, started: Instant) {
        self.fetch_started_at.store(self.offset(started).saturating_add(1), Ordering::SeqCst);
        self.fetch_progress.notify_waiters();
    }

    /// When the fetch began that serves whoever needs one from `since` or later; `None` if there is none yet.
    pub(super) fn fetch_started_since(&self, since: Instant) -> Option<Instant> {
        let began = self.fetch_started_at.load(Ordering::SeqCst);
        (began > self.offset(since)).then(|| self.at(began - 1))
    }

    /// The fetch that has begun is called off: nobody waits for it any more.
    pub fn fetch_abandoned(&self) {
        self.fetch_started_at.store(0, Ordering::SeqCst);
    }

    /// The last fetch will not be published. Whoever waits for it waits for one that begins at the fence or later, even if
    /// nobody is held any more.
    pub fn fetch_discarded(&self) {
        self.fetch_started_at.store(0, Ordering::SeqCst);
        self.demand(self.fenced());
    }

    /// From now on, only a fetch that began at `now` or later counts as current: something was done, or seen, that an
    /// earlier fetch may not know.
    pub fn fence(&self, now: Instant) {
        self.fence.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// The moment before which no fetch counts as current.
    pub fn fenced(&self) -> Instant {
        self.own_fence().max(self.route_events.fenced())
    }

    /// The moment before which no fetch is the answer to a request: the fence, and whatever its clients may have been shown
    /// of the same target in another variant.
    pub fn current_since(&self) -> Instant {
        let shown = self.siblings.shown_beside(&self.handle);
        shown.map_or(self.fenced(), |shown| shown.max(self.fenced()))
    }

    /// The resources of the same target for the same clients.
    pub fn siblings(&self) -> &Arc<Siblings> {
        &self.siblings
    }

    /// The same, whatever happened to the other resources of its route.
    pub fn own_fence(&self) -> Instant {
        self.at(self.fence.load(Ordering::Acquire))
    }

    /// What happens to all resources of its route.
    pub fn route_events(&self) -> &RouteEvents {
        &self.route_events
    }

    /// The memory that its history shares with others.
    pub fn memory_budget(&self) -> &Arc<Ration> {
        &self.memory_budget
    }

    /// When somebody last wanted it, as far as that shows: a resource that is held is fetched.
    pub fn last_used(&self) -> Instant {
        let seen = self.last_poll().max(self.state().last_attempt);
        seen.map_or(self.created_at, |seen| seen.max(self.created_at))
    }

    /// How long the last `most` fetches took that were answered, the latest first.
    pub(super) fn durations(&self, most: usize) -> Vec<Duration> {
        let ledger = self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = ledger.iter().rev().filter(|entry| entry.result != "error");
        answered.take(most).map(|entry| entry.took).collect()
    }

    /// Has the poller see what has happened.
    pub(super) fn alert(&self) {
        self.poller_wakeup.notify_one();
    }

    /// Completes when a fetch begins or ends.
    pub(super) fn progress(&self) -> Notified<'_> {
        self.fetch_progress.notified()
    }

    /// The moment that is this far from the birth of the resource, in nanoseconds.
    pub(super) fn at(&self, offset: u64) -> Instant {
        self.created_at + Duration::from_nanos(offset)
    }

    pub(super) fn offset(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.created_at).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes a plain poll, and returns when the one before came.
    pub fn record_poll(&self, now: Instant) -> Option<Instant> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).replace(now)
    }

    /// When the last plain poll came.
    pub fn last_poll(&self) -> Option<Instant> {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all held clients woken by the next fetch, also if it brings nothing new.
    pub fn wake_on_next_fetch(&self) {
        self.wake_all_on_fetch.store(true, Ordering::Release);
    }

    /// Makes a client of `network` that is held count, and wakes it by `notify` at each update.
    pub fn subscribe(
        self: &Arc<Self>,
        network: Option<AddressBucket>,
        delivery: &'static str,
        notify: Arc<TaskNotify>,
    ) -> Subscription {
        self.askers.add(network);
        let mut roster = self.lock_subscribers();
        let slot = roster.tasks.insert(notify);
        roster.count(delivery, 1);
        if roster.tasks.len() == 1 {
            self.poller_wakeup.notify_one();
        }
        Subscription { resource: Arc::clone(self), network, delivery, slot, interval: None }
    }

    /// Held clients by delivery.
    pub fn subscribers(&self) -> Vec<(&'static str, usize)> {
        self.lock_subscribers().by_delivery.clone()
    }

    pub(super) fn lock_subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backend has given somebody another value for a cookie that the resource is fetched with. Those who are held come again
/// with the new one.
impl Revocable for Resource {
    fn revoke(self: Arc<Self>) {
        if !self.rotated.swap(true, Ordering::AcqRel) {
            tokio::spawn(async move {
                sleep_until(self.created_at + MIN_AGE_FOR_ROTATION).await;
                self.close();
            });
        }
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("handle", &self.handle)
            .field("target", &self.key.target)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
