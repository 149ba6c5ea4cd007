//! What traffic that passes by tells about polling: who polls what, how often and what for, and what push would save.
//!
//! ```text
//! a request and its answer ─▶ Exchange ─┐              ┌▶ text, JSON
//!                        body ─▶ Shape ─┼▶ Observer ─▶ Report ─┤
//! a line of an access log ─▶ Exchange ──┘              └▶ a configuration with comments
//! ```
//!
//! Pure: nothing here asks anybody, or reads a clock. What is kept are counts, fingerprints under a key of this process, names
//! of parameters, cookies and places, and shapes of paths; never a body, a credential or the value of a parameter. All tables are
//! bounded, whatever passes by.

mod access_log;
mod configuration;
mod exchange;
mod ledger;
mod paths;
mod report;
mod rhythm;
mod shape;
mod sketch;
mod tally;
mod text;

pub use access_log::{LogReader, ReadLog};
pub use configuration::{RouteText, configuration, routes};
pub use exchange::{Answered, Exchange, Form, Upload, UploadKind};
pub use report::{Advice, Credential, OtherReport, PatternReport, Report, Sends, TodayThen, Totals, VolatilePart};
pub use shape::Body;
pub use text::{table, text};

use std::hash::{BuildHasher, DefaultHasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use self::ledger::Ledger;

/// Takes note of traffic. Shared by all who see some of it.
#[derive(Debug)]
pub struct Observer {
    hasher: RandomState,
    ledger: Mutex<Ledger>,
}

impl Observer {
    /// One that has seen nothing. Fingerprints are made under the key of `hasher`.
    pub fn new(hasher: RandomState) -> Self {
        Self { hasher, ledger: Mutex::default() }
    }

    /// The fingerprint of `bytes`, which means nothing outside of this process.
    pub fn fingerprint(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// Makes a fingerprint of pieces.
    pub fn hasher(&self) -> DefaultHasher {
        self.hasher.build_hasher()
    }

    /// The parameters of a query: their names, fingerprints of their values, and whether they are only there to get past caches.
    pub fn parameters(&self, query: Option<&str>) -> Vec<(String, u64, bool)> {
        access_log::parameters(query, |value| self.fingerprint(value.as_bytes()))
    }

    /// Takes note of an exchange, whose answer had this body if that is known and small.
    pub fn note(&self, exchange: &Exchange, body: Option<&Body<'_>>) {
        // Most answers to polls are those of before: their parts need not be looked at.
        let wanted = body.filter(|_| self.ledger.lock().wants_shape(exchange));
        let shape = wanted.and_then(|body| body.shape(&self.hasher));
        self.ledger.lock().note(exchange, shape);
    }

    /// Takes note of something that came and could not be understood.
    pub fn note_unread(&self) {
        self.ledger.lock().unread += 1;
    }

    /// How many exchanges there were so far.
    pub fn requests(&self) -> u64 {
        self.ledger.lock().requests
    }

    /// What has been found so far, `lasting` so long.
    pub fn report(&self, lasting: Duration) -> Report {
        Report::of(&self.ledger.lock(), lasting)
    }

    /// How many entries all tables have, for tests of their bounds.
    pub fn entries(&self) -> usize {
        self.ledger.lock().entries()
    }
}

#[cfg(test)]
mod tests;
