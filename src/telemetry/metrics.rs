//! What is counted and measured, for Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::delays::{self, Delays};
use super::failing::Failing;
use super::replaced::rate;
use super::route::{
    Counters, Gauges, KINDS, Labels, REASONS, RESULTS, RouteMetrics, Series, TRANSPORTS, TRIGGERS, WAYS,
};
use super::tail::{Happening, Tail};
use crate::clock;

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
    replaced: Counters,
    look_bytes: Counters,
    delay: Family<Labels, Delays>,
    config_stale: Gauge<i64, AtomicI64>,
    upstream_away: Gauge<i64, AtomicI64>,
    replicas_away: Gauge<i64, AtomicI64>,
    budget_stretched: Gauge<i64, AtomicI64>,
    history_bytes: Gauge<u64, AtomicU64>,
    differs: Counters,
    refused: Family<Vec<(&'static str, &'static str)>, Counter<u64, AtomicU64>>,
    routes: Mutex<BTreeMap<Arc<str>, Arc<RouteMetrics>>>,
    tail: Arc<Tail>,
    born: Instant,
}

/// All that there is, for the documents: each metric with its labels, and what those can be where that is known beforehand.
pub const ALL: &[(&str, &[&str])] = &[
    ("streams{route,transport}", TRANSPORTS),
    ("resources{route}", &[]),
    ("fetches_total{route,result}", RESULTS),
    ("events_total{route,kind}", &KINDS),
    ("streams_ended_total{route,reason}", REASONS),
    ("polls_answered_total{route,how}", &WAYS),
    ("triggers_total{route,kind}", TRIGGERS),
    ("polls_replaced_total{route}", &[]),
    ("look_bytes_total{route}", &[]),
    ("change_to_write_seconds{route}", &[]),
    ("config_stale", &[]),
    ("upstream_away", &[]),
    ("replicas_away", &[]),
    ("budget_stretched", &[]),
    ("history_bytes", &[]),
    ("audience_differs_total{route}", &[]),
    ("limits_hit_total{limit}", LIMITS),
];

