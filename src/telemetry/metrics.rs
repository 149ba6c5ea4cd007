//! Counters for Prometheus, resolved once a route, so that counting costs one atomic addition.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::delays::Delays;

/// A route, and one more label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    route: Arc<str>,
    second: Option<(&'static str, &'static str)>,
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("route", &*self.route).encode(encoder.encode_label())?;
        match self.second {
            Some(label) => label.encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}

type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// All metrics of the process. Routes appear by their patterns; no URL of a client is ever a label.
pub struct Metrics {
    registry: Registry,
    streams: Gauges,
    resources: Gauges,
    fetches: Counters,
    events: Counters,
    endings: Counters,
    polls: Counters,
    triggers: Counters,
    delay: Family<Labels, Delays>,
    config_stale: Gauge<i64, AtomicI64>,
    upstream_away: Gauge<i64, AtomicI64>,
    budget_stretched: Gauge<i64, AtomicI64>,
    history_bytes: Gauge<u64, AtomicU64>,
    differs: Counters,
    refused: Family<Vec<(&'static str, &'static str)>, Counter<u64, AtomicU64>>,
    routes: Mutex<BTreeMap<Arc<str>, Arc<RouteMetrics>>>,
}

/// The metrics of one route.
pub struct RouteMetrics {
    all: Labels,
    streams: Gauges,
    fetches: Counters,
    events: Series<6>,
    endings: Counters,
    polls: Series<3>,
    triggers: Counters,
    resources: Gauge,
    delay: Delays,
    differs: Counters,
}

/// The counters of a route that differ in one label. What counts each event must not look anything up.
struct Series<const N: usize> {
    family: Counters,
    route: Arc<str>,
    label: &'static str,
    values: [&'static str; N],
    counters: [OnceLock<Counter>; N],
}

impl<const N: usize> Series<N> {
    fn new(family: &Counters, route: &Arc<str>, label: &'static str, values: [&'static str; N]) -> Self {
        let counters = std::array::from_fn(|_| OnceLock::new());
        Self { family: family.clone(), route: Arc::clone(route), label, values, counters }
    }

    fn count(&self, value: &'static str) {
        let labels = || Labels { route: Arc::clone(&self.route), second: Some((self.label, value)) };
        match self.values.iter().position(|known| *known == value) {
            Some(at) => drop(self.counters[at].get_or_init(|| self.family.get_or_create(&labels()).clone()).inc()),
            None => drop(self.family.get_or_create(&labels()).inc()),
        }
    }
}

