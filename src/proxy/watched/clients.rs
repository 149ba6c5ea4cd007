//! Distinguishes clients, so that a write is never hidden from its own client.
//!
//! No request identifies its client with certainty, so two requests count as the same client's unless they clearly
//! differ: they come from one address and their session cookies do not contradict each other, or they have the same
//! credentials from different addresses. Treating several clients as one costs fetches; treating one client as several
//! would show it a state from before its own write.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;

use crate::model::fields;
use crate::resource::{ClientFence, Writing};

/// A client as far as a request identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Who {
    address: Option<IpAddr>,
    /// The hash of its cookies and authorization; `None` without any.
    credentials: Option<u64>,
    /// The hashed names and values of cookies that look like session keys.
    sessions: Box<[(u64, u64)]>,
}

/// The minimum length of a session key; shorter values may be common to many clients.
const SHORTEST_SESSION: usize = 16;

/// Cookies whose names contain these words hold a session key, except those of [`TOKENS`], which change with each form.
const SESSIONS: [&[u8]; 9] = [b"sess", b"sid", b"auth", b"token", b"jwt", b"login", b"user", b"remember", b"identity"];
const TOKENS: [&[u8]; 2] = [b"csrf", b"xsrf"];

/// The maximum number of session cookies that are compared.
const MAX_SESSIONS: usize = 8;

/// Credentials in use at more addresses than this are shared by several clients.
const MAX_ADDRESSES: usize = 4;

impl Who {
    /// Returns whether two clients at one address certainly differ: they have different sessions, and none in common.
    fn is_other(&self, other: &Self) -> bool {
        let differs =
            |(name, pair): &(u64, u64)| other.sessions.iter().any(|(known, value)| known == name && value != pair);
        let is_shared = |session: &(u64, u64)| other.sessions.contains(session);
        self.sessions.iter().any(differs) && !self.sessions.iter().any(is_shared)
    }
}

/// The clients that wrote or hold something. Bounded: if there are too many, those that hold nothing are removed.
#[derive(Debug)]
pub(in crate::proxy) struct Clients {
    hasher: RandomState,
    /// The time of creation, when no client was known.
    created_at: Instant,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    known: HashMap<Who, Arc<ClientFence>>,
    /// Clients by address and by credentials.
    by_address: HashMap<Option<IpAddr>, HashSet<Who>>,
    by_credentials: HashMap<u64, HashSet<Who>>,
    /// The latest possible write of a client that is not in the table.
    forgotten: Instant,
}

/// The maximum number of clients in the table, except those that hold something.
const MAX_CLIENTS: usize = 16_384;

impl Clients {
    /// Creates an empty table.
    pub(in crate::proxy) fn new(now: Instant) -> Self {
        let table =
            Table { known: HashMap::new(), by_address: HashMap::new(), by_credentials: HashMap::new(), forgotten: now };
        Self { hasher: RandomState::new(), created_at: now, table: Mutex::new(table) }
    }

    /// Returns the client that sent these headers from `address`.
    pub(in crate::proxy) fn who(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Who {
        let mut cookies: Vec<&[u8]> = fields::cookies(headers).collect();
        cookies.sort_unstable();
        let authorization: Vec<&[u8]> =
            headers.get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes).collect();
        let anonymous = cookies.is_empty() && authorization.is_empty();
        let credentials = (!anonymous).then(|| self.hasher.hash_one((&cookies, &authorization)));
        let cookies = cookies.iter().filter(|pair| is_session(pair)).map(|pair| (fields::cookie_name(pair), *pair));
        let authorization = authorization.iter().map(|value| (&b"authorization"[..], *value));
        let sessions = authorization.chain(cookies).take(MAX_SESSIONS);
        let hash = |bytes: &[u8]| self.hasher.hash_one(bytes);
        Who { address, credentials, sessions: sessions.map(|(name, value)| (hash(name), hash(value))).collect() }
    }

    /// Returns when `who` last wrote or might have written.
    pub(in crate::proxy) fn last(&self, who: &Who) -> Instant {
        let table = self.table();
        match table.known.get(who) {
            // Its fence has been raised by all writes that concern it.
            Some(fence) => fence.latest(),
            None => table.last_like(who),
        }
    }

