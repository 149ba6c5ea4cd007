//! The handle by which a poller and any number of clients share a resource.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use slab::Slab;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::askers::Askers;
use super::waiting::Waits;
use super::{Bell, Ended, Entry, Head, Pulse, Revocable, Seat, Trigger};
use crate::model::{EndReason, Network, Ration, Representation, ResourceKey};

/// Whoever is held is so for at least this long when a cookie is replaced: one may change with each answer.
pub const SETTLED: Duration = Duration::from_secs(1);

/// How many looks are kept on record.
const MOST_ENTRIES: usize = 32;

/// A watched resource.
///
/// The poller publishes heads; clients read them without a lock and are woken by their bells.
pub struct Resource {
    key: ResourceKey,
    handle: String,
    pulse: Arc<Pulse>,
    room: Arc<Ration>,
    born: Instant,
    head: ArcSwap<Head>,
    roster: Mutex<Roster>,
    looked: Notify,
    /// Whether a held client waits for the next look, whatever it brings.
    awaited: AtomicBool,
    /// Whether the watch is to end.
    closing: AtomicBool,
    /// Whether the backend has replaced a cookie that it is looked at with.
    rotated: AtomicBool,
    attention: Notify,
    pending: AtomicUsize,
    fence: AtomicU64,
    /// One more than the moment at which the last look began whose outcome is or will be published, as the fence is; 0 if
    /// there is none.
    began: AtomicU64,
    /// One more than the moment from which on clients have demanded a look; it is demanded while that is later.
    demanded: AtomicU64,
    pub(super) waits: Waits,
    pub(super) askers: Askers,
    polled: Mutex<Option<Instant>>,
    interval: AtomicU64,
    ledger: Mutex<VecDeque<Entry>>,
    seat: Seat,
}

impl Resource {
    /// A resource that nobody has looked at. `handle` names it in logs; `pulse` is its route's; its history will stand in
    /// `room`.
    pub fn new(key: ResourceKey, handle: String, pulse: Arc<Pulse>, room: Arc<Ration>, now: Instant) -> Self {
        Self {
            askers: Askers::new(&key),
            key,
            handle,
            pulse,
            room,
            born: now,
            head: ArcSwap::default(),
            roster: Mutex::default(),
            looked: Notify::new(),
            awaited: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            rotated: AtomicBool::new(false),
            attention: Notify::new(),
            pending: AtomicUsize::new(0),
            fence: AtomicU64::new(0),
            began: AtomicU64::new(0),
            demanded: AtomicU64::new(0),
            waits: Waits::default(),
            polled: Mutex::default(),
            interval: AtomicU64::new(0),
            ledger: Mutex::default(),
            seat: Seat::default(),
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
    pub fn head(&self) -> Guard<Arc<Head>> {
        self.head.load()
    }

    /// The newest head, to keep.
    pub fn head_full(&self) -> Arc<Head> {
        self.head.load_full()
    }

    // The poller's side.

    /// Replaces the head and wakes those who wait for a look; with `ring`, every held client too.
    pub fn publish(&self, head: Arc<Head>, ring: bool) {
        self.head.store(head);
        if self.awaited.swap(false, Ordering::AcqRel) || ring {
            for (_, bell) in &self.roster().bells {
                bell.ring();
            }
        }
        self.looked.notify_waiters();
    }

    /// How many clients are held.
    pub fn held(&self) -> usize {
        self.roster().bells.len()
    }

    /// Asks the poller to end the watch: its route is there no more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.attention.notify_one();
    }

    /// Whether the watch is to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Why the watch ends when it is closed.
    pub fn closed_for(&self) -> EndReason {
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
    pub async fn attention(&self) {
        self.attention.notified().await;
    }

    /// Takes the pending triggers, if there is to be a look, and returns the most telling; writes count only if they are
    /// reason enough. Without a watcher, who is `held`, there is no look, whatever happened, unless a client demands it:
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

    /// Where it is looked at.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Tells the admin API at what interval the resource is looked at now.
    pub fn set_interval(&self, interval: Duration) {
        self.interval.store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The interval at which the resource is looked at now.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval.load(Ordering::Relaxed))
    }

    /// Keeps a look on record, and forgets the oldest.
    pub fn record(&self, entry: Entry) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.len() >= MOST_ENTRIES {
            ledger.pop_front();
        }
        ledger.push_back(entry);
    }

