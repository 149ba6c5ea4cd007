//! The metrics of one route, resolved once, so that counting costs one atomic addition.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::avoided_polls::{AvoidedPolls, rate};
use super::event_log::{Event, EventLog};
use super::failing::Failing;
use super::latency::LatencyHistogram;
use crate::clock;

/// A route, and one more label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) route: Arc<str>,
    pub(super) second: Option<(&'static str, &'static str)>,
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

pub(super) type Counters = Family<Labels, Counter>;
pub(super) type Gauges = Family<Labels, Gauge>;

pub(super) const TRANSPORTS: &[&str] =
    &["sse", "ndjson", "json-seq", "multipart", "stream", "websocket", "iframe", "long-poll", "poll"];
pub(super) const RESULTS: &[&str] = &["changed", "unchanged", "not_modified", "error", "overtaken", "ended"];
pub(super) const TRIGGERS: &[&str] = &["timer", "cohort", "demand", "write", "file", "hook", "sample"];
pub(super) const WAYS: [&str; 3] = ["memory", "held", "proxied"];
pub(super) const KINDS: [&str; 7] = ["snapshot", "patch", "stale", "live", "tick", "down", "end"];
pub(super) const REASONS: &[&str] = &["drain", "auth", "max-age", "gone", "reload", "overload", "left", "slow"];

/// The metrics of one route.
pub struct RouteMetrics {
    pub(super) all: Labels,
    pub(super) streams: Gauges,
    pub(super) fetches: Counters,
    pub(super) events: Series<7>,
    pub(super) endings: Counters,
    pub(super) polls: Series<3>,
    pub(super) triggers: Counters,
    pub(super) resources: Gauge,
    pub(super) cohorts: Gauge,
    pub(super) delay: LatencyHistogram,
    pub(super) fetch_seconds: LatencyHistogram,
    pub(super) differs: Counters,
    pub(super) noise: Counters,
    /// The poll rate of this route's clients, in millionths of a poll per second.
    pub(super) rate: AtomicU64,
    pub(super) replaced: Arc<AvoidedPolls>,
    pub(super) replaced_shown: Counter,
    pub(super) fetch_bytes: Counter,
    pub(super) tail: Arc<EventLog>,
    pub(super) failing: Failing,
    pub(super) created_at: Instant,
}