    /// Returns the fence of `who`, which the client's streams keep alive.
    pub(in crate::proxy) fn fence(&self, who: &Who) -> Arc<ClientFence> {
        let mut table = self.table();
        if let Some(fence) = table.known.get(who) {
            return Arc::clone(fence);
        }
        table.make_room(self.created_at);
        let fence = Arc::new(ClientFence::new(self.created_at, table.last_like(who)));
        table.known.insert(who.clone(), Arc::clone(&fence));
        table.by_address.entry(who.address).or_default().insert(who.clone());
        for key in who.keys() {
            table.by_credentials.entry(key).or_default().insert(who.clone());
        }
        fence
    }

    /// Records a write of `who` at `now`.
    pub(in crate::proxy) fn wrote(&self, who: &Who, now: Instant) {
        self.concerned(who).iter().for_each(|fence| fence.raise(now));
    }

    /// Records the beginning of a write of `who` at `now`, until the returned guards are dropped.
    pub(in crate::proxy) fn writes(&self, who: &Who, now: Instant) -> Vec<Writing> {
        self.concerned(who).iter().map(|fence| fence.writes(now)).collect()
    }

    /// Records that `who` sent data at `now` that may have been a write.
    pub(in crate::proxy) fn heard(&self, who: &Who, now: Instant) {
        self.concerned(who).iter().for_each(|fence| fence.hear(now));
    }

    /// Returns the fences of `who` and of all clients that may be the same.
    fn concerned(&self, who: &Who) -> Vec<Arc<ClientFence>> {
        let own = self.fence(who);
        let table = self.table();
        table.like(who).filter_map(|like| table.known.get(like)).map(Arc::clone).chain([own]).collect()
    }

    /// Returns those of them that belong to held streams.
    pub(in crate::proxy) fn held(&self, who: &Who) -> Vec<Arc<ClientFence>> {
        let mut held: Vec<_> = self.concerned(who).into_iter().filter(|fence| fence.is_held()).collect();
        held.sort_by_key(|fence| Arc::as_ptr(fence).addr());
        held.dedup_by(|one, other| Arc::ptr_eq(one, other));
        held
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Who {
    /// Returns the keys by which the client is found from another address.
    fn keys(&self) -> impl Iterator<Item = u64> {
        self.credentials.into_iter().chain(self.sessions.iter().map(|(_, session)| *session))
    }
}

impl Table {
    /// Returns the clients that may be the same as `who`; some of them twice.
    fn like(&self, who: &Who) -> impl Iterator<Item = &Who> {
        let near = self.by_address.get(&who.address).into_iter().flatten().filter(|near| !near.is_other(who));
        let is_own = |found: &&HashSet<Who>| {
            let mut addresses: Vec<_> =
                found.iter().take(2 * MAX_ADDRESSES * MAX_SESSIONS).map(|one| one.address).collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses.len() <= MAX_ADDRESSES
        };
        near.chain(who.keys().filter_map(|key| self.by_credentials.get(&key)).filter(is_own).flatten())
    }

    fn last_like(&self, who: &Who) -> Instant {
        let fences = self.like(who).filter_map(|like| self.known.get(like));
        fences.map(|fence| fence.latest()).fold(self.forgotten, Instant::max)
    }

    /// Removes clients that hold nothing if the table is full. A client that is not in the table counts as having
    /// written when the last removed client did, which costs a fetch, but never shows a client an old state.
    fn make_room(&mut self, created_at: Instant) {
        if self.known.len() < MAX_CLIENTS {
            return;
        }
        let forgotten = self.known.values().filter(|fence| !fence.is_held()).map(|fence| fence.latest());
        self.forgotten = forgotten.fold(self.forgotten.max(created_at), Instant::max);
        self.known.retain(|_, fence| fence.is_held() || Arc::strong_count(fence) > 1);
        for lists in [
            &mut self.by_address.values_mut() as &mut dyn Iterator<Item = &mut HashSet<Who>>,
            &mut self.by_credentials.values_mut(),
        ] {
            lists.for_each(|list| list.retain(|who| self.known.contains_key(who)));
        }
        self.by_address.retain(|_, list| !list.is_empty());
        self.by_credentials.retain(|_, list| !list.is_empty());
    }
}

/// Returns whether a cookie most likely holds a session key.
fn is_session(pair: &[u8]) -> bool {
    let name = fields::cookie_name(pair).to_ascii_lowercase();
    let has = |words: &[&[u8]]| words.iter().any(|word| name.windows(word.len()).any(|part| part == *word));
    pair.len() > name.len() + SHORTEST_SESSION && has(&SESSIONS) && !has(&TOKENS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use http::header::COOKIE;

    use super::*;
    use crate::clock;

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    fn cookie(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(text))])
    }

