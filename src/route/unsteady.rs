//! Request headers that keep a client apart from itself: each of its requests bears another value.
//!
//! ```text
//! identity of a request, but for cookies and authorization ─▶ Unsteady::record ─▶ a name, once: operators may say that it is no identity
//! ```

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use parking_lot::Mutex;

use crate::model::ResourceKey;

/// A header is reported when so many requests of one client for one URL had as many values.
const TELLING: usize = 8;

/// Names that are reported, at most; a client can make up any.
const MAX_NAMES: usize = 16;

/// What is watched at once: a header of one client's requests for one URL.
const MAX_WATCHED: usize = 1024;

/// What is known of the headers of a route's requests.
#[derive(Debug, Default)]
pub struct Unsteady {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The values seen so far, as hashes; none any more once one has come twice.
    watched: HashMap<u64, Option<Vec<u64>>>,
    /// What was found out, and of which URL.
    found: BTreeMap<String, Arc<str>>,
}

impl Unsteady {
    /// Takes in what a request with this key bears, of the client that `who` stands for beside these headers. Returns the names of
    /// which it is news that they never repeat.
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

    /// What to do about it.
    pub fn advice(name: &str) -> String {
        format!("if it identifies nobody, write into this route: ignore_headers = [\"{name}\"]")
    }

    /// The names that were found out, each with a URL.
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
            body: None,
        }
    }

    #[test]
    fn a_header_that_never_repeats_is_told_once_and_one_that_does_never() {
        let unsteady = Unsteady::default();
        for round in 0..TELLING - 1 {
            assert!(unsteady.record(1, &key("/a", &round.to_string())).is_empty());
            // Another client, or another URL, has a value of its own.
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
