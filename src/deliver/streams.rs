//! The limits on held clients of the process, and their graceful shutdown.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::model::AddressBucket;
use crate::resource::{CookieIndex, MIN_AGE_FOR_ROTATION, Registered, Revocable, TaskNotify};

/// The maximum numbers of held clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsOptions {
    /// In total.
    pub max_streams: usize,
    /// Per client address.
    pub max_streams_per_address: usize,
}

/// The reason why a client cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The total limit is reached.
    #[error("all {0} places for streams are taken")]
    Full(usize),
    /// The limit for the client's address is reached.
    #[error("all {0} places for streams from one address are taken")]
    FullForAddress(usize),
    /// The client is a browser that has few connections left for this site.
    #[error("a connection has to be left for other requests of the browser")]
    LastConnections,
}

/// The properties of a client that asks to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionRequest {
    /// Its address.
    pub address: Option<IpAddr>,
    /// The browser, if it limits the number of connections to a site.
    pub browser: Option<NonZeroU64>,
    /// Whether the client expects an ordinary response, so that it need not be held.
    pub optional: bool,
}

/// A browser opens six HTTP/1.1 connections to a site. Some must stay free.
const MAX_HELD_PER_BROWSER: usize = 4;

/// The limiter of held clients.
#[derive(Debug)]
pub struct StreamLimiter {
    created_at: Instant,
    roster: Mutex<StreamTable>,
    /// When the last stream must end, in nanoseconds since `created_at`; 0 while not draining.
    drained_by: AtomicU64,
}

#[derive(Debug)]
struct StreamTable {
    options: StreamsOptions,
    notifies: Slab<Arc<TaskNotify>>,
    by_address: HashMap<AddressBucket, usize>,
    by_browser: HashMap<NonZeroU64, usize>,
}

/// A held client's permit. Dropping it frees the place.
#[derive(Debug)]
pub struct StreamPermit {
    streams: Arc<StreamLimiter>,
    slot: usize,
    address: Option<AddressBucket>,
    browser: Option<NonZeroU64>,
    /// The cookies with which the client arrived.
    cookies: Option<(Arc<Revocation>, Registered)>,
}

/// Notifies a held client that one of its cookies was replaced.
#[derive(Debug)]
struct Revocation {
    entered: Instant,
    is_revoked: AtomicBool,
    notify: Arc<TaskNotify>,
}

impl Revocable for Revocation {
    fn revoke(self: Arc<Self>) {
        self.is_revoked.store(true, Ordering::Release);
        self.notify.notify();
    }
}

impl StreamLimiter {
    /// Creates a limiter without held clients.
    pub fn new(options: StreamsOptions, now: Instant) -> Arc<Self> {
        let roster =
            StreamTable { options, notifies: Slab::new(), by_address: HashMap::new(), by_browser: HashMap::new() };
        Arc::new(Self { created_at: now, roster: Mutex::new(roster), drained_by: AtomicU64::new(0) })
    }

    /// Changes the limits. Clients that are already held stay.
    pub fn set_options(&self, options: StreamsOptions) {
        self.lock().options = options;
    }

    /// Admits the client that `notify` wakes. New clients are still admitted while draining and then drained with the
    /// rest: an `EventSource` that gets an error never reconnects.
    ///
    /// # Errors
    /// Returns [`AdmissionError`] if a limit is reached.
    pub fn try_admit(
        self: &Arc<Self>,
        notify: Arc<TaskNotify>,
        who: AdmissionRequest,
    ) -> Result<StreamPermit, AdmissionError> {
        let mut roster = self.lock();
        let StreamsOptions { max_streams, max_streams_per_address } = roster.options;
        if roster.notifies.len() >= max_streams {
            return Err(AdmissionError::Full(max_streams));
        }
        let address = who.address.map(AddressBucket::of);
        if address
            .is_some_and(|address| roster.by_address.get(&address).is_some_and(|held| *held >= max_streams_per_address))
        {
            return Err(AdmissionError::FullForAddress(max_streams_per_address));
        }
        if who.optional
            && who.browser.is_some_and(|browser| {
                roster.by_browser.get(&browser).is_some_and(|held| *held >= MAX_HELD_PER_BROWSER)
            })
        {
            return Err(AdmissionError::LastConnections);
        }
        if let Some(address) = address {
            *roster.by_address.entry(address).or_default() += 1;
        }
        if let Some(browser) = who.browser {
            *roster.by_browser.entry(browser).or_default() += 1;
        }
        let slot = roster.notifies.insert(notify);
        Ok(StreamPermit { slot, streams: Arc::clone(self), address, browser: who.browser, cookies: None })
    }

