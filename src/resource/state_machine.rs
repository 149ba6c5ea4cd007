//! The state machine of one resource: consumes fetches, produces resource states.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use http::header::{CONTENT_TYPE, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};

use super::volatility::VolatilityMonitor;
use super::{
    CompletedFetch, Ended, Failure, FetchOutcome, FetchTimes, History, HistoryOptions, ResourceState, ResourceStatus,
    patch,
};
use crate::explain::{Explanation, explain};
use crate::model::{Digest, EncodingCache, Marks, Owner, Ration, Representation, Snapshot, Taken, Validators, Version};
use crate::normalise::{Fallback, Meaning, Rules};
use crate::probe::NoiseLearner;

/// The verdict on a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a new version for all clients.
    Changed,
    /// Only ignored parts changed.
    Insignificant,
    /// Only parts changed that were learned to change by themselves.
    Noise,
    /// The response is byte for byte the same.
    Unchanged,
    /// The upstream answered 304.
    NotModified,
    /// The upstream could not be read.
    Failed(Failure),
    /// The watch has ended.
    Ended,
}

impl Verdict {
    /// Returns its name in metrics and in the admin API.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Insignificant | Self::Noise | Self::Unchanged => "unchanged",
            Self::NotModified => "not_modified",
            Self::Failed(_) => "error",
            Self::Ended => "ended",
        }
    }

    /// Returns whether clients must be woken, given the previous status.
    fn rings(&self, before: &ResourceStatus) -> bool {
        match self {
            Self::Changed | Self::Ended => true,
            Self::Failed(_) => !matches!(before, ResourceStatus::Stale { .. }),
            Self::Insignificant | Self::Noise | Self::Unchanged | Self::NotModified => {
                matches!(before, ResourceStatus::Stale { .. })
            }
        }
    }
}

/// The state of a resource as its poller sees it. Pure: all input arrives as a [`CompletedFetch`].
#[derive(Debug)]
pub struct StateMachine {
    pub(super) head: Arc<ResourceState>,
    rules: Arc<Rules>,
    pub(super) options: HistoryOptions,
    pub(super) share: Taken,
    /// The owner of the history's memory.
    pub(super) owner: Owner,
    observer: VolatilityMonitor,
    /// The number of consecutive fetches in which the upstream sent the same content with a different entity tag.
    strays: u8,
    /// The explanation of the last fetch with a changed body.
    pub(super) why: Why,
    /// What changes by itself, if that is to be learned.
    pub(super) noise: Option<NoiseLearner>,
    /// What of the newest version is compared under the route's rules; `None` if that is its meaning.
    pub(super) exact: Option<Digest>,
}

/// The reason for a verdict.
#[derive(Debug, Default)]
pub(super) struct Why {
    pub(super) explanation: Explanation,
    /// The reason why the body was not compared in the way that its type suggests.
    fallback: Option<Fallback>,
}

impl StateMachine {
    /// Creates the state of a resource that has not been fetched, with a history in `room`.
    pub fn new(rules: Arc<Rules>, options: HistoryOptions, room: Arc<Ration>) -> Self {
        let share = Taken::nothing(room, Owner::default());
        Self {
            head: Arc::default(),
            rules,
            options,
            share,
            owner: Owner::default(),
            observer: VolatilityMonitor::default(),
            strays: 0,
            why: Why::default(),
            noise: None,
            exact: None,
        }
    }

    /// The same, which learns what of the resource changes by itself.
    #[must_use]
    pub fn learning(mut self) -> Self {
        self.noise = Some(NoiseLearner::new(Arc::clone(&self.rules)));
        self
    }

    /// Assigns the memory of its history to `owner`.
    pub fn charge(&mut self, owner: Owner) {
        self.owner = owner;
    }

    /// Returns whether the history exceeds its owner's share although only the newest version is kept.
    pub fn is_too_much(&self) -> bool {
        self.head.ended().is_none() && self.share.is_too_much()
    }

    /// Returns the state to publish.
    pub fn head(&self) -> &Arc<ResourceState> {
        &self.head
    }

