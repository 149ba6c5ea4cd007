//! The state machine of one resource: looks go in, heads come out.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::advice::Observer;
use super::room::{Room, Share};
use super::{Condition, Ended, Failure, Head, HistoryOptions, Look, Looked, Outcome, patch};
use crate::explain::{Explanation, explain};
use crate::model::{Memo, Representation, Snapshot, Validators, Version};
use crate::normalise::{Fallback, Meaning, Rules};

/// What a look meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a new version to tell everybody about.
    Changed,
    /// Only parts changed whose change alone is no change.
    Insignificant,
    /// Byte for byte the same.
    Unchanged,
    /// The upstream said 304.
    NotModified,
    /// The upstream could not be read.
    Failed(Failure),
    /// The watch is over.
    Ended,
}

impl Verdict {
    /// Its name in metrics and in the admin API.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Insignificant | Self::Unchanged => "unchanged",
            Self::NotModified => "not_modified",
            Self::Failed(_) => "error",
            Self::Ended => "ended",
        }
    }

    /// Whether clients must be woken, given how things stood before.
    fn rings(&self, before: &Condition) -> bool {
        match self {
            Self::Changed | Self::Ended => true,
            Self::Failed(_) => !matches!(before, Condition::Stale { .. }),
            Self::Insignificant | Self::Unchanged | Self::NotModified => matches!(before, Condition::Stale { .. }),
        }
    }
}

/// A resource as its poller knows it. Pure: everything that happens comes in as a [`Look`].
#[derive(Debug)]
pub struct State {
    head: Arc<Head>,
    rules: Arc<Rules>,
    options: HistoryOptions,
    share: Share,
    observer: Observer,
    /// Of the last look that brought another body.
    why: Why,
}

/// Why a look came to its verdict.
#[derive(Debug, Default)]
struct Why {
    explanation: Explanation,
    /// Why the body was not compared in the way that its type suggests.
    fallback: Option<Fallback>,
}

impl State {
    /// A resource that nobody has looked at, whose history will stand in `room`.
    pub fn new(rules: Arc<Rules>, options: HistoryOptions, room: Arc<Room>) -> Self {
        let share = Share::new(room);
        Self { head: Arc::default(), rules, options, share, observer: Observer::default(), why: Why::default() }
    }

    /// The view to publish.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// Takes in a look. Returns what it meant, and whether subscribers have something to be told.
    ///
    /// A look that began before the newest one that succeeded tells nothing new and is counted as unchanged: a client
    /// never goes back to an older state.
    pub fn observe(&mut self, look: Look) -> (Verdict, bool) {
        let Look { started, finished, at, outcome } = look;
        let looked = Looked { started, finished };
        let before = self.head.condition.clone();
        if matches!(before, Condition::Ended(_)) {
            return (Verdict::Ended, false);
        }
        let mut head = (*self.head).clone();
        head.tried = head.tried.max(Some(started));
        let overtaken = head.looked.is_some_and(|newer| newer.started > started);
        let verdict = match outcome {
            _ if overtaken => Verdict::Unchanged,
            Outcome::Failed(failure) => {
                let since = match before {
                    Condition::Stale { since, .. } => since,
                    _ => at,
                };
                head.condition = Condition::Stale { since, status: failure.status };
                Verdict::Failed(failure)
            }
            Outcome::Refused(refusal) => {
                head.condition = Condition::Ended(Ended::Refused(Arc::new(refusal)));
                Verdict::Ended
            }
            Outcome::Declined(decline) => {
                head.condition = Condition::Ended(Ended::Declined(decline));
                Verdict::Ended
            }
            Outcome::NotModified(headers) => {
                head.live(looked);
                head.refresh(&headers, None);
                Verdict::NotModified
            }
            Outcome::Fresh(representation) => {
                head.live(looked);
                self.compare(&mut head, representation, looked, at)
            }
        };
        match verdict {
            Verdict::Insignificant | Verdict::Unchanged | Verdict::NotModified if !overtaken => {
                self.observer.unchanged();
            }
            _ => {}
        }
        let rings = !overtaken && verdict.rings(&before);
        self.head = Arc::new(head);
        (verdict, rings)
    }

