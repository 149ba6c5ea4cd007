//! The part of the state machine that distinguishes noise from changes.
//!
//! A version that differs from the previous one only in noise keeps that one's meaning, so no client is woken for it. A
//! client that displays it receives it at its own pace.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{FetchTimes, ResourceState, StateMachine, Verdict};
use crate::explain::Explanation;
use crate::model::{Representation, Snapshot, Version};
use crate::probe::NoiseLearner;

/// How long known noise is at least equivalent to a response of the application.
pub const NOISE_LASTS: Duration = Duration::from_millis(100);

/// How long it is at most.
const MAX_NOISE_LASTS: Duration = Duration::from_secs(1);

/// The number of pages whose polls are not fewer than the fetches that all pages cause by displaying noise.
const FEWER_THAN_PAGES: u32 = 8;

/// Returns how long known noise is equivalent to a response of the application, where clients poll at the interval `pace`: no
/// page displays a clock that is older than this compared with its own poll.
pub fn noise_lasts(pace: Option<Duration>) -> Duration {
    pace.map_or(NOISE_LASTS, |pace| (pace / FEWER_THAN_PAGES).clamp(NOISE_LASTS, MAX_NOISE_LASTS))
}

impl StateMachine {
    /// Records a fetch in direct succession to the previous one, only for learning.
    pub fn sample(&mut self, representation: &Representation, started: Instant, at: SystemTime) {
        if let Some(noise) = &mut self.noise {
            noise.sample(representation, started, at);
        }
    }

    /// Sets the clients' polling interval.
    pub fn set_pace(&mut self, pace: Duration) {
        if let Some(noise) = &mut self.noise {
            noise.set_pace(pace);
        }
    }

    /// Records that a write, a file or an operator triggered the fetch that began at `at`.
    pub fn stirred(&mut self, at: Instant) {
        if let Some(noise) = &mut self.noise {
            noise.stirred(at);
        }
    }

    /// Returns whether `new` differs from `known` only in noise.
    pub(super) fn is_noise(
        &mut self,
        known: &Representation,
        new: &Representation,
        started: Instant,
        at: SystemTime,
    ) -> bool {
        let is_other = known.status != new.status || known.media_type() != new.media_type();
        self.noise.as_mut().is_some_and(|noise| noise.is_noise(known, new, started, at, is_other))
    }

    /// Handles a fetch that returned the newest version again. If a part stands still that counted as noise, the whole
    /// version becomes a change.
    pub(super) fn rest(&mut self, head: &mut ResourceState, fetched: FetchTimes, at: SystemTime) -> Option<Verdict> {
        let newest = Arc::clone(head.newest()?);
        let rests = self.noise.as_mut()?.rests(&newest.representation, fetched.started, at);
        if rests || head.noise_position <= head.meaning_position {
            return None;
        }
        let meaning = self.exact.take().unwrap_or(newest.version.meaning);
        let position = newest.version.position + 1;
        let snapshot = Snapshot {
            version: Version { position, meaning, ..newest.version },
            representation: newest.representation.clone(),
            arrived: fetched.finished,
            at,
            encodings: Arc::default(),
            marks: newest.marks,
            heads: Default::default(),
            echoes: newest.echoes.clone(),
            gzipped: newest.gzipped.clone(),
        };
        head.history = head.history.with(Arc::new(snapshot), true, &self.options);
        head.meaning_position = position;
        self.why.explanation = Explanation::of_words("what was taken for noise stands still");
        Some(Verdict::Changed)
    }

    /// Publishes the learned noise.
    pub(super) fn tell_noise(&self, head: &mut ResourceState) {
        let parts = self.noise.as_ref().map(NoiseLearner::parts).unwrap_or_default();
        if *head.noise != *parts {
            head.noise = parts.into();
        }
    }

    /// Charges the kept samples to their owner.
    pub(super) fn weigh(&mut self, head: &ResourceState) {
        let history = head.history.weight();
        if let Some(noise) = &mut self.noise {
            if !self.share.has_room() {
                noise.forget_samples();
            }
            return self.share.set(self.owner, history + noise.weight());
        }
        self.share.set(self.owner, history);
    }
}
