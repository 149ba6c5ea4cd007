//! What happens to all resources of a route at once: writes, files, hooks.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Bell, Trigger};

/// The beat of a route's triggers.
///
/// A beat costs the one who causes it a few atomic operations, however many resources there are: pollers that are
/// waiting are woken, and one that was woken does not wait again before its `refresh_gap` is over, so a storm of beats
/// wakes it only so often.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// The moment of the last beat, as nanoseconds since `born`.
    last: AtomicU64,
    beats: AtomicU64,
    kind: AtomicUsize,
    /// Changes that looks at the route's resources found.
    changes: AtomicU64,
    /// Whether the route is there no more.
    over: AtomicBool,
    beating: Notify,
    listeners: Mutex<Slab<Arc<Bell>>>,
}

impl Pulse {
    /// A route to which nothing has happened.
    pub fn new(now: Instant) -> Self {
        Self {
            born: now,
            last: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            kind: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            beating: Notify::new(),
            listeners: Mutex::default(),
        }
    }

    /// Something happened at `now`, after which nothing that was read before counts as current.
    pub fn beat(&self, trigger: Trigger, now: Instant) {
        self.fence(now);
        self.kind.store(trigger as usize, Ordering::Release);
        self.beats.fetch_add(1, Ordering::AcqRel);
        self.beating.notify_waiters();
        for (_, bell) in &*self.listeners() {
            bell.ring();
        }
    }

    /// The route is there no more: whoever listens is to look for another.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        for (_, bell) in &*self.listeners() {
            bell.ring();
        }
    }

    /// Whether the route is there no more.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// From now on, only what was read at `now` or later counts as current; nobody is told to look.
    pub fn fence(&self, now: Instant) {
        let offset = u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX);
        self.last.fetch_max(offset, Ordering::AcqRel);
    }

    /// The moment before which nothing that was read counts as current.
    pub fn fenced(&self) -> Instant {
        self.born + Duration::from_nanos(self.last.load(Ordering::Acquire))
    }

    /// A look found a change.
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many changes looks have found.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// How many beats there were.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    /// What the last beat was.
    pub fn kind(&self) -> Trigger {
        Trigger::ALL.get(self.kind.load(Ordering::Acquire)).copied().unwrap_or(Trigger::Hook)
    }

    /// Completes when there were other than `known` beats.
    pub async fn beats_beyond(&self, known: u64) {
        loop {
            let beating = self.beating.notified();
            tokio::pin!(beating);
            beating.as_mut().enable();
            if self.beats() != known {
                return;
            }
            beating.await;
        }
    }

    /// Rings `bell` at each beat, until the claim that is returned is dropped.
    pub fn listen(self: &Arc<Self>, bell: Arc<Bell>) -> Listening {
        Listening { slot: self.listeners().insert(bell), pulse: Arc::clone(self) }
    }

    /// Whether anybody is told of each beat.
    pub fn has_listeners(&self) -> bool {
        !self.listeners().is_empty()
    }

    fn listeners(&self) -> MutexGuard<'_, Slab<Arc<Bell>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is told of each beat.
#[derive(Debug)]
pub struct Listening {
    pulse: Arc<Pulse>,
    slot: usize,
}

impl Listening {
    /// What it listens to.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.pulse.listeners().remove(self.slot);
    }
}
