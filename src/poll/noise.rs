//! Fetches in direct succession, from which noise is learned, and the log of learned noise.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;
use tracing::info;

use super::Fetcher;
use super::poller::{Poller, RouteEventCursor};
use crate::clock;
use crate::model::{Kind, Representation};
use crate::resource::{FetchOutcome, StateMachine, Verdict, route_of_rules};

/// The maximum number of fetches that follow the first one directly, if they differ.
const MAX_FETCHES: usize = 2;

/// The paths of a route whose noise has been logged. Bounded: noise of further paths is not logged.
#[derive(Debug, Default)]
pub struct NoiseLog(Mutex<BTreeSet<String>>);

const MAX_PATHS: usize = 256;

/// The results of fetches in direct succession to one that has not been applied yet.
#[derive(Default)]
pub(super) struct Succession(Vec<(Representation, Instant, SystemTime)>);

impl Succession {
    /// Records the outcome of a fetch in succession to the one with `known`.
    pub(super) fn record(&mut self, known: &Representation, outcome: &FetchOutcome, started: Instant) {
        match outcome {
            FetchOutcome::Fresh(found) => self.0.push((found.clone(), started, clock::wall())),
            FetchOutcome::NotModified(_) => self.0.push((known.clone(), started, clock::wall())),
            _ => {}
        }
    }

    /// Makes `state` learn from them.
    pub(super) fn learn(self, state: &mut StateMachine) {
        for (representation, started, at) in self.0 {
            state.sample(&representation, started, at);
        }
    }
}

impl NoiseLog {
    /// Returns `true` on the first call for `path`.
    fn is_new(&self, path: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MAX_PATHS && known.insert(path.to_owned())
    }
}

impl<F: Fetcher + ?Sized> Poller<F> {
    /// Creates the state machine of a resource that has not been fetched.
    pub(super) fn state_machine(&self) -> StateMachine {
        let budget = Arc::clone(self.resource.memory_budget());
        let state = StateMachine::new(Arc::clone(&self.config.rules), self.config.history, budget);
        if self.config.noise.is_some() { state.learning() } else { state }
    }

    /// Repeats the first fetch at once: differences between the two are noise.
    pub(super) async fn fetch_in_succession(&self, state: &mut StateMachine, event_cursor: &RouteEventCursor) {
        for _ in 0..MAX_FETCHES {
            let Some(newest) = state.head().newest().cloned() else { return };
            if !self.may_fetch(event_cursor, clock::now()) {
                return;
            }
            let mut succession = Succession::default();
            let outcome = self.refetch(&newest.representation, &mut succession).await;
            succession.learn(state);
            if !matches!(&outcome, Some(FetchOutcome::Fresh(found)) if !found.same(&newest.representation)) {
                return;
            }
        }
    }

    /// Counts noise, and logs the learned noise once per path, as a route to paste.
    pub(super) fn tell_noise(&self, state: &StateMachine, verdict: &Verdict) {
        if *verdict == Verdict::Noise {
            self.metrics.noise();
        }
        let head = state.head();
        let url = &*self.resource.key().target;
        let path = url.split('?').next().unwrap_or_default();
        let Some(log) = self.config.noise.as_ref().filter(|_| *verdict == Verdict::Noise) else { return };
        let is_page = head.newest().is_some_and(|newest| newest.representation.media_type().kind() == Kind::Html);
        let rules: Vec<_> = head.noise.iter().map(|part| &part.rule).collect();
        let Some(route) = route_of_rules(&rules, path, is_page && self.config.verify_safe) else { return };
        if log.is_new(path) {
            info!(
                url,
                "{path}: what changes there by itself is told to nobody but those who ask. To write down what was learned, \
                 put this above {:?}:\n{route}",
                self.config.route
            );
        }
    }
}
