//! Recent responses of the application to clients' own requests.
//!
//! ```text
//! a poll passes ─▶ Observed::note ─▶ two of one client: an unconfigured URL may be fetched
//!                                └─▶ the last of them: the first fetch must resemble it
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::consumed::is_asked_for;
use crate::model::Representation;
use crate::resource::Evidence;

/// Responses by client and path. Bounded: the least recently requested are dropped.
#[derive(Debug, Default)]
pub(super) struct Observed {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    seen: HashMap<u64, Seen>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Seen {
    passed: VecDeque<Passed>,
}

/// One observed response.
#[derive(Clone, Debug)]
struct Passed {
    target: String,
    answer: Representation,
    at: Instant,
}

/// The maximum number of combinations of client and path.
const MAX_ENTRIES: usize = 2048;

/// The maximum number of responses for each.
const MAX_PASSED: usize = 8;

/// The maximum size of all bodies in bytes.
const MAX_BYTES: usize = 16 << 20;

/// The maximum age of a response.
const CONSUMED_TTL: Duration = Duration::from_secs(3600);

impl Observed {
    /// Records a response of the application to a request of `client` for `target`.
    pub(super) fn note(&self, client: u64, target: &str, answer: Representation, now: Instant) {
        let mut table = self.table.lock();
        table.bytes += answer.body.len();
        let seen = table.seen.entry(client).or_default();
        seen.passed.push_back(Passed { target: target.to_owned(), answer, at: now });
        let gone = if seen.passed.len() > MAX_PASSED { seen.passed.pop_front() } else { None };
        table.bytes -= gone.map_or(0, |gone| gone.answer.body.len());
        while table.seen.len() > MAX_ENTRIES || table.bytes > MAX_BYTES {
            let last = |seen: &Seen| seen.passed.back().map(|passed| passed.at);
            let Some(oldest) = table.seen.iter().min_by_key(|(_, seen)| last(seen)).map(|(client, _)| *client) else {
                break;
            };
            let gone = table.seen.remove(&oldest).unwrap_or_default();
            table.bytes -= gone.passed.iter().map(|passed| passed.answer.body.len()).sum::<usize>();
        }
    }

    /// Records a 304: the application confirmed its last response.
    pub(super) fn repeat(&self, client: u64, target: &str, now: Instant) {
        let last = self.table.lock().seen.get(&client).and_then(|seen| {
            seen.passed.iter().rev().find(|passed| passed.target == target).map(|passed| passed.answer.clone())
        });
        if let Some(last) = last {
            self.note(client, target, last, now);
        }
    }

    /// Returns the observed responses to requests of `client` for `target`, if there are any.
    pub(super) fn evidence(&self, client: u64, target: &str, now: Instant) -> Option<Evidence> {
        let table = self.table.lock();
        let fresh = |passed: &&Passed| {
            now.saturating_duration_since(passed.at) < CONSUMED_TTL && is_asked_for(target, &passed.target)
        };
        let passed: Vec<&Passed> = table.seen.get(&client)?.passed.iter().filter(fresh).collect();
        let (last, rest) = passed.split_last()?;
        Some(Evidence {
            count: passed.len(),
            at: last.at,
            last: last.answer.clone(),
            before: rest.last().map(|before| before.answer.clone()),
        })
    }
}