impl Metrics {
    /// Metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sungrazer");
        let streams = Gauges::default();
        registry.register("streams", "Clients that are held", streams.clone());
        let resources = Gauges::default();
        registry.register("resources", "Watched resources", resources.clone());
        let fetches = Counters::default();
        registry.register("fetches", "Looks at the upstream", fetches.clone());
        let events = Counters::default();
        registry.register("events", "Events written to clients", events.clone());
        let endings = Counters::default();
        registry.register("streams_ended", "Clients that are held no more, by why", endings.clone());
        let polls = Counters::default();
        registry.register("polls_answered", "Plain requests for routes, by how they were answered", polls.clone());
        let triggers = Counters::default();
        registry.register("triggers", "Reasons for looks", triggers.clone());
        let delay = Family::default();
        registry.register(
            "change_to_write_seconds",
            "From the end of a look that found a change to its event on a socket",
            delay.clone(),
        );
        let config_stale = Gauge::default();
        registry.register(
            "config_stale",
            "1 while the configuration file cannot be used and an older one is in force",
            config_stale.clone(),
        );
        let upstream_away = Gauge::default();
        registry.register("upstream_away", "1 while the upstream does not answer", upstream_away.clone());
        let budget_stretched = Gauge::default();
        registry.register(
            "budget_stretched",
            "1 while max_fetches and max_fetch_rate make intervals longer than routes say",
            budget_stretched.clone(),
        );
        let history_bytes = Gauge::default();
        registry.register("history_bytes", "Bodies that are kept for all resources together", history_bytes.clone());
        let differs = Counters::default();
        registry.register(
            "audience_differs",
            "Samples in which clients with credentials were answered otherwise than those who share without",
            differs.clone(),
        );
        let refused = Family::default();
        registry.register("limits_hit", "Requests that a limit turned away", refused.clone());
        Self {
            registry,
            streams,
            resources,
            fetches,
            events,
            endings,
            polls,
            triggers,
            delay,
            config_stale,
            upstream_away,
            budget_stretched,
            history_bytes,
            differs,
            refused,
            routes: Mutex::default(),
        }
    }

    /// The metrics of the route with this pattern; the same for every route that has it.
    pub fn route(&self, pattern: &Arc<str>) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let made = routes.entry(Arc::clone(pattern)).or_insert_with(|| {
            let all = Labels { route: Arc::clone(pattern), second: None };
            Arc::new(RouteMetrics {
                streams: self.streams.clone(),
                fetches: self.fetches.clone(),
                events: Series::new(
                    &self.events,
                    pattern,
                    "kind",
                    ["snapshot", "patch", "stale", "live", "tick", "end"],
                ),
                endings: self.endings.clone(),
                polls: Series::new(&self.polls, pattern, "how", ["memory", "held", "proxied"]),
                triggers: self.triggers.clone(),
                differs: self.differs.clone(),
                resources: self.resources.get_or_create(&all).clone(),
                delay: self.delay.get_or_create(&all).clone(),
                all,
            })
        });
        Arc::clone(made)
    }

    /// Whether an old configuration is in force because the file is wrong.
    pub fn set_config_stale(&self, stale: bool) {
        self.config_stale.set(stale.into());
    }

    /// Whether the caps over all looks stretch the routes' intervals.
    pub fn set_budget_stretched(&self, stretched: bool) {
        self.budget_stretched.set(stretched.into());
    }

    /// Whether the upstream does not answer.
    pub fn set_upstream_away(&self, away: bool) {
        self.upstream_away.set(away.into());
    }

    /// How much memory all histories take.
    pub fn set_history_bytes(&self, bytes: u64) {
        self.history_bytes.set(bytes);
    }

    /// A limit turned a request away.
    pub fn limit_hit(&self, limit: &'static str) {
        self.refused.get_or_create(&vec![("limit", limit)]).inc();
    }

    /// All of it in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail; a partial page would be better than none if it did.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl RouteMetrics {
    fn with(&self, name: &'static str, value: &'static str) -> Labels {
        Labels { route: Arc::clone(&self.all.route), second: Some((name, value)) }
    }

    /// Clients with credentials turned out to be answered otherwise than those without, who share.
    pub fn differs(&self) {
        self.differs.get_or_create(&self.all).inc();
    }

    /// A client is held by `transport`, until the gauge that is returned is dropped.
    pub fn hold(&self, transport: &'static str) -> Held {
        let gauge = self.streams.get_or_create(&self.with("transport", transport)).clone();
        gauge.inc();
        Held(gauge)
    }

    /// A resource came into being, or one went.
    pub fn resources(&self) -> &Gauge {
        &self.resources
    }

    /// A look ended.
    pub fn fetched(&self, result: &'static str) {
        self.fetches.get_or_create(&self.with("result", result)).inc();
    }

    /// A look began.
    pub fn triggered(&self, kind: &'static str) {
        self.triggers.get_or_create(&self.with("kind", kind)).inc();
    }

    /// A plain request was answered.
    pub fn answered(&self, how: &'static str) {
        self.polls.count(how);
    }

    /// An event was written.
    pub fn written(&self, kind: &'static str) {
        self.events.count(kind);
    }

    /// A client follows something no more, and why.
    pub fn ended(&self, reason: &'static str) {
        self.endings.get_or_create(&self.with("reason", reason)).inc();
    }

    /// So long after the look that found it, a change was on a socket.
    pub fn delayed(&self, after: Duration) {
        self.delay.observe(after);
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteMetrics({})", self.all.route)
    }
}

/// One held client, counted while this lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