    /// Says of the look that just came to `verdict` why it did.
    pub fn explain(&self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Changed if self.head.newest().is_some_and(|newest| newest.version.position == 1) => {
                self.with_fallback("the first look".to_owned())
            }
            Verdict::Changed => self.with_fallback(self.why.explanation.to_string()),
            Verdict::Insignificant => self.with_fallback(format!("nothing that counts ({})", self.why.explanation)),
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

    /// Ends the watch from our side.
    pub fn close(&mut self, ended: Ended) {
        let mut head = (*self.head).clone();
        head.condition = Condition::Ended(ended);
        self.head = Arc::new(head);
    }

    fn compare(&mut self, head: &mut Head, representation: Representation, looked: Looked, at: SystemTime) -> Verdict {
        let newest = head.newest().cloned();
        if let Some(newest) = &newest
            && newest.representation.same(&representation)
        {
            head.refresh(&representation.headers, Some(representation.validators));
            return Verdict::Unchanged;
        }
        let content = representation.digest();
        let Meaning { digest: meaning, fallback } = self.rules.meaning(&representation, content);
        let explanation = newest
            .as_ref()
            .map(|newest| explain(&newest.representation, &representation, &self.rules))
            .unwrap_or_default();
        self.why = Why { explanation, fallback };
        let position = newest.as_ref().map_or(1, |newest| newest.version.position + 1);
        let same_meaning = newest.as_ref().is_some_and(|newest| newest.version.meaning == meaning);
        // A run of versions with one meaning keeps its first, which most clients hold, and its latest.
        let replace = same_meaning && newest.as_ref().is_some_and(|newest| newest.version.position > head.since);
        if let Some(newest) = &newest {
            let step = head.history.iter().rev().nth(1).map(|before| before.version.position);
            newest.memo.retire(|key, patch| patch::is_kept(key, patch, step, newest));
        }
        let snapshot = Arc::new(Snapshot {
            version: Version { position, content, meaning },
            representation,
            arrived: looked.finished,
            at,
            memo: Arc::new(Memo::default()),
            head: OnceLock::new(),
        });
        // Where memory is short, what clients come back for is a snapshot.
        let versions = if self.share.is_crowded() { 1 } else { self.options.versions };
        head.history = head.history.with(snapshot, replace, &HistoryOptions { versions, ..self.options });
        self.share.set(head.history.weight());
        if same_meaning {
            Verdict::Insignificant
        } else {
            head.since = position;
            if newest.is_some()
                && let Some(advice) = self.observer.changed(meaning, &self.why.explanation)
            {
                head.advice = Some(advice.into());
            }
            Verdict::Changed
        }
    }
}

impl Head {
    fn live(&mut self, looked: Looked) {
        self.condition = Condition::Live;
        self.looked = Some(looked);
    }

    /// Takes over headers and validators of a newer answer with the same body (RFC 9111 section 3.2).
    fn refresh(&mut self, headers: &HeaderMap, validators: Option<Validators>) {
        let Some(newest) = self.newest() else { return };
        let validators = validators.unwrap_or_else(|| newest.representation.validators.clone());
        if *headers == newest.representation.headers && validators == newest.representation.validators {
            return;
        }
        let mut stored = newest.representation.headers.clone();
        for name in headers.keys().filter(|name| *name != CONTENT_TYPE) {
            stored.remove(name);
            for value in headers.get_all(name) {
                stored.append(name, value.clone());
            }
        }
        if stored == newest.representation.headers && validators == newest.representation.validators {
            return;
        }
        let snapshot = Snapshot {
            version: newest.version,
            representation: Representation { headers: stored, validators, ..newest.representation.clone() },
            arrived: newest.arrived,
            at: newest.at,
            memo: Arc::clone(&newest.memo),
            head: OnceLock::new(),
        };
        let unbounded = HistoryOptions { versions: usize::MAX, bytes: u64::MAX };
        self.history = self.history.with(Arc::new(snapshot), true, &unbounded);
    }
}
