//! Verification that fetches are safe, before their results are used on unconfigured paths.

use tokio::time::Instant;

use super::noise::Succession;
use super::poller::{Poller, RouteEventCursor};
use super::side_effects::{are_alike, differ_in_numbers, has_side_effects};
use super::{Fetcher, Priority};
use crate::clock;
use crate::model::Representation;
use crate::resource::{CompletedFetch, Decline, Evidence, FetchOutcome, StateMachine};

/// The trial of a resource that the configuration does not declare safe to fetch: its fetches are used once one has
/// received the same response as the client itself.
#[derive(Default)]
pub(super) struct Trial {
    /// The number of fetches with a different response.
    unlike: u32,
    /// The next fetch is made after the client's next response after this time.
    after: Option<Instant>,
}

/// How many of a client's own polls must be observed before any fetch.
const SEEN: usize = 2;

/// How many fetches may receive a different response than the previous poll.
const MAX_UNLIKE: u32 = 2;

/// After this many unchanged fetches, a change of a page is attributed to its client's own action.
const QUIET: usize = 2;

impl<F: Fetcher + ?Sized> Poller<F> {
    /// Returns whether a fetch is known not to take anything away from a client. On unconfigured paths, the client's
    /// own polls must have shown that they can be repeated. For a displayed page, the backend must have answered the
    /// client itself since its last write, because the response may contain a message about the write, once.
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

    /// Returns whether the fetch can be used. The first usable fetch receives the same response as the client; if none
    /// does, only clients may request the resource.
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

    /// Repeats a fetch with a new state at once. If the state is still there, the first fetch did not consume it; after
    /// one such change the resource counts as safe. If the state is gone, only clients may request the resource, and
    /// they receive the consumed responses.
    pub(super) async fn verify_safe_to_fetch(
        &self,
        proven: &mut bool,
        state: &StateMachine,
        fetch: &mut CompletedFetch,
        succession: &mut Succession,
    ) {
        let FetchOutcome::Fresh(found) = &fetch.outcome else { return };
        let meaning = |answer: &Representation| self.config.rules.meaning(answer, answer.digest()).digest;
        let known = state.head().newest().map(|known| known.version.meaning);
        let first = meaning(found);
        // The backend has already answered the client of a displayed page itself.
        if self.resource.page().is_shown() || known == Some(first) {
            return;
        }
        let again = match self.refetch(found, succession).await {
            Some(FetchOutcome::Fresh(again)) if meaning(&again) != first => again,
            Some(_) => return *proven = known.is_some(),
            None => return,
        };
        let second = meaning(&again);
        let last = match self.refetch(&again, succession).await {
            Some(FetchOutcome::Fresh(last)) if meaning(&last) != second => Some(last),
            Some(_) => None,
            None => return,
        };
        if fetch.started < self.resource.fenced() {
            // A write meanwhile may have changed it.
            return;
        }
        if last.is_none() && known.is_some_and(|known| known != second) {
            // The state has moved on and stays. The previous state is published first, because it may not be available
            // elsewhere. The current one follows with the next fetch, after pages have had time to poll.
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
            // No client misses a counter, and its value would be outdated on delivery.
            if !differ_in_numbers(&found.body, &again.body) {
                self.registry.store_consumed(
                    &self.resource,
                    std::iter::once(found).chain(rest.into_iter().flatten()).collect(),
                    clock::now(),
                );
            }
        }
    }

    /// Returns the state now in place of `found`, if it can be fetched.
    pub(super) async fn refetch(&self, found: &Representation, succession: &mut Succession) -> Option<FetchOutcome> {
        self.metrics.triggered("sample");
        let (permit, started) = self.admit(Priority::Triggered, clock::now()).await;
        let outcome = self.send_fetch(permit, found.validators.clone()).await;
        succession.record(found, &outcome, started);
        matches!(outcome, FetchOutcome::Fresh(_) | FetchOutcome::NotModified(_)).then_some(outcome)
    }

    /// Returns whether a client that displays this page wrote during the fetch without waiting for its end: the fetch
    /// may have received a one-time message about the write, or may not reflect the write.
    pub(super) fn is_overtaken_by_a_write(&self, fetch: &CompletedFetch) -> bool {
        let page = self.resource.page();
        page.is_shown() && page.written() > Some(fetch.started)
    }

    /// Keeps the result of such a fetch for the client's next page load, if it most likely contains a message for the
    /// client: the page had not changed for long, and now differs in more than numbers.
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
