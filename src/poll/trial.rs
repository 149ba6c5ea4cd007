//! What is found out before looks are used where nobody has said that they may be, and what they must not take away.

use tokio::time::Instant;

use super::poller::{Ears, Poller};
use super::taking::{are_alike, differ_in_numbers, takes};
use super::{Fetch, Urgency};
use crate::clock;
use crate::model::Representation;
use crate::resource::{Decline, Evidence, Look, Outcome, State};

/// Nobody has said that the resource may be looked at: what looks bring is used once it was what clients are answered
/// themselves.
#[derive(Default)]
pub(super) struct Trial {
    /// Looks that brought something else.
    unlike: u32,
    /// The next is made when a client has been answered after this.
    after: Option<Instant>,
}

/// So many of a client's own polls have to be seen before any look.
const SEEN: usize = 2;

/// So many looks may bring something else than the poll before.
const MOST_UNLIKE: u32 = 2;

/// A page that has been the same for so many looks changes when its client does something.
const QUIET: usize = 2;

impl<F: Fetch + ?Sized> Poller<F> {
    /// Whether a look takes nothing away from a client, as far as is known: where nobody has said so, its own polls have
    /// shown that they can be repeated; and of a page that it shows it has been answered itself since it last wrote, as what it
    /// did may be told it there, once.
    pub(super) fn may_look(&self, ears: &Ears, now: Instant) -> bool {
        let is_page = self.resource.page().is_shown();
        let trial = ears.trial.as_ref().filter(|_| self.resource.is_untried());
        if !is_page && trial.is_none() {
            return true;
        }
        let evidence = self.hub.evidence(&self.resource, now);
        let answered =
            if self.plan.proves { evidence.as_ref().map(|seen| seen.at) } else { Some(self.resource.page().passed()) };
        let page = self.resource.page();
        if is_page && (page.is_being_written() || answered < page.written()) {
            return false;
        }
        let Some(trial) = trial else { return true };
        let is_repeated = |seen: &Evidence| {
            let is_same = |before: &Representation| are_alike(&before.body, &seen.last.body);
            seen.count >= SEEN
                && trial.after.is_none_or(|after| seen.at > after)
                && (!is_page || seen.before.as_ref().is_some_and(is_same))
        };
        evidence.as_ref().is_some_and(is_repeated)
    }

    /// Whether the look can be used. The first that can brings what a client was answered itself; if none does, only clients
    /// may ask.
    pub(super) fn try_out(&self, ears: &mut Ears, look: &mut Look) -> bool {
        ears.trial.take_if(|_| !self.resource.is_untried());
        let (Some(trial), Outcome::Fresh(found)) = (&mut ears.trial, &look.outcome) else { return true };
        let meaning = |answer: &Representation| self.plan.rules.meaning(answer, answer.digest()).digest;
        let is_alike = |own: &Representation| {
            found.status == own.status && (meaning(found) == meaning(own) || are_alike(&found.body, &own.body))
        };
        if self.hub.evidence(&self.resource, look.finished).is_some_and(|seen| is_alike(&seen.last)) {
            ears.trial = None;
            self.resource.set_untried(false);
            return true;
        }
        trial.unlike += 1;
        trial.after = Some(look.started);
        if trial.unlike > MOST_UNLIKE {
            look.outcome = Outcome::Declined(Decline::Unlike);
        }
        trial.unlike > MOST_UNLIKE
    }

    /// Looks again at once at what has not been seen before. If that is there still it was not taken away by having been
    /// looked at; once a change is, nothing will be. If it is not, only clients may ask, and are to be given what was found.
    pub(super) async fn prove(&self, proven: &mut bool, state: &State, look: &mut Look) {
        let Outcome::Fresh(found) = &look.outcome else { return };
        let meaning = |answer: &Representation| self.plan.rules.meaning(answer, answer.digest()).digest;
        let known = state.head().newest().map(|known| known.version.meaning);
        let first = meaning(found);
        // A page that is shown has been answered the client itself before.
        if self.resource.page().is_shown() || known == Some(first) {
            return;
        }
        let again = match self.look_again(found).await {
            Some(Outcome::Fresh(again)) if meaning(&again) != first => again,
            Some(_) => return *proven = known.is_some(),
            None => return,
        };
        let second = meaning(&again);
        let last = match self.look_again(&again).await {
            Some(Outcome::Fresh(last)) if meaning(&last) != second => Some(last),
            Some(_) => None,
            None => return,
        };
        if look.started < self.resource.fenced() {
            // It may have been changed by what was written meanwhile.
            return;
        }
        if last.is_none() && known.is_some_and(|known| known != second) {
            // It has moved on, and stays. What it was is told first: it may be told nowhere else. What it is now comes with
            // the next look, when pages have had the time to ask.
            return;
        }
        if !takes(&found.body, &again.body, last.as_ref().map(|last| &last.body[..])) {
            *proven = true;
            return;
        }
        if let Outcome::Fresh(found) = std::mem::replace(&mut look.outcome, Outcome::Declined(Decline::Moves)) {
            let rest = last.map(|last| [again.clone(), last]);
            // What only counts is not missed by anybody, and would be old by the time that it is given.
            if !differ_in_numbers(&found.body, &again.body) {
                self.hub.owe(
                    &self.resource,
                    std::iter::once(found).chain(rest.into_iter().flatten()).collect(),
                    clock::now(),
                );
            }
        }
    }

    /// What there is now in place of `found`, if that can be told.
    async fn look_again(&self, found: &Representation) -> Option<Outcome> {
        self.metrics.triggered("sample");
        let (permit, _) = self.admit(Urgency::Triggered, clock::now()).await;
        let outcome = self.ask(permit, found.validators.clone()).await;
        matches!(outcome, Outcome::Fresh(_) | Outcome::NotModified(_)).then_some(outcome)
    }

    /// Whether a client that shows this page wrote while it was looked at, and did not wait until that was done: the look may
    /// have been told what is said only once, of what was written; or know nothing of it.
    pub(super) fn is_overtaken_by_a_write(&self, look: &Look) -> bool {
        let page = self.resource.page();
        page.is_shown() && page.written() > Some(look.started)
    }

    /// Keeps what such a look brought for that client's next load, if it most likely was told what was for the client: the page
    /// has not changed for long, and is another in more than numbers now.
    pub(super) fn keep_for_who_wrote(&self, state: &State, look: &Look) {
        let Outcome::Fresh(found) = &look.outcome else { return };
        let Some(known) = state.head().newest() else { return };
        let last: Vec<_> = self.resource.ledger().into_iter().rev().take(QUIET).collect();
        let is_quiet =
            last.len() == QUIET && last.iter().all(|entry| ["unchanged", "not_modified"].contains(&entry.result));
        if is_quiet && !differ_in_numbers(&known.representation.body, &found.body) {
            self.hub.owe(&self.resource, vec![found.clone()], clock::now());
        }
    }
}
