//! Decides whether to fetch earlier than the clients' own polls.

use std::time::Duration;

use crate::resource::{Trigger, Verdict};

/// A resource whose last fetches in this number all found a change is assumed to change with every fetch.
const MAX_CHANGES_IN_A_ROW: u32 = 8;

/// How long a detected change justifies early fetches, which may find more.
const INITIAL_CREDIT: Duration = Duration::from_secs(10);

/// How long a change found by an early fetch justifies further early fetches.
const MAX_CREDIT: Duration = Duration::from_secs(60);

/// How many externally announced changes may extend early fetching before an early fetch must find one itself.
const MAX_UNCONFIRMED: u32 = 4;

/// The results of past fetches as far as they concern early fetching.
#[derive(Clone, Copy, Debug)]
pub(super) struct EarlyFetchPolicy {
    /// How many fetches in a row have found a change.
    in_a_row: u32,
    /// How long early fetches may continue without finding a change.
    credit: Duration,
    /// How often the credit was renewed for announced changes since an early fetch found one.
    unconfirmed: u32,
}

impl EarlyFetchPolicy {
    /// Creates the policy without any knowledge.
    pub(super) fn new() -> Self {
        Self { in_a_row: 0, credit: INITIAL_CREDIT, unconfirmed: 0 }
    }

    /// Records a fetch. `early` means that it was made before the clients' own polls; `every` is the interval of early
    /// fetches.
    pub(super) fn record(&mut self, trigger: Trigger, verdict: &Verdict, early: bool, every: Duration) {
        // A change after an announcement may have that cause or another one.
        let found = matches!(trigger, Trigger::Timer | Trigger::Demand);
        match verdict {
            Verdict::Changed => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                if early {
                    self.credit = MAX_CREDIT;
                    self.unconfirmed = 0;
                } else if found || self.unconfirmed < MAX_UNCONFIRMED {
                    self.credit = self.credit.max(INITIAL_CREDIT);
                    self.unconfirmed += u32::from(!found);
                }
            }
            Verdict::Unchanged | Verdict::NotModified | Verdict::Insignificant | Verdict::Noise => {
                self.in_a_row = 0;
                if early {
                    self.credit = self.credit.saturating_sub(every);
                }
            }
            Verdict::Failed(_) | Verdict::Ended => {}
        }
    }

    /// Returns whether every fetch finds a change: then the changes are noise, or too frequent for early fetches to
    /// help.
    pub(super) fn changes_every_time(&self) -> bool {
        self.in_a_row >= MAX_CHANGES_IN_A_ROW
    }

    /// Returns whether early fetches are to be made.
    pub(super) fn is_worthwhile(&self) -> bool {
        !self.changes_every_time() && self.credit > Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    fn fetches(early_fetch: &mut EarlyFetchPolicy, count: u32, trigger: Trigger, verdict: &Verdict, early: bool) {
        for _ in 0..count {
            early_fetch.record(trigger, verdict, early, EVERY);
        }
    }

    #[test]
    fn what_changes_with_every_fetch_is_restless_until_one_finds_nothing() {
        let mut early_fetch = EarlyFetchPolicy::new();
        fetches(&mut early_fetch, MAX_CHANGES_IN_A_ROW - 1, Trigger::Timer, &Verdict::Changed, true);
        assert!(early_fetch.is_worthwhile() && !early_fetch.changes_every_time());
        fetches(&mut early_fetch, 1, Trigger::Timer, &Verdict::Changed, true);
        assert!(!early_fetch.is_worthwhile() && early_fetch.changes_every_time());
        fetches(&mut early_fetch, 1, Trigger::Timer, &Verdict::Unchanged, false);
        assert!(early_fetch.is_worthwhile() && !early_fetch.changes_every_time());
    }

    #[test]
    fn early_fetches_have_to_pay() {
        let mut early_fetch = EarlyFetchPolicy::new();
        fetches(&mut early_fetch, 10, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(!early_fetch.is_worthwhile(), "ten have found nothing");
        fetches(&mut early_fetch, 100, Trigger::Timer, &Verdict::Unchanged, false);
        for _ in 0..MAX_UNCONFIRMED {
            fetches(&mut early_fetch, 1, Trigger::Write, &Verdict::Changed, false);
            assert!(early_fetch.is_worthwhile(), "something else may have changed it");
            fetches(&mut early_fetch, 10, Trigger::Timer, &Verdict::Unchanged, true);
        }
        fetches(&mut early_fetch, 1, Trigger::Write, &Verdict::Changed, false);
        assert!(!early_fetch.is_worthwhile(), "it is told of all that changes");
        fetches(&mut early_fetch, 1, Trigger::Timer, &Verdict::Changed, false);
        fetches(&mut early_fetch, 9, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(early_fetch.is_worthwhile(), "more may follow");
        fetches(&mut early_fetch, 1, Trigger::Timer, &Verdict::Changed, true);
        fetches(&mut early_fetch, 59, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(early_fetch.is_worthwhile(), "it did");
        fetches(&mut early_fetch, 1, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(!early_fetch.is_worthwhile());
        fetches(&mut early_fetch, 1, Trigger::Write, &Verdict::Changed, false);
        assert!(early_fetch.is_worthwhile(), "it is not told of all");
    }
}
