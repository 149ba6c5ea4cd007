//! The state for the dashboard, as one JSON document.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::api::{Api, time};
use crate::poll::LimiterStats;
use crate::resource::{Resource, ResourceStatus};
use crate::route::{Route, Table};
use crate::telemetry::{Event, Metrics, RouteStats};
use crate::upstream::{Application, Upstream};

/// The maximum number of resources that are listed; the others are only counted.
const MAX_RESOURCES: usize = 100;

impl Api {
    /// Returns the current state. No part of it depends on the time of day alone, so it changes only when something
    /// happens.
    pub(super) fn state(&self) -> Value {
        let routes = self.gateway.routes.load();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started": time(self.started),
            "state": if self.gateway.stopping.is_cancelled() { "stopping" } else { "ready" },
            "upstream": self.upstream(),
            "config": self.config(),
            "streams": { "held": self.gateway.streams.len(), "most": self.gateway.streams.options().max_streams },
            "budget": self.budget(),
            "delay_bounds": Metrics::delay_bounds(),
            "observed": self.gateway.passive.as_ref().map(|passive| json!({ "requests": passive.observer.requests() })),
            "routes": self.routes(&routes),
            "watched": self.gateway.hub.len(),
            "resources": self.shown(&routes),
            "happenings": self.gateway.metrics.event_log().iter().map(happening).collect::<Vec<_>>(),
        })
    }

    fn upstream(&self) -> Vec<Value> {
        let describe = |application: &Application, replica: &Arc<Upstream>| {
            let mut described = json!({
                "url": replica.options().address.to_string(),
                "away": !replica.is_available(),
                "because": replica.health().reason(),
            });
            if !application.name().is_empty() {
                described["path"] = application.name().as_ref().into();
            }
            described
        };
        let applications = self.gateway.upstream.load();
        let replicas =
            applications.values().flat_map(|known| known.iter().map(move |replica| describe(known, replica)));
        replicas.collect()
    }

    pub(super) fn config(&self) -> Value {
        let standing = self.reload.status();
        json!({
            "file": standing.file.map(|file| file.display().to_string()),
            "read_at": time(standing.read_at),
            "wrong": standing.wrong,
            "needs_restart": standing.needs_restart,
        })
    }

    fn budget(&self) -> Value {
        let applications = self.gateway.upstream.load();
        let spending: Vec<_> = applications.values().map(|application| application.limiter().stats()).collect();
        let sum = |part: fn(&LimiterStats) -> usize| spending.iter().map(part).sum::<usize>();
        json!({
            "running": sum(|stats| stats.running),
            "waiting": sum(|stats| stats.waiting),
            "last_second": sum(|stats| stats.last_second),
            "max_fetches": sum(|stats| stats.options.max_fetches),
            "max_fetch_rate": sum(|stats| stats.options.max_fetch_rate),
            "stretched": self.gateway.is_stretched(),
        })
    }

    /// Returns the routes. Routes with the same pattern share metrics, so they appear once.
    fn routes(&self, routes: &Table) -> Vec<Value> {
        let mut seen = HashSet::new();
        routes.iter().filter(|route| seen.insert(route.pattern.as_str())).map(|route| describe_route(route)).collect()
    }

    /// Returns the most relevant resources: stale ones first, then those with the most clients.
    fn shown(&self, routes: &Table) -> Vec<Value> {
        let mut resources: Vec<_> = self
            .gateway
            .hub
            .resources()
            .into_iter()
            .map(|resource| {
                let stale = matches!(resource.state().status, ResourceStatus::Stale { .. });
                ((!stale, std::cmp::Reverse(resource.held())), resource)
            })
            .collect();
        resources.sort_by(|(a, left), (b, right)| {
            a.cmp(b).then_with(|| (&left.key().target, left.handle()).cmp(&(&right.key().target, right.handle())))
        });
        resources.truncate(MAX_RESOURCES);
        resources.iter().map(|(_, resource)| self.show(resource, routes)).collect()
    }

    fn show(&self, resource: &Resource, routes: &Table) -> Value {
        let mut shown = self.describe(resource, routes);
        if let (Some(fields), Some(last)) = (shown.as_object_mut(), resource.last_fetch()) {
            // The time of an unchanged fetch must not change the state.
            fields.remove("last_fetch");
            let failed = last.result == "error";
            fields.insert("because".to_owned(), if failed { last.reason.into() } else { Value::Null });
            fields.insert("status".to_owned(), last.status.into());
            fields.insert("advice".to_owned(), resource.state().advice.as_deref().into());
        }
        shown
    }
}

fn describe_route(route: &Route) -> Value {
    let figures = route.metrics.stats();
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "route": route.pattern.as_str(),
        "every_ms": route.watch.schedule.effort.is_none().then(|| millis(route.watch.schedule.every)),
        "hold_ms": route.hold.map(millis),
        "fetch": route.fetch,
        "streams": object(&figures.streams),
        "resources": figures.resources,
        "looks": object(&figures.fetches),
        "look_bytes": figures.fetch_bytes,
        "triggers": object(&figures.triggers),
        "polls": object(&figures.polls),
        "events": object(&figures.events),
        "replaced": figures.replaced,
        "spared": spared(&figures),
        "delays": figures.delays,
    })
}

fn object(counts: &[(&'static str, u64)]) -> Map<String, Value> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect()
}

fn count(counts: &[(&'static str, u64)], wanted: &[&str]) -> u64 {
    counts.iter().filter(|(name, _)| wanted.contains(name)).map(|(_, count)| count).sum()
}

/// Returns the savings of the application: the requests that clients did not make, or that were answered from memory,
/// minus the fetches made for them. Each counts with the average body size of this route.
fn spared(figures: &RouteStats) -> Value {
    let fetches: u64 = figures.fetches.iter().map(|(_, count)| count).sum();
    let asked = figures.replaced + count(&figures.polls, &["memory", "held"]);
    let bodies = count(&figures.fetches, &["changed", "unchanged"]).max(1);
    let mean = figures.fetch_bytes / bodies;
    json!({
        "requests": asked.saturating_sub(fetches),
        "bytes": asked.saturating_mul(mean).saturating_sub(figures.fetch_bytes),
    })
}

fn happening(happening: &Event) -> Value {
    json!({
        "number": happening.number,
        "at": time(happening.at),
        "route": &*happening.route,
        "resource": happening.resource,
        "url": &*happening.url,
        "what": happening.kind,
        "because": happening.reason,
        "trigger": happening.trigger,
        "status": happening.status,
        "bytes": happening.bytes,
        "took_ms": happening.took.as_secs_f64() * 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spared_is_what_was_not_asked() {
        let figures = RouteStats {
            fetches: vec![("changed", 2), ("unchanged", 8), ("not_modified", 5)],
            fetch_bytes: 1000,
            polls: vec![("memory", 10), ("proxied", 99)],
            replaced: 100,
            ..RouteStats::default()
        };
        assert_eq!(spared(&figures), json!({ "requests": 95, "bytes": 10_000 }));
        assert_eq!(spared(&RouteStats::default()), json!({ "requests": 0, "bytes": 0 }));
    }
}
