//! A file descriptor for when there is no other.

use std::fs::File;

/// Keeps a descriptor, so that operators are answered even where clients have taken all others: it is given up, and the
/// connection that waits takes its place.
#[derive(Debug, Default)]
pub(super) struct ReserveFd(Option<File>);

impl ReserveFd {
    /// Has one to give up, if there is one to be had.
    pub(super) fn keep(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Gives it up. `false` if there was none.
    pub(super) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}
