//! Whether it pays to look sooner than those who follow would ask by themselves.

use std::time::Duration;

use crate::resource::{Trigger, Verdict};

/// What so many looks in a row have found changed is restless: it changes as often as anybody looks.
const RESTLESS: u32 = 8;

/// What is found to have changed is worth looks for so long, which may find more.
const GRANT: Duration = Duration::from_secs(10);

/// And what an early look finds, for so long.
const FULL: Duration = Duration::from_secs(60);

/// How often what Sungrazer was told of is worth that, without an early look having found anything.
const IN_VAIN: u32 = 4;

/// What looks have taught about looking early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eagerness {
    /// How many looks in a row have found a change.
    in_a_row: u32,
    /// For how long early looks may go on finding nothing.
    patience: Duration,
    /// How often that was granted for changes of which one was told, since an early look found something.
    in_vain: u32,
}

impl Eagerness {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self { in_a_row: 0, patience: GRANT, in_vain: 0 }
    }

    /// Takes in a look. `early`: it was made sooner than those who follow would have asked, and there are to be such looks
    /// every `every`.
    pub(super) fn looked(&mut self, trigger: Trigger, verdict: &Verdict, early: bool, every: Duration) {
        // What one was told of may have changed for another reason, and may not have.
        let found = matches!(trigger, Trigger::Timer | Trigger::Demand);
        match verdict {
            Verdict::Changed => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                if early {
                    self.patience = FULL;
                    self.in_vain = 0;
                } else if found || self.in_vain < IN_VAIN {
                    self.patience = self.patience.max(GRANT);
                    self.in_vain += u32::from(!found);
                }
            }
            Verdict::Unchanged | Verdict::NotModified | Verdict::Insignificant => {
                self.in_a_row = 0;
                if early {
                    self.patience = self.patience.saturating_sub(every);
                }
            }
            Verdict::Failed(_) | Verdict::Ended => {}
        }
    }

    /// Whether every look finds a change: then it is noise, or so frequent that no look is soon enough.
    pub(super) fn is_restless(&self) -> bool {
        self.in_a_row >= RESTLESS
    }

    /// Whether looks are to be made early.
    pub(super) fn pays(&self) -> bool {
        !self.is_restless() && self.patience > Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(1);

    fn looks(eagerness: &mut Eagerness, count: u32, trigger: Trigger, verdict: &Verdict, early: bool) {
        for _ in 0..count {
            eagerness.looked(trigger, verdict, early, EVERY);
        }
    }

    #[test]
    fn what_changes_with_every_look_is_restless_until_one_finds_nothing() {
        let mut eagerness = Eagerness::new();
        looks(&mut eagerness, RESTLESS - 1, Trigger::Timer, &Verdict::Changed, true);
        assert!(eagerness.pays() && !eagerness.is_restless());
        looks(&mut eagerness, 1, Trigger::Timer, &Verdict::Changed, true);
        assert!(!eagerness.pays() && eagerness.is_restless());
        looks(&mut eagerness, 1, Trigger::Timer, &Verdict::Unchanged, false);
        assert!(eagerness.pays() && !eagerness.is_restless());
    }

    #[test]
    fn early_looks_have_to_pay() {
        let mut eagerness = Eagerness::new();
        looks(&mut eagerness, 10, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(!eagerness.pays(), "ten have found nothing");
        looks(&mut eagerness, 100, Trigger::Timer, &Verdict::Unchanged, false);
        for _ in 0..IN_VAIN {
            looks(&mut eagerness, 1, Trigger::Write, &Verdict::Changed, false);
            assert!(eagerness.pays(), "something else may have changed it");
            looks(&mut eagerness, 10, Trigger::Timer, &Verdict::Unchanged, true);
        }
        looks(&mut eagerness, 1, Trigger::Write, &Verdict::Changed, false);
        assert!(!eagerness.pays(), "it is told of all that changes");
        looks(&mut eagerness, 1, Trigger::Timer, &Verdict::Changed, false);
        looks(&mut eagerness, 9, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(eagerness.pays(), "more may follow");
        looks(&mut eagerness, 1, Trigger::Timer, &Verdict::Changed, true);
        looks(&mut eagerness, 59, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(eagerness.pays(), "it did");
        looks(&mut eagerness, 1, Trigger::Timer, &Verdict::Unchanged, true);
        assert!(!eagerness.pays());
        looks(&mut eagerness, 1, Trigger::Write, &Verdict::Changed, false);
        assert!(eagerness.pays(), "it is not told of all");
    }
}
