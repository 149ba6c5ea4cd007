//! Detects request headers that have a different value in each request of a client, which would prevent sharing.
//!
//! ```text
//! identity of a request, but for cookies and authorization ─▶ Unsteady::record ─▶ the name, once, for ignore_headers
//! ```

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use parking_lot::Mutex;

use crate::model::ResourceKey;

/// How many requests of one client for one URL must have distinct values before a header is reported.
const TELLING: usize = 8;

/// The maximum number of reported names, since a client can send any.
const MAX_NAMES: usize = 16;

/// The maximum number of watched combinations of header, client and URL.
const MAX_WATCHED: usize = 1024;

/// The observed headers of a route's requests.
#[derive(Debug, Default)]
pub struct Unsteady {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The hashes of the values seen so far; `None` once a value was repeated.
    watched: HashMap<u64, Option<Vec<u64>>>,
    /// The reported names, each with an example URL.
    found: BTreeMap<String, Arc<str>>,
}

impl Unsteady {
    /// Records the headers of a request with this key from the client `who`. Returns the names of headers that are
    /// newly found to change with each request.
    pub fn record(&self, who: impl Hash, key: &ResourceKey) -> Vec<HeaderName> {
        let mut news = Vec::new();
        let own = key.identity.fields().filter(|(name, _)| **name != COOKIE && **name != AUTHORIZATION);
        for (name, value) in own {
            let at = self.hasher.hash_one((&who, &key.target, name));
            let value = self.hasher.hash_one(value.expose());
            let mut known = self.known.lock();
            if known.found.contains_key(name.as_str()) {
                continue;
            }
            if known.watched.len() >= MAX_WATCHED && !known.watched.contains_key(&at) {
                known.watched.clear();
            }
            let Some(values) = known.watched.entry(at).or_insert_with(|| Some(Vec::new())) else { continue };
            if values.contains(&value) {
                known.watched.insert(at, None);
                continue;
            }
            values.push(value);
            if values.len() >= TELLING && known.found.len() < MAX_NAMES {
                known.watched.remove(&at);
                known.found.insert(name.as_str().to_owned(), Arc::clone(&key.target));
                news.push(name.clone());
            }
        }
        news
    }

    /// Returns the advice for operators.
    pub fn advice(name: &str) -> String {
        format!("if it identifies nobody, write into this route: ignore_headers = [\"{name}\"]")
    }

    /// Returns the reported names, each with an example URL.
    pub fn found(&self) -> BTreeMap<String, Arc<str>> {
        self.known.lock().found.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Origin, RequestContext, RouteId, Scheme, Secret};

    fn key(target: &str, value: &str) -> ResourceKey {
        let field = (HeaderName::from_static("x-one"), Secret::new(value.as_bytes()));
        ResourceKey {
            route: RouteId(0),
            origin: Origin { scheme: Scheme::Http, host: "a".into(), public: "a".into() },
            target: target.into(),
            variant: Arc::new([]),
            context: RequestContext::default(),
            identity: Identity::full(vec![field, (COOKIE, Secret::new(value.as_bytes()))]),
        }
    }

    #[test]
    fn a_header_that_never_repeats_is_told_once_and_one_that_does_never() {
        let unsteady = Unsteady::default();
        for round in 0..TELLING - 1 {
            assert!(unsteady.record(1, &key("/a", &round.to_string())).is_empty());
            // Another client or another URL has its own values.
            assert!(unsteady.record(2, &key("/a", &(round % 3).to_string())).is_empty());
            assert!(unsteady.record(1, &key(&format!("/{round}"), &round.to_string())).is_empty());
        }
        assert_eq!(unsteady.record(1, &key("/a", "last")), ["x-one"]);
        assert!(unsteady.record(1, &key("/a", "more")).is_empty());
        assert_eq!(unsteady.found().keys().collect::<Vec<_>>(), ["x-one"]);
    }

    #[test]
    fn what_clients_make_up_takes_no_room() {
        let unsteady = Unsteady::default();
        for client in 0..3 * MAX_WATCHED {
            unsteady.record(client, &key("/a", "x"));
        }
        assert!(unsteady.known.lock().watched.len() <= MAX_WATCHED);
    }
}
