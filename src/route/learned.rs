//! What answers of the backend have taught about single paths.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderName;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::clock;
use crate::resource::Decline;

/// Facts by path, bounded in number; what is forgotten is learned again.
#[derive(Debug, Default)]
pub struct Learned {
    paths: Mutex<HashMap<Arc<str>, Facts>>,
}

/// What is known of one path.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Request headers by which its answers vary, beyond those that the route names.
    pub vary: BTreeSet<String>,
    /// Why its answers are somebody's own, whatever the route says of its audience.
    pub private: Option<&'static str>,
    /// Whether those with credentials are answered otherwise than those without, where the route says that all may share.
    pub differs: bool,
    sampled: Option<Instant>,
    /// It may not be watched, and since when that is known.
    pub unwatchable: Option<(Decline, Instant)>,
    /// Whether the backend streams events there itself; being found out once for all who ask.
    pub own_stream: Arc<OnceCell<bool>>,
    own_stream_until: Option<Instant>,
}

const MOST_PATHS: usize = 4096;

/// A backend is updated now and then: what it could not do it may have learned.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// How long an answer counts by which the backend did not show what it can do, such as a 401.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How often those with credentials are asked for, where looks carry none.
const SAMPLE_AGAIN: Duration = Duration::from_secs(600);

/// How long a path that may not be watched is left alone.
const LEAVE_ALONE: Duration = Duration::from_secs(30);

impl Learned {
    /// What is known of `path`.
    pub fn facts(&self, path: &str, now: Instant) -> Facts {
        let mut paths = self.lock();
        let Some(facts) = paths.get_mut(path) else { return Facts::default() };
        facts.forget_old(now);
        facts.clone()
    }

    /// Whether the backend streams events at `path` itself. Found out by `ask`, once for all who want to know; `None`
    /// from it means that the backend did not show.
    pub async fn streams_itself(&self, path: &str, now: Instant, ask: impl Future<Output = Option<bool>>) -> bool {
        let cell = {
            let mut paths = self.lock();
            let facts = entry(&mut paths, path);
            facts.forget_old(now);
            Arc::clone(&facts.own_stream)
        };
        *cell
            .get_or_init(|| async {
                let shown = ask.await;
                let until = clock::now() + if shown.is_some() { FORGET_AFTER } else { ASK_AGAIN };
                entry(&mut self.lock(), path).own_stream_until = Some(until);
                shown.unwrap_or(false)
            })
            .await
    }

    /// Takes in why an answer at `path` could not be watched. Returns whether that is news.
    pub fn note(&self, path: &str, decline: &Decline, now: Instant) -> bool {
        let mut paths = self.lock();
        let facts = entry(&mut paths, path);
        match decline {
            Decline::Vary { names } => {
                let known = facts.vary.len();
                facts.vary.extend(names.iter().cloned());
                facts.vary.len() > known
            }
            Decline::Private { because } => facts.private.replace(because).is_none(),
            Decline::OwnStream => {
                facts.own_stream_until = Some(now + FORGET_AFTER);
                let before = std::mem::replace(&mut facts.own_stream, Arc::new(OnceCell::new_with(Some(true))));
                before.get() != Some(&true)
            }
            Decline::TooLarge { .. } | Decline::Undecodable(_) | Decline::Moves => {
                facts.unwatchable.replace((decline.clone(), now)).is_none()
            }
        }
    }

    /// Whether it is time to find out what those with credentials are answered at `path`; to be found out by whoever is
    /// told so.
    pub fn samples(&self, path: &str, now: Instant) -> bool {
        let mut paths = self.lock();
        let facts = entry(&mut paths, path);
        let due = facts.sampled.is_none_or(|last| now.saturating_duration_since(last) > SAMPLE_AGAIN);
        if due {
            facts.sampled = Some(now);
        }
        due
    }

    /// Takes in whether they are answered otherwise. Returns whether that is news.
    pub fn note_sample(&self, path: &str, differs: bool) -> bool {
        let mut paths = self.lock();
        std::mem::replace(&mut entry(&mut paths, path).differs, differs) != differs
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Facts>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry<'a>(paths: &'a mut HashMap<Arc<str>, Facts>, path: &str) -> &'a mut Facts {
    if paths.len() >= MOST_PATHS && !paths.contains_key(path) {
        // What keeps clients apart is worth more than what saves a question.
        paths.retain(|_, facts| facts.private.is_some() || !facts.vary.is_empty());
        if paths.len() >= MOST_PATHS {
            paths.clear();
        }
    }
    paths.entry(path.into()).or_default()
}

impl Facts {
    fn forget_old(&mut self, now: Instant) {
        if self.own_stream_until.is_some_and(|until| now >= until) {
            self.own_stream = Arc::default();
            self.own_stream_until = None;
        }
        if self.unwatchable.as_ref().is_some_and(|(_, since)| now.saturating_duration_since(*since) > LEAVE_ALONE) {
            self.unwatchable = None;
        }
    }

    /// The headers of [`Facts::vary`].
    pub fn vary_names(&self) -> impl Iterator<Item = HeaderName> {
        self.vary.iter().filter_map(|name| name.parse().ok())
    }
}
