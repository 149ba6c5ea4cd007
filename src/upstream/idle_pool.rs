//! The pool of idle connections to the backend.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};

use super::IDLE_TIMEOUT;
use super::connection::Line;
use crate::clock;

/// The idle timeout of a connection on which a client is signed in.
const OWNED_TIMEOUT: Duration = Duration::from_secs(60);

/// The connections of one replica, the most recently used last.
pub(super) struct IdlePool {
    most: usize,
    kept: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    connections: VecDeque<(Stream, Instant)>,
    /// Connections that are restricted to one client.
    owned: VecDeque<(Stream, Instant)>,
    /// Whether a task is closing expired connections.
    swept: bool,
}

impl IdlePool {
    /// Creates a pool of at most `most` connections.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, kept: Mutex::default() })
    }

    /// Takes the most recently used connection of `owner`, or of the shared connections without an owner, unless the
    /// backend is known to have closed it.
    pub(super) fn take(&self, owner: Option<u64>) -> Option<Stream> {
        let now = clock::now();
        loop {
            let (mut connection, until) = {
                let mut kept = self.kept.lock();
                match owner {
                    None => kept.connections.pop_back()?,
                    Some(_) => {
                        let at = kept.owned.iter().rposition(|(connection, _)| owner_of(connection) == owner)?;
                        kept.owned.remove(at)?
                    }
                }
            };
            // Unsolicited data also makes a connection unusable.
            let is_silent = connection.read(&mut [0]).now_or_never().is_none();
            if is_silent && now < until {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for a limited time. Must be called within a runtime.
    pub(super) fn put(self: &Arc<Self>, connection: Stream) {
        let mut kept = self.kept.lock();
        let owner = owner_of(&connection);
        let timeout = if owner.is_some() { OWNED_TIMEOUT } else { IDLE_TIMEOUT };
        let alike = if owner.is_some() { &mut kept.owned } else { &mut kept.connections };
        alike.push_back((connection, clock::now() + timeout));
        if alike.len() > self.most {
            alike.pop_front();
        }
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes expired connections. Returns the time of the next expiry; `None` if the pool is empty.
    fn close_expired(&self) -> Option<Instant> {
        let now = clock::now();
        let mut kept = self.kept.lock();
        let IdleConnections { connections, owned, .. } = &mut *kept;
        let mut next = None;
        for alike in [connections, owned] {
            while alike.front().is_some_and(|(_, until)| *until <= now) {
                alike.pop_front();
            }
            let until = alike.front().map(|(_, until)| *until);
            next = next.into_iter().chain(until).min();
        }
        kept.swept = next.is_some();
        next
    }
}

/// Returns the client that `connection` is restricted to, if any.
fn owner_of(connection: &Stream) -> Option<u64> {
    Line::of(connection.get_proxy_digest())?.owner()
}

/// Closes expired connections until the pool is empty.
async fn sweep(idle: Weak<IdlePool>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.close_expired()) {
        sleep_until(next).await;
    }
}
