//! All held clients of the process: how many there may be, and how they are asked to leave.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::resource::Bell;

/// How many clients may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsOptions {
    /// In all.
    pub max_streams: usize,
}

/// No further client can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// As many as may be are held already.
    #[error("all {0} places for streams are taken")]
    Full(usize),
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
}

/// The held clients.
#[derive(Debug)]
pub struct Streams {
    options: StreamsOptions,
    born: Instant,
    roster: Mutex<Slab<Arc<Bell>>>,
    /// When the last stream has to be gone, as nanoseconds since `born`; 0 while nobody is asked to leave.
    drained_by: AtomicU64,
}

/// A held client's place; dropping it makes room.
#[derive(Debug)]
pub struct Place {
    streams: Arc<Streams>,
    slot: usize,
}

impl Streams {
    /// Nobody held.
    pub fn new(options: StreamsOptions, now: Instant) -> Arc<Self> {
        Arc::new(Self { options, born: now, roster: Mutex::default(), drained_by: AtomicU64::new(0) })
    }

    /// Takes a place for the client that is woken by `bell`.
    ///
    /// # Errors
    /// [`Overload`] if there is none.
    pub fn enter(self: &Arc<Self>, bell: Arc<Bell>) -> Result<Place, Overload> {
        let mut roster = self.lock();
        if self.drain_deadline().is_some() {
            return Err(Overload::Draining);
        }
        if roster.len() >= self.options.max_streams {
            return Err(Overload::Full(self.options.max_streams));
        }
        Ok(Place { slot: roster.insert(bell), streams: Arc::clone(self) })
    }

    /// How many clients are held.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks all to leave within `patience`, each at a moment of its own.
    pub fn drain(&self, now: Instant, patience: Duration) {
        let deadline = now.saturating_duration_since(self.born) + patience;
        let deadline = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX).max(1);
        let roster = self.lock();
        self.drained_by.store(deadline, Ordering::Release);
        for (_, bell) in &*roster {
            bell.ring();
        }
    }

    /// By when all have to be gone, if they have been asked to leave.
    pub fn drain_deadline(&self) -> Option<Instant> {
        match self.drained_by.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(self.born + Duration::from_nanos(nanos)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Bell>>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// By when this client has to be gone, if it has been asked to leave.
    pub fn drain_deadline(&self) -> Option<Instant> {
        self.streams.drain_deadline()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.lock().remove(self.slot);
    }
}
