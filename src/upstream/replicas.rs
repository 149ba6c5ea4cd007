//! The replicas of the backend, and the choice between them.
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

/// How requests are distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// To the replica with the fewest requests in flight.
    LeastConnections,
}

/// The configuration of all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicasOptions {
    /// The settings of each replica; at least one.
    pub replicas: Vec<Options>,
    /// How requests are distributed.
    pub balance: Balance,
    /// The path of the health check. If `None`, replicas that do not accept connections are tried until they do.
    pub health_path: Option<String>,
    /// The interval of the health check.
    pub health_every: Duration,
}

/// All replicas of the backend.
pub struct Replicas {
    options: ReplicasOptions,
    all: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
    _checks: Option<AbortOnDropHandle<()>>,
}

/// A replica that counts one more request in flight as long as this is held.
pub struct ReplicaGuard(Arc<Upstream>);

impl Replicas {
    /// Creates replicas without connections. Must be called within a runtime, where the health checks run.
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

    /// Returns the configuration.
    pub fn options(&self) -> &ReplicasOptions {
        &self.options
    }

    /// Returns all replicas.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all.iter()
    }

    /// Returns whether no replica is available.
    pub fn all_down(&self) -> bool {
        !self.all.iter().any(|replica| replica.is_available())
    }

    /// Returns the number of addresses worth trying for one request.
    pub fn attempts(&self) -> usize {
        self.all.iter().map(|replica| replica.attempts()).sum()
    }

    /// Chooses the replica for the next request. If none is available, it returns an unavailable one, which may have
    /// recovered.
    pub fn choose(&self) -> ReplicaGuard {
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len();
        let in_turn = self.all[start..].iter().chain(&self.all[..start]);
        let well = in_turn.filter(|replica| replica.is_available());
        let chosen = match self.options.balance {
            Balance::RoundRobin => well.into_iter().next(),
            // Ties are broken in turn.
            Balance::LeastConnections => well.min_by_key(|replica| replica.in_flight()),
        };
        ReplicaGuard::new(chosen.unwrap_or(&self.all[start]))
    }

    /// Opens a connection to one of the replicas for exclusive use.
    ///
    /// # Errors
    /// Returns an error if none accepts.
    pub async fn connect(&self) -> Result<(ReplicaGuard, Stream), ConnectError> {
        self.connect_to(self.choose()).await
    }

    /// Opens a connection to `chosen` or, if that does not accept, to another replica, for exclusive use.
    ///
    /// # Errors
    /// Returns an error if none accepts.
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

    /// Returns the replica for fetches of this resource: the replica of the last fetch while that is available. Also
    /// returns whether it is a different one.
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

    /// Runs a fetch, on another replica if the usual one does not answer.
    pub(super) async fn fetch_pinned(&self, request: &FetchRequest<'_>) -> FetchOutcome {
        let mut tried = 1;
        loop {
            let (replica, moved) = self.pinned_replica(request);
            let replica = ReplicaGuard::new(replica);
            // The validators of one replica are not valid for another.
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
    /// Creates a guard for `upstream`.
    pub fn new(upstream: &Arc<Upstream>) -> Self {
        upstream.begin();
        Self(Arc::clone(upstream))
    }

    /// Returns the peer for pingora's proxy. It yields a `fresh` connection, or else an idle one if there is one; with
    /// an `owner`, a connection that is used for no other client.
    ///
    /// # Errors
    /// Returns an error if the backend's name cannot be resolved.
    pub async fn lend(&self, fresh: bool, owner: Option<u64>) -> Result<HttpPeer, ConnectError> {
        self.0.lend(fresh, owner).await
    }

    /// Returns the same replica without counting a request.
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
