//! An index of held clients and watched resources by cookie, so that a logout ends them all.
//!
//! ```text
//! a stream, a socket, a resource ─▶ CookieIndex::register ─▶ cookie ─▶ its holders
//! a response that replaces cookies ─▶ CookieIndex::replaced ──────────────▶ Revocable::revoke
//! ```
//!
//! The cost of a response depends on the holders of the cookies that it replaces, not on the total number of entries.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use slab::Slab;

use crate::model::fields::{self, Replaced, Telling};

/// A holder that ends when one of its cookies is replaced.
pub trait Revocable: Send + Sync {
    /// Called when a cookie of the holder was replaced.
    fn revoke(self: Arc<Self>);
}

/// All holders by cookie.
#[derive(Default)]
pub struct CookieIndex {
    hasher: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    holders: Slab<Holder>,
    /// Pairs of a cookie and a holder.
    by_cookie: BTreeSet<(u64, usize)>,
}

struct Holder {
    /// The hashes of the cookies, sorted.
    cookies: Box<[u64]>,
    /// The hashes of their names, sorted.
    names: Box<[u64]>,
    what: Weak<dyn Revocable>,
}

/// An entry in the index. Dropping it removes the entry.
pub struct Registered {
    index: Arc<CookieIndex>,
    slot: usize,
}

impl CookieIndex {
    /// Registers `what` with these cookies, each as `name=value`. Returns `None` if there are none.
    pub fn register<'a>(
        self: &Arc<Self>,
        cookies: impl Iterator<Item = &'a [u8]>,
        what: Weak<dyn Revocable>,
    ) -> Option<Registered> {
        let pairs: Vec<&[u8]> = cookies.collect();
        if pairs.is_empty() {
            return None;
        }
        let cookies = self.hashes(pairs.iter().copied());
        let names = self.hashes(pairs.iter().map(|pair| fields::cookie_name(pair))).into();
        let mut inner = self.inner.lock();
        let entry = inner.holders.vacant_entry();
        let slot = entry.key();
        entry.insert(Holder { cookies: cookies.clone().into(), names, what });
        inner.by_cookie.extend(cookies.into_iter().map(|cookie| (cookie, slot)));
        Some(Registered { index: Arc::clone(self), slot })
    }

    /// Handles a response that replaced some cookies of a client that sent all of `sent`. A holder of such a cookie may
    /// be that client, unless it has other cookies that this client did not send. For a cookie that looks like a
    /// session, other cookies may have changed values meanwhile; for a cookie with a secret value, any other cookies
    /// may differ.
    pub fn replaced<'a>(&self, sent: impl Iterator<Item = &'a [u8]>, replaced: &[Replaced<'_>]) {
        let pairs: Vec<&[u8]> = sent.collect();
        let sent = self.hashes(pairs.iter().copied());
        let names = self.hashes(pairs.iter().map(|pair| fields::cookie_name(pair)));
        let mut found: Vec<Arc<dyn Revocable>> = Vec::new();
        {
            let inner = self.inner.lock();
            let mut seen = HashSet::new();
            for replaced in replaced {
                let cookie = self.hasher.hash_one(replaced.pair);
                for (_, slot) in inner.by_cookie.range((cookie, 0)..=(cookie, usize::MAX)) {
                    // Each holder is compared once per kind of cookie, however many cookies it has.
                    if !seen.insert((*slot, replaced.telling)) {
                        continue;
                    }
                    let Some(holder) = inner.holders.get(*slot) else { continue };
                    let may_be = match replaced.telling {
                        Telling::Nothing => is_subset(&holder.cookies, &sent),
                        Telling::Session => is_subset(&holder.names, &names),
                        Telling::Secret => true,
                    };
                    if may_be {
                        found.extend(holder.what.upgrade());
                    }
                }
            }
        }
        for what in found {
            what.revoke();
        }
    }

    fn hashes<'a>(&self, cookies: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
        let mut hashes: Vec<u64> = cookies.map(|pair| self.hasher.hash_one(pair)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

/// Returns whether all of `few` are in `many`; both are sorted.
fn is_subset(few: &[u64], many: &[u64]) -> bool {
    let mut many = many.iter();
    few.iter().all(|one| many.by_ref().find(|other| *other >= one) == Some(one))
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut inner = self.index.inner.lock();
        if let Some(holder) = inner.holders.try_remove(self.slot) {
            for cookie in &holder.cookies {
                inner.by_cookie.remove(&(*cookie, self.slot));
            }
        }
    }
}

impl fmt::Debug for CookieIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieIndex").finish_non_exhaustive()
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Revocable for Counted {
        fn revoke(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pairs(cookies: &str) -> impl Iterator<Item = &[u8]> {
        cookies.split("; ").map(str::as_bytes)
    }

    #[test]
    fn who_has_a_replaced_cookie_is_told_if_it_may_be_the_client() {
        for (held, sent, replaced, telling, told) in [
            ("x=1", "x=1", "x=1", Telling::Nothing, true),
            ("x=1; a=1", "a=1; b=2; x=1", "x=1", Telling::Nothing, true),
            ("x=1; a=1", "x=1; a=2", "x=1", Telling::Nothing, false),
            ("sid=1; a=1", "sid=1; a=2", "sid=1", Telling::Session, true),
            ("sid=1; a=1", "sid=1; b=2", "sid=1", Telling::Session, false),
            ("sid=1; a=1", "sid=1; b=2", "sid=1", Telling::Secret, true),
            ("sid=2; lang=en", "sid=1; lang=en", "lang=en", Telling::Nothing, false),
            ("sid=1", "sid=2", "sid=2", Telling::Secret, false),
        ] {
            let index = Arc::<CookieIndex>::default();
            let what = Arc::<Counted>::default();
            let weak: Weak<dyn Revocable> = Arc::downgrade(&(Arc::clone(&what) as Arc<dyn Revocable>));
            let entry = index.register(pairs(held), weak);
            let replaced = [Replaced { pair: replaced.as_bytes(), telling }];
            index.replaced(pairs(sent), &replaced);
            assert_eq!(what.0.load(Ordering::Relaxed), usize::from(told), "{held} by {sent}");
            drop(entry);
            index.replaced(pairs(sent), &replaced);
            assert_eq!(what.0.load(Ordering::Relaxed), usize::from(told), "gone");
            assert!(index.inner.lock().by_cookie.is_empty());
        }
    }

    /// The worst case that one client can cause: the maximum number of resources with the maximum number of cookies
    /// each, and responses that replace all of them without ending anything.
    #[test]
    fn the_worst_answer_costs_little() {
        let index = Arc::<CookieIndex>::default();
        let what = Arc::<Counted>::default();
        let weak: Weak<dyn Revocable> = Arc::downgrade(&(Arc::clone(&what) as Arc<dyn Revocable>));
        let cookies: Vec<String> = (0..256).map(|number| format!("c{number}=1")).collect();
        let pairs = || cookies.iter().map(String::as_bytes);
        let entries: Vec<_> = (0..2000).map(|_| index.register(pairs(), Weak::clone(&weak))).collect();
        let replaced: Vec<_> = pairs().take(16).map(|pair| Replaced { pair, telling: Telling::Nothing }).collect();
        let began = tokio::time::Instant::now();
        index.replaced(pairs().skip(1), &replaced);
        let took = began.elapsed();
        assert_eq!(what.0.load(Ordering::Relaxed), 0);
        assert!(took < std::time::Duration::from_secs(1), "{took:?}");
        drop(entries);
    }
}