    /// Applies a fetch. Returns the verdict, and whether subscribers must be woken.
    ///
    /// A fetch that began before the newest successful one counts as unchanged, so a client never goes back to an older
    /// state.
    pub fn observe(&mut self, fetch: CompletedFetch) -> (Verdict, bool) {
        let CompletedFetch { started, finished, at, outcome } = fetch;
        let fetched = FetchTimes { started, finished };
        let before = self.head.status.clone();
        if matches!(before, ResourceStatus::Ended(_)) {
            return (Verdict::Ended, false);
        }
        let mut head = (*self.head).clone();
        head.last_attempt = head.last_attempt.max(Some(started));
        let overtaken = head.last_success.is_some_and(|newer| newer.started > started);
        let verdict = match outcome {
            _ if overtaken => Verdict::Unchanged,
            FetchOutcome::Failed(failure) => {
                let since = match before {
                    ResourceStatus::Stale { since, .. } => since,
                    _ => at,
                };
                head.status = ResourceStatus::Stale { since, status: failure.status };
                Verdict::Failed(failure)
            }
            FetchOutcome::Refused(refusal) => {
                head.status = ResourceStatus::Ended(Ended::Refused(Arc::new(refusal)));
                Verdict::Ended
            }
            FetchOutcome::Declined(decline) => {
                head.status = ResourceStatus::Ended(Ended::Declined(decline));
                Verdict::Ended
            }
            FetchOutcome::NotModified(headers) => {
                head.live(fetched);
                let Validators { etag, last_modified } =
                    head.newest().map(|newest| newest.representation.validators.clone()).unwrap_or_default();
                // The request contained only the date, so the upstream decided by the date.
                let goes_by_date = etag.is_none() && last_modified.is_some();
                self.refresh(&mut head, &headers, None, goes_by_date);
                self.rest(&mut head, fetched, at).unwrap_or(Verdict::NotModified)
            }
            FetchOutcome::Fresh(representation) => {
                head.live(fetched);
                self.compare(&mut head, representation, fetched, at)
            }
        };
        match verdict {
            Verdict::Insignificant | Verdict::Noise | Verdict::Unchanged | Verdict::NotModified if !overtaken => {
                self.observer.unchanged();
            }
            _ => {}
        }
        // Whoever waits for noise must hear that there is some, or none any more.
        let was_noisy = self.head.is_noisy();
        self.tell_noise(&mut head);
        let rings = !overtaken && (verdict.rings(&before) || head.is_noisy() != was_noisy);
        self.head = Arc::new(head);
        (verdict, rings)
    }

    /// Explains the verdict on the last fetch.
    pub fn explain(&self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Changed if self.head.newest().is_some_and(|newest| newest.version.position == 1) => {
                self.with_fallback("the first fetch".to_owned())
            }
            Verdict::Changed => self.with_fallback(self.why.explanation.to_string()),
            Verdict::Insignificant => self.with_fallback(format!("nothing that counts ({})", self.why.explanation)),
            Verdict::Noise => self.with_fallback(format!("nothing but noise ({})", self.why.explanation)),
            Verdict::Unchanged => "byte for byte the same".to_owned(),
            Verdict::NotModified => "the upstream says that it is not modified".to_owned(),
            Verdict::Failed(failure) => failure.text.clone(),
            Verdict::Ended => match self.head.ended() {
                Some(Ended::Refused(refusal)) => format!("the upstream answered {}", refusal.status),
                Some(Ended::Declined(decline)) => decline.to_string(),
                Some(Ended::Closed(reason)) => format!("closed: {reason}"),
                None => String::new(),
            },
        }
    }

    fn with_fallback(&self, text: String) -> String {
        match &self.why.fallback {
            Some(fallback) => format!("{text}; {fallback}"),
            None => text,
        }
    }

    /// Ends the watch.
    pub fn close(&mut self, ended: Ended) {
        let mut head = (*self.head).clone();
        head.status = ResourceStatus::Ended(ended);
        self.head = Arc::new(head);
    }

    fn compare(
        &mut self,
        head: &mut ResourceState,
        representation: Representation,
        fetched: FetchTimes,
        at: SystemTime,
    ) -> Verdict {
        let newest = head.newest().cloned();
        if let Some(newest) = &newest
            && newest.representation.same(&representation)
        {
            self.refresh(head, &representation.headers.clone(), Some(representation), false);
            return self.rest(head, fetched, at).unwrap_or(Verdict::Unchanged);
        }
        let content = representation.digest();
        let Meaning { digest: exact, fallback } = self.rules.meaning(&representation, content);
        if newest.is_none() {
            self.sample(&representation, fetched.started, at);
        }
        let same = newest.as_ref().is_some_and(|newest| self.exact.unwrap_or(newest.version.meaning) == exact);
        let is_noise = newest
            .as_ref()
            .is_some_and(|newest| !same && self.is_noise(&newest.representation, &representation, fetched.started, at));
        let same_meaning = same || is_noise;
        let meaning = newest.as_ref().filter(|_| same_meaning).map_or(exact, |newest| newest.version.meaning);
        self.exact = (exact != meaning).then_some(exact);
        let rules = self.noise.as_ref().map_or(&*self.rules, NoiseLearner::rules);
        let explanation =
            newest.as_ref().map(|newest| explain(&newest.representation, &representation, rules)).unwrap_or_default();
        self.why = Why { explanation, fallback };
        let position = newest.as_ref().map_or(1, |newest| newest.version.position + 1);
        // Among consecutive versions with one meaning, the first, which most clients hold, and the latest are kept.
        let replace =
            same_meaning && newest.as_ref().is_some_and(|newest| newest.version.position > head.meaning_position);
        if let Some(newest) = &newest {
            let step = head.history.iter().rev().nth(1).map(|before| before.version.position);
            newest.encodings.evict(|key, patch| patch::is_kept(key, patch, step, newest));
        }
        let marks = self.marks(&head.history, content, &representation);
        let snapshot = Arc::new(Snapshot {
            version: Version { position, content, meaning },
            representation,
            arrived: fetched.finished,
            at,
            encodings: Arc::new(EncodingCache::default()),
            marks,
            heads: Default::default(),
            gzipped: OnceLock::new(),
        });
        // If memory is short, returning clients receive a snapshot.
        let versions = if self.share.has_room() { self.options.versions } else { 1 };
        head.history = head.history.with(snapshot, replace, &HistoryOptions { versions, ..self.options });
        self.weigh(head);
        if is_noise {
            head.noise_position = position;
            Verdict::Noise
        } else if same_meaning {
            Verdict::Insignificant
        } else {
            head.meaning_position = position;
            if newest.is_some()
                && let Some(advice) = self.observer.changed(meaning, &self.why.explanation)
            {
                head.advice = Some(advice.into());
            }
            Verdict::Changed
        }
    }
}

