//! Whether anything is done on a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Counts what is done on one HTTP/2 connection. pingora counts its own tasks alone, and a client that is held has left them.
#[derive(Debug, Default)]
pub(super) struct Busy {
    count: AtomicUsize,
    changed: Notify,
}

/// Something that is done, for as long as it is.
#[derive(Debug)]
pub(super) struct InUse(Arc<Busy>);

impl Busy {
    /// One thing more is done.
    pub(super) fn begin(busy: &Arc<Self>) -> InUse {
        busy.count.fetch_add(1, Ordering::AcqRel);
        busy.changed.notify_one();
        InUse(Arc::clone(busy))
    }

    /// Completes when nothing has been done for `patience`.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            if self.count.load(Ordering::Acquire) > 0 {
                self.changed.notified().await;
            } else if timeout(patience, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_the_last_thing_is_long_done() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let busy = Arc::<Busy>::default();
        let begun = clock::now();
        busy.idle(PATIENCE).await;
        assert_eq!(clock::now() - begun, PATIENCE);
        let (one, other) = (Busy::begin(&busy), Busy::begin(&busy));
        assert!(timeout(PATIENCE * 10, busy.idle(PATIENCE)).await.is_err(), "two things were done");
        drop(one);
        assert!(timeout(PATIENCE * 10, busy.idle(PATIENCE)).await.is_err(), "one thing was done");
        drop(other);
        advance(PATIENCE / 2).await;
        let begun = clock::now();
        busy.idle(PATIENCE).await;
        assert!(clock::now() - begun <= PATIENCE);
    }
}
