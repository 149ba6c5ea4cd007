//! Facts about single targets, learned from responses of the backend.
//!
//! ```text
//! an answer ─▶ PathKnowledge::record_decline ─▶ facts of this target: for all clients, or for one
//!                          └──▶ evidence about its path ─▶ several targets and askers agree, and nothing speaks against it:
//!                                                          facts of the path
//! ```
//!
//! A single client must not be able to teach facts that then apply to all others. Facts that depend on the client
//! therefore apply to that client only, and facts about one query apply to that query.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderName;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::clock;
use crate::resource::Decline;

/// Facts by target and by path, bounded in number. Forgotten facts are learned again.
#[derive(Debug, Default)]
pub struct PathKnowledge {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    targets: HashMap<Arc<str>, OfTarget>,
    paths: HashMap<Arc<str>, OfPath>,
}

/// The facts about a target that apply to one client.
#[derive(Clone, Debug, Default)]
pub struct PathFacts {
    /// Request headers by which its responses vary, beyond those that the route names.
    pub vary: BTreeSet<String>,
    /// The reason why its responses belong to one client, whatever audience the route configures.
    pub private: Option<&'static str>,
    /// Whether clients with credentials receive different responses than those without, on a route that shares
    /// responses.
    pub differs: bool,
    /// The reason why it may not be watched.
    pub unwatchable: Option<Decline>,
    /// Whether the backend streams events there itself; determined once for all clients.
    pub own_stream: Arc<OnceCell<bool>>,
}

/// A client and a target, as far as facts distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The target in canonical form.
    pub target: &'a str,
    /// The hash of everything that identifies the client.
    pub identity: u64,
    /// The hash of the client's address and browser, which stays the same when its cookies change.
    pub browser: u64,
}

#[derive(Debug)]
struct OfTarget {
    used: Instant,
    vary: BTreeSet<String>,
    vary_until: Option<Instant>,
    private: Option<(&'static str, Instant)>,
    own_stream: Arc<OnceCell<bool>>,
    own_stream_until: Option<Instant>,
    /// The reason why it may not be watched for an identity, and the time until which that is assumed.
    unwatchable: HashMap<u64, (Decline, Instant)>,
    /// Cookies that responses replace, by browser.
    rotations: HashMap<u64, Rotation>,
}

/// A cookie that responses to a client's own requests replace.
#[derive(Debug)]
struct Rotation {
    cookie: String,
    times: usize,
    until: Instant,
}

#[derive(Debug, Default)]
struct OfPath {
    differs: bool,
    sampled: Option<Instant>,
    evidence: VecDeque<Evidence>,
}

/// An observation about one target of a path.
#[derive(Debug)]
struct Evidence {
    target: Arc<str>,
    identity: u64,
    decline: Decline,
    until: Instant,
}

const MAX_TARGETS: usize = 4096;

const MAX_PATHS: usize = 4096;

/// The maximum number of identities and browsers with facts about one target.
const MAX_ASKERS: usize = 256;

/// The maximum number of observations about a path.
const MAX_EVIDENCE: usize = 16;

/// The number of targets and identities that must agree before a fact applies to the whole path.
const AGREEMENT: usize = 3;

/// How long facts are kept. A backend may be updated, and its behaviour may change.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// How long an inconclusive response, such as a 401, counts.
const RETRY_AFTER_INCONCLUSIVE: Duration = Duration::from_secs(2);

/// The interval of audits with credentials on a route with anonymous fetches.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);

/// How long an unwatchable target is left alone.
const UNWATCHABLE_TTL: Duration = Duration::from_secs(30);

/// How long a target that has replaced a cookie once is left alone. The client's next response shows whether it does so
/// each time.
const WAIT_AND_SEE: Duration = Duration::from_secs(60);

/// How many responses in a row must replace a cookie before it counts as rotating.
const EACH_TIME: usize = 2;

impl PathKnowledge {
    /// Returns the facts about the requested target below `path`.
    pub fn facts<'a>(&self, path: &str, asked: impl FnOnce() -> Asked<'a>, now: Instant) -> PathFacts {
        let mut known = self.lock();
        let Known { targets, paths } = &mut *known;
        let mut facts = PathFacts::default();
        if let Some(of_path) = paths.get(path) {
            of_path.add_to(&mut facts, now);
        }
        if targets.is_empty() {
            return facts;
        }
        let asked = asked();
        if let Some(of_target) = targets.get_mut(asked.target) {
            of_target.forget_old(now);
            of_target.add_to(&mut facts, Some(&asked));
        }
        facts
    }

