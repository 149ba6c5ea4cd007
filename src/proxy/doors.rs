//! How many connections there may be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::clock;

/// Counts connections, so that there are never more than there are descriptors for: without any, nothing could be accepted,
/// looked at or asked.
#[derive(Debug)]
pub(super) struct Doors {
    most: usize,
    open: AtomicUsize,
    /// Since when nobody has been told how many were turned away, and how many those are.
    turned_away: Mutex<(Option<Instant>, usize)>,
}

/// A connection, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Open(Arc<Doors>);

/// The log is told of those who are turned away at most once in this time.
const QUIET: Duration = Duration::from_secs(10);

/// How long one who is turned away may take to hear of it.
const PATIENCE: Duration = Duration::from_secs(1);

impl Doors {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: AtomicUsize::new(0), turned_away: Mutex::default() }
    }

    /// Lets one more in, if there is room.
    pub(super) fn enter(doors: &Arc<Self>) -> Option<Open> {
        let open = Open(Arc::clone(doors));
        if doors.open.fetch_add(1, Ordering::AcqRel) < doors.most {
            return Some(open);
        }
        if let Some(count) = doors.complain(clock::now()) {
            warn!(
                most = doors.most,
                turned_away = count,
                "connections are turned away: there are as many as this process has file descriptors for; allow it more, \
                 with ulimit -n, LimitNOFILE= or --ulimit nofile="
            );
        }
        None
    }

    /// How many have been turned away since the last complaint, if it is time for the next.
    fn complain(&self, now: Instant) -> Option<usize> {
        let mut turned_away = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, count) = &mut *turned_away;
        *count += 1;
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        due.then(|| {
            *last = Some(now);
            std::mem::take(count)
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\r\nThere are too many connections.\n";

/// Tells a client that there is no room for it, in words of HTTP/1.1.
pub(super) async fn turn_away(mut stream: Stream) {
    // What has been sent and was not read would have the kernel throw away the answer.
    let _ = stream.read(&mut [0; 4096]).now_or_never();
    let telling = async {
        stream.write_all(FULL).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    // Whether it hears of it is its own affair.
    let _ = timeout(PATIENCE, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_again_for_one_when_one_leaves() {
        let doors = Arc::new(Doors::new(2));
        let first = Doors::enter(&doors);
        let second = Doors::enter(&doors);
        assert!(
            first.is_some() && second.is_some() && Doors::enter(&doors).is_none() && Doors::enter(&doors).is_none()
        );
        drop(first);
        assert!(Doors::enter(&doors).is_some());
    }

    #[test]
    fn complaints_are_few_and_count_all() {
        let (doors, now) = (Doors::new(0), clock::now());
        assert_eq!(doors.complain(now), Some(1));
        assert_eq!((doors.complain(now), doors.complain(now)), (None, None));
        assert_eq!(doors.complain(now + QUIET), Some(3));
    }
}
