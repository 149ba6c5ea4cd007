//! The part of the state machine that tells noise from news.
//!
//! A version that differs from the one before in noise alone keeps that one's meaning: nobody is woken for it. Whoever shows
//! it has it at his own pace.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{FetchTimes, ResourceState, StateMachine, Verdict};
use crate::explain::Explanation;
use crate::model::{Representation, Snapshot, Version};
use crate::probe::NoiseLearner;

/// What is known of noise is as good as an answer of the application for so long: no page shows a clock that is older than
/// this beside the one that it would show.
pub const NOISE_LASTS: Duration = Duration::from_millis(100);

impl StateMachine {
    /// Takes in a fetch that was made in direct succession to the one before, to learn from alone.
    pub fn sample(&mut self, representation: &Representation, started: Instant, at: SystemTime) {
        if let Some(noise) = &mut self.noise {
            noise.sample(representation, started, at);
        }
    }

    /// Clients would ask this often by themselves.
    pub fn set_pace(&mut self, pace: Duration) {
        if let Some(noise) = &mut self.noise {
            noise.set_pace(pace);
        }
    }

    /// Whether `new` differs from `known` in noise alone.
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

    /// A fetch brought the newest version again. If something stands still that was taken for noise, all of it is news now.
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
            gzipped: newest.gzipped.clone(),
            echoes: newest.echoes.clone(),
        };
        head.history = head.history.with(Arc::new(snapshot), true, &self.options);
        head.meaning_position = position;
        self.why.explanation = Explanation::of_words("what was taken for noise stands still");
        Some(Verdict::Changed)
    }

    /// What was learned, for all to see.
    pub(super) fn tell_noise(&self, head: &mut ResourceState) {
        let parts = self.noise.as_ref().map(NoiseLearner::parts).unwrap_or_default();
        if *head.noise != *parts {
            head.noise = parts.into();
        }
    }

    /// Charges what is kept to who pays for it.
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
