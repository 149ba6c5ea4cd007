//! The moment of a client's last write, shared by all that the client holds.
//!
//! ```text
//! write ─▶ ClientFence::raise ─▶ bells ─▶ each held stream: withholds what was fetched before, says `down`
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

/// When one client last wrote. Nothing that was fetched before that moment counts as current for this client.
///
/// A stream reads it at each event: one atomic load.
#[derive(Debug)]
pub struct ClientFence {
    created_at: Instant,
    /// Nanoseconds since `created_at`.
    last: AtomicU64,
    /// The same for what it said over a connection of the application's own, which may have been a write.
    said: AtomicU64,
    /// When it last began to write.
    began: AtomicU64,
    /// What it sends that may be a write and has not been answered.
    writing: AtomicUsize,
    /// The fetches of the pages that it shows.
    pages: Mutex<Vec<Weak<Fetches>>>,
    listeners: Mutex<Slab<Arc<Listener>>>,
    acknowledged: Notify,
}

#[derive(Debug)]
struct Listener {
    notify: Arc<TaskNotify>,
    /// Whether the stream says that what it told before may be old: a write waits for that.
    announces: bool,
    /// Up to which write the stream has said so.
    told: AtomicU64,
    /// Whether the stream did not say so in time: nothing waits for it until it does.
    lags: AtomicBool,
}

impl ClientFence {
    /// A client that last wrote `at`; moments are counted from `created_at`, which is no later.
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

    /// The client wrote at `now`, or may have.
    pub fn raise(&self, now: Instant) {
        self.last.fetch_max(self.offset(now), Ordering::AcqRel);
        for (_, listener) in &*self.listeners() {
            listener.notify.notify();
        }
    }

    /// The client said something to the application over a connection that is not read here. Its polls are answered by what
    /// was fetched after that; its streams go on, as such a connection may never be silent.
    pub fn hear(&self, now: Instant) {
        self.said.fetch_max(self.offset(now), Ordering::AcqRel);
    }

    /// The client sends something at `now` that may be a write. It has been answered when the guard is dropped.
    pub fn writes(self: &Arc<Self>, now: Instant) -> Writing {
        self.writing.fetch_add(1, Ordering::SeqCst);
        // A fetch that begins from now on sees this; one that has begun is seen by who waits for it.
        self.began.fetch_max(self.offset(now), Ordering::SeqCst);
        Writing(Arc::clone(self))
    }

    /// Whether the client has written something that has not been answered.
    pub fn is_writing(&self) -> bool {
        self.writing.load(Ordering::SeqCst) > 0
    }

    /// The client shows the page that `fetches` are of.
    pub(super) fn shows(&self, fetches: &Arc<Fetches>) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| page.strong_count() > 0 && !std::ptr::eq(page.as_ptr(), Arc::as_ptr(fetches)));
        pages.push(Arc::downgrade(fetches));
    }

    /// Completes when no fetch of a page that the client shows is under way, or after `patience`.
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

    /// When the client last began to write, or had written.
    pub fn touched(&self) -> Instant {
        self.at().max(self.created_at + Duration::from_nanos(self.began.load(Ordering::SeqCst)))
    }

    /// When the client last wrote.
    pub fn at(&self) -> Instant {
        self.created_at + Duration::from_nanos(self.last.load(Ordering::Acquire))
    }

    /// When the client last wrote, or said what may have been a write.
    pub fn latest(&self) -> Instant {
        self.at().max(self.created_at + Duration::from_nanos(self.said.load(Ordering::Acquire)))
    }

    /// Rings `notify` at each write until the listener is dropped. With `announces`, a write is answered only when the
    /// listener has [said](FenceListener::told) that it heard of it.
    pub fn listen(self: &Arc<Self>, notify: Arc<TaskNotify>, announces: bool) -> FenceListener {
        let told = AtomicU64::new(self.last.load(Ordering::Acquire));
        let listener = Arc::new(Listener { notify, announces, told, lags: AtomicBool::new(false) });
        let slot = self.listeners().insert(Arc::clone(&listener));
        FenceListener { fence: Arc::clone(self), listener, slot }
    }

    /// Whether anybody listens.
    pub fn is_held(&self) -> bool {
        !self.listeners().is_empty()
    }

    /// Completes when all streams that announce writes have told their client of the last one, or did not within
    /// `patience`. Who does not is not waited for again before it has.
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

/// Something that may be a write, until it has been answered.
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

/// Something that a client holds, and that is told of its writes; dropping it ends that.
#[derive(Debug)]
pub struct FenceListener {
    fence: Arc<ClientFence>,
    listener: Arc<Listener>,
    slot: usize,
}

impl FenceListener {
    /// When the client last wrote.
    pub fn at(&self) -> Instant {
        self.fence.at()
    }

    /// When it last wrote, or said what may have been a write.
    pub fn latest(&self) -> Instant {
        self.fence.latest()
    }

    /// The client has been told of its writes up to the one at `at`.
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
        // One that does not read is waited for once, and again when it has caught up.
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