    /// Returns the facts about all clients, for operators.
    pub fn told(&self, path: &str, target: &str, now: Instant) -> PathFacts {
        let mut known = self.lock();
        let mut facts = PathFacts::default();
        if let Some(of_path) = known.paths.get(path) {
            of_path.add_to(&mut facts, now);
        }
        if let Some(of_target) = known.targets.get_mut(target) {
            of_target.forget_old(now);
            of_target.add_to(&mut facts, None);
        }
        facts
    }

    /// Returns whether the backend streams events at `target` itself. `ask` determines it once for all callers; its
    /// result `None` means that the test was inconclusive.
    pub async fn has_own_event_stream(
        &self,
        target: &str,
        now: Instant,
        ask: impl Future<Output = Option<bool>>,
    ) -> bool {
        let cell = {
            let mut known = self.lock();
            let facts = known.target(target, now);
            facts.forget_old(now);
            Arc::clone(&facts.own_stream)
        };
        *cell
            .get_or_init(|| async {
                let shown = ask.await;
                let now = clock::now();
                let until = now + if shown.is_some() { FORGET_AFTER } else { RETRY_AFTER_INCONCLUSIVE };
                self.lock().target(target, now).own_stream_until = Some(until);
                shown.unwrap_or(false)
            })
            .await
    }

    /// Records why a response to `asked` below `path` could not be watched. Returns whether that is new.
    pub fn record_decline(&self, path: &str, asked: &Asked<'_>, decline: &Decline, now: Instant) -> bool {
        let mut known = self.lock();
        let facts = known.target(asked.target, now);
        facts.forget_old(now);
        let mut until = now + FORGET_AFTER;
        let news = match decline {
            Decline::Vary { names } => {
                let known = facts.vary.len();
                facts.vary.extend(names.iter().cloned());
                facts.vary_until = Some(until);
                facts.vary.len() > known
            }
            Decline::Private { reason } => facts.private.replace((reason, until)).is_none(),
            Decline::OwnStream => {
                facts.own_stream_until = Some(until);
                let before = std::mem::replace(&mut facts.own_stream, Arc::new(OnceCell::new_with(Some(true))));
                before.get() != Some(&true)
            }
            Decline::Rotates { cookie } => {
                let rotation = Rotation { cookie: cookie.clone(), times: EACH_TIME, until };
                return insert(&mut facts.rotations, asked.browser, rotation).is_none();
            }
            Decline::TooLarge { .. } | Decline::Undecodable(_) | Decline::UnsafeToFetch | Decline::Unlike => {
                until = now + UNWATCHABLE_TTL;
                insert(&mut facts.unwatchable, asked.identity, (decline.clone(), until)).is_none()
            }
        };
        let evidence =
            Evidence { target: asked.target.into(), identity: asked.identity, decline: decline.clone(), until };
        known.path(path, now).learn(evidence, now);
        news
    }

    /// Records that a target below `path` is watched without restrictions, so observations about other targets do not
    /// apply to the whole path.
    pub fn record_watched(&self, path: &str) {
        if let Some(of_path) = self.lock().paths.get_mut(path) {
            of_path.evidence.clear();
        }
    }

    /// Records the cookie, if any, that a response to a client's own request replaced. Returns whether this shows for
    /// the first time that each response replaces it.
    pub fn record_rotation(&self, asked: &Asked<'_>, replaced: Option<&str>, now: Instant) -> bool {
        let mut known = self.lock();
        let Some(cookie) = replaced else {
            if let Some(of_target) = known.targets.get_mut(asked.target) {
                of_target.rotations.remove(&asked.browser);
            }
            return false;
        };
        let facts = known.target(asked.target, now);
        let times =
            facts.rotations.get(&asked.browser).filter(|known| now < known.until).map_or(0, |known| known.times) + 1;
        let until = now + if times >= EACH_TIME { FORGET_AFTER } else { WAIT_AND_SEE };
        insert(&mut facts.rotations, asked.browser, Rotation { cookie: cookie.to_owned(), times, until });
        times == EACH_TIME
    }

    /// Returns whether an audit of `path` with credentials is due. The caller must then perform it.
    pub fn should_audit(&self, path: &str, now: Instant) -> bool {
        let mut known = self.lock();
        let facts = known.path(path, now);
        let due = facts.sampled.is_none_or(|last| now.saturating_duration_since(last) > AUDIT_INTERVAL);
        if due {
            facts.sampled = Some(now);
        }
        due
    }

