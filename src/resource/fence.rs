//! The time of a client's last write, shared by all streams and resources of the client.
//!
//! ```text
//! write ─▶ ClientFence::raise ─▶ notifications ─▶ each held stream: withholds older states, sends `down`
//!                                              └── FenceListener::told ─▶ ClientFence::settled: the write may be answered
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::TaskNotify;
use super::page::Fetches;

/// The time of one client's last write. No state fetched before that time counts as current for this client.
///
/// A stream reads it at each event with one atomic load.
#[derive(Debug)]
pub struct ClientFence {
    created_at: Instant,
    /// Nanoseconds since `created_at`.
    last: AtomicU64,
    /// The same for data on a connection of the application's own, which may have been a write.
    said: AtomicU64,
    /// When the last write began.
    began: AtomicU64,
    /// The number of possible writes in progress.
    writing: AtomicUsize,
    /// The fetches of the pages that it displays.
    pages: Mutex<Vec<Weak<Fetches>>>,
    listeners: Mutex<Slab<Arc<Listener>>>,
    acknowledged: Notify,
}

#[derive(Debug)]
struct Listener {
    notify: Arc<TaskNotify>,
    /// Whether the stream announces that earlier states may be old. A write waits for that.
    announces: bool,
    /// The last write that the stream has announced.
    told: AtomicU64,
    /// Whether the stream was late with an announcement. No write waits for it until it has caught up.
    lags: AtomicBool,
}

impl ClientFence {
    /// Creates the fence of a client with its last write `at`. Times are counted from `created_at`, which is no later.
    pub fn new(created_at: Instant, at: Instant) -> Self {
        let fence = Self {
            created_at,
            last: AtomicU64::new(0),
            said: AtomicU64::new(0),
            began: AtomicU64::new(0),
            writing: AtomicUsize::new(0),
            pages: Mutex::default(),
            listeners: Mutex::default(),
            acknowledged: Notify::new(),
        };
        fence.last.store(fence.offset(at), Ordering::Release);
        fence
    }

    /// Records a possible write at `now`.
    pub fn raise(&self, now: Instant) {
        self.last.fetch_max(self.offset(now), Ordering::AcqRel);
        for (_, listener) in &*self.listeners() {
            listener.notify.notify();
        }
    }

    /// Records data that the client sent to the application over a connection that is not parsed here. Its polls are
    /// then answered from later fetches only; its streams continue, because such a connection may never be silent.
    pub fn hear(&self, now: Instant) {
        self.said.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// Records the beginning of a possible write at `now`. It ends when the guard is dropped.
    pub fn writes(self: &Arc<Self>, now: Instant) -> Writing {
        self.writing.fetch_add(1, Ordering::SeqCst);
        // A fetch that begins later sees this value; the writer waits for fetches that began before.
        self.began.fetch_max(self.offset(now), Ordering::SeqCst);
        Writing(Arc::clone(self))
    }

    /// Returns whether a possible write is in progress.
    pub fn is_writing(&self) -> bool {
        self.writing.load(Ordering::SeqCst) > 0
    }

    /// Records that the client displays the page of `fetches`.
    pub(super) fn shows(&self, fetches: &Arc<Fetches>) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| page.strong_count() > 0 && !std::ptr::eq(page.as_ptr(), Arc::as_ptr(fetches)));
        pages.push(Arc::downgrade(fetches));
    }

    /// Completes when no fetch of a page that the client displays is in progress, or after `patience`.
    pub async fn cleared(&self, patience: Duration) {
        let pages: Vec<_> = {
            let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            pages.iter().filter_map(Weak::upgrade).collect()
        };
        let ended = async {
            for page in &pages {
                page.none().await;
            }
        };
        let _ = timeout(patience, ended).await;
    }

    /// Returns when the client last began or finished a write.
    pub fn touched(&self) -> Instant {
        self.at().max(self.created_at + Duration::from_nanos(self.began.load(Ordering::SeqCst)))
    }

    /// Returns when the client last wrote.
    pub fn at(&self) -> Instant {
        self.created_at + Duration::from_nanos(self.last.load(Ordering::Acquire))
    }

    /// Returns when the client last wrote or sent data that may have been a write.
    pub fn latest(&self) -> Instant {
        self.at().max(self.created_at + Duration::from_nanos(self.said.load(Ordering::Acquire)))
    }

    /// Notifies `notify` at each write until the listener is dropped. With `announces`, a write is answered only after
    /// the listener has [acknowledged](FenceListener::told) it.
    pub fn listen(self: &Arc<Self>, notify: Arc<TaskNotify>, announces: bool) -> FenceListener {
        let told = AtomicU64::new(self.last.load(Ordering::Acquire));
        let listener = Arc::new(Listener { notify, announces, told, lags: AtomicBool::new(false) });
        let slot = self.listeners().insert(Arc::clone(&listener));
        FenceListener { fence: Arc::clone(self), listener, slot }
    }

    /// Returns whether there are listeners.
    pub fn is_held(&self) -> bool {
        !self.listeners().is_empty()
    }

    /// Completes when all streams that announce writes have announced the last one, or after `patience`. A stream that
    /// was late is not waited for again until it has caught up.
    pub async fn settled(&self, patience: Duration) {
        let at = self.last.load(Ordering::Acquire);
        let settled = async {
            loop {
                let acknowledged = self.acknowledged.notified();
                tokio::pin!(acknowledged);
                acknowledged.as_mut().enable();
                if !self.listeners().iter().any(|(_, listener)| listener.is_awaited(at)) {
                    return;
                }
                acknowledged.await;
            }
        };
        if timeout(patience, settled).await.is_err() {
            for (_, listener) in self.listeners().iter().filter(|(_, listener)| listener.is_awaited(at)) {
                listener.lags.store(true, Ordering::Release);
            }
        }
    }

    fn offset(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.created_at).as_nanos()).unwrap_or(u64::MAX)
    }

    fn listeners(&self) -> MutexGuard<'_, Slab<Arc<Listener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    fn is_awaited(&self, at: u64) -> bool {
        self.announces && self.told.load(Ordering::Acquire) < at && !self.lags.load(Ordering::Acquire)
    }
}

