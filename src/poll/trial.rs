//! What is found out before fetches are used where nobody has said that they may be, and what they must not take away.

use tokio::time::Instant;

use super::poller::{Poller, RouteEventCursor};
use super::side_effects::{are_alike, differ_in_numbers, has_side_effects};
use super::{Fetcher, Priority};
use crate::clock;
use crate::model::Representation;
use crate::resource::{CompletedFetch, Decline, Evidence, FetchOutcome, StateMachine};

/// Nobody has said that the resource may be fetched: what fetches bring is used once it was what clients are answered
/// themselves.
#[derive(Default)]
pub(super) struct Trial {
    /// Fetches that brought something else.
    unlike: u32,
    /// The next is made when a client has been answered after this.
    after: Option<Instant>,
}

/// So many of a client's own polls have to be seen before any fetch.
const SEEN: usize = 2;

/// So many fetches may bring something else than the poll before.
const MAX_UNLIKE: u32 = 2;

/// A page that has been the same for so many fetches changes when its client does something.
const QUIET: usize = 2;

impl<F: Fetcher + ?Sized> Poller<F> {
    /// Whether a fetch takes nothing away from a client, as far as is known: where nobody has said so, its own polls have
    /// shown that they can be repeated; and of a page that it shows it has been answered itself since it last wrote, as what it
    /// did may be told it there, once.
    pub(super) fn may_fetch(&self, event_cursor: &RouteEventCursor, now: Instant) -> bool {
        let is_page = self.resource.page().is_shown();
        let trial = event_cursor.trial.as_ref().filter(|_| self.resource.is_untried());
        if !is_page && trial.is_none() {
            return true;
        }
        let evidence = self.registry.evidence(&self.resource, now);
        let answered = if self.config.verify_safe {
            evidence.as_ref().map(|seen| seen.at)
        } else {
            Some(self.resource.page().passed())
        };
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

    /// Whether the fetch can be used. The first that can brings what a client was answered itself; if none does, only clients
    /// may ask.
    pub(super) fn try_out(&self, event_cursor: &mut RouteEventCursor, fetch: &mut CompletedFetch) -> bool {
        event_cursor.trial.take_if(|_| !self.resource.is_untried());
        let (Some(trial), FetchOutcome::Fresh(found)) = (&mut event_cursor.trial, &fetch.outcome) else { return true };
        let meaning = |answer: &Representation| self.config.rules.meaning(answer, answer.digest()).digest;
        let is_alike = |own: &Representation| {
            found.status == own.status && (meaning(found) == meaning(own) || are_alike(&found.body, &own.body))
        };
        if self.registry.evidence(&self.resource, fetch.finished).is_some_and(|seen| is_alike(&seen.last)) {
            event_cursor.trial = None;
            self.resource.set_untried(false);
            return true;
        }
        trial.unlike += 1;
        trial.after = Some(fetch.started);
        if trial.unlike > MAX_UNLIKE {
            fetch.outcome = FetchOutcome::Declined(Decline::Unlike);
        }
        trial.unlike > MAX_UNLIKE
    }

    /// Fetches again at once what has not been seen before. If that is there still it was not taken away by having been
    /// fetched; once a change is, nothing will be. If it is not, only clients may ask, and are to be given what was found.
    pub(super) async fn verify_safe_to_fetch(
        &self,
        proven: &mut bool,
        state: &StateMachine,
        fetch: &mut CompletedFetch,
    ) {
        let FetchOutcome::Fresh(found) = &fetch.outcome else { return };
        let meaning = |answer: &Representation| self.config.rules.meaning(answer, answer.digest()).digest;
        let known = state.head().newest().map(|known| known.version.meaning);
        let first = meaning(found);
        // A page that is shown has been answered the client itself before.
        if self.resource.page().is_shown() || known == Some(first) {
            return;
        }
        let again = match self.refetch(found).await {
            Some(FetchOutcome::Fresh(again)) if meaning(&again) != first => again,
            Some(_) => return *proven = known.is_some(),
            None => return,
        };
        let second = meaning(&again);
        let last = match self.refetch(&again).await {
            Some(FetchOutcome::Fresh(last)) if meaning(&last) != second => Some(last),
            Some(_) => None,
            None => return,
        };
        if fetch.started < self.resource.fenced() {
            // It may have been changed by what was written meanwhile.
            return;
        }
        if last.is_none() && known.is_some_and(|known| known != second) {
            // It has moved on, and stays. What it was is told first: it may be told nowhere else. What it is now comes with
            // the next fetch, when pages have had the time to ask.
            return;
        }
        if !has_side_effects(&found.body, &again.body, last.as_ref().map(|last| &last.body[..])) {
            *proven = true;
            return;
        }
        if let FetchOutcome::Fresh(found) =
            std::mem::replace(&mut fetch.outcome, FetchOutcome::Declined(Decline::UnsafeToFetch))
        {
            let rest = last.map(|last| [again.clone(), last]);
            // What only counts is not missed by anybody, and would be old by the time that it is given.
            if !differ_in_numbers(&found.body, &again.body) {
                self.registry.store_consumed(
                    &self.resource,
                    std::iter::once(found).chain(rest.into_iter().flatten()).collect(),
                    clock::now(),
                );
            }
        }
    }

    /// What there is now in place of `found`, if that can be told.
    async fn refetch(&self, found: &Representation) -> Option<FetchOutcome> {
        self.metrics.triggered("sample");
        let (permit, _) = self.admit(Priority::Triggered, clock::now()).await;
        let outcome = self.send_fetch(permit, found.validators.clone()).await;
        matches!(outcome, FetchOutcome::Fresh(_) | FetchOutcome::NotModified(_)).then_some(outcome)
    }

    /// Whether a client that shows this page wrote while it was fetched, and did not wait until that was done: the fetch may
    /// have been told what is said only once, of what was written; or know nothing of it.
    pub(super) fn is_overtaken_by_a_write(&self, fetch: &CompletedFetch) -> bool {
        let page = self.resource.page();
        page.is_shown() && page.written() > Some(fetch.started)
    }

    /// Keeps what such a fetch brought for that client's next load, if it most likely was told what was for the client: the page
    /// has not changed for long, and is another in more than numbers now.
    pub(super) fn keep_for_who_wrote(&self, state: &StateMachine, fetch: &CompletedFetch) {
        let FetchOutcome::Fresh(found) = &fetch.outcome else { return };
        let Some(known) = state.head().newest() else { return };
        let last: Vec<_> = self.resource.fetch_log().into_iter().rev().take(QUIET).collect();
        let is_quiet =
            last.len() == QUIET && last.iter().all(|entry| ["unchanged", "not_modified"].contains(&entry.result));
        if is_quiet && !differ_in_numbers(&known.representation.body, &found.body) {
            self.registry.store_consumed(&self.resource, vec![found.clone()], clock::now());
        }
    }
}