    /// Records the result of an audit: whether responses with credentials differ. Returns whether that is new.
    pub fn record_audit(&self, path: &str, differs: bool, now: Instant) -> bool {
        std::mem::replace(&mut self.lock().path(path, now).differs, differs) != differs
    }

    /// Returns the hasher for clients.
    pub(super) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Returns the facts about `target`. If the table is full, the least recently used facts are forgotten.
    fn target(&mut self, target: &str, now: Instant) -> &mut OfTarget {
        if self.targets.len() >= MAX_TARGETS && !self.targets.contains_key(target) {
            let mut used: Vec<Instant> = self.targets.values().map(|known| known.used).collect();
            let (_, median, _) = used.select_nth_unstable(MAX_TARGETS / 2);
            let median = *median;
            self.targets.retain(|_, known| known.used > median);
        }
        let known = self.targets.entry(target.into()).or_insert_with(|| OfTarget::new(now));
        known.used = now;
        known
    }

    fn path(&mut self, path: &str, now: Instant) -> &mut OfPath {
        if self.paths.len() >= MAX_PATHS && !self.paths.contains_key(path) {
            self.paths.retain(|_, known| known.evidence.iter().any(|evidence| now < evidence.until));
            if self.paths.len() >= MAX_PATHS {
                self.paths.clear();
            }
        }
        self.paths.entry(path.into()).or_default()
    }
}

/// Inserts into a table that clients can fill; a full table is cleared first.
fn insert<V>(table: &mut HashMap<u64, V>, key: u64, value: V) -> Option<V> {
    if table.len() >= MAX_ASKERS && !table.contains_key(&key) {
        table.clear();
    }
    table.insert(key, value)
}

impl OfTarget {
    fn new(now: Instant) -> Self {
        Self {
            used: now,
            vary: BTreeSet::new(),
            vary_until: None,
            private: None,
            own_stream: Arc::default(),
            own_stream_until: None,
            unwatchable: HashMap::new(),
            rotations: HashMap::new(),
        }
    }

    fn forget_old(&mut self, now: Instant) {
        if self.own_stream_until.is_some_and(|until| now >= until) {
            self.own_stream = Arc::default();
            self.own_stream_until = None;
        }
        if self.vary_until.is_some_and(|until| now >= until) {
            self.vary.clear();
            self.vary_until = None;
        }
        self.private = self.private.filter(|(_, until)| now < *until);
        self.unwatchable.retain(|_, (_, until)| now < *until);
        self.rotations.retain(|_, rotation| now < rotation.until);
    }

    /// Adds the facts that apply to `asked`, or all facts without a client.
    fn add_to(&self, facts: &mut PathFacts, asked: Option<&Asked<'_>>) {
        facts.vary.extend(self.vary.iter().cloned());
        facts.private = facts.private.or(self.private.map(|(reason, _)| reason));
        if self.own_stream.get().is_some() || facts.own_stream.get().is_none() {
            facts.own_stream = Arc::clone(&self.own_stream);
        }
        let (unwatchable, rotation) = match asked {
            Some(asked) => (self.unwatchable.get(&asked.identity), self.rotations.get(&asked.browser)),
            None => (self.unwatchable.values().next(), self.rotations.values().max_by_key(|rotation| rotation.times)),
        };
        let rotates = rotation.map(|rotation| Decline::Rotates { cookie: rotation.cookie.clone() });
        let unwatchable = rotates.or_else(|| unwatchable.map(|(decline, _)| decline.clone()));
        facts.unwatchable = unwatchable.or(facts.unwatchable.take());
    }
}

impl OfPath {
    fn learn(&mut self, evidence: Evidence, now: Instant) {
        self.evidence.retain(|known| now < known.until && *known.target != *evidence.target);
        if self.evidence.len() >= MAX_EVIDENCE {
            self.evidence.pop_front();
        }
        self.evidence.push_back(evidence);
    }

    /// Adds the facts on which several targets and identities agree.
    fn add_to(&self, facts: &mut PathFacts, now: Instant) {
        facts.differs = self.differs;
        for one in &self.evidence {
            let kind = std::mem::discriminant(&one.decline);
            let alike = || {
                let valid = self.evidence.iter().filter(move |other| now < other.until);
                valid.filter(move |other| std::mem::discriminant(&other.decline) == kind)
            };
            let identities: HashSet<u64> = alike().map(|other| other.identity).collect();
            // Each target has at most one observation.
            if alike().count() < AGREEMENT || identities.len() < AGREEMENT {
                continue;
            }
            match &one.decline {
                Decline::Vary { names } => facts.vary.extend(names.iter().cloned()),
                Decline::Private { reason } => facts.private = Some(reason),
                Decline::OwnStream => facts.own_stream = Arc::new(OnceCell::new_with(Some(true))),
                decline => facts.unwatchable = Some(decline.clone()),
            }
        }
    }
}

