//! One fetch of a poller: waiting for the limiter, and giving up when no client wants it any more.

use std::pin::pin;

use tokio::time::Instant;

use super::cohorts::CohortSeat;
use super::poller::{Poller, RouteEventCursor};
use super::{FetchRequest, Fetcher, Permit, Priority};
use crate::clock;
use crate::model::Validators;
use crate::post;
use crate::resource::{CompletedFetch, Failure, FetchOutcome, StateMachine, Trigger};

impl<F: Fetcher + ?Sized> Poller<F> {
    /// Makes one fetch as soon as the limiter admits it. Returns `None` if all clients that wanted it have left
    /// meanwhile.
    pub(super) async fn run_fetch(
        &self,
        state: &StateMachine,
        event_cursor: &RouteEventCursor,
        seat: Option<&CohortSeat>,
        (trigger, due): (Trigger, Instant),
    ) -> Option<CompletedFetch> {
        let priority = if trigger == Trigger::Timer { Priority::Routine } else { Priority::Triggered };
        // A condition on a method other than GET is a condition on performing it (RFC 9110 section 13.1.2).
        let newest = state.head().newest().filter(|_| self.resource.key().body.is_none());
        let validators = newest.map(|newest| newest.representation.validators.clone()).unwrap_or_default();
        self.metrics.triggered(trigger.as_str());
        let (permit, started) = self.admit_while_wanted(priority, due).await?;
        // From here on, a write waits for the end of the fetch; an earlier write is detected below.
        let _under_way = self.resource.page().fetches();
        if !self.may_fetch(event_cursor, clock::now()) {
            self.resource.trigger(trigger);
            return None;
        }
        self.resource.fetch_started(started);
        if let Some(seat) = seat {
            seat.begin(started);
        }
        let ask = self.send_fetch(permit, validators);
        // A fetch for waiting clients alone is cancelled when the last of them leaves, because the application may be
        // holding it.
        let outcome = match self.resource.held() {
            0 => self.while_wanted(ask).await,
            _ => Some(ask.await),
        };
        if outcome.is_none() {
            self.resource.fetch_abandoned();
        }
        let outcome = self.for_all(state, outcome?);
        Some(CompletedFetch { started, finished: clock::now(), at: clock::wall(), outcome })
    }

    /// Returns the outcome of a fetch for all clients of the resource: an error response to a body is for one client
    /// alone.
    fn for_all(&self, state: &StateMachine, outcome: FetchOutcome) -> FetchOutcome {
        let (Some(asked), FetchOutcome::Fresh(answer)) = (&self.resource.key().body, &outcome) else { return outcome };
        // An unchanged response has been checked already.
        if state.head().newest().is_some_and(|newest| newest.representation.same(answer)) {
            return outcome;
        }
        match post::check_answer(asked, &answer.body) {
            Ok(_) => outcome,
            Err(why) => FetchOutcome::Failed(Failure {
                status: Some(answer.status.as_u16()),
                retry_after: None,
                text: format!("{why}, which is for whoever asked"),
            }),
        }
    }

    /// Runs `work` as long as any client wants the resource. Other wake-ups are handled afterwards.
    async fn while_wanted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.resource.poller_wakeup() => {
                    if !self.resource.is_wanted() {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for the limiter as long as any client wants the resource. A client that joins meanwhile may move the fetch
    /// forward.
    async fn admit_while_wanted(&self, priority: Priority, due: Instant) -> Option<(Permit, Instant)> {
        loop {
            tokio::select! {
                biased;
                admitted = self.admit(priority, due) => return Some(admitted),
                () = self.resource.poller_wakeup() => {
                    if !self.resource.is_wanted() {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for the limiter. Also returns the time of admission.
    pub(super) async fn admit(&self, priority: Priority, due: Instant) -> (Permit, Instant) {
        let asked = clock::now();
        let owner = self.resource.owner(|owner| self.limiter.load(owner));
        let permit = self.limiter.admit(owner, priority, due).await;
        let started = clock::now();
        // Measured from here and not from `due`, which may lie in a time without clients.
        self.limiter.record_wait(started.saturating_duration_since(asked), self.config.schedule.every);
        (permit, started)
    }

    /// Sends the request to the upstream.
    pub(super) async fn send_fetch(&self, permit: Permit, validators: Validators) -> FetchOutcome {
        let request = FetchRequest {
            key: self.resource.key(),
            validators,
            max_body: self.config.max_body,
            affinity: self.resource.affinity(),
            ignored: &self.config.ignored,
        };
        let outcome = self.fetcher.fetch(&request).await;
        drop(permit);
        outcome
    }
}