/// A possible write in progress.
#[derive(Debug)]
pub struct Writing(Arc<ClientFence>);

impl Writing {
    /// See [`ClientFence::cleared`].
    pub async fn cleared(&self, patience: Duration) {
        self.0.cleared(patience).await;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A listener for a client's writes. Dropping it unregisters it.
#[derive(Debug)]
pub struct FenceListener {
    fence: Arc<ClientFence>,
    listener: Arc<Listener>,
    slot: usize,
}

impl FenceListener {
    /// Returns when the client last wrote.
    pub fn at(&self) -> Instant {
        self.fence.at()
    }

    /// Returns when the client last wrote or sent data that may have been a write.
    pub fn latest(&self) -> Instant {
        self.fence.latest()
    }

    /// Records that the client has been told about its writes up to the one at `at`.
    pub fn told(&self, at: Instant) {
        let at = self.fence.offset(at);
        if self.listener.announces && self.listener.told.swap(at, Ordering::AcqRel) != at {
            self.listener.lags.store(false, Ordering::Release);
            self.fence.acknowledged.notify_waiters();
        }
    }
}

impl Drop for FenceListener {
    fn drop(&mut self) {
        self.fence.listeners().remove(self.slot);
        self.fence.acknowledged.notify_waiters();
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_the_streams_that_announce_it_and_for_none_twice() {
        let created_at = Instant::now();
        let fence = Arc::new(ClientFence::new(created_at, created_at));
        let silent = fence.listen(Arc::default(), false);
        let stream = Arc::new(fence.listen(Arc::default(), true));
        fence.raise(Instant::now() + Duration::from_millis(1));
        let telling = tokio::spawn({
            let (stream, at) = (Arc::clone(&stream), fence.at());
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                stream.told(at);
            }
        });
        let before = Instant::now();
        fence.settled(PATIENCE).await;
        assert_eq!(before.elapsed(), Duration::from_millis(100));
        telling.await.unwrap();
        // A stream that does not read delays a write once, and again after it has caught up.
        for (waits, tells) in [(PATIENCE, false), (Duration::ZERO, true), (PATIENCE, false)] {
            fence.raise(Instant::now());
            let before = Instant::now();
            fence.settled(PATIENCE).await;
            assert_eq!(before.elapsed(), waits);
            tokio::time::sleep(Duration::from_millis(1)).await;
            if tells {
                stream.told(fence.at());
            }
        }
        drop((silent, stream));
        assert!(!fence.is_held());
    }
}
