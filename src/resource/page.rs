//! A resource that clients display as a page. A fetch of it might consume data that the page would miss.
//!
//! ```text
//! write ─▶ ClientFence::writes ─▶ Fetches::none: waits for the fetch in progress; none begins before the
//!                                 backend has answered the client itself
//! fetch ─▶ Fetches::begin ─▶ Page::is_written? ─▶ cancelled before it is sent
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ClientFence;

/// The clients that display a resource as a page, and the time when the backend last answered one of them.
#[derive(Debug)]
pub struct Page {
    /// When the backend itself last answered a client that displays the page.
    passed: Mutex<Instant>,
    /// The clients that subscribe to it as their page.
    shown_by: Mutex<Vec<Arc<ClientFence>>>,
    fetches: Arc<Fetches>,
}

impl Page {
    /// Creates a page without clients.
    pub fn new(now: Instant) -> Self {
        Self { passed: Mutex::new(now), shown_by: Mutex::default(), fetches: Arc::default() }
    }

    /// Records that `client` displays the page.
    pub fn show_by(&self, client: &Arc<ClientFence>) {
        let mut shown_by = lock(&self.shown_by);
        shown_by.retain(|known| known.is_held() && !Arc::ptr_eq(known, client));
        shown_by.push(Arc::clone(client));
        drop(shown_by);
        client.shows(&self.fetches);
    }

    /// Records that the backend has answered a client that loads the page.
    pub(super) fn pass(&self, now: Instant) {
        let mut passed = lock(&self.passed);
        *passed = passed.max(now);
    }

    /// Returns the time of the last such response.
    pub fn passed(&self) -> Instant {
        *lock(&self.passed)
    }

    /// Returns whether any client displays the page.
    pub fn is_shown(&self) -> bool {
        !lock(&self.shown_by).is_empty()
    }

    /// Returns when a client that displays the page last began or finished a write.
    pub fn written(&self) -> Option<Instant> {
        lock(&self.shown_by).iter().map(|client| client.touched()).max()
    }

    /// Returns whether such a client is writing now.
    pub fn is_being_written(&self) -> bool {
        lock(&self.shown_by).iter().any(|client| client.is_writing())
    }

    /// Records the beginning of a fetch, which is in progress until the guard is dropped.
    pub fn fetches(&self) -> Fetching {
        self.fetches.begin()
    }
}

/// The fetches of a page in progress.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    count: AtomicUsize,
    ended: Notify,
}

impl Fetches {
    fn begin(self: &Arc<Self>) -> Fetching {
        self.count.fetch_add(1, Ordering::SeqCst);
        Fetching(Arc::clone(self))
    }

    /// Completes when no fetch is in progress.
    pub(super) async fn none(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// A fetch in progress.
#[derive(Debug)]
pub struct Fetching(Arc<Fetches>);

impl Drop for Fetching {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_the_fetch_under_way_and_not_for_ever() {
        let created_at = Instant::now();
        let page = Arc::new(Page::new(created_at));
        let client = Arc::new(ClientFence::new(created_at, created_at));
        let _held = client.listen(Arc::default(), false);
        page.show_by(&client);
        let second = Duration::from_secs(1);
        for (fetch, waits) in [(second / 10, second / 10), (second * 60, second)] {
            let fetching = page.fetches();
            let ends = tokio::spawn(async move {
                tokio::time::sleep(fetch).await;
                drop(fetching);
            });
            let before = Instant::now();
            let writing = client.writes(before);
            assert!(page.is_being_written());
            client.cleared(second).await;
            assert_eq!(before.elapsed(), waits);
            drop(writing);
            assert!(!page.is_being_written() && page.written() == Some(before));
            ends.await.unwrap();
            client.cleared(second).await;
        }
    }
}
