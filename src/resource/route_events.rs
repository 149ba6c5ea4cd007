//! Events that affect all resources of a route: writes, files, hooks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{TaskNotify, Trigger};

/// The events of a route, which trigger fetches of its resources.
///
/// Publishing an event costs a few atomic operations, however many resources there are. Waiting pollers are woken, and
/// a woken poller does not wait again before its `refresh_gap` is over, so a storm of events wakes it only at that
/// rate.
#[derive(Debug)]
pub struct RouteEvents {
    created_at: Instant,
    /// The time of the last event, in nanoseconds since `created_at`.
    last_fence: AtomicU64,
    sequence: AtomicU64,
    /// The number of events that tell clients to request URLs that only they may request.
    ticks: AtomicU64,
    /// One more than the time when the application was last known to be healthy, in nanoseconds since `created_at`; 0
    /// if never.
    last_well: AtomicU64,
    /// The last events, oldest first.
    recent: Mutex<VecDeque<RouteEvent>>,
    /// The number of changes that fetches of the route's resources found.
    changes: AtomicU64,
    /// Whether the route was removed.
    closed: AtomicBool,
    published: Notify,
    listeners: Mutex<Slab<Arc<TaskNotify>>>,
}

#[derive(Clone, Copy, Debug)]
struct RouteEvent {
    trigger: Trigger,
    class: u64,
}

/// The write class of a write about which nothing is known.
pub const UNKNOWN_WRITE: u64 = 0;

/// The number of recent events that are kept individually for pollers that read them late.
const MAX_RECENT: usize = 32;

/// The events since a given event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsSince {
    /// The current number of events.
    pub sequence: u64,
    /// The most important trigger among the new events, if any.
    pub trigger: Option<Trigger>,
    /// The write classes of the writes among them.
    pub writes: Vec<u64>,
}

impl RouteEvents {
    /// Creates the events of a route.
    pub fn new(now: Instant) -> Self {
        Self {
            created_at: now,
            last_fence: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            last_well: AtomicU64::new(0),
            recent: Mutex::default(),
            changes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            published: Notify::new(),
            listeners: Mutex::default(),
        }
    }

    /// Publishes an event at `now`. Nothing fetched before counts as current then.
    pub fn publish(&self, trigger: Trigger, now: Instant) {
        self.publish_write(trigger, UNKNOWN_WRITE, now);
        self.tick();
    }

    /// Publishes a write with its `write_class`, which is equal for similar writes. Clients receive no tick.
    pub fn publish_write(&self, trigger: Trigger, write_class: u64, now: Instant) {
        self.fence(now);
        {
            let mut recent = self.recent();
            if recent.len() >= MAX_RECENT {
                recent.pop_front();
            }
            recent.push_back(RouteEvent { trigger, class: write_class });
            self.sequence.fetch_add(1, Ordering::AcqRel);
        }
        self.published.notify_waiters();
    }

    /// Publishes a tick: the last event is a reason for clients to send requests, too.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::AcqRel);
        for (_, notify) in &*self.listeners() {
            notify.notify();
        }
    }

    /// Marks the route as removed and notifies the listeners, which must look for another route.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for (_, notify) in &*self.listeners() {
            notify.notify();
        }
    }

    /// Returns whether the route was removed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Moves the fence: only fetches that began at `now` or later count as current. No fetch is triggered.
    pub fn fence(&self, now: Instant) {
        self.last_fence.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// Records that the application was healthy at `now`.
    pub fn record_well(&self, now: Instant) {
        self.last_well.fetch_max(self.offset(now).saturating_add(1), Ordering::AcqRel);
    }

    /// Returns when the application was last known to be healthy.
    pub fn seen_well(&self) -> Option<Instant> {
        let offset = self.last_well.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.created_at + Duration::from_nanos(offset))
    }

    fn offset(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.created_at).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the fence: nothing fetched before this time counts as current.
    pub fn fenced(&self) -> Instant {
        self.created_at + Duration::from_nanos(self.last_fence.load(Ordering::Acquire))
    }

    /// Counts a change that a fetch found.
    pub fn record_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of changes found.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Returns the number of ticks.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Acquire)
    }

    /// Returns the number of events.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Returns the events after the first `known` ones.
    pub fn since(&self, known: u64) -> EventsSince {
        let recent = self.recent();
        let beats = self.sequence();
        let missed = usize::try_from(beats.saturating_sub(known)).unwrap_or(usize::MAX);
        let told = recent.iter().rev().take(missed);
        let mut writes: Vec<u64> =
            told.clone().filter(|beat| beat.trigger == Trigger::Write).map(|beat| beat.class).collect();
        let mut trigger = told.map(|beat| beat.trigger).max();
        if missed > recent.len() {
            writes.push(UNKNOWN_WRITE);
            trigger = trigger.max(Some(Trigger::Write));
        }
        EventsSince { sequence: beats, trigger, writes }
    }

    /// Completes when the number of events differs from `known`.
    pub async fn wait_past(&self, known: u64) {
        loop {
            let beating = self.published.notified();
            tokio::pin!(beating);
            beating.as_mut().enable();
            if self.sequence() != known {
                return;
            }
            beating.await;
        }
    }

    /// Notifies `notify` at each tick until the returned listener is dropped.
    pub fn subscribe(self: &Arc<Self>, notify: Arc<TaskNotify>) -> EventListener {
        EventListener { slot: self.listeners().insert(notify), events: Arc::clone(self) }
    }

    /// Returns whether there are listeners for ticks.
    pub fn has_listeners(&self) -> bool {
        !self.listeners().is_empty()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<RouteEvent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Slab<Arc<TaskNotify>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener for ticks.
#[derive(Debug)]
pub struct EventListener {
    events: Arc<RouteEvents>,
    slot: usize,
}

impl EventListener {
    /// Returns the events that it listens to.
    pub fn events(&self) -> &Arc<RouteEvents> {
        &self.events
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        self.events.listeners().remove(self.slot);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_heard_at_once_is_known_nevertheless() {
        let now = Instant::now();
        let route_events = RouteEvents::new(now);
        route_events.publish(Trigger::File, now);
        let known = route_events.sequence();
        assert_eq!(route_events.since(known), EventsSince { sequence: 1, trigger: None, writes: Vec::new() });
        route_events.publish_write(Trigger::Write, 7, now);
        route_events.publish_write(Trigger::Write, 8, now);
        assert_eq!(
            route_events.since(known),
            EventsSince { sequence: 3, trigger: Some(Trigger::Write), writes: vec![8, 7] }
        );
        route_events.publish(Trigger::Hook, now);
        assert_eq!(route_events.since(known).trigger, Some(Trigger::Hook));
    }

    #[test]
    fn of_more_than_can_be_told_apart_there_may_have_been_any() {
        let now = Instant::now();
        let route_events = RouteEvents::new(now);
        for _ in 0..=MAX_RECENT {
            route_events.publish_write(Trigger::Write, 7, now);
        }
        let heard = route_events.since(0);
        assert!(heard.writes.contains(&UNKNOWN_WRITE));
        assert!(!route_events.since(1).writes.contains(&UNKNOWN_WRITE));
        assert!(route_events.recent().len() <= MAX_RECENT);
    }
}