impl StateMachine {
    /// Updates headers, validators and coded form from a newer response with the same body (RFC 9111 section 3.2).
    fn refresh(
        &mut self,
        head: &mut ResourceState,
        headers: &HeaderMap,
        newer: Option<Representation>,
        goes_by_date: bool,
    ) {
        let Some(newest) = head.newest() else { return };
        let known = &newest.representation;
        let mut stored = known.headers.clone();
        for name in headers.keys().filter(|name| *name != CONTENT_TYPE) {
            stored.remove(name);
            for value in headers.get_all(name) {
                stored.append(name, value.clone());
            }
        }
        let (validators, coded) = match newer {
            // Any coded form of a body is as good as another.
            Some(newer) => {
                let coded = known.coded.clone().filter(|_| newer.coded.is_some()).or(newer.coded);
                (newer.validators, coded)
            }
            None => (known.validators.clone(), known.coded.clone()),
        };
        let representation = Representation { headers: stored, validators, coded, ..known.clone() };
        let is_stray = representation.tag() != known.tag();
        self.strays = if is_stray { self.strays.saturating_add(1) } else { 0 };
        let content = newest.version.content;
        let mut marks = self.marks(&head.history, content, &representation);
        if representation.headers.get(LAST_MODIFIED) == known.headers.get(LAST_MODIFIED) {
            // The state may have been replaced within the same second, so the date is not reliable at first.
            marks.date = newest.marks.date || goes_by_date && is_alone(&head.history, content, &representation, date);
        }
        if representation.headers == known.headers
            && representation.validators == known.validators
            && representation.coded == known.coded
            && marks == newest.marks
        {
            return;
        }
        let snapshot = Snapshot {
            version: newest.version,
            representation,
            arrived: newest.arrived,
            at: newest.at,
            // Encoded forms contain the tag.
            encodings: if is_stray { Arc::default() } else { Arc::clone(&newest.encodings) },
            marks,
            heads: Default::default(),
            gzipped: newest.gzipped.clone(),
        };
        let unbounded = HistoryOptions { versions: usize::MAX, bytes: u64::MAX };
        head.history = head.history.with(Arc::new(snapshot), true, &unbounded);
    }

    /// Returns which validators of `representation`, which has this content, are reliable.
    fn marks(&self, history: &History, content: Digest, representation: &Representation) -> Marks {
        Marks {
            tag: self.strays < MAX_STRAYS && is_alone(history, content, representation, Representation::tag),
            date: representation.validators.last_modified.is_some() && is_alone(history, content, representation, date),
        }
    }
}

/// After this many stray tags the upstream is assumed to generate a tag per response.
const MAX_STRAYS: u8 = 3;

/// Returns whether `representation` has this validator and no other content in `history` has the same one.
fn is_alone(
    history: &History,
    content: Digest,
    representation: &Representation,
    validator: impl Fn(&Representation) -> Option<&HeaderValue>,
) -> bool {
    let own = validator(representation);
    let has = |snapshot: &Arc<Snapshot>| validator(&snapshot.representation) == own;
    own.is_some() && !history.iter().any(|snapshot| snapshot.version.content != content && has(snapshot))
}

fn date(representation: &Representation) -> Option<&HeaderValue> {
    representation.headers.get(LAST_MODIFIED)
}

impl ResourceState {
    fn live(&mut self, fetched: FetchTimes) {
        self.status = ResourceStatus::Live;
        self.last_success = Some(fetched);
    }
}