const LIMITS: &[&str] = &[
    "streams",
    "resources",
    "resources_per_identity",
    "resources_per_address",
    "history_bytes",
    "connections",
    "admin_connections",
    "request_size",
    "upload_pace",
];

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
        let replaced = Counters::default();
        registry.register(
            "polls_replaced",
            "Polls that held clients would have made at their route's interval",
            replaced.clone(),
        );
        let look_bytes = Counters::default();
        registry.register("look_bytes", "Bytes of the bodies that looks brought", look_bytes.clone());
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
        let replicas_away = Gauge::default();
        registry.register("replicas_away", "Replicas of the upstream that are not asked", replicas_away.clone());
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
        let refused = Family::<Vec<(&'static str, &'static str)>, Counter<u64, AtomicU64>>::default();
        // A counter that is not there before it is one does not seem to grow.
        for limit in LIMITS {
            drop(refused.get_or_create(&vec![("limit", *limit)]));
        }
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
            replaced,
            look_bytes,
            delay,
            config_stale,
            upstream_away,
            replicas_away,
            budget_stretched,
            history_bytes,
            differs,
            refused,
            routes: Mutex::default(),
            tail: Arc::default(),
            born: clock::now(),
        }
    }

    /// The metrics of the route with this pattern; the same for every route that has it.
    pub fn route(&self, pattern: &Arc<str>) -> Arc<RouteMetrics> {
        let mut routes = self.in_use();
        let made = routes.entry(Arc::clone(pattern)).or_insert_with(|| {
            let all = Labels { route: Arc::clone(pattern), second: None };
            Arc::new(RouteMetrics {
                streams: self.streams.clone(),
                fetches: self.fetches.clone(),
                events: Series::new(&self.events, pattern, "kind", KINDS),
                endings: self.endings.clone(),
                polls: Series::new(&self.polls, pattern, "how", WAYS),
                triggers: self.triggers.clone(),
                differs: self.differs.clone(),
                resources: self.resources.get_or_create(&all).clone(),
                delay: self.delay.get_or_create(&all).clone(),
                rate: AtomicU64::new(rate(Duration::from_secs(1))),
                replaced: Arc::default(),
                replaced_shown: self.replaced.get_or_create(&all).clone(),
                look_bytes: self.look_bytes.get_or_create(&all).clone(),
                tail: Arc::clone(&self.tail),
                failing: Failing::default(),
                born: self.born,
                all,
            })
        });
        Arc::clone(made)
    }

    /// The metrics of routes that anybody still has. Those of others are forgotten: a route that a new configuration does not
    /// know is gone once its last stream has ended.
    fn in_use(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<RouteMetrics>>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, route| {
            // Nobody can get at it meanwhile.
            let is_in_use = Arc::strong_count(route) > 1;
            if !is_in_use {
                self.forget(route);
            }
            is_in_use
        });
        routes
    }

    fn forget(&self, route: &RouteMetrics) {
        self.resources.remove(&route.all);
        self.delay.remove(&route.all);
        for family in [&self.replaced, &self.look_bytes, &self.differs] {
            family.remove(&route.all);
        }
        for transport in TRANSPORTS {
            self.streams.remove(&route.with("transport", transport));
        }
        for (family, label, values) in [
            (&self.fetches, "result", RESULTS),
            (&self.events, "kind", &KINDS),
            (&self.endings, "reason", REASONS),
            (&self.polls, "how", &WAYS),
            (&self.triggers, "kind", TRIGGERS),
        ] {
            for value in values {
                family.remove(&route.with(label, value));
            }
        }
    }

    /// Whether an old configuration is in force because the file is wrong.
    pub fn set_config_stale(&self, stale: bool) {
        self.config_stale.set(stale.into());
    }

    /// Whether the caps over all looks stretch the routes' intervals.
    pub fn set_budget_stretched(&self, stretched: bool) {
        self.budget_stretched.set(stretched.into());
    }

    /// Whether the upstream does not answer, and how many of its replicas are not asked.
    pub fn set_upstream_away(&self, away: bool, replicas: usize) {
        self.upstream_away.set(away.into());
        self.replicas_away.set(i64::try_from(replicas).unwrap_or(i64::MAX));
    }

    /// How much memory all histories take.
    pub fn set_history_bytes(&self, bytes: u64) {
        self.history_bytes.set(bytes);
    }

    /// A limit turned a request away.
    pub fn limit_hit(&self, limit: &'static str) {
        self.refused.get_or_create(&vec![("limit", limit)]).inc();
    }

    /// What happened last, the newest first.
    pub fn tail(&self) -> Vec<Happening> {
        self.tail.read()
    }

    /// The upper bounds of the buckets of [`Figures::delays`](super::Figures::delays), in seconds; the last bucket has none.
    pub fn delay_bounds() -> Vec<f64> {
        delays::bounds().collect()
    }

    /// All of it as OpenMetrics text; [`plain`](super::plain_metrics) makes of it what is older.
    pub fn render(&self) -> String {
        for route in self.in_use().values() {
            route.show_replaced();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::plain::plain;

    #[test]
    fn all_that_is_registered_is_known_to_the_documents() {
        let metrics = Metrics::new();
        let route = metrics.route(&"/a".into());
        // What is counted by labels is there once it has been counted.
        drop(route.hold("sse"));
        route.fetched("changed");
        route.written("tick");
        route.ended("left");
        route.answered("held");
        route.triggered("timer");
        route.differs();
        let text = plain(&metrics.render());
        let registered: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE sungrazer_")?.split(' ').next()).collect();
        let known: Vec<&str> = ALL.iter().filter_map(|(name, _)| name.split('{').next()).collect();
        assert_eq!(registered, known);
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let metrics = Metrics::new();
        let route = metrics.route(&"/a".into());
        RESULTS.iter().for_each(|result| route.fetched(result));
        KINDS.iter().for_each(|kind| route.written(kind));
        REASONS.iter().for_each(|reason| route.ended(reason));
        WAYS.iter().for_each(|how| route.answered(how));
        TRIGGERS.iter().for_each(|kind| route.triggered(kind));
        TRANSPORTS.iter().for_each(|transport| drop(route.hold(transport)));
        route.differs();
        assert!(metrics.render().contains("/a"));
        drop(route);
        assert!(!metrics.render().contains("/a"), "{}", metrics.render());
    }
}
