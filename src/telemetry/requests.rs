//! Counts requests by the source of their response, and measures their duration.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::latency::LatencyHistogram;
use super::route::TRANSPORTS;

/// The sources of responses to requests that are not held.
pub(super) const ANSWERED: [&str; 4] = ["proxied", "memory", "own", "request"];

/// Statuses by their first digit; `none` means that the client left before the response.
pub(super) const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) type Labels = [(&'static str, &'static str); 2];
pub(super) type Durations = Family<[(&'static str, &'static str); 1], LatencyHistogram>;

/// All counters, resolved once, so that each request costs one or two additions.
#[derive(Debug)]
pub(super) struct Requests {
    counts: Vec<(&'static str, [Counter; 6])>,
    durations: Vec<(&'static str, LatencyHistogram)>,
}

impl Requests {
    /// Creates the counters in these families, all of which exist from the start.
    pub(super) fn new(counts: &Family<Labels, Counter>, durations: &Durations) -> Self {
        let hows = ANSWERED.iter().chain(&["tunnel"]).chain(TRANSPORTS);
        let of = |how: &'static str| {
            STATUSES.map(|status| counts.get_or_create(&[("how", how), ("status", status)]).clone())
        };
        let timed = ANSWERED.iter().map(|how| (*how, durations.get_or_create(&[("how", *how)]).clone()));
        Self { counts: hows.map(|how| (*how, of(how))).collect(), durations: timed.collect() }
    }

    /// Counts a finished request.
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
