//! Observes passing traffic for polls (clients, intervals, results), and estimates the savings of push.
//!
//! ```text
//! a request and its answer ─▶ Exchange ─┐              ┌▶ text, JSON
//!                        body ─▶ Shape ─┼▶ Observer ─▶ Report ─┤
//! a line of an access log ─▶ Exchange ──┘              └▶ a configuration with comments
//! ```
//!
//! Pure: this module does no I/O and reads no clock. It keeps counts, fingerprints with a key of this process, names of
//! parameters, cookies and locations, and shapes of paths; never a body, a credential or the value of a parameter. All
//! tables are bounded.

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

/// Records traffic. Shared by all tasks that observe some of it.
#[derive(Debug)]
pub struct Observer {
    hasher: RandomState,
    ledger: Mutex<Ledger>,
}

impl Observer {
    /// Creates an empty observer. Fingerprints use the key of `hasher`.
    pub fn new(hasher: RandomState) -> Self {
        Self { hasher, ledger: Mutex::default() }
    }

    /// Returns the fingerprint of `bytes`, which is meaningless outside of this process.
    pub fn fingerprint(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// Returns a hasher for a fingerprint of several pieces.
    pub fn hasher(&self) -> DefaultHasher {
        self.hasher.build_hasher()
    }

    /// Returns the parameters of a query: their names, fingerprints of their values, and whether they are
    /// cache-busting.
    pub fn parameters(&self, query: Option<&str>) -> Vec<(String, u64, bool)> {
        access_log::parameters(query, |value| self.fingerprint(value.as_bytes()))
    }

    /// Records an exchange; `body` is the response's body if known and small.
    pub fn note(&self, exchange: &Exchange, body: Option<&Body<'_>>) {
        // Most polls receive the same response as before, whose parts need not be examined.
        let wanted = body.filter(|_| self.ledger.lock().wants_shape(exchange));
        let shape = wanted.and_then(|body| body.shape(&self.hasher));
        self.ledger.lock().note(exchange, shape);
    }

    /// Counts a request that could not be parsed.
    pub fn note_unread(&self) {
        self.ledger.lock().unread += 1;
    }

    /// Returns the number of exchanges so far.
    pub fn requests(&self) -> u64 {
        self.ledger.lock().requests
    }

    /// Returns the report after an observation of `lasting`.
    pub fn report(&self, lasting: Duration) -> Report {
        Report::of(&self.ledger.lock(), lasting)
    }

    /// Returns the number of entries in all tables, for tests of their bounds.
    pub fn entries(&self) -> usize {
        self.ledger.lock().entries()
    }
}

#[cfg(test)]
mod tests;
