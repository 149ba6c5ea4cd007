//! Connections to the backend that nobody uses at the moment.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};

use super::IDLE_TIMEOUT;
use crate::clock;

/// The connections of one replica, the one that was used last behind.
pub(super) struct Idle {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    connections: VecDeque<(Stream, Instant)>,
    /// Whether somebody sees to those that are kept for too long.
    swept: bool,
}

impl Idle {
    /// No connections yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, kept: Mutex::default() })
    }

    /// The one that was used last, if the backend has not closed it, as far as is known here.
    pub(super) fn take(&self) -> Option<Stream> {
        let now = clock::now();
        loop {
            let (mut connection, until) = self.kept.lock().connections.pop_back()?;
            // What is sent without having been asked for ends it, too.
            let is_silent = connection.read(&mut [0]).now_or_never().is_none();
            if is_silent && now < until {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for whoever comes next, but not for long. Must be called in a runtime.
    pub(super) fn keep(self: &Arc<Self>, connection: Stream) {
        let mut kept = self.kept.lock();
        kept.connections.push_back((connection, clock::now() + IDLE_TIMEOUT));
        if kept.connections.len() > self.most {
            kept.connections.pop_front();
        }
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what was kept for too long. Returns when that is to be done again; `None` if there is nothing left.
    fn close_expired(&self) -> Option<Instant> {
        let now = clock::now();
        let mut kept = self.kept.lock();
        while kept.connections.front().is_some_and(|(_, until)| *until <= now) {
            kept.connections.pop_front();
        }
        let next = kept.connections.front().map(|(_, until)| *until);
        kept.swept = next.is_some();
        next
    }
}

/// Sees to what is kept for too long, until nothing is kept.
async fn sweep(idle: Weak<Idle>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.close_expired()) {
        sleep_until(next).await;
    }
}