    /// Returns the number of held clients.
    pub fn len(&self) -> usize {
        self.lock().notifies.len()
    }

    /// Returns the limits.
    pub fn options(&self) -> StreamsOptions {
        self.lock().options
    }

    /// Returns whether no client is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks all clients to leave within `patience`, each at a time of its own.
    pub fn drain(&self, now: Instant, patience: Duration) {
        let deadline = now.saturating_duration_since(self.created_at) + patience;
        let deadline = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX).max(1);
        let roster = self.lock();
        self.drained_by.store(deadline, Ordering::Release);
        for (_, notify) in &roster.notifies {
            notify.notify();
        }
    }

    /// Returns the time by which all clients must leave, if draining.
    pub fn drain_deadline(&self) -> Option<Instant> {
        match self.drained_by.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(self.created_at + Duration::from_nanos(nanos)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, StreamTable> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamPermit {
    /// Ties the permit to the cookies with which the client arrived at `now`: the client is not held after one of them
    /// is replaced.
    pub fn under<'a>(
        mut self,
        index: &Arc<CookieIndex>,
        cookies: impl Iterator<Item = &'a [u8]>,
        notify: &Arc<TaskNotify>,
        now: Instant,
    ) -> Self {
        let revocation = Revocation { entered: now, is_revoked: AtomicBool::new(false), notify: Arc::clone(notify) };
        let revocation = Arc::new(revocation);
        let weak: Weak<dyn Revocable> = Arc::downgrade(&(Arc::clone(&revocation) as Arc<dyn Revocable>));
        self.cookies = index.register(cookies, weak).map(|registered| (revocation, registered));
        self
    }

    /// Returns when this client must reconnect because one of its cookies was replaced.
    pub fn revoked(&self) -> Option<Instant> {
        let (revocation, _) = self.cookies.as_ref()?;
        revocation.is_revoked.load(Ordering::Acquire).then(|| revocation.entered + MIN_AGE_FOR_ROTATION)
    }

    /// Returns the time by which this client must leave, if draining.
    pub fn drain_deadline(&self) -> Option<Instant> {
        self.streams.drain_deadline()
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut roster = self.streams.lock();
        roster.notifies.remove(self.slot);
        if let Some(address) = self.address {
            leave(&mut roster.by_address, &address);
        }
        if let Some(browser) = self.browser {
            leave(&mut roster.by_browser, &browser);
        }
    }
}

fn leave<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_the_places_of_one_host_however_many_addresses_it_has() {
        let streams =
            StreamLimiter::new(StreamsOptions { max_streams: 10, max_streams_per_address: 2 }, crate::clock::now());
        let enter = |address: &str| {
            let address = Some(address.parse().expect("an address"));
            streams.try_admit(Arc::default(), AdmissionRequest { address, ..AdmissionRequest::default() })
        };
        let held = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(enter("2001:db8::3").err(), Some(AdmissionError::FullForAddress(2)));
        assert!(enter("2001:db8:0:1::3").is_ok() && enter("10.0.0.1").is_ok());
        drop(held);
        assert!(enter("2001:db8::3").is_ok());
    }
}
