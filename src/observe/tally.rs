//! All that is counted of the requests that share a pattern.

use std::collections::BTreeMap;
use std::time::Duration;

use super::exchange::{Form, Upload, UploadKind};
use super::rhythm::Pending;
use super::shape::Sort;
use super::sketch::{Distinct, Times};

/// Names that are kept of each sort.
const MAX_NAMES: usize = 24;

/// The requests of one pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// When the last of them came.
    pub(super) last: Duration,
    pub(super) form: Form,
    /// By the first digit of the status; 401 and 403 apart.
    pub(super) redirects: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) private: u64,
    pub(super) streams: u64,
    pub(super) too_large: u64,
    pub(super) took: Times,
    pub(super) polls: Polls,
    /// Names of parameters that are only there to get past caches.
    pub(super) busters: BTreeMap<String, u64>,
    /// Names of all others.
    pub(super) parameters: BTreeMap<String, u64>,
    /// Those whose values never come again, and in how many requests that was so.
    pub(super) fresh: BTreeMap<String, u64>,
    /// The same of cookies, and of other headers that identify clients.
    pub(super) renewed: BTreeMap<String, u64>,
    pub(super) uploads: Uploads,
}

/// Those requests that come by a timer.
#[derive(Clone, Debug, Default)]
pub(super) struct Polls {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// Answers that could be compared with the one before.
    pub(super) compared: u64,
    pub(super) same: u64,
    /// Those that differ in nothing but what changes by itself.
    pub(super) noise: u64,
    pub(super) changes: u64,
    pub(super) change_bytes: u64,
    /// Changes behind a write that passed by.
    pub(super) after_write: u64,
    pub(super) sets_cookies: u64,
    /// Messages that look given out once.
    pub(super) consumed: u64,
    /// Answers that took about as long as the client then waited: long polls of the application's own.
    pub(super) held: u64,
    pub(super) clients: Distinct,
    pub(super) intervals: Times,
    /// The intervals at whose ends there were changes.
    pub(super) late: Times,
    /// How long all resources together were polled, those with different credentials being others.
    pub(super) watched: Duration,
    pub(super) identities: Distinct,
    /// What identifies clients, by its name.
    pub(super) credentials: BTreeMap<String, Distinct>,
    /// Whether different identities were given the same within a short time.
    pub(super) alike: u64,
    pub(super) unlike: u64,
    pub(super) places: BTreeMap<String, Volatile>,
    /// Answers whose places were compared.
    pub(super) looked_into: u64,
}

/// What was seen at one place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Volatile {
    pub(super) changes: u64,
    pub(super) clocks: u64,
    pub(super) tokens: u64,
}

impl Volatile {
    /// Whether it changes by itself, as far as can be seen from afar.
    pub(super) fn is_noise(&self) -> bool {
        (self.clocks + self.tokens) * 10 >= self.changes * 9 && self.changes > 0
    }
}

/// What requests of this pattern sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads {
    pub(super) rpc: BTreeMap<String, u64>,
    pub(super) graphql: BTreeMap<String, u64>,
    pub(super) fields: BTreeMap<String, u64>,
    pub(super) other: u64,
    /// Those of GraphQL that are no queries.
    pub(super) mutations: u64,
}

impl Uploads {
    pub(super) fn add(&mut self, upload: &Upload) {
        match &upload.kind {
            UploadKind::JsonRpc(methods) => methods.iter().for_each(|name| count(&mut self.rpc, name)),
            UploadKind::GraphQl(Some(name)) => count(&mut self.graphql, name),
            UploadKind::GraphQl(None) => self.mutations += 1,
            UploadKind::Form(names) => names.iter().for_each(|name| count(&mut self.fields, name)),
            UploadKind::Other => self.other += 1,
        }
    }
}

impl Polls {
    /// Counts what turned out to be the beginning of polls.
    pub(super) fn take(&mut self, pending: Pending) {
        self.requests += pending.requests;
        self.bytes += pending.bytes;
        self.compared += pending.compared;
        self.same += pending.same;
    }

    pub(super) fn credential(&mut self, name: &str, value: u64) {
        if let Some(known) = self.credentials.get_mut(name) {
            known.add(value);
        } else if self.credentials.len() < MAX_NAMES {
            self.credentials.entry(name.to_owned()).or_default().add(value);
        }
    }

    pub(super) fn place(&mut self, name: &str, sort: Sort) {
        if self.places.len() >= MAX_NAMES && !self.places.contains_key(name) {
            return;
        }
        let place = self.places.entry(name.to_owned()).or_default();
        place.changes += 1;
        match sort {
            Sort::Clock => place.clocks += 1,
            Sort::Token => place.tokens += 1,
            Sort::Plain => {}
        }
    }
}

/// Counts `name`, if there is room for it.
pub(super) fn count(names: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(number) = names.get_mut(name) {
        *number += 1;
    } else if names.len() < MAX_NAMES {
        names.insert(name.to_owned(), 1);
    }
}
