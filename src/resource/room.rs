//! The memory that all histories share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes all histories hold together, and how many they may.
#[derive(Debug)]
pub struct Room {
    used: AtomicU64,
    most: AtomicU64,
}

impl Room {
    /// Room for `most` bytes.
    pub fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), most: AtomicU64::new(most) }
    }

    /// Changes how many bytes there is room for. What is held beyond that goes as histories move on.
    pub fn resize(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// The bytes that are held.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bytes that may be held.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Whether nothing more should be begun, and nothing old be kept.
    pub fn is_full(&self) -> bool {
        self.used() >= self.most()
    }
}

impl Default for Room {
    /// Room without end.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

/// What one history holds of it; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    bytes: u64,
}

impl Share {
    /// Nothing yet.
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room, bytes: 0 }
    }

    /// Whether there is no room for the past.
    pub(super) fn is_crowded(&self) -> bool {
        self.room.is_full()
    }

    /// The history holds this much now.
    pub(super) fn set(&mut self, bytes: u64) {
        self.room.used.fetch_add(bytes, Ordering::Relaxed);
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
