//! The wake-up of a client's task.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// A wake-up for one task, shared by all resources that the task subscribes to.
///
/// Several notifications before the task runs count as one: they say *that* something changed, and the resource states
/// say what.
#[derive(Debug, Default)]
pub struct TaskNotify {
    is_notified: AtomicBool,
    waker: AtomicWaker,
}

impl TaskNotify {
    /// Wakes the task, now or as soon as it waits.
    pub fn notify(&self) {
        if !self.is_notified.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Completes when the task has been notified since the last completion. Only one task may wait.
    pub async fn notified(&self) {
        poll_fn(|context| {
            if self.is_notified.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.waker.register(context.waker());
            // A notification between the check above and the registration found no waker.
            if self.is_notified.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
