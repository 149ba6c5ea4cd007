//! Limits on the requests of clients: how many one address may make, and how large their bodies may be. Off unless they are
//! configured.
//!
//! ```text
//! a request of an address ─▶ RequestLimits::admit ─ more than it may make ─▶ 429
//! the length of its body, or what has arrived of it ─▶ RequestLimits::allows ─ no ─▶ 413
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::time::Instant;

use crate::clock;
use crate::deliver::LocalResponse;
use crate::model::AddressBucket;
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::pingora::error_text;
use crate::proxy::request::view::{Peer, length_of};

/// The limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLimitOptions {
    /// The maximum average number of requests per second of one address.
    pub max_rate_per_address: Option<usize>,
    /// The maximum size of a request's body, in bytes.
    pub max_body: Option<u64>,
}

/// The limits in force, and the recent requests of each address.
#[derive(Debug)]
pub struct RequestLimits {
    /// Requests per second; 0 if there is no limit.
    rate: AtomicUsize,
    max_body: AtomicU64,
    recent: Mutex<Recent>,
}

/// For each address, the time at which all its requests so far would have been due at the maximum rate. An address without
/// an entry has made none recently.
#[derive(Debug, Default)]
struct Recent {
    due: HashMap<AddressBucket, Instant>,
    /// When entries that have become useless were last searched for.
    swept: Option<Instant>,
}

/// The time over which the rate is averaged. A page with all its parts is loaded at once.
const WINDOW: Duration = Duration::from_secs(10);

/// The maximum number of addresses whose requests are counted.
const MAX_ADDRESSES: usize = 1 << 16;

/// The minimum time between two searches for useless entries.
const SWEEP_GAP: Duration = Duration::from_secs(1);

impl RequestLimits {
    /// Creates limits that no request has used yet.
    pub fn new(options: RequestLimitOptions) -> Self {
        let limits = Self { rate: AtomicUsize::new(0), max_body: AtomicU64::new(u64::MAX), recent: Mutex::default() };
        limits.set_options(options);
        limits
    }

    /// Changes the limits.
    pub fn set_options(&self, options: RequestLimitOptions) {
        self.rate.store(options.max_rate_per_address.unwrap_or(0), Ordering::Relaxed);
        self.max_body.store(options.max_body.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns whether a body of `bytes` is small enough.
    pub(in crate::proxy) fn allows(&self, bytes: u64) -> bool {
        bytes <= self.max_body.load(Ordering::Relaxed)
    }

    /// Counts a request from `address` at `now`.
    ///
    /// # Errors
    /// Returns the time to wait if the address has made too many. Such a request does not count.
    fn admit(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let rate = self.rate.load(Ordering::Relaxed);
        let Some(address) = address.filter(|_| rate > 0) else { return Ok(()) };
        let each = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX);
        self.recent.lock().admit(AddressBucket::of(address), each, now)
    }
}

impl Recent {
    fn admit(&mut self, address: AddressBucket, each: Duration, now: Instant) -> Result<(), Duration> {
        let due = self.due.get(&address).copied().unwrap_or(now).max(now);
        let ahead = due.saturating_duration_since(now);
        if ahead + each > WINDOW {
            return Err(ahead + each - WINDOW);
        }
        if self.due.len() >= MAX_ADDRESSES && !self.due.contains_key(&address) {
            if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_GAP) {
                self.swept = Some(now);
                self.due.retain(|_, due| *due > now);
            }
            if self.due.len() >= MAX_ADDRESSES {
                // Those who are counted stay limited; memory does not grow for the others.
                return Ok(());
            }
        }
        self.due.insert(address, due + each);
        Ok(())
    }
}

impl Gateway {
    /// Returns the refusal of a request with this head from a client at `address`, if a limit is exceeded.
    pub(in crate::proxy) fn exceeds_limits(
        &self,
        address: Option<IpAddr>,
        head: &RequestHeader,
    ) -> Option<LocalResponse> {
        if self.passive.is_some() {
            return None;
        }
        if let Err(wait) = self.requests.admit(address, clock::now()) {
            self.metrics.limit_hit("request_rate");
            let status = StatusCode::TOO_MANY_REQUESTS;
            let mut answer = LocalResponse::text(status, error_text(status));
            answer.headers.insert(RETRY_AFTER, (wait.as_secs() + 1).into());
            return Some(answer);
        }
        let length = length_of(head).unwrap_or(0);
        if !self.requests.allows(length) {
            self.metrics.limit_hit("request_body");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Some(LocalResponse::text(status, error_text(status)));
        }
        None
    }

    /// The same for a request from `peer` that is not parsed any further.
    pub(in crate::proxy) fn unread_exceeds_limits(&self, peer: Peer, head: &RequestHeader) -> Option<LocalResponse> {
        self.exceeds_limits(self.options().trusted.client_address(peer.address, &head.headers), head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> AddressBucket {
        AddressBucket::of(IpAddr::V4(number.into()))
    }

    #[test]
    fn an_address_has_ten_seconds_in_advance_and_then_its_rate() {
        let (mut recent, began) = (Recent::default(), clock::now());
        let each = Duration::from_millis(500);
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        for _ in 0..20 {
            assert_eq!(recent.admit(address(1), each, began), Ok(()));
        }
        assert_eq!(recent.admit(address(1), each, began), Err(each));
        assert_eq!(recent.admit(address(2), each, began), Ok(()), "others are not concerned");
        assert_eq!(recent.admit(address(1), each, at(1)), Ok(()));
        assert_eq!(recent.admit(address(1), each, at(1)), Ok(()));
        assert!(recent.admit(address(1), each, at(1)).is_err());
        let later = (0..100).filter(|_| recent.admit(address(1), each, at(60)).is_ok()).count();
        assert_eq!(later, 20, "no more is saved up");
        let slow = Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| recent.admit(address(3), slow, began).is_ok()).count(), 10);
    }

    #[test]
    fn many_addresses_take_no_more_room_and_set_nobody_free() {
        let (mut recent, began) = (Recent::default(), clock::now());
        let each = Duration::from_secs(5);
        let full = u32::try_from(MAX_ADDRESSES).expect("a small number");
        for number in 0..full + 10 {
            assert_eq!(recent.admit(address(number), each, began), Ok(()));
        }
        assert_eq!(recent.due.len(), MAX_ADDRESSES);
        assert_eq!(recent.admit(address(0), each, began), Ok(()));
        assert!(recent.admit(address(0), each, began).is_err());
        assert_eq!(recent.admit(address(full + 1), each, began + Duration::from_secs(20)), Ok(()));
        assert_eq!(recent.due.len(), 1, "those that are as good as new are forgotten");
    }

    #[test]
    fn nothing_is_limited_unless_it_is_configured() {
        let limits = RequestLimits::new(RequestLimitOptions::default());
        let address = Some(IpAddr::V4(1.into()));
        assert!((0..10_000).all(|_| limits.admit(address, clock::now()).is_ok()) && limits.allows(u64::MAX));
        assert!(limits.recent.lock().due.is_empty());
        limits.set_options(RequestLimitOptions { max_rate_per_address: Some(1), max_body: Some(3) });
        assert_eq!((0..100).filter(|_| limits.admit(address, clock::now()).is_ok()).count(), 10);
        assert!(limits.allows(3) && !limits.allows(4) && limits.admit(None, clock::now()).is_ok());
    }
}