/// The counters of a route that differ in one label. Resolved once, because events are counted without a lookup.
pub(super) struct Series<const N: usize> {
    family: Counters,
    route: Arc<str>,
    label: &'static str,
    values: [&'static str; N],
    counters: [OnceLock<Counter>; N],
}

impl<const N: usize> Series<N> {
    pub(super) fn new(family: &Counters, route: &Arc<str>, label: &'static str, values: [&'static str; N]) -> Self {
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

/// A snapshot of a route's metrics. Counters only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStats {
    /// Held clients, by transport.
    pub streams: Vec<(&'static str, u64)>,
    /// Watched resources.
    pub resources: u64,
    /// Fetches, by result.
    pub fetches: Vec<(&'static str, u64)>,
    /// Bytes of fetched bodies.
    pub fetch_bytes: u64,
    /// Fetches, by trigger.
    pub triggers: Vec<(&'static str, u64)>,
    /// Plain requests, by the source of their response.
    pub polls: Vec<(&'static str, u64)>,
    /// Events written, by kind.
    pub events: Vec<(&'static str, u64)>,
    /// Polls that held clients did not make.
    pub replaced: u64,
    /// Changes by the delay until they were written, per bucket.
    pub delays: Vec<u64>,
}

impl RouteMetrics {
    /// Returns the labels of this route with one more label.
    pub(super) fn with(&self, name: &'static str, value: &'static str) -> Labels {
        Labels { route: Arc::clone(&self.all.route), second: Some((name, value)) }
    }

    /// Counts that clients with credentials received a different response than clients without, on a route that shares
    /// responses.
    pub fn audience_mismatch(&self) {
        self.differs.get_or_create(&self.all).inc();
    }

    /// Counts a client held by `transport` until the returned guard is dropped.
    pub fn hold(&self, transport: &'static str) -> HeldGuard {
        let gauge = self.streams.get_or_create(&self.with("transport", transport)).clone();
        gauge.inc();
        let rate = self.rate.load(Ordering::Relaxed);
        self.replaced.begin(rate, self.age());
        HeldGuard { gauge, rate, replaced: Arc::clone(&self.replaced), created_at: self.created_at }
    }

    /// Sets the interval at which clients of this route poll when they are not held.
    pub fn set_interval(&self, every: Duration) {
        self.rate.store(rate(every), Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.created_at)
    }

    /// Updates the Prometheus counter to the current number of avoided polls.
    pub(super) fn show_replaced(&self) {
        let total = self.replaced.total(self.age());
        self.replaced_shown.inc_by(total.saturating_sub(self.replaced_shown.get()));
    }

    /// Counts the bytes of a fetched body.
    pub fn fetched_at(&self, bytes: usize) {
        self.fetch_bytes.inc_by(bytes as u64);
    }

    /// Returns the tracker of failing resources.
    pub fn failing(&self) -> &Failing {
        &self.failing
    }

    /// Adds an event to the event log.
    pub fn emit(&self, happening: Event) {
        self.tail.push(happening);
    }

    /// Returns the current values.
    pub fn stats(&self) -> RouteStats {
        let count = |family: &Counters, label: &'static str, values: &'static [&'static str]| {
            let known = |value: &&'static str| {
                family
                    .get(&self.with(label, value))
                    .map(|counter| (*value, counter.get()))
                    .filter(|(_, count)| *count > 0)
            };
            values.iter().filter_map(known).collect()
        };
        let held = |transport: &&'static str| {
            let held = self.streams.get(&self.with("transport", transport))?.get();
            u64::try_from(held).ok().filter(|held| *held > 0).map(|held| (*transport, held))
        };
        RouteStats {
            streams: TRANSPORTS.iter().filter_map(held).collect(),
            resources: u64::try_from(self.resources.get()).unwrap_or(0),
            fetches: count(&self.fetches, "result", RESULTS),
            fetch_bytes: self.fetch_bytes.get(),
            triggers: count(&self.triggers, "kind", TRIGGERS),
            polls: count(&self.polls.family, "how", &WAYS),
            events: count(&self.events.family, "kind", &KINDS),
            replaced: self.replaced.total(self.age()),
            delays: self.delay.counts(),
        }
    }

    /// Returns the gauge of watched resources.
    pub fn resources(&self) -> &Gauge {
        &self.resources
    }

    /// Counts a finished fetch.
    pub fn fetched(&self, result: &'static str) {
        self.fetches.get_or_create(&self.with("result", result)).inc();
    }

    /// Counts a cohort that begins or ends.
    pub fn cohorts(&self, begins: bool) {
        self.cohorts.inc_by(if begins { 1 } else { -1 });
    }

    /// A fetch found nothing but noise.
    pub fn noise(&self) {
        self.noise.get_or_create(&self.all).inc();
    }

    /// Records the duration of a fetch.
    pub fn fetch_took(&self, time: Duration) {
        self.fetch_seconds.observe(time);
    }

    /// Counts a fetch by its trigger.
    pub fn triggered(&self, kind: &'static str) {
        self.triggers.get_or_create(&self.with("kind", kind)).inc();
    }

    /// Counts an answered plain request.
    pub fn answered(&self, how: &'static str) {
        self.polls.count(how);
    }

    /// Counts a written event.
    pub fn written(&self, kind: &'static str) {
        self.events.count(kind);
    }

    /// Counts the end of a subscription by its reason.
    pub fn ended(&self, reason: &'static str) {
        self.endings.get_or_create(&self.with("reason", reason)).inc();
    }

    /// Records the delay between the fetch that found a change and the write of that change.
    pub fn delayed(&self, after: Duration) {
        self.delay.observe(after);
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteMetrics({})", self.all.route)
    }
}

/// One held client, counted until this is dropped.
#[derive(Debug)]
pub struct HeldGuard {
    gauge: Gauge,
    rate: u64,
    replaced: Arc<AvoidedPolls>,
    created_at: Instant,
}

impl Drop for HeldGuard {
    fn drop(&mut self) {
        self.gauge.dec();
        self.replaced.end(self.rate, clock::now().saturating_duration_since(self.created_at));
    }
}
