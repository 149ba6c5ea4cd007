//! Tracks whether the backend is available, and logs changes once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{info, warn};

use super::hint::suspicion;
use crate::clock::{self, roughly};

/// The availability of the backend, or of one replica.
#[derive(Debug)]
pub struct Health {
    address: String,
    /// It did not answer the last request.
    away: AtomicBool,
    /// It has answered at least once.
    known: AtomicBool,
    /// Its health check reports a problem.
    unfit: AtomicBool,
    /// The reason, and the time since when it is unavailable.
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

    /// Records that it could not be reached or did not answer; `text` is the reason.
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

    /// Records that it answered.
    pub fn mark_up(&self) {
        if !self.known.load(Ordering::Relaxed) {
            self.known.store(true, Ordering::Relaxed);
        }
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream answers again, after {}", self.lasted());
        }
    }

    /// Records a failed health check.
    pub(super) fn mark_unhealthy(&self, text: &str) {
        if !self.unfit.swap(true, Ordering::Relaxed) {
            self.note(text);
            warn!(upstream = self.address, "the upstream is not well: {text}");
        }
    }

    /// Records a successful health check.
    pub(super) fn mark_healthy(&self) {
        if self.unfit.swap(false, Ordering::Relaxed) {
            info!(upstream = self.address, "the upstream is well again, after {}", self.lasted());
        }
    }

    /// Returns whether it did not answer the last request.
    pub fn is_down(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Returns the reason why it should not receive requests, if there is one.
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

    /// Returns how long the last outage lasted, formatted for people.
    fn lasted(&self) -> impl std::fmt::Display {
        let since = self.noted().map_or_else(clock::now, |(_, since)| since);
        roughly(clock::now().saturating_duration_since(since))
    }
}

/// Returns whether `text` describes a connection that was made but did not yield an HTTP response.
fn is_of_protocol(text: &str) -> bool {
    ["closed the connection", "the connection broke", "is not HTTP"].iter().any(|part| text.contains(part))
}
