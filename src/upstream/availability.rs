//! Says once that the backend is away, and once that it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{info, warn};

use super::hint::suspicion;
use crate::clock::{self, roughly};

/// Whether the backend, or a replica of it, answers.
#[derive(Debug)]
pub struct Health {
    address: String,
    /// It did not answer when it was last asked.
    away: AtomicBool,
    /// It has answered once.
    known: AtomicBool,
    /// It says itself that it is not well.
    unfit: AtomicBool,
    /// Why, and since when.
    trouble: Mutex<Option<(String, Instant)>>,
}

impl Health {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            away: AtomicBool::new(false),
            known: AtomicBool::new(false),
            unfit: AtomicBool::new(false),
            trouble: Mutex::default(),
        }
    }

    /// It could not be reached, or did not answer; `text` says how.
    pub fn mark_down(&self, text: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            self.note(text);
            let suspicion =
                if self.known.load(Ordering::Relaxed) || !is_of_protocol(text) { "" } else { suspicion(&self.address) };
            warn!(
                upstream = self.address,
                "the upstream does not answer: {text}{suspicion}; nothing else is logged of this until it answers again"
            );
        }
    }

    /// It answered.
    pub fn mark_up(&self) {
        if !self.known.load(Ordering::Relaxed) {
            self.known.store(true, Ordering::Relaxed);
        }
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream answers again, after {}", self.lasted());
        }
    }

    /// It says that it is not well.
    pub(super) fn mark_unhealthy(&self, text: &str) {
        if !self.unfit.swap(true, Ordering::Relaxed) {
            self.note(text);
            warn!(upstream = self.address, "the upstream is not well: {text}");
        }
    }

    /// It says that it is well.
    pub(super) fn mark_healthy(&self) {
        if self.unfit.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream is well again, after {}", self.lasted());
        }
    }

    /// Whether it was away when anybody last asked.
    pub fn is_down(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Why it is not to be asked, if so.
    pub fn reason(&self) -> Option<String> {
        let troubled = self.is_down() || self.unfit.load(Ordering::Relaxed);
        troubled.then(|| self.noted().map(|(text, _)| text).unwrap_or_default())
    }

    pub(super) fn is_available(&self) -> bool {
        !self.is_down() && !self.unfit.load(Ordering::Relaxed)
    }

    fn note(&self, text: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some((text.to_owned(), clock::now()));
    }

    fn noted(&self) -> Option<(String, Instant)> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the last trouble has lasted, for people.
    fn lasted(&self) -> impl std::fmt::Display {
        let since = self.noted().map_or_else(clock::now, |(_, since)| since);
        roughly(clock::now().saturating_duration_since(since))
    }
}

/// Whether a connection was there, and what came over it was no answer.
fn is_of_protocol(text: &str) -> bool {
    ["closed the connection", "the connection broke", "is not HTTP"].iter().any(|part| text.contains(part))
}
