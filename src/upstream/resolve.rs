//! Resolves the backend's name and refreshes the result periodically.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::Address;
use crate::clock;

/// The maximum age of resolved addresses unless a connection fails. A container's address changes when the container is
/// replaced.
const DNS_TTL: Duration = Duration::from_secs(10);

/// Caches the addresses of one name, and which of them accepted last.
#[derive(Debug)]
pub(super) struct Resolver {
    address: Address,
    patience: Duration,
    known: Mutex<Resolved>,
}

#[derive(Debug, Default)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    preferred: usize,
    failures: usize,
    looked_up: Option<Instant>,
}

impl Resolver {
    pub(super) fn new(address: Address, patience: Duration) -> Self {
        let mut known = Resolved::default();
        if let Address::Tcp { host, port, .. } = &address
            && let Ok(ip) = host.parse::<IpAddr>()
        {
            known.addresses.push(SocketAddr::new(ip, *port));
        }
        Self { address, patience, known: Mutex::new(known) }
    }

    /// Returns the number of known addresses, at least 1.
    pub(super) fn known(&self) -> usize {
        self.lock().addresses.len().max(1)
    }

    /// Switches to the next address because the preferred one does not accept; after all of them failed, the name is
    /// resolved again.
    pub(super) fn rotate(&self) {
        let mut known = self.lock();
        known.preferred = (known.preferred + 1) % known.addresses.len().max(1);
        known.failures += 1;
        if known.failures >= known.addresses.len() {
            known.failures = 0;
            known.looked_up = None;
        }
    }

    /// Returns the address to connect to.
    pub(super) async fn resolve(&self) -> io::Result<SocketAddr> {
        let Address::Tcp { host, port, .. } = &self.address else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket has no address to look up"));
        };
        {
            let known = self.lock();
            let literal = host.parse::<IpAddr>().is_ok();
            let fresh = known.looked_up.is_some_and(|when| clock::now().saturating_duration_since(when) < DNS_TTL);
            if let Some(address) = known.addresses.get(known.preferred)
                && (literal || fresh)
            {
                return Ok(*address);
            }
        }
        let found = timeout(self.patience, lookup_host((host.as_str(), *port))).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return self.last_known(error),
            Err(_) => return self.last_known(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer")),
        };
        let mut known = self.lock();
        known.looked_up = Some(clock::now());
        if known.addresses != found {
            known.preferred = 0;
            known.addresses = found;
        }
        known
            .addresses
            .get(known.preferred)
            .copied()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }

    /// Returns the last known address, which is better than none while the resolver fails.
    fn last_known(&self, error: io::Error) -> io::Result<SocketAddr> {
        let known = self.lock();
        known.addresses.get(known.preferred).copied().ok_or(error)
    }

    fn lock(&self) -> MutexGuard<'_, Resolved> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
