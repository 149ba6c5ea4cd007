//! The metrics for Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::avoided_polls::rate;
use super::event_log::{Event, EventLog};
use super::failing::Failing;
use super::latency::{self, LatencyHistogram};
use super::process;
use super::requests::{self, ANSWERED, Requests, STATUSES};
use super::route::{
    Counters, Gauges, KINDS, Labels, REASONS, RESULTS, RouteMetrics, Series, TRANSPORTS, TRIGGERS, WAYS,
};
use crate::clock;

/// All metrics of the process. Routes are labelled by their patterns; no URL of a client is ever a label.
pub struct Metrics {
    registry: Registry,
    streams: Gauges,
    resources: Gauges,
    cohorts: Gauges,
    fetches: Counters,
    events: Counters,
    endings: Counters,
    polls: Counters,
    triggers: Counters,
    replaced: Counters,
    fetch_bytes: Counters,
    delay: Family<Labels, LatencyHistogram>,
    fetch_seconds: Family<Labels, LatencyHistogram>,
    requests: Requests,
    config_read_at: Gauge<f64, AtomicU64>,
    started: SystemTime,
    config_stale: Gauge<i64, AtomicI64>,
    upstream_away: Gauge<i64, AtomicI64>,
    upstreams_away: Family<Vec<(&'static str, String)>, Gauge<i64, AtomicI64>>,
    replicas_away: Gauge<i64, AtomicI64>,
    budget_stretched: Gauge<i64, AtomicI64>,
    history_bytes: Gauge<u64, AtomicU64>,
    differs: Counters,
    noise: Counters,
    refused: Family<Vec<(&'static str, &'static str)>, Counter<u64, AtomicU64>>,
    routes: Mutex<BTreeMap<Arc<str>, Arc<RouteMetrics>>>,
    event_log: Arc<EventLog>,
    created_at: Instant,
}

/// All metrics for the documentation, with their labels and the label values that are known in advance.
pub const ALL: &[(&str, &[&str])] = &[
    ("streams{route,transport}", TRANSPORTS),
    ("resources{route}", &[]),
    ("cohorts{route}", &[]),
    ("fetches_total{route,result}", RESULTS),
    ("events_total{route,kind}", &KINDS),
    ("streams_ended_total{route,reason}", REASONS),
    ("polls_answered_total{route,how}", &WAYS),
    ("triggers_total{route,kind}", TRIGGERS),
    ("polls_replaced_total{route}", &[]),
    ("fetch_bytes_total{route}", &[]),
    ("change_to_write_seconds{route}", &[]),
    ("config_stale", &[]),
    ("upstream_away", &[]),
    ("upstream_path_away{path}", &[]),
    ("replicas_away", &[]),
    ("budget_stretched", &[]),
    ("history_bytes", &[]),
    ("audience_differs_total{route}", &[]),
    ("noise_total{route}", &[]),
    ("limits_hit_total{limit}", LIMITS),
    ("fetch_seconds{route}", &[]),
    ("requests_total{how,status}", &STATUSES),
    ("request_seconds{how}", &ANSWERED),
    ("config_read_timestamp_seconds", &[]),
    ("build_info{version}", &[]),
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
    "request_rate",
    "request_body",
    "upload_pace",
];

impl Metrics {
    /// Creates all metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sungrazer");
        let streams = Gauges::default();
        registry.register("streams", "Clients that are held", streams.clone());
        let resources = Gauges::default();
        registry.register("resources", "Watched resources", resources.clone());
        let cohorts = Gauges::default();
        registry.register("cohorts", "Cohorts of identities that are fetched in turn", cohorts.clone());
        let fetches = Counters::default();
        registry.register("fetches", "Fetches from the upstream", fetches.clone());
        let events = Counters::default();
        registry.register("events", "Events written to clients", events.clone());
        let endings = Counters::default();
        registry.register("streams_ended", "Clients that are held no more, by why", endings.clone());
        let polls = Counters::default();
        registry.register("polls_answered", "Plain requests for routes, by how they were answered", polls.clone());
        let triggers = Counters::default();
        registry.register("triggers", "Reasons for fetches", triggers.clone());
        let replaced = Counters::default();
        registry.register(
            "polls_replaced",
            "Polls that held clients would have made at their route's interval",
            replaced.clone(),
        );
        let look_bytes = Counters::default();
        registry.register("fetch_bytes", "Bytes of the bodies that fetches brought", look_bytes.clone());
        let delay = Family::default();
        registry.register(
            "change_to_write_seconds",
            "From the end of a fetch that found a change to its event on a socket",
            delay.clone(),
        );
        let config_stale = Gauge::default();
        registry.register(
            "config_stale",
            "1 while the configuration file cannot be used and an older one is in force",
            config_stale.clone(),
        );
        let upstream_away = Gauge::default();
        registry.register(
            "upstream_away",
            "1 while the upstream, or one of several, does not answer",
            upstream_away.clone(),
        );
        let upstreams_away = Family::default();
        registry.register(
            "upstream_path_away",
            "1 while the upstream for this path does not answer",
            upstreams_away.clone(),
        );
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
        let noise = Counters::default();
        registry.register("noise", "Fetches that found nothing new but what changes by itself", noise.clone());
        let refused = Family::<Vec<(&'static str, &'static str)>, Counter<u64, AtomicU64>>::default();
        // A counter that is created with its first increment does not appear to grow.
        for limit in LIMITS {
            drop(refused.get_or_create(&vec![("limit", *limit)]));
        }
        registry.register("limits_hit", "Requests that a limit turned away", refused.clone());
        let fetch_seconds = Family::default();
        registry.register("fetch_seconds", "How long fetches took, whatever came of them", fetch_seconds.clone());
        let counts = Family::<requests::Labels, Counter>::default();
        registry.register(
            "requests",
            "Requests that are over, by how they were answered and the class of the status",
            counts.clone(),
        );
        let durations = requests::Durations::default();
        registry.register("request_seconds", "How long requests took that were not held", durations.clone());
        let requests = Requests::new(&counts, &durations);
        let config_read_at = Gauge::default();
        registry.register(
            "config_read_timestamp_seconds",
            "When the configuration that is in force was read, in seconds since 1970",
            config_read_at.clone(),
        );
        let build = Family::<[(&'static str, &'static str); 1], Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "1, with the version that runs", build);
        let started = clock::wall();
        Self {
            registry,
            streams,
            resources,
            cohorts,
            fetches,
            events,
            endings,
            polls,
            triggers,
            replaced,
            fetch_bytes: look_bytes,
            delay,
            fetch_seconds,
            requests,
            config_read_at,
            started,
            config_stale,
            upstream_away,
            upstreams_away,
            replicas_away,
            budget_stretched,
            history_bytes,
            differs,
            noise,
            refused,
            routes: Mutex::default(),
            event_log: Arc::default(),
            created_at: clock::now(),
        }
    }

    /// Returns the metrics of the route with this pattern. All routes with the same pattern share them.
    pub fn route(&self, pattern: &Arc<str>) -> Arc<RouteMetrics> {
        let mut routes = self.in_use();
        let made = routes.entry(Arc::clone(pattern)).or_insert_with(|| {
            let all = Labels { route: Arc::clone(pattern), second: None };
            self.begin(&all);
            Arc::new(RouteMetrics {
                streams: self.streams.clone(),
                fetches: self.fetches.clone(),
                events: Series::new(&self.events, pattern, "kind", KINDS),
                endings: self.endings.clone(),
                polls: Series::new(&self.polls, pattern, "how", WAYS),
                triggers: self.triggers.clone(),
                differs: self.differs.clone(),
                noise: self.noise.clone(),
                resources: self.resources.get_or_create(&all).clone(),
                cohorts: self.cohorts.get_or_create(&all).clone(),
                delay: self.delay.get_or_create(&all).clone(),
                fetch_seconds: self.fetch_seconds.get_or_create(&all).clone(),
                rate: AtomicU64::new(rate(Duration::from_secs(1))),
                replaced: Arc::default(),
                replaced_shown: self.replaced.get_or_create(&all).clone(),
                fetch_bytes: self.fetch_bytes.get_or_create(&all).clone(),
                tail: Arc::clone(&self.event_log),
                failing: Failing::default(),
                created_at: self.created_at,
                all,
            })
        });
        Arc::clone(made)
    }

    /// Returns the metrics of routes that are still in use. Others are removed: a route that was removed by a reload
    /// disappears once its last stream has ended.
    fn in_use(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<RouteMetrics>>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, route| {
            // No other code can obtain a reference meanwhile.
            let is_in_use = Arc::strong_count(route) > 1;
            if !is_in_use {
                self.forget(route);
            }
            is_in_use
        });
        routes
    }

    /// Creates all counters of a route at zero: a counter that is created with its first increment does not appear to
    /// grow.
    fn begin(&self, all: &Labels) {
        let with = |name, value| Labels { route: Arc::clone(&all.route), second: Some((name, value)) };
        drop(self.differs.get_or_create(all));
        drop(self.noise.get_or_create(all));
        for transport in TRANSPORTS {
            drop(self.streams.get_or_create(&with("transport", transport)));
        }
        for (family, label, values) in self.by_label() {
            for value in values {
                drop(family.get_or_create(&with(label, value)));
            }
        }
    }

    /// Returns the counters with one more label, and the possible values of that label.
    fn by_label(&self) -> [(&Counters, &'static str, &'static [&'static str]); 5] {
        [
            (&self.fetches, "result", RESULTS),
            (&self.events, "kind", &KINDS),
            (&self.endings, "reason", REASONS),
            (&self.polls, "how", &WAYS),
            (&self.triggers, "kind", TRIGGERS),
        ]
    }

    fn forget(&self, route: &RouteMetrics) {
        self.resources.remove(&route.all);
        self.cohorts.remove(&route.all);
        self.delay.remove(&route.all);
        self.fetch_seconds.remove(&route.all);
        for family in [&self.replaced, &self.fetch_bytes, &self.differs, &self.noise] {
            family.remove(&route.all);
        }
        for transport in TRANSPORTS {
            self.streams.remove(&route.with("transport", transport));
        }
        for (family, label, values) in self.by_label() {
            for value in values {
                family.remove(&route.with(label, value));
            }
        }
    }

    /// Records whether an old configuration is in force because the file is invalid.
    pub fn set_config_stale(&self, stale: bool) {
        self.config_stale.set(stale.into());
    }

    /// Records that the configuration in force was read now.
    pub fn config_read(&self) {
        self.config_read_at.set(process::since_1970(clock::wall()).unwrap_or_default());
    }

    /// Counts a finished request that was answered by `how`, or has no status because its client left before.
    pub(super) fn request(&self, how: &str, status: Option<u16>, took: Duration) {
        self.requests.count(how, status, took);
    }

    /// Records whether the limits on fetches stretch the routes' intervals.
    pub fn set_budget_stretched(&self, stretched: bool) {
        self.budget_stretched.set(stretched.into());
    }

    /// Records for each upstream its path, which is empty for the general one, whether it does not answer, and the
    /// number of its unavailable replicas.
    pub fn set_upstreams<'a>(&self, upstreams: impl Iterator<Item = (&'a str, bool, usize)>) {
        // A reload may have removed some.
        self.upstreams_away.clear();
        let (mut any, mut replicas) = (false, 0);
        for (path, away, unavailable) in upstreams {
            any |= away;
            replicas += unavailable;
            if !path.is_empty() {
                self.upstreams_away.get_or_create(&vec![("path", path.to_owned())]).set(away.into());
            }
        }
        self.upstream_away.set(any.into());
        self.replicas_away.set(i64::try_from(replicas).unwrap_or(i64::MAX));
    }

    /// Records the memory used by all histories.
    pub fn set_history_bytes(&self, bytes: u64) {
        self.history_bytes.set(bytes);
    }

    /// Counts a request that was rejected because of a limit.
    pub fn limit_hit(&self, limit: &'static str) {
        self.refused.get_or_create(&vec![("limit", limit)]).inc();
    }

    /// Returns the last events, newest first.
    pub fn event_log(&self) -> Vec<Event> {
        self.event_log.read()
    }

    /// Returns the upper bounds of the buckets of [`RouteStats::delays`](super::RouteStats::delays) in seconds; the
    /// last bucket has none.
    pub fn delay_bounds() -> Vec<f64> {
        latency::bounds().collect()
    }

    /// Returns all metrics as OpenMetrics text; [`plain`](super::plain_metrics) converts it to the older format.
    pub fn render(&self) -> String {
        for route in self.in_use().values() {
            route.show_replaced();
        }
        let mut text = String::new();
        // Writing to a string cannot fail; a partial page would be better than none.
        let _ = encode(&mut text, &self.registry);
        // The process metrics have names without the prefix, and go before the end marker.
        text.truncate(text.strip_suffix(END).map_or(text.len(), str::len));
        text + &process::text(self.started) + END
    }
}

