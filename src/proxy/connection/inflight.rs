//! Tracks whether an HTTP/2 connection is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Counts the activities on one HTTP/2 connection. pingora counts only its own tasks, and held clients have left them.
#[derive(Debug, Default)]
pub(in crate::proxy) struct InFlight {
    count: AtomicUsize,
    changed: Notify,
}

/// One activity, until it is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct InFlightGuard(Arc<InFlight>);

impl InFlight {
    /// Begins an activity.
    pub(in crate::proxy) fn begin(busy: &Arc<Self>) -> InFlightGuard {
        busy.count.fetch_add(1, Ordering::AcqRel);
        busy.changed.notify_one();
        InFlightGuard(Arc::clone(busy))
    }

    /// Completes when the connection has been idle for `patience`.
    pub(in crate::proxy) async fn idle(&self, patience: Duration) {
        loop {
            if self.count.load(Ordering::Acquire) > 0 {
                self.changed.notified().await;
            } else if timeout(patience, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for InFlightGuard {
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
        let busy = Arc::<InFlight>::default();
        let begun = clock::now();
        busy.idle(PATIENCE).await;
        assert_eq!(clock::now() - begun, PATIENCE);
        let (one, other) = (InFlight::begin(&busy), InFlight::begin(&busy));
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
