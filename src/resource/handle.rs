//! The handle through which a poller and any number of clients share a resource.

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

/// How long a client is held at least when one of its cookies is replaced, because a cookie may change with each
/// response.
pub const MIN_AGE_FOR_ROTATION: Duration = Duration::from_secs(1);

/// The maximum number of fetches in the log.
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
    /// Whether a held client waits for the next fetch, whatever its outcome.
    wake_all_on_fetch: AtomicBool,
    /// Whether the watch is to end.
    closing: AtomicBool,
    /// Whether the backend has replaced a cookie of this resource's key.
    rotated: AtomicBool,
    /// Whether it is still unknown if fetches receive the same responses as clients.
    untried: AtomicBool,
    page: Page,
    poller_wakeup: Notify,
    pending: AtomicUsize,
    fence: AtomicU64,
    siblings: Arc<Siblings>,
    /// One more than the start time of the last fetch with a published or pending outcome, counted like the fence; 0 if
    /// there is none.
    fetch_started_at: AtomicU64,
    /// One more than the time since which clients demand a fetch. A fetch is demanded while this is later than
    /// `fetch_started_at`.
    demanded_since: AtomicU64,
    pub(super) waits: Waits,
    pub(super) askers: Askers,
    polled: Mutex<Option<Instant>>,
    interval: AtomicU64,
    fetch_log: Mutex<VecDeque<FetchLogEntry>>,
    affinity: ReplicaAffinity,
}

impl Resource {
    /// Creates a resource that has not been fetched. `handle` is its name in logs, `route_events` belong to its route,
    /// and its history takes memory from `room`.
    pub fn new(
        key: ResourceKey,
        handle: String,
        route_events: Arc<RouteEvents>,
        room: Arc<Ration>,
        now: Instant,
    ) -> Self {
        Self::among(key, handle, route_events, room, Arc::default(), now)
    }

    /// The same for a resource that shares its target and its clients with `siblings`.
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

    /// Returns the key.
    pub fn key(&self) -> &ResourceKey {
        &self.key
    }

    /// Returns a short name that reveals no credentials.
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// Returns the newest state.
    pub fn state(&self) -> Guard<Arc<ResourceState>> {
        self.state.load()
    }

    /// Returns the newest state as an owned reference.
    pub fn state_full(&self) -> Arc<ResourceState> {
        self.state.load_full()
    }

    // The poller's side.

    /// Replaces the state and wakes the clients that wait for a fetch; with `ring`, all held clients.
    pub fn publish(&self, head: Arc<ResourceState>, ring: bool) {
        self.state.store(head);
        if self.wake_all_on_fetch.swap(false, Ordering::AcqRel) || ring {
            for (_, notify) in &self.lock_subscribers().tasks {
                notify.notify();
            }
        }
        self.fetch_progress.notify_waiters();
    }

    /// Returns the number of held clients.
    pub fn held(&self) -> usize {
        self.lock_subscribers().tasks.len()
    }

