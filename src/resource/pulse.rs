//! What happens to all resources of a route at once: writes, files, hooks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Those beats that are a reason for clients to ask for what only they may ask for.
    ticks: AtomicU64,
    /// One more than the moment at which the application was last seen to be well, as nanoseconds since `born`; 0 if never.
    well: AtomicU64,
    /// What the last of them were, oldest first.
    recent: Mutex<VecDeque<Beat>>,
    /// Changes that looks at the route's resources found.
    changes: AtomicU64,
    /// Whether the route is there no more.
    over: AtomicBool,
    beating: Notify,
    listeners: Mutex<Slab<Arc<Bell>>>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    trigger: Trigger,
    likeness: u64,
}

/// The likeness of a write of which nothing is known.
pub const UNKNOWN: u64 = 0;

/// So many beats are told apart by those who did not hear them at once.
const MOST_RECENT: usize = 32;

/// What has happened to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// How many beats there are by now.
    pub beats: u64,
    /// The most telling of those that are new, if any is.
    pub trigger: Option<Trigger>,
    /// The likenesses of the writes among them.
    pub writes: Vec<u64>,
}

impl Pulse {
    /// A route to which nothing has happened.
    pub fn new(now: Instant) -> Self {
        Self {
            born: now,
            last: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            well: AtomicU64::new(0),
            recent: Mutex::default(),
            changes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            beating: Notify::new(),
            listeners: Mutex::default(),
        }
    }

    /// Something happened at `now`, after which nothing that was read before counts as current.
    pub fn beat(&self, trigger: Trigger, now: Instant) {
        self.beat_of(trigger, UNKNOWN, now);
        self.tick();
    }

    /// The same for a write that is known by its `likeness`: writes that are alike have the same. Clients are not told to
    /// ask.
    pub fn beat_of(&self, trigger: Trigger, likeness: u64, now: Instant) {
        self.fence(now);
        {
            let mut recent = self.recent();
            if recent.len() >= MOST_RECENT {
                recent.pop_front();
            }
            recent.push_back(Beat { trigger, likeness });
            self.beats.fetch_add(1, Ordering::AcqRel);
        }
        self.beating.notify_waiters();
    }

    /// The last beat is a reason for clients to ask, too.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::AcqRel);
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
        self.last.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// The application was seen to be well at `now`.
    pub fn note_well(&self, now: Instant) {
        self.well.fetch_max(self.offset(now).saturating_add(1), Ordering::AcqRel);
    }

    /// When the application was last seen to be well.
    pub fn seen_well(&self) -> Option<Instant> {
        let offset = self.well.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.born + Duration::from_nanos(offset))
    }

    fn offset(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
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

    /// How many reasons to ask there were for clients.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Acquire)
    }

    /// How many beats there were.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    /// What happened since there were `known` beats.
    pub fn since(&self, known: u64) -> Heard {
        let recent = self.recent();
        let beats = self.beats();
        let missed = usize::try_from(beats.saturating_sub(known)).unwrap_or(usize::MAX);
        let told = recent.iter().rev().take(missed);
        let mut writes: Vec<u64> =
            told.clone().filter(|beat| beat.trigger == Trigger::Write).map(|beat| beat.likeness).collect();
        let mut trigger = told.map(|beat| beat.trigger).max();
        if missed > recent.len() {
            writes.push(UNKNOWN);
            trigger = trigger.max(Some(Trigger::Write));
        }
        Heard { beats, trigger, writes }
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

    /// Rings `bell` at each tick, until the claim that is returned is dropped.
    pub fn listen(self: &Arc<Self>, bell: Arc<Bell>) -> Listening {
        Listening { slot: self.listeners().insert(bell), pulse: Arc::clone(self) }
    }

    /// Whether anybody is told of each tick.
    pub fn has_listeners(&self) -> bool {
        !self.listeners().is_empty()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Beat>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Slab<Arc<Bell>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is told of each tick.
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_heard_at_once_is_known_nevertheless() {
        let now = Instant::now();
        let pulse = Pulse::new(now);
        pulse.beat(Trigger::File, now);
        let known = pulse.beats();
        assert_eq!(pulse.since(known), Heard { beats: 1, trigger: None, writes: Vec::new() });
        pulse.beat_of(Trigger::Write, 7, now);
        pulse.beat_of(Trigger::Write, 8, now);
        assert_eq!(pulse.since(known), Heard { beats: 3, trigger: Some(Trigger::Write), writes: vec![8, 7] });
        pulse.beat(Trigger::Hook, now);
        assert_eq!(pulse.since(known).trigger, Some(Trigger::Hook));
    }

    #[test]
    fn of_more_than_can_be_told_apart_there_may_have_been_any() {
        let now = Instant::now();
        let pulse = Pulse::new(now);
        for _ in 0..=MOST_RECENT {
            pulse.beat_of(Trigger::Write, 7, now);
        }
        let heard = pulse.since(0);
        assert!(heard.writes.contains(&UNKNOWN));
        assert!(!pulse.since(1).writes.contains(&UNKNOWN));
        assert!(pulse.recent().len() <= MOST_RECENT);
    }
}
