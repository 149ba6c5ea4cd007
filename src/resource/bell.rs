//! How a client's task is told that there is something new.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// A wake-up for one task, shared by all resources that the task follows.
///
/// Ringing twice before the task looks is ringing once: the bell says *that* something changed, the heads say what.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Wakes the task, now or as soon as it waits.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Completes when the bell has been rung since it last completed. Only one task may wait.
    pub async fn rung(&self) {
        poll_fn(|context| {
            if self.rung.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.waker.register(context.waker());
            // Rung between the look above and the registration: that ring found no waker.
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
