//! Says once that the backend is away, and once that it is back.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

/// Whether the backend answers.
#[derive(Debug)]
pub struct Outage {
    address: String,
    away: AtomicBool,
}

impl Outage {
    pub(super) fn new(address: String) -> Self {
        Self { address, away: AtomicBool::new(false) }
    }

    /// It could not be reached, or did not answer; `text` says how.
    pub fn failed(&self, text: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            warn!(upstream = self.address, "the upstream does not answer: {text}");
        }
    }

    /// It answered.
    pub fn answered(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream answers again");
        }
    }

    /// Whether it was away when anybody last asked.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}