/// The end marker of OpenMetrics text.
const END: &str = "# EOF\n";

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
        // Labelled metrics exist only after they have been counted.
        drop(route.hold("sse"));
        route.fetched("changed");
        route.written("tick");
        route.ended("left");
        route.answered("held");
        route.triggered("timer");
        route.audience_mismatch();
        metrics.set_upstreams([("/a/**", true, 1)].into_iter());
        let text = plain(&metrics.render());
        let registered: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE sungrazer_")?.split(' ').next()).collect();
        let known: Vec<&str> = ALL.iter().filter_map(|(name, _)| name.split('{').next()).collect();
        assert_eq!(registered, known);
    }

    #[test]
    fn what_can_be_counted_is_there_before_it_is() {
        let metrics = Metrics::new();
        let _route = metrics.route(&"/a".into());
        let text = metrics.render();
        for (name, values) in ALL {
            let name = name.split('{').next().unwrap_or_default();
            for value in *values {
                let is_there = |line: &str| {
                    line.starts_with(&format!("sungrazer_{name}")) && line.contains(&format!("=\"{value}\""))
                };
                assert!(text.lines().any(is_there), "{name} {value}: {text}");
            }
        }
        assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
        assert!(
            text.contains(concat!("sungrazer_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")),
            "{text}"
        );
    }

    #[test]
    fn requests_are_counted_by_class_and_timed_unless_they_are_held() {
        let metrics = Metrics::new();
        for (how, status) in [
            ("proxied", Some(200)),
            ("proxied", Some(502)),
            ("memory", Some(304)),
            ("sse", Some(200)),
            ("own", None),
            ("proxied", Some(999)),
        ] {
            metrics.request(how, status, Duration::from_millis(3));
        }
        let text = metrics.render();
        for line in [
            "requests_total{how=\"proxied\",status=\"2xx\"} 1",
            "requests_total{how=\"proxied\",status=\"5xx\"} 2",
            "requests_total{how=\"memory\",status=\"3xx\"} 1",
            "requests_total{how=\"sse\",status=\"2xx\"} 1",
            "requests_total{how=\"own\",status=\"none\"} 1",
            "request_seconds_count{how=\"proxied\"} 3",
        ] {
            assert!(text.lines().any(|one| one == format!("sungrazer_{line}")), "{line}: {text}");
        }
        assert!(!text.contains("request_seconds_count{how=\"sse\"}"), "{text}");
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
        route.audience_mismatch();
        assert!(metrics.render().contains("/a"));
        drop(route);
        assert!(!metrics.render().contains("/a"), "{}", metrics.render());
    }
}
