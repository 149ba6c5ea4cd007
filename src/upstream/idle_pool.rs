//! Connections to the backend that nobody uses at the moment.

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

/// How long a connection on which a client is signed in waits for more of that client's requests.
const OWNED_TIMEOUT: Duration = Duration::from_secs(60);

/// The connections of one replica, the one that was used last behind.
pub(super) struct IdlePool {
    most: usize,
    kept: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    connections: VecDeque<(Stream, Instant)>,
    /// Those that are one client's alone.
    owned: VecDeque<(Stream, Instant)>,
    /// Whether somebody sees to those that are kept for too long.
    swept: bool,
}

impl IdlePool {
    /// No connections yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, kept: Mutex::default() })
    }

    /// The one of `owner`'s that was used last, or of those that are anybody's, if the backend has not closed it, as far as is
    /// known here.
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
            // What is sent without having been asked for ends it, too.
            let is_silent = connection.read(&mut [0]).now_or_never().is_none();
            if is_silent && now < until {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for whoever comes next, but not for long. Must be called in a runtime.
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

    /// Closes what was kept for too long. Returns when that is to be done again; `None` if there is nothing left.
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

/// Whose `connection` is, if it is one client's alone.
fn owner_of(connection: &Stream) -> Option<u64> {
    Line::of(connection.get_proxy_digest())?.owner()
}

/// Sees to what is kept for too long, until nothing is kept.
async fn sweep(idle: Weak<IdlePool>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.close_expired()) {
        sleep_until(next).await;
    }
}
