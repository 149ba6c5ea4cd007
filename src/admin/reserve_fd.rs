//! A reserve file descriptor.

use std::fs::File;

/// Keeps a file descriptor in reserve, so that operators are answered even if clients have taken all others: it is
/// closed to accept the waiting connection.
#[derive(Debug, Default)]
pub(super) struct ReserveFd(Option<File>);

impl ReserveFd {
    /// Opens the reserve descriptor, if possible.
    pub(super) fn keep(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Closes it. Returns `false` if there was none.
    pub(super) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}
