//! Detects stalled uploads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock;

/// The progress of an upload over HTTP/2. Over HTTP/1.x pingora drops a client that sends nothing; over HTTP/2 it does
/// not, and each stalled upload would occupy a connection to the application.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct UploadProgress(Arc<Mutex<Last>>);

#[derive(Clone, Copy, Debug)]
enum Last {
    /// A piece arrived, and more follow.
    Piece(Instant),
    /// The upload is complete.
    End,
}

/// The maximum time without data. It is long, so that a slow application does not lose an upload.
pub(in crate::proxy) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

impl UploadProgress {
    /// Creates the state of an upload that begins now.
    pub(in crate::proxy) fn new() -> Self {
        Self(Arc::new(Mutex::new(Last::Piece(clock::now()))))
    }

    /// Records a piece; `end` marks the last one.
    pub(in crate::proxy) fn record(&self, end: bool) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*last, Last::Piece(_)) {
            *last = if end { Last::End } else { Last::Piece(clock::now()) };
        }
    }

    /// Completes when nothing has arrived for [`UPLOAD_TIMEOUT`]; never if the upload is complete.
    pub(in crate::proxy) async fn stalled(&self) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match last {
                Last::End => return std::future::pending().await,
                Last::Piece(at) if clock::now() >= at + UPLOAD_TIMEOUT => return,
                Last::Piece(at) => sleep_until(at + UPLOAD_TIMEOUT).await,
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
        let pace = UploadProgress::new();
        for _ in 0..10 {
            advance(UPLOAD_TIMEOUT / 2).await;
            pace.record(false);
        }
        let from = clock::now();
        pace.stalled().await;
        assert_eq!(clock::now() - from, UPLOAD_TIMEOUT);
        let pace = UploadProgress::new();
        pace.record(true);
        pace.record(false);
        assert!(timeout(UPLOAD_TIMEOUT * 10, pace.stalled()).await.is_err(), "it had ended");
    }
}
