//! Whether an upload still arrives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock;

/// How an upload over HTTP/2 goes on. Over HTTP/1.x pingora gives up a client that sends nothing; here nobody would, and each
/// keeps a connection to the application.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Mutex<Last>>);

#[derive(Clone, Copy, Debug)]
enum Last {
    /// Something arrived, and more is to come.
    Piece(Instant),
    /// All of it has.
    End,
}

/// How long there may be nothing. An application that takes its time is not to lose an upload to this.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

impl Pace {
    /// Of an upload that begins now.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Last::Piece(clock::now()))))
    }

    /// A piece has arrived, with `end` the last.
    pub(super) fn note(&self, end: bool) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*last, Last::Piece(_)) {
            *last = if end { Last::End } else { Last::Piece(clock::now()) };
        }
    }

    /// Completes when nothing has arrived for [`PATIENCE`]; never, if all has.
    pub(super) async fn stalled(&self) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match last {
                Last::End => return std::future::pending().await,
                Last::Piece(at) if clock::now() >= at + PATIENCE => return,
                Last::Piece(at) => sleep_until(at + PATIENCE).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_given_up_when_nothing_arrives() {
        let pace = Pace::new();
        for _ in 0..10 {
            advance(PATIENCE / 2).await;
            pace.note(false);
        }
        let from = clock::now();
        pace.stalled().await;
        assert_eq!(clock::now() - from, PATIENCE);
        let pace = Pace::new();
        pace.note(true);
        pace.note(false);
        assert!(timeout(PATIENCE * 10, pace.stalled()).await.is_err(), "it had ended");
    }
}
