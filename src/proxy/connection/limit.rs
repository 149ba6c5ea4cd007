//! The limit on client connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::clock;
use crate::model::{AddressBucket, Owner, Ration, Taken};

/// Counts connections, so that the process never runs out of file descriptors for accepting, fetching and proxying, and
/// so that one network leaves connections for others.
#[derive(Debug)]
pub(in crate::proxy) struct ConnectionLimit {
    most: usize,
    places: Arc<Ration>,
    /// The time of the last warning, and the number of connections rejected since.
    turned_away: Mutex<(Option<Instant>, usize)>,
}

/// The permit of a connection. Boxed, because the future of a held client stores it twice.
#[derive(Debug)]
pub(in crate::proxy) struct ConnectionPermit {
    _place: Box<Taken>,
}

/// The maximum share of one network, as a multiple of what is left. It is large, because the network may be that of a
/// proxy in front.
const OF_NETWORK: u64 = 7;

/// The minimum interval between two warnings about rejected connections.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// The timeout for sending a rejection.
const REJECT_TIMEOUT: Duration = Duration::from_secs(1);

impl ConnectionLimit {
    pub(in crate::proxy) fn new(most: usize) -> Self {
        Self {
            most,
            places: Arc::new(Ration::new(most as u64, (OF_NETWORK, OF_NETWORK))),
            turned_away: Mutex::default(),
        }
    }

    /// Admits one more connection of `network`, if there is room.
    pub(in crate::proxy) fn try_acquire(doors: &Self, network: Option<AddressBucket>) -> Option<ConnectionPermit> {
        if let Some(taken) = doors.places.take(Owner { network, client: 0 }, 1) {
            return Some(ConnectionPermit { _place: Box::new(taken) });
        }
        if let Some(count) = doors.due_warning(clock::now()) {
            warn!(
                most = doors.most,
                turned_away = count,
                "connections are turned away: there are as many as this process has file descriptors for; allow it more, \
                 with ulimit -n, LimitNOFILE= or --ulimit nofile="
            );
        }
        None
    }

    /// Returns the number of rejections since the last warning, if the next warning is due.
    fn due_warning(&self, now: Instant) -> Option<usize> {
        let mut turned_away = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, count) = &mut *turned_away;
        *count += 1;
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= WARN_INTERVAL);
        due.then(|| {
            *last = Some(now);
            std::mem::take(count)
        })
    }
}

const OVERLOADED_RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\n\r\nThere are too many connections.\n";

/// Rejects a client with an HTTP/1.1 response.
pub(in crate::proxy) async fn reject(mut stream: Stream) {
    // If unread data were left, the kernel would discard the response.
    let _ = stream.read(&mut [0; 4096]).now_or_never();
    let telling = async {
        stream.write_all(OVERLOADED_RESPONSE).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    // Errors are ignored: the connection ends either way.
    let _ = timeout(REJECT_TIMEOUT, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_again_for_one_when_one_leaves() {
        let doors = ConnectionLimit::new(16);
        let network = |number: u8| Some(AddressBucket::of([10, 0, 0, number].into()));
        let mut flood: Vec<_> = std::iter::from_fn(|| ConnectionLimit::try_acquire(&doors, network(1))).collect();
        assert_eq!(flood.len(), 14);
        let others: Vec<_> = (2..9).map_while(|number| ConnectionLimit::try_acquire(&doors, network(number))).collect();
        assert_eq!(others.len(), 2, "the last are for those who have none");
        flood.truncate(8);
        assert!(ConnectionLimit::try_acquire(&doors, network(1)).is_some());
    }

    #[test]
    fn complaints_are_few_and_count_all() {
        let (doors, now) = (ConnectionLimit::new(0), clock::now());
        assert_eq!(doors.due_warning(now), Some(1));
        assert_eq!((doors.due_warning(now), doors.due_warning(now)), (None, None));
        assert_eq!(doors.due_warning(now + WARN_INTERVAL), Some(3));
    }
}
