//! The parts of a running server that a reload changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::descriptors::FdBudget;
use crate::admin::Token;
use crate::clock;
use crate::config::reload::ReloadPlan;
use crate::config::{Config, RouteOptions};
use crate::deliver::{self, StreamFormat};
use crate::poll::{FileWatch, WatchConfig, WatchedFiles};
use crate::proxy::Gateway;
use crate::resource::{RouteEvents, Trigger};
use crate::route::{Route, Table};
use crate::telemetry::Metrics;

/// The state that a reload can change.
pub(super) struct ReloadableState {
    pub(super) gateway: Arc<Gateway>,
    /// The task that watches the files of routes.
    pub(super) files: StdMutex<Option<JoinHandle<()>>>,
    pub(super) drain: StdMutex<Duration>,
    /// The token that operators must present.
    pub(super) token: Arc<Token>,
    /// The address of the admin listener.
    pub(super) admin: Option<SocketAddr>,
    /// The limits of the system, independent of the configuration.
    pub(super) allowance: FdBudget,
}

impl ReloadableState {
    pub(super) fn new(gateway: Arc<Gateway>, config: &Config, admin: Option<SocketAddr>, allowance: FdBudget) -> Self {
        let token = config.server.admin.as_ref().and_then(|admin| admin.token.clone());
        let (files, drain) = (StdMutex::default(), StdMutex::new(config.server.drain));
        Self { gateway, files, drain, token: Arc::new(Token::new(token)), admin, allowance }
    }

    /// Updates the admin token according to `config`. The listener keeps its address until a restart: if it is
    /// reachable from other machines, it keeps the previous token, even if the new address would need none.
    fn ask_for_token(&self, config: &Config) {
        let (Some(options), Some(here)) = (&config.server.admin, self.admin) else { return };
        if options.token.is_some() || here.ip().is_loopback() {
            self.token.set(options.token.clone());
        }
    }

    /// Applies `config` according to `plan`.
    pub(super) fn apply(&self, config: &Config, plan: &ReloadPlan) {
        let gateway = &self.gateway;
        *self.drain.lock().unwrap_or_else(PoisonError::into_inner) = config.server.drain;
        gateway.upstream.replace(&config.upstream);
        self.ask_for_token(config);
        if **gateway.options.load() != config.gateway {
            gateway.options.store(Arc::new(config.gateway.clone()));
        }
        gateway.hub.set_options(config.hub);
        gateway.requests.set_options(config.limits);
        gateway.streams.set_options(self.allowance.clamp(config.streams));
        let before = gateway.routes.load_full();
        self.route(&config.routes, plan);
        // The new table is in force, so clients that are sent away find the new routes.
        for route in before.iter().filter(|route| plan.removed.contains(&route.id)) {
            route.events.close();
        }
        for resource in gateway.hub.resources().iter().filter(|resource| plan.removed.contains(&resource.key().route)) {
            resource.close();
        }
    }

    /// Builds the new route table. Unchanged routes keep their objects with everything they have learned.
    pub(super) fn route(&self, options: &[RouteOptions], plan: &ReloadPlan) {
        // In observe mode, no route is in force.
        let options = if self.gateway.passive.is_some() { &[] } else { options };
        let before = self.gateway.routes.load_full();
        let known: HashMap<_, _> = before.iter().map(|route| (route.id, route)).collect();
        let kept = |options: &RouteOptions| {
            plan.kept.contains(&options.id).then(|| known.get(&options.id).map(|route| Arc::clone(route))).flatten()
        };
        let mut watched = Vec::new();
        let routes = options.iter().map(|options| {
            let route = kept(options).unwrap_or_else(|| Arc::new(route(options, &self.gateway.metrics)));
            let route_events = Arc::clone(&route.events);
            let changed = Arc::new(move || route_events.publish(Trigger::File, clock::now()));
            watched.push(WatchedFiles { globs: options.watch_files.clone(), changed });
            route
        });
        let table = Table::new(routes.collect());
        self.gateway.routes.store(Arc::new(table));
        self.watch_files(watched);
    }

    pub(super) fn watch_files(&self, watched: Vec<WatchedFiles>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = files.take() {
            before.abort();
        }
        *files = FileWatch::new(watched).map(|watch| tokio::spawn(watch.run()));
    }
}

/// Builds a route with its metrics and its available stream formats.
fn route(options: &RouteOptions, metrics: &Metrics) -> Route {
    let chosen = |delivery: &&&'static dyn StreamFormat| options.transports.contains(&delivery.name());
    let metrics = metrics.route(&options.plan.route);
    metrics.set_interval(options.plan.schedule.every);
    Route {
        metrics,
        transports: deliver::ALL.iter().filter(chosen).copied().collect(),
        websocket: options.transports.contains(&"websocket"),
        iframe: options.transports.contains(&"iframe"),
        long_poll: options.transports.contains(&"long-poll"),
        tick_on: options.tick_on.clone(),
        id: options.id,
        pattern: options.pattern.clone(),
        methods: options.methods.clone(),
        watch: Arc::clone(&options.plan),
        watch_bodies: Arc::new(WatchConfig { verify_safe: false, ..WatchConfig::clone(&options.plan) }),
        post: options.post.clone(),
        variant: options.variant.clone(),
        deliver: options.deliver,
        hold: options.hold,
        fetch: options.fetch,
        shim: options.shim,
        groups: Arc::clone(&options.groups),
        refresh_on: options.refresh_on.clone(),
        events: Arc::new(RouteEvents::new(clock::now())),
        knowledge: Arc::default(),
        unsteady: Arc::default(),
    }
}
