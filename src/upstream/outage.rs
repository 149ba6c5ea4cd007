//! Says once that the backend is away, and once that it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

/// Whether the backend, or a replica of it, answers.
#[derive(Debug)]
pub struct Outage {
    address: String,
    /// It did not answer when it was last asked.
    away: AtomicBool,
    /// It says itself that it is not well.
    unfit: AtomicBool,
    because: Mutex<String>,
}

impl Outage {
    pub(super) fn new(address: String) -> Self {
        Self { address, away: AtomicBool::new(false), unfit: AtomicBool::new(false), because: Mutex::default() }
    }

    /// It could not be reached, or did not answer; `text` says how.
    pub fn failed(&self, text: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            self.note(text);
            warn!(upstream = self.address, "the upstream does not answer: {text}");
        }
    }

    /// It answered.
    pub fn answered(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream answers again");
        }
    }

    /// It says that it is not well.
    pub(super) fn unfit(&self, text: &str) {
        if !self.unfit.swap(true, Ordering::Relaxed) {
            self.note(text);
            warn!(upstream = self.address, "the upstream is not well: {text}");
        }
    }

    /// It says that it is well.
    pub(super) fn fit(&self) {
        if self.unfit.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream is well again");
        }
    }

    /// Whether it was away when anybody last asked.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Why it is not to be asked, if so.
    pub fn trouble(&self) -> Option<String> {
        let troubled = self.is_away() || self.unfit.load(Ordering::Relaxed);
        troubled.then(|| self.because.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn is_available(&self) -> bool {
        !self.is_away() && !self.unfit.load(Ordering::Relaxed)
    }

    fn note(&self, text: &str) {
        text.clone_into(&mut self.because.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
