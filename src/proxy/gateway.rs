//! What all connections of the public listener share.

use std::hash::RandomState;
use std::sync::{Arc, Once};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::deliver::{PollClients, StreamLimiter};
use crate::hub::{Hub, NewResource};
use crate::observe::{Observer, Report};
use crate::poll::{FetchLimiter, Poller};
use crate::proxy::Bindings;
use crate::proxy::Hints;
use crate::proxy::TrustedProxies;
use crate::proxy::WriteLog;
use crate::proxy::request::head::Heads;
use crate::proxy::watched::replies::Replies;
use crate::resource::{Resource, ResourceRegistry};
use crate::route::{Route, Table};
use crate::shim::ShimState;
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::{ReplicaGuard, Replicas, UpstreamHandle};

/// What the listener itself was configured to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayOptions {
    /// Where everything of our own lives, without a slash at the end.
    pub prefix: String,
    /// Whose word about clients is taken.
    pub trusted: TrustedProxies,
    /// Who may purge.
    pub purge_from: Vec<ipnet::IpNet>,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
    /// How long a client may take to send the head of a request, or the preface of a connection.
    pub head_timeout: Duration,
    /// How long a client may take to accept what is written to it.
    pub write_timeout: Duration,
}

/// Where all passes, and nothing is pushed: what traffic tells.
#[derive(Debug)]
pub struct PassiveObserver {
    /// What was seen.
    pub observer: Observer,
    /// Since when.
    pub began: Instant,
}

impl PassiveObserver {
    /// What was found until `now`.
    pub fn report(&self, now: Instant) -> Report {
        self.observer.report(now.saturating_duration_since(self.began))
    }
}

/// The site: the backend, the routes in front of it, and everything that is watched and held.
pub struct Gateway {
    /// The listener's options that are in force.
    pub options: ArcSwap<GatewayOptions>,
    /// The backend.
    pub upstream: Arc<UpstreamHandle>,
    /// The routes in force.
    pub routes: ArcSwap<Table>,
    /// The watched resources.
    pub hub: Arc<Hub>,
    /// The caps over all fetches.
    pub limiter: Arc<FetchLimiter>,
    /// The memory for answers over WebSockets.
    pub replies: Replies,
    /// The memory for heads of requests that are being read.
    pub heads: Heads,
    /// The held clients.
    pub streams: Arc<StreamLimiter>,
    /// How clients poll.
    pub habits: Arc<PollClients>,
    /// By what clients are known that ask for the same.
    pub agents: RandomState,
    /// Who wrote when.
    pub writes: WriteLog,
    /// What clients say of themselves in requests of their pages.
    pub hints: Hints,
    /// Who is signed in by a connection.
    pub bindings: Bindings,
    /// The browser script.
    pub shim: ShimState,
    /// Set where all passes and is only observed.
    pub passive: Option<PassiveObserver>,
    /// What was asked.
    pub access: Arc<AccessLog>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether it has been said that requests go in circles.
    pub circles: Once,
    /// How many paths may be examined at a time.
    pub doctors: Semaphore,
    /// Connections.
    pub tasks: TaskTracker,
    /// Cancelled when the server begins to stop: idle connections end, busy ones after their answer.
    pub stopping: CancellationToken,
    /// Cancelled when the time to stop is over.
    pub stopped: CancellationToken,
}

impl Gateway {
    /// Starts to watch `resource` under `route`'s rules. Must be called in a runtime.
    pub(super) fn watch(&self, route: &Route, resource: Arc<Resource>) {
        let poller = Poller {
            resource,
            config: Arc::clone(&route.watch),
            fetcher: Arc::clone(&self.upstream),
            limiter: Arc::clone(&self.limiter),
            registry: Arc::clone(&self.hub) as Arc<dyn ResourceRegistry>,
            metrics: Arc::clone(&route.metrics),
            seed: clock::seed(),
        };
        poller.resource.set_untried(route.watch.verify_safe);
        // Not tracked: a poller ends when its clients have gone, and has nothing to finish when the process does.
        tokio::spawn(poller.run());
    }

    /// The listener's options that are in force.
    pub(super) fn options(&self) -> Arc<GatewayOptions> {
        self.options.load_full()
    }

    /// The backend of this moment, all of it.
    pub fn replicas(&self) -> Arc<Replicas> {
        self.upstream.load()
    }

    /// Who is asked next; for one request this is called once.
    pub(super) fn upstream(&self) -> ReplicaGuard {
        self.replicas().choose()
    }

    /// How long a fetch may take.
    pub(super) fn fetch_timeout(&self) -> Duration {
        self.replicas().options().replicas.first().map_or(Duration::ZERO, |replica| replica.fetch_timeout)
    }

    /// Completes when the time to stop is over.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// From which moment on a fetch must have begun to count as current for a client that last wrote at `wrote` and asks now:
    /// as recent as a poll at the interval `recent` would be, and not before anything that it may not have seen.
    pub(super) fn current_since(recent: Duration, resource: &Resource, wrote: Instant, now: Instant) -> Instant {
        let recent = now.checked_sub(recent).unwrap_or(now);
        recent.max(resource.current_since()).max(wrote)
    }

    /// How a resource of `route` comes into being.
    pub(super) fn new_resource<'a>(
        &'a self,
        route: &'a Arc<Route>,
    ) -> NewResource<'a, impl FnOnce(Arc<Resource>) + 'a> {
        NewResource { events: &route.events, spawn_poller: |resource| self.watch(route, resource) }
    }
}
