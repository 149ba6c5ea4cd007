//! Tracks which resources of a route cannot be fetched, so that the failure is logged once per route and not once per
//! resource.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// The number of failing resources, and since when the log has reported them.
#[derive(Debug, Default)]
pub struct Failing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: usize,
    logged: Option<Instant>,
}

impl Failing {
    /// Adds a failing resource. Returns whether the failure must be logged, given that `is_logged` allows it.
    pub fn begin(&self, is_logged: bool) -> bool {
        let mut state = self.state();
        state.count += 1;
        let is_first = is_logged && state.logged.is_none();
        if is_first {
            state.logged = Some(clock::now());
        }
        is_first
    }

    /// Removes a resource that has recovered or is no longer watched. Returns the duration of the failure if this was
    /// the last failing resource and the failure was logged.
    pub fn end(&self) -> Option<Duration> {
        let mut state = self.state();
        state.count = state.count.saturating_sub(1);
        let since = if state.count == 0 { state.logged.take() } else { None };
        since.map(|since| clock::now().saturating_duration_since(since))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_speaks_of_the_first_and_of_the_end_of_the_last() {
        let failing = Failing::default();
        assert!(!failing.begin(false), "the backend's own line tells of it");
        assert_eq!(failing.end(), None);
        assert!(failing.begin(true) && !failing.begin(true) && !failing.begin(false));
        assert!(failing.end().is_none() && failing.end().is_none() && failing.end().is_some());
        assert!(failing.begin(true), "another time is another line");
    }
}
