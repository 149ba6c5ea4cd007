//! The states of one target that clients have seen in several variants.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The resources of one target for clients with the same cookies and authorization, which differ in other request
/// headers. A client that polls one of them and subscribes to another must not go back to an older state.
#[derive(Debug, Default)]
pub struct Siblings {
    /// The handles of the last two resources that showed a new state, and when that state was complete.
    shown: Mutex<[Option<(String, Instant)>; 2]>,
}

impl Siblings {
    /// Records that the resource `handle` showed a state that was new at `when`. An empty handle stands for the backend
    /// itself.
    pub fn show(&self, handle: &str, when: Instant) {
        let mut shown = self.lock();
        let is_own = |slot: &Option<(String, Instant)>| slot.as_ref().is_some_and(|(known, _)| known == handle);
        if !shown.iter().any(is_own) {
            // The older entry is replaced.
            shown.sort_by_key(|slot| slot.as_ref().map(|(_, when)| *when));
            shown[0] = Some((handle.to_owned(), when));
        }
        for (_, last) in shown.iter_mut().flatten().filter(|(known, _)| known == handle) {
            *last = when.max(*last);
        }
    }

    /// Returns when a resource other than `handle` last showed a new state.
    pub fn shown_beside(&self, handle: &str) -> Option<Instant> {
        self.lock().iter().flatten().filter(|(known, _)| known != handle).map(|(_, when)| *when).max()
    }

    fn lock(&self) -> MutexGuard<'_, [Option<(String, Instant)>; 2]> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_others_have_shown_counts_and_what_one_has_shown_itself_does_not() {
        let now = Instant::now();
        let at = |n| now + Duration::from_secs(n);
        let siblings = Siblings::default();
        assert_eq!(siblings.shown_beside("a"), None);
        siblings.show("a", at(1));
        assert_eq!((siblings.shown_beside("a"), siblings.shown_beside("b")), (None, Some(at(1))));
        siblings.show("b", at(2));
        siblings.show("a", at(3));
        assert_eq!((siblings.shown_beside("a"), siblings.shown_beside("b")), (Some(at(2)), Some(at(3))));
        siblings.show("c", at(4));
        assert_eq!((siblings.shown_beside("c"), siblings.shown_beside("a")), (Some(at(3)), Some(at(4))));
    }
}