    #[test]
    fn a_write_concerns_all_that_may_be_the_same_client() {
        let now = clock::now();
        let clients = Clients::new(now);
        let anonymous = HeaderMap::new();
        let alice = cookie("sessionid=aaaaaaaaaaaaaaaaaaaaaaaa; theme=dark");
        for (what, writer, reader, concerns) in [
            ("one address, nothing else known", (1, &anonymous), (1, &anonymous), true),
            ("a worker without cookies", (1, &alice), (1, &anonymous), true),
            (
                "another cookie beside",
                (1, &alice),
                (1, &cookie("sessionid=aaaaaaaaaaaaaaaaaaaaaaaa; theme=light")),
                true,
            ),
            ("a short value says nothing", (1, &cookie("sid=a")), (1, &cookie("sid=b")), true),
            ("two sessions", (1, &alice), (1, &cookie("sessionid=bbbbbbbbbbbbbbbbbbbbbbbb; theme=dark")), false),
            (
                "a token of forms",
                (1, &cookie("csrftoken=aaaaaaaaaaaaaaaaaa")),
                (1, &cookie("csrftoken=bbbbbbbbbbbbbbbbbb")),
                true,
            ),
            ("moved", (1, &alice), (2, &alice), true),
            (
                "moved, another cookie beside",
                (1, &alice),
                (2, &cookie("sessionid=aaaaaaaaaaaaaaaaaaaaaaaa; x=1")),
                true,
            ),
            ("moved, short", (1, &cookie("sid=a")), (2, &cookie("sid=a")), true),
            ("another address", (1, &anonymous), (2, &anonymous), false),
            ("another address, another cookie", (1, &cookie("sid=a")), (2, &cookie("sid=b")), false),
        ] {
            for is_held in [false, true] {
                let clients = Clients::new(now);
                let reader = clients.who(address(reader.0), reader.1);
                let held = is_held.then(|| clients.fence(&reader));
                clients.wrote(&clients.who(address(writer.0), writer.1), now + Duration::from_secs(1));
                assert_eq!(clients.last(&reader) > now, concerns, "{what}");
                assert_eq!(held.is_some_and(|held| held.at() > now), concerns && is_held, "{what}");
            }
        }
        assert_eq!(clients.last(&clients.who(address(1), &alice)), now);
    }

    #[test]
    fn credentials_of_many_addresses_are_nobodys_own() {
        let now = clock::now();
        let clients = Clients::new(now);
        let key = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer shared"))]);
        let streams: Vec<_> = (0..10).map(|n| clients.fence(&clients.who(address(n), &key))).collect();
        clients.wrote(&clients.who(address(0), &key), now + Duration::from_secs(1));
        assert_eq!(streams.iter().filter(|stream| stream.at() > now).count(), 1);
    }

    #[test]
    fn clients_that_are_forgotten_count_as_having_written() {
        let now = clock::now();
        let clients = Clients::new(now);
        let who = |n| clients.who(address(n), &HeaderMap::new());
        assert_eq!(clients.last(&who(1)), now);
        let held = clients.fence(&who(u32::MAX - 1));
        let listener = held.listen(Arc::default(), false);
        let later = now + Duration::from_secs(1);
        for n in 0..=u32::try_from(MAX_CLIENTS).unwrap() {
            clients.wrote(&who(n), later);
        }
        assert_eq!(clients.last(&who(1)), later);
        assert_eq!(clients.last(&who(u32::MAX)), later);
        let table = clients.table();
        assert!(table.known.len() <= MAX_CLIENTS && table.by_address.len() <= MAX_CLIENTS);
        assert!(table.known.contains_key(&clients.who(address(u32::MAX - 1), &HeaderMap::new())));
        drop((table, listener));
    }
}
