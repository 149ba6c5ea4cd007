//! The backend, if it runs several times: which replica is asked next.
//!
//! ```text
//! a request ─▶ Replicas::choose ─▶ by turns, or the one with the least to do ─┐
//! a fetch ────▶ Replicas::fetch_pinned ───▶ where it was made last, until that fails ──┴─▶ Upstream
//! ```

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::protocols::Stream;
use pingora::upstreams::peer::HttpPeer;
use tokio_util::task::AbortOnDropHandle;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::naming::Naming;
use super::{ConnectError, Options, Upstream, health};
use crate::model::Validators;
use crate::poll::FetchRequest;
use crate::resource::{Failure, FetchOutcome};

/// How requests are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Whoever has the fewest requests under way.
    LeastConnections,
}

/// The backend, wherever it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicasOptions {
    /// How to reach each of them; at least one.
    pub replicas: Vec<Options>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// What to ask to know that one is well; `None`: those that do not accept are tried until they do.
    pub health_path: Option<String>,
    /// How often.
    pub health_every: Duration,
}

/// All replicas of the backend.
pub struct Replicas {
    options: ReplicasOptions,
    all: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
    _checks: Option<AbortOnDropHandle<()>>,
}

/// A replica that has something to do for as long as this is kept.
pub struct ReplicaGuard(Arc<Upstream>);

impl Replicas {
    /// Replicas that nobody has connected to yet. Must be called in a runtime, where those that can be away are seen to.
    pub fn new(options: ReplicasOptions) -> Self {
        let mode = options.replicas.first().map(|replica| replica.host).unwrap_or_default();
        let naming = Arc::new(Naming::new(mode));
        let replica = |options: &Options| Arc::new(Upstream::replica(options.clone(), Arc::clone(&naming)));
        let all: Vec<_> = options.replicas.iter().map(replica).collect();
        let checked = all.len() > 1 || options.health_path.is_some();
        let checks = checked
            .then(|| {
                tokio::spawn(health::run_health_checks(all.clone(), options.health_path.clone(), options.health_every))
            })
            .map(AbortOnDropHandle::new);
        Self { options, all, turn: AtomicUsize::new(0), _checks: checks }
    }

    /// What they were configured to be.
    pub fn options(&self) -> &ReplicasOptions {
        &self.options
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all.iter()
    }

    /// Whether none of them answers.
    pub fn all_down(&self) -> bool {
        !self.all.iter().any(|replica| replica.is_available())
    }

    /// How many addresses are worth trying for one request.
    pub fn attempts(&self) -> usize {
        self.all.iter().map(|replica| replica.attempts()).sum()
    }

    /// The replica for the next request. If none is well it is one that is not: it may be by now.
    pub fn choose(&self) -> ReplicaGuard {
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len();
        let in_turn = self.all[start..].iter().chain(&self.all[..start]);
        let well = in_turn.filter(|replica| replica.is_available());
        let chosen = match self.options.balance {
            Balance::RoundRobin => well.into_iter().next(),
            // The first of equals, in turn.
            Balance::LeastConnections => well.min_by_key(|replica| replica.in_flight()),
        };
        ReplicaGuard::new(chosen.unwrap_or(&self.all[start]))
    }

    /// A connection to one of them, of one's own.
    ///
    /// # Errors
    /// If none accepts.
    pub async fn connect(&self) -> Result<(ReplicaGuard, Stream), ConnectError> {
        self.connect_to(self.choose()).await
    }

    /// A connection to `chosen` or, if that does not accept, to another, of one's own.
    ///
    /// # Errors
    /// If none accepts.
    pub async fn connect_to(&self, mut chosen: ReplicaGuard) -> Result<(ReplicaGuard, Stream), ConnectError> {
        let mut tried = 1;
        loop {
            match chosen.connect().await {
                Ok(stream) => return Ok((chosen, stream)),
                Err(error) => {
                    chosen.health().mark_down(&error.to_string());
                    if tried >= self.all.len() {
                        return Err(error);
                    }
                    tried += 1;
                    chosen = self.choose();
                }
            }
        }
    }

    /// The replica where fetches of this resource are made: the one of the last fetch while that is well. Also whether it is
    /// another than that was.
    fn pinned_replica(&self, request: &FetchRequest<'_>) -> (&Arc<Upstream>, bool) {
        let before = request.affinity.get();
        if let Some(seated) = before.and_then(|at| self.all.get(at)).filter(|replica| replica.is_available()) {
            return (seated, false);
        }
        let target = request.key.target.as_bytes();
        let rank = |at: &usize| (self.all[*at].is_available(), xxh3_64_with_seed(target, *at as u64));
        let at = (0..self.all.len()).max_by_key(rank).unwrap_or(0);
        request.affinity.pin(at);
        (&self.all[at], before.is_some_and(|before| before != at))
    }

    /// Makes a fetch, on another replica if the one where it is usually made does not answer.
    pub(super) async fn fetch_pinned(&self, request: &FetchRequest<'_>) -> FetchOutcome {
        let mut tried = 1;
        loop {
            let (replica, moved) = self.pinned_replica(request);
            let replica = ReplicaGuard::new(replica);
            // What one replica said of its own state is nothing to ask another with.
            let validators = if moved { Validators::default() } else { request.validators.clone() };
            match replica.fetch(&FetchRequest { validators, ..*request }).await {
                Ok(outcome) => {
                    if matches!(&outcome, FetchOutcome::Failed(failure) if failure.status.is_some())
                        && self.all.len() > 1
                    {
                        request.affinity.advance(self.all.len());
                    }
                    return outcome;
                }
                Err(error) if error.is_of_connection() && tried < self.all.len() && !self.all_down() => tried += 1,
                Err(unread) => {
                    return FetchOutcome::Failed(Failure { status: None, retry_after: None, text: unread.to_string() });
                }
            }
        }
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

impl ReplicaGuard {
    /// `upstream`, which has one thing more to do.
    pub fn new(upstream: &Arc<Upstream>) -> Self {
        upstream.begin();
        Self(Arc::clone(upstream))
    }

    /// Where pingora's proxy is to connect to. It is given a `fresh` connection, or one that has served others if there is one;
    /// with an `owner`, one that has served nobody else and never will.
    ///
    /// # Errors
    /// If the backend's name cannot be resolved.
    pub async fn lend(&self, fresh: bool, owner: Option<u64>) -> Result<HttpPeer, ConnectError> {
        self.0.lend(fresh, owner).await
    }

    /// The same replica, whether or not it has something to do.
    pub fn share(&self) -> Arc<Upstream> {
        Arc::clone(&self.0)
    }
}

impl Deref for ReplicaGuard {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for ReplicaGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for ReplicaGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