impl PathFacts {
    /// Returns the headers of [`PathFacts::vary`].
    pub fn vary_names(&self) -> impl Iterator<Item = HeaderName> {
        self.vary.iter().filter_map(|name| name.parse().ok())
    }

    /// Returns whether no fact changes the key or forbids watching.
    pub fn is_plain(&self) -> bool {
        self.vary.is_empty() && self.private.is_none() && self.unwatchable.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/a";

    fn asked(target: &str, identity: u64) -> Asked<'_> {
        Asked { target, identity, browser: identity % 10 }
    }

    fn large() -> Decline {
        Decline::TooLarge { limit: 1 }
    }

    #[test]
    fn what_one_client_shows_of_one_target_holds_for_both_alone() {
        let (learned, now) = (PathKnowledge::default(), clock::now());
        let unwatchable = |target: &str, identity| learned.facts(PATH, || asked(target, identity), now).unwatchable;
        assert!(learned.record_decline(PATH, &asked("/a?all", 1), &large(), now));
        assert!(!learned.record_decline(PATH, &asked("/a?all", 1), &large(), now));
        assert_eq!(unwatchable("/a?all", 1), Some(large()));
        assert_eq!((unwatchable("/a?all", 2), unwatchable("/a", 1)), (None, None));
        // The number of targets that one client shows, or of clients of one target, does not matter.
        for number in 0..9 {
            learned.record_decline(PATH, &asked(&format!("/a?{number}"), 1), &large(), now);
            learned.record_decline(PATH, &asked("/a?all", number), &large(), now);
        }
        assert_eq!(unwatchable("/a", 9), None);
        assert_eq!(learned.facts(PATH, || asked("/a?all", 1), now + UNWATCHABLE_TTL).unwatchable, None, "for good");
    }

    #[test]
    fn what_several_agree_in_holds_for_the_path_until_something_speaks_against_it() {
        let (learned, now) = (PathKnowledge::default(), clock::now());
        let private = Decline::Private { reason: "x" };
        for number in 0..3 {
            assert_eq!(learned.facts(PATH, || asked("/a", 9), now).private, None);
            learned.record_decline(PATH, &asked(&format!("/a?{number}"), number), &private, now);
        }
        assert_eq!(learned.facts(PATH, || asked("/a", 9), now).private, Some("x"));
        assert_eq!(learned.facts("/b", || asked("/b", 9), now).private, None);
        learned.record_watched(PATH);
        assert_eq!(learned.facts(PATH, || asked("/a", 9), now).private, None);
        assert_eq!(learned.facts(PATH, || asked("/a?1", 9), now).private, Some("x"));
        assert_eq!(learned.facts(PATH, || asked("/a?1", 9), now + FORGET_AFTER).private, None);
    }

    #[test]
    fn a_cookie_that_each_answer_replaces_leaves_the_page_to_itself() {
        let (learned, now) = (PathKnowledge::default(), clock::now());
        let rotates = |identity| learned.facts(PATH, || asked(PATH, identity), now).unwatchable.is_some();
        // The cookies differ each time; the browser is the same.
        assert!(!learned.record_rotation(&asked(PATH, 11), Some("sid"), now) && rotates(21));
        assert!(learned.record_rotation(&asked(PATH, 21), Some("sid"), now) && rotates(31));
        assert!(!learned.record_rotation(&asked(PATH, 31), Some("sid"), now) && !rotates(12));
        assert!(!learned.record_rotation(&asked(PATH, 41), None, now) && !rotates(41));
    }

    #[test]
    fn what_clients_make_up_takes_no_room() {
        let (learned, now) = (PathKnowledge::default(), clock::now());
        for number in 0..3 * MAX_TARGETS as u64 {
            let target = format!("/{number}");
            let now = now + Duration::from_millis(number);
            learned.record_decline(&target, &asked(&target, number), &large(), now);
            learned.record_decline(PATH, &asked(PATH, number), &large(), now);
        }
        let known = learned.lock();
        assert!(known.targets.len() <= MAX_TARGETS && known.paths.len() <= MAX_PATHS);
        assert!(known.targets[PATH].unwatchable.len() <= MAX_ASKERS, "what is in use is kept");
    }
}