    /// The last looks, oldest first.
    pub fn ledger(&self) -> Vec<Entry> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last look, if there was one.
    pub fn last_look(&self) -> Option<Entry> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    // The clients' side.

    /// How often the clients that are held here would look by themselves.
    pub fn pace(&self) -> Pace {
        let roster = self.roster();
        let fastest = roster.fastest();
        Pace { fastest, of_all: fastest.is_some() && roster.paces.len() == roster.bells.len() }
    }

    /// Asks for a look as soon as the route's `refresh_gap` and the budget allow, if somebody is held. Who needs one
    /// [demands](Resource::demand) it.
    pub fn trigger(&self, trigger: Trigger) {
        self.pending.fetch_or(trigger.bit(), Ordering::AcqRel);
        self.attention.notify_one();
    }

    /// Asks for a look for a client that needs one from `since` or later. One that is under way, or that has just been
    /// published, will do if it began late enough: a herd that arrives while it lasts asks for no more.
    pub fn demand(&self, since: Instant) {
        self.demanded.fetch_max(self.offset(since).saturating_add(1), Ordering::SeqCst);
        if self.is_demanded() {
            self.attention.notify_one();
        }
    }

    /// Whether the last look began too early for somebody who is still there.
    pub fn is_demanded(&self) -> bool {
        self.demanded.load(Ordering::SeqCst) > self.began.load(Ordering::SeqCst) && self.is_wanted()
    }

    /// Whether somebody has said that there is something to be seen: an operator, or a file that was changed.
    pub fn is_told(&self) -> bool {
        self.pending.load(Ordering::Acquire) & (Trigger::File.bit() | Trigger::Hook.bit()) != 0
    }

    /// A look began that gives whoever waits for one from `started` or earlier what it waits for, unless it is
    /// [discarded](Resource::discard_look).
    pub fn look_began(&self, started: Instant) {
        self.began.store(self.offset(started).saturating_add(1), Ordering::SeqCst);
        self.looked.notify_waiters();
    }

    /// When the look began that serves whoever needs one from `since` or later; `None` if there is none yet.
    pub(super) fn began_since(&self, since: Instant) -> Option<Instant> {
        let began = self.began.load(Ordering::SeqCst);
        (began > self.offset(since)).then(|| self.at(began - 1))
    }

    /// The look that has begun is called off: nobody waits for it any more.
    pub fn abandon_look(&self) {
        self.began.store(0, Ordering::SeqCst);
    }

    /// The last look will not be published. Whoever waits for it waits for one that begins at the fence or later, even if
    /// nobody is held any more.
    pub fn discard_look(&self) {
        self.began.store(0, Ordering::SeqCst);
        self.demand(self.fenced());
    }

    /// From now on, only a look that began at `now` or later counts as current: something was done, or seen, that an
    /// earlier look may not know.
    pub fn fence(&self, now: Instant) {
        self.fence.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// The moment before which no look counts as current.
    pub fn fenced(&self) -> Instant {
        self.fenced_itself().max(self.pulse.fenced())
    }

    /// The same, whatever happened to the other resources of its route.
    pub fn fenced_itself(&self) -> Instant {
        self.at(self.fence.load(Ordering::Acquire))
    }

    /// What happens to all resources of its route.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The memory that its history shares with others.
    pub fn room(&self) -> &Arc<Ration> {
        &self.room
    }

    /// When somebody last wanted it, as far as that shows: a resource that is held is looked at.
    pub fn last_used(&self) -> Instant {
        let seen = self.last_poll().max(self.head().tried);
        seen.map_or(self.born, |seen| seen.max(self.born))
    }

    /// How long the last `most` looks took that were answered, the latest first.
    pub(super) fn durations(&self, most: usize) -> Vec<Duration> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = ledger.iter().rev().filter(|entry| entry.result != "error");
        answered.take(most).map(|entry| entry.took).collect()
    }

    /// Has the poller see what has happened.
    pub(super) fn alert(&self) {
        self.attention.notify_one();
    }