    /// Asks the poller to end the watch, because the route was removed.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.poller_wakeup.notify_one();
    }

    /// Returns whether the watch is to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Returns the reason for the end of a closed watch.
    pub fn close_reason(&self) -> EndReason {
        if self.rotated.load(Ordering::Acquire) { EndReason::Auth } else { EndReason::Reload }
    }

    /// Returns the reason that held clients receive at the end of the watch. Clients whose cookies the backend has
    /// replaced have newer ones now, so they are told to reconnect instead of that they are signed out.
    pub fn end_reason(&self, ended: &Ended) -> EndReason {
        match ended.reason() {
            EndReason::Auth if self.rotated.load(Ordering::Acquire) => EndReason::Reload,
            reason => reason,
        }
    }

    /// Completes when the first client has subscribed, the last one has left, or a trigger is pending. One permit is
    /// stored, so no event between two waits is missed.
    pub async fn poller_wakeup(&self) {
        self.poller_wakeup.notified().await;
    }

    /// Takes the pending triggers and returns the most important one, if there is to be a fetch; writes count only if
    /// `heeds_writes`. If no client is `held` there is no fetch, unless a client demands it: the next client will
    /// demand one.
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

    /// Returns whether a trigger is pending.
    pub fn is_triggered(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0 || self.is_demanded()
    }

    /// Returns the replica on which it is fetched.
    pub fn affinity(&self) -> &ReplicaAffinity {
        &self.affinity
    }

    /// Sets the fetch interval that the admin API reports.
    pub fn set_interval(&self, interval: Duration) {
        self.interval.store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the current fetch interval.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval.load(Ordering::Relaxed))
    }

    /// Adds a fetch to the log, and drops the oldest entry if the log is full.
    pub fn log_fetch(&self, entry: FetchLogEntry) {
        let mut ledger = self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.len() >= MAX_ENTRIES {
            ledger.pop_front();
        }
        ledger.push_back(entry);
    }

    /// Returns the last fetches, oldest first.
    pub fn fetch_log(&self) -> Vec<FetchLogEntry> {
        self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Returns the last fetch, if there was one.
    pub fn last_fetch(&self) -> Option<FetchLogEntry> {
        self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    // The clients' side.

    /// Returns the polling intervals that held clients declare.
    pub fn client_interval(&self) -> ClientInterval {
        let roster = self.lock_subscribers();
        let fastest = roster.min_interval();
        ClientInterval {
            min: fastest,
            declared_by_all: fastest.is_some() && roster.intervals.len() == roster.tasks.len(),
        }
    }

    /// Sets whether it is unknown if fetches receive the same responses as clients. While it is, no client waits for a
    /// fetch.
    pub fn set_untried(&self, untried: bool) {
        self.untried.store(untried, Ordering::Release);
    }

    /// Records that a client requested the resource through an interface of this server. Its author knows that
    /// Sungrazer fetches it.
    pub fn vouch(&self) {
        if self.untried.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Returns whether it is unknown if fetches receive the same responses as clients.
    pub fn is_untried(&self) -> bool {
        self.untried.load(Ordering::Acquire)
    }

    /// Wakes the poller.
    pub fn wake(&self) {
        self.poller_wakeup.notify_one();
    }

    /// Returns the page that clients display.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// Records that the backend has answered a client that loads the page.
    pub fn pass(&self, now: Instant) {
        self.page.pass(now);
        self.wake();
    }

    /// Requests a fetch as soon as the route's `refresh_gap` and the budget allow, if any client is held. A client that
    /// needs one calls [`demand`](Resource::demand).
    pub fn trigger(&self, trigger: Trigger) {
        self.pending.fetch_or(trigger.bit(), Ordering::AcqRel);
        self.poller_wakeup.notify_one();
    }

    /// Demands a fetch that began at `since` or later. A fetch in progress or just published is sufficient if it began
    /// late enough, so a herd of clients causes no further fetches.
    pub fn demand(&self, since: Instant) {
        self.demanded_since.fetch_max(self.offset(since).saturating_add(1), Ordering::SeqCst);
        if self.is_demanded() {
            self.poller_wakeup.notify_one();
        }
    }

    /// Returns whether the last fetch began too early for a client that is still there.
    pub fn is_demanded(&self) -> bool {
        self.demanded_since.load(Ordering::SeqCst) > self.fetch_started_at.load(Ordering::SeqCst) && self.is_wanted()
    }

    /// Returns whether an operator or a changed file has announced a change.
    pub fn is_hinted(&self) -> bool {
        self.pending.load(Ordering::Acquire) & (Trigger::File.bit() | Trigger::Hook.bit()) != 0
    }

    /// Records the beginning of a fetch. It satisfies all demands from `started` or earlier, unless it is
    /// [discarded](Resource::fetch_discarded).
    pub fn fetch_started(&self, started: Instant) {
        self.fetch_started_at.store(self.offset(started).saturating_add(1), Ordering::SeqCst);
        self.fetch_progress.notify_waiters();
    }

    /// Returns when the fetch began that satisfies a demand from `since`; `None` if there is none yet.
    pub(super) fn fetch_started_since(&self, since: Instant) -> Option<Instant> {
        let began = self.fetch_started_at.load(Ordering::SeqCst);
        (began > self.offset(since)).then(|| self.at(began - 1))
    }

    /// Records that the current fetch was cancelled because no client waits for it any more.
    pub fn fetch_abandoned(&self) {
        self.fetch_started_at.store(0, Ordering::SeqCst);
    }

    /// Records that the last fetch will not be published. Demands for it are renewed for a fetch that begins at the
    /// fence or later, even if no client is held any more.
    pub fn fetch_discarded(&self) {
        self.fetch_started_at.store(0, Ordering::SeqCst);
        self.demand(self.fenced());
    }

    /// Moves the fence: only fetches that began at `now` or later count as current, because an earlier fetch may have
    /// missed an event.
    pub fn fence(&self, now: Instant) {
        self.fence.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// Returns the time before which no fetch counts as current.
    pub fn fenced(&self) -> Instant {
        self.own_fence().max(self.route_events.fenced())
    }

    /// Returns the time before which no fetch may answer a request: the fence, or the time when the clients were shown
    /// a newer state of the same target in another variant.
    pub fn current_since(&self) -> Instant {
        let shown = self.siblings.shown_beside(&self.handle);
        shown.map_or(self.fenced(), |shown| shown.max(self.fenced()))
    }

    /// Returns the resources of the same target for the same clients.
    pub fn siblings(&self) -> &Arc<Siblings> {
        &self.siblings
    }

    /// Returns the fence of this resource alone, without that of its route.
    pub fn own_fence(&self) -> Instant {
        self.at(self.fence.load(Ordering::Acquire))
    }

    /// Returns the events of its route.
    pub fn route_events(&self) -> &RouteEvents {
        &self.route_events
    }

    /// Returns the memory budget that its history shares with others.
    pub fn memory_budget(&self) -> &Arc<Ration> {
        &self.memory_budget
    }

    /// Returns when the resource was last used. A held resource is fetched regularly, so the last fetch counts as use.
    pub fn last_used(&self) -> Instant {
        let seen = self.last_poll().max(self.state().last_attempt);
        seen.map_or(self.created_at, |seen| seen.max(self.created_at))
    }

    /// Returns the durations of the last `most` answered fetches, latest first.
    pub(super) fn durations(&self, most: usize) -> Vec<Duration> {
        let ledger = self.fetch_log.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = ledger.iter().rev().filter(|entry| entry.result != "error");
        answered.take(most).map(|entry| entry.took).collect()
    }

    /// Wakes the poller.
    pub(super) fn alert(&self) {
        self.poller_wakeup.notify_one();
    }

    /// Completes when a fetch begins or ends.
    pub(super) fn progress(&self) -> Notified<'_> {
        self.fetch_progress.notified()
    }

    /// Returns the time at this offset from the resource's creation, in nanoseconds.
    pub(super) fn at(&self, offset: u64) -> Instant {
        self.created_at + Duration::from_nanos(offset)
    }

    pub(super) fn offset(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.created_at).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Records a plain poll, and returns the time of the previous one.
    pub fn record_poll(&self, now: Instant) -> Option<Instant> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).replace(now)
    }

    /// Returns the time of the last plain poll.
    pub fn last_poll(&self) -> Option<Instant> {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next fetch wake all held clients, even if it finds no change.
    pub fn wake_on_next_fetch(&self) {
        self.wake_all_on_fetch.store(true, Ordering::Release);
    }

    /// Subscribes a held client of `network`, which is woken by `notify` at each update.
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

    /// Returns the number of held clients by stream format.
    pub fn subscribers(&self) -> Vec<(&'static str, usize)> {
        self.lock_subscribers().by_delivery.clone()
    }

    pub(super) fn lock_subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called when the backend replaced a cookie that is part of this resource's key. Ends the watch so that held clients
/// reconnect with the new cookie.
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
