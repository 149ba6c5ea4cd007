//! How a client's task is told that there is something new.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// A wake-up for one task, shared by all resources that the task follows.
///
/// Two notifications before the task looks count as one: they say *that* something changed, the resource states say what.
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

    /// Completes when the task has been notified since this last completed. Only one task may wait.
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