    /// Completes when a look begins or ends.
    pub(super) fn progress(&self) -> Notified<'_> {
        self.looked.notified()
    }

    /// The moment that is this far from the birth of the resource, in nanoseconds.
    pub(super) fn at(&self, offset: u64) -> Instant {
        self.born + Duration::from_nanos(offset)
    }

    pub(super) fn offset(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes a plain poll, and returns when the one before came.
    pub fn note_poll(&self, now: Instant) -> Option<Instant> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner).replace(now)
    }

    /// When the last plain poll came.
    pub fn last_poll(&self) -> Option<Instant> {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all held clients woken by the next look, also if it brings nothing new.
    pub fn await_look(&self) {
        self.awaited.store(true, Ordering::Release);
    }

    /// Makes a client of `network` that is held count, and wakes it by `bell` at each update.
    pub fn subscribe(
        self: &Arc<Self>,
        network: Option<Network>,
        delivery: &'static str,
        bell: Arc<Bell>,
    ) -> Subscription {
        self.askers.add(network);
        let mut roster = self.roster();
        let slot = roster.bells.insert(bell);
        roster.count(delivery, 1);
        if roster.bells.len() == 1 {
            self.attention.notify_one();
        }
        Subscription { resource: Arc::clone(self), network, delivery, slot, pace: None }
    }

    /// Held clients by delivery.
    pub fn subscribers(&self) -> Vec<(&'static str, usize)> {
        self.roster().by_delivery.clone()
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backend has given somebody another value for a cookie that the resource is looked at with. Those who are held come again
/// with the new one.
impl Revocable for Resource {
    fn revoke(self: Arc<Self>) {
        if !self.rotated.swap(true, Ordering::AcqRel) {
            tokio::spawn(async move {
                sleep_until(self.born + SETTLED).await;
                self.close();
            });
        }
    }
}

/// How often the clients that are held would look by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The most eager of those who say so.
    pub fastest: Option<Duration>,
    /// Whether all say so.
    pub of_all: bool,
}

/// The held clients of a resource.
#[derive(Default)]
struct Roster {
    bells: Slab<Arc<Bell>>,
    by_delivery: Vec<(&'static str, usize)>,
    /// How often those look by themselves who say so.
    paces: BTreeSet<(Duration, usize)>,
}

impl Roster {
    fn fastest(&self) -> Option<Duration> {
        self.paces.first().map(|(pace, _)| *pace)
    }

    fn count(&mut self, delivery: &'static str, change: isize) {
        match self.by_delivery.iter_mut().find(|(name, _)| *name == delivery) {
            Some((_, count)) => *count = count.saturating_add_signed(change),
            None => self.by_delivery.push((delivery, usize::try_from(change).unwrap_or(0))),
        }
    }
}

/// Takes a resource out of the hub.
pub trait Retire: Send + Sync + 'static {
    /// Removes `resource` if nobody needs it: `false` means that somebody just joined, so it lives on.
    fn retire(&self, resource: &Arc<Resource>) -> bool;

    /// Removes it whoever still holds it; they have been told that it ended.
    fn forget(&self, resource: &Arc<Resource>);

    /// Looking at `resource` took these answers away. They are given to the next who ask for it themselves.
    fn owe(&self, resource: &Resource, answers: Vec<Representation>, now: Instant);
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("handle", &self.handle)
            .field("target", &self.key.target)
            .finish_non_exhaustive()
    }
}

/// A held client's claim on a resource; dropping it gives the claim up.
#[derive(Debug)]
pub struct Subscription {
    resource: Arc<Resource>,
    network: Option<Network>,
    delivery: &'static str,
    slot: usize,
    pace: Option<Duration>,
}

impl Subscription {
    /// The resource.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// Its client would look this often by itself: while it is held it is not to learn of anything later than that.
    pub fn keep_pace(&mut self, pace: Duration) {
        let mut roster = self.resource.roster();
        let before = roster.fastest();
        if let Some(before) = self.pace.replace(pace) {
            roster.paces.remove(&(before, self.slot));
        }
        roster.paces.insert((pace, self.slot));
        if before.is_none_or(|before| pace < before) {
            self.resource.attention.notify_one();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.resource.askers.remove(self.network);
        let mut roster = self.resource.roster();
        roster.bells.remove(self.slot);
        if let Some(pace) = self.pace {
            roster.paces.remove(&(pace, self.slot));
        }
        roster.count(self.delivery, -1);
        if roster.bells.is_empty() {
            self.resource.attention.notify_one();
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
