//! The counts for the requests of one pattern.

use std::collections::BTreeMap;
use std::time::Duration;

use super::exchange::{Form, Upload, UploadKind};
use super::rhythm::Pending;
use super::shape::Sort;
use super::sketch::{Distinct, Times};

/// The maximum number of names of each kind.
const MAX_NAMES: usize = 24;

/// The requests of one pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// When the last request arrived.
    pub(super) last: Duration,
    pub(super) form: Form,
    /// Counts by the first digit of the status, with 401 and 403 separate.
    pub(super) redirects: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) private: u64,
    pub(super) streams: u64,
    pub(super) too_large: u64,
    pub(super) took: Times,
    pub(super) polls: Polls,
    /// The names of cache-busting parameters.
    pub(super) busters: BTreeMap<String, u64>,
    /// The names of all other parameters.
    pub(super) parameters: BTreeMap<String, u64>,
    /// The parameters whose values never repeat, with the number of such requests.
    pub(super) fresh: BTreeMap<String, u64>,
    /// The same for cookies and other headers that identify clients.
    pub(super) renewed: BTreeMap<String, u64>,
    pub(super) uploads: Uploads,
}

/// The requests that come from a timer.
#[derive(Clone, Debug, Default)]
pub(super) struct Polls {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// Responses that could be compared with the previous one.
    pub(super) compared: u64,
    pub(super) same: u64,
    /// Responses that differ only in volatile parts.
    pub(super) noise: u64,
    pub(super) changes: u64,
    pub(super) change_bytes: u64,
    /// Changes after a forwarded write.
    pub(super) after_write: u64,
    pub(super) sets_cookies: u64,
    /// Messages that seem to be delivered once.
    pub(super) consumed: u64,
    /// Responses that took about as long as the polling interval: long polls of the application's own.
    pub(super) held: u64,
    pub(super) clients: Distinct,
    pub(super) intervals: Times,
    /// The intervals that ended with a change.
    pub(super) late: Times,
    /// The total time during which all resources were polled; different credentials count as different resources.
    pub(super) watched: Duration,
    pub(super) identities: Distinct,
    /// The properties that identify clients, by name.
    pub(super) credentials: BTreeMap<String, Distinct>,
    /// The number of times that different identities received the same within a short time.
    pub(super) alike: u64,
    pub(super) unlike: u64,
    pub(super) places: BTreeMap<String, Volatile>,
    /// Responses whose locations were compared.
    pub(super) looked_into: u64,
}

/// The observations at one location.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Volatile {
    pub(super) changes: u64,
    pub(super) clocks: u64,
    pub(super) tokens: u64,
}

impl Volatile {
    /// Returns whether it seems to change by itself.
    pub(super) fn is_noise(&self) -> bool {
        (self.clocks + self.tokens) * 10 >= self.changes * 9 && self.changes > 0
    }
}

/// The bodies of requests of this pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads {
    pub(super) rpc: BTreeMap<String, u64>,
    pub(super) graphql: BTreeMap<String, u64>,
    pub(super) fields: BTreeMap<String, u64>,
    pub(super) other: u64,
    /// GraphQL operations that are not queries.
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
    /// Adds the first requests of a recognised series of polls.
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
