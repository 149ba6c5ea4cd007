//! Requests by how they were answered, and how long that took.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::latency::LatencyHistogram;
use super::route::TRANSPORTS;

/// How requests are answered that nobody is held by.
pub(super) const ANSWERED: [&str; 4] = ["proxied", "memory", "own", "request"];

/// Statuses by their first digit; `none`: the client left before there was one.
pub(super) const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) type Labels = [(&'static str, &'static str); 2];
pub(super) type Durations = Family<[(&'static str, &'static str); 1], LatencyHistogram>;

/// All of them, resolved once: each request counts with one or two additions.
#[derive(Debug)]
pub(super) struct Requests {
    counts: Vec<(&'static str, [Counter; 6])>,
    durations: Vec<(&'static str, LatencyHistogram)>,
}

impl Requests {
    /// Counts into these families, in which all is there from the start.
    pub(super) fn new(counts: &Family<Labels, Counter>, durations: &Durations) -> Self {
        let hows = ANSWERED.iter().chain(&["tunnel"]).chain(TRANSPORTS);
        let of = |how: &'static str| {
            STATUSES.map(|status| counts.get_or_create(&[("how", how), ("status", status)]).clone())
        };
        let timed = ANSWERED.iter().map(|how| (*how, durations.get_or_create(&[("how", *how)]).clone()));
        Self { counts: hows.map(|how| (*how, of(how))).collect(), durations: timed.collect() }
    }

    /// One is over.
    pub(super) fn count(&self, how: &str, status: Option<u16>, took: Duration) {
        let class = usize::from(status.map_or(0, |status| status / 100)).min(5);
        if let Some((_, counters)) = self.counts.iter().find(|(known, _)| *known == how) {
            counters[class].inc();
        }
        if let Some((_, delays)) = self.durations.iter().find(|(known, _)| *known == how) {
            delays.observe(took);
        }
    }
}
