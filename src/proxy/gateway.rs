//! The state shared by all connections of the public listener.

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
use crate::poll::Poller;
use crate::proxy::Bindings;
use crate::proxy::Hints;
use crate::proxy::RequestLimits;
use crate::proxy::TrustedProxies;
use crate::proxy::WriteLog;
use crate::proxy::request::head::Heads;
use crate::proxy::watched::body::Bodies;
use crate::proxy::watched::replies::Replies;
use crate::resource::{Resource, ResourceRegistry};
use crate::route::{Route, Table};
use crate::shim::ShimState;
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::{Application, ReplicaGuard, UpstreamHandle};

/// The options of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayOptions {
    /// The path of this server's own endpoints, without a slash at the end.
    pub prefix: String,
    /// The trusted proxies.
    pub trusted: TrustedProxies,
    /// The addresses that may send purges.
    pub purge_from: Vec<ipnet::IpNet>,
    /// The idle timeout of a connection.
    pub keepalive: Duration,
    /// The timeout for the head of a request, or for the preface of a connection.
    pub head_timeout: Duration,
    /// How long a client may take to accept a write.
    pub write_timeout: Duration,
}

/// The observation of traffic in observe mode, where nothing is pushed.
#[derive(Debug)]
pub struct PassiveObserver {
    /// The observations.
    pub observer: Observer,
    /// When the observation began.
    pub began: Instant,
}

impl PassiveObserver {
    /// Returns the report until `now`.
    pub fn report(&self, now: Instant) -> Report {
        self.observer.report(now.saturating_duration_since(self.began))
    }
}

/// The gateway: the applications, the routes in front of them, and all watched resources and held clients.
pub struct Gateway {
    /// The options in force.
    pub options: ArcSwap<GatewayOptions>,
    /// The applications behind it.
    pub upstream: Arc<UpstreamHandle>,
    /// The routes in force.
    pub routes: ArcSwap<Table>,
    /// The watched resources.
    pub hub: Arc<Hub>,
    /// The memory for responses over WebSockets.
    pub replies: Replies,
    /// The memory for request heads that are being read.
    pub heads: Heads,
    /// The memory for inspected bodies.
    pub bodies: Bodies,
    /// The limits on requests of clients.
    pub requests: RequestLimits,
    /// The held clients.
    pub streams: Arc<StreamLimiter>,
    /// The observed behaviour of polling clients.
    pub habits: Arc<PollClients>,
    /// The hasher for clients with concurrent requests.
    pub agents: RandomState,
    /// The writes of clients.
    pub writes: WriteLog,
    /// The client hints of pages.
    pub hints: Hints,
    /// The clients that are signed in by their connection.
    pub bindings: Bindings,
    /// The browser script.
    pub shim: ShimState,
    /// Set in observe mode.
    pub passive: Option<PassiveObserver>,
    /// The access log.
    pub access: Arc<AccessLog>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether a request loop has been logged.
    pub circles: Once,
    /// Limits the number of concurrent `doctor` examinations.
    pub doctors: Semaphore,
    /// The tasks of connections.
    pub tasks: TaskTracker,
    /// Cancelled when the server begins to stop: idle connections close at once, busy ones after their response.
    pub stopping: CancellationToken,
    /// Cancelled when the time to stop is over.
    pub stopped: CancellationToken,
}

impl Gateway {
    /// Starts to watch `resource` according to `route`. Must be called within a runtime.
    pub(super) fn watch(&self, route: &Route, resource: Arc<Resource>) {
        let application = self.application(resource.key().path());
        let config = application.paced(route.watch_for(resource.key().body.as_deref()));
        let is_untried = config.verify_safe;
        let poller = Poller {
            resource,
            config,
            fetcher: Arc::clone(&self.upstream),
            limiter: Arc::clone(application.limiter()),
            registry: Arc::clone(&self.hub) as Arc<dyn ResourceRegistry>,
            metrics: Arc::clone(&route.metrics),
            seed: clock::seed(),
        };
        poller.resource.set_untried(is_untried);
        // Pollers are not tracked: they end with their clients, and have nothing to finish when the process stops.
        tokio::spawn(poller.run());
    }

    /// Returns the options in force.
    pub(super) fn options(&self) -> Arc<GatewayOptions> {
        self.options.load_full()
    }

    /// Returns the application that a request of `path` is for.
    pub fn application(&self, path: &str) -> Arc<Application> {
        self.upstream.at(path)
    }

    /// Chooses the replica for a request of `path`. Must be called once per request.
    pub(super) fn upstream(&self, path: &str) -> ReplicaGuard {
        self.application(path).choose()
    }

    /// Returns the timeout for fetches of `path`.
    pub(super) fn fetch_timeout(&self, path: &str) -> Duration {
        self.application(path).options().replicas.first().map_or(Duration::ZERO, |replica| replica.fetch_timeout)
    }

    /// Returns whether the limits on fetches stretch the intervals of routes.
    pub fn is_stretched(&self) -> bool {
        self.upstream.load().values().any(|application| application.limiter().is_saturated())
    }

    /// Completes when the time to stop is over.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Returns the time at or after which a fetch must have begun to count as current for a client that last wrote at
    /// `wrote` and requests now: as recent as a poll at the interval `recent`, and after all events that the state must
    /// reflect.
    pub(super) fn current_since(recent: Duration, resource: &Resource, wrote: Instant, now: Instant) -> Instant {
        let recent = now.checked_sub(recent).unwrap_or(now);
        recent.max(resource.current_since()).max(wrote)
    }

    /// Returns the data for creating a resource of `route`.
    pub(super) fn new_resource<'a>(
        &'a self,
        route: &'a Arc<Route>,
    ) -> NewResource<'a, impl FnOnce(Arc<Resource>) + 'a> {
        NewResource { events: &route.events, spawn_poller: |resource| self.watch(route, resource) }
    }
}
