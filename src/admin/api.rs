//! The responses of the admin listener.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::auth::{Token, is_allowed};
use super::guard::cross_site_rejection;
use super::{Reload, Reloaded, dashboard, state_push};
use crate::clock;
use crate::model::fields;
use crate::observe::configuration;
use crate::probe::NoisePart;
use crate::proxy::{Gateway, PassiveObserver};
use crate::resource::{Resource, ResourceStatus, Trigger};
use crate::route::{Table, Target, Unsteady};
use crate::shim::PolicyHit;
use crate::telemetry::plain_metrics;

/// The admin API.
pub struct Api {
    /// The gateway of the public listener.
    pub gateway: Arc<Gateway>,
    /// Reloads the configuration.
    pub reload: Arc<dyn Reload>,
    /// The token that operators must present.
    pub token: Arc<Token>,
    /// When the process began to serve.
    pub started: SystemTime,
}

type Answer = Response<Full<Bytes>>;

impl Api {
    /// Answers one request.
    pub async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        let target = Target { path, query: request.uri().query() };
        match path {
            "/healthz" => return text(StatusCode::OK, "ok"),
            "/readyz" => {
                return match self.gateway.stopping.is_cancelled() {
                    false => text(StatusCode::OK, "ready"),
                    true => text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
                };
            }
            _ => {}
        }
        let method = request.method();
        let reads = method == Method::GET || method == Method::HEAD;
        let token = self.token.now();
        if token.is_none()
            && let Some(objection) =
                cross_site_rejection(method, request.uri().authority().map(Authority::as_str), request.headers())
        {
            return text(StatusCode::FORBIDDEN, objection);
        }
        // The dashboard page contains no data; it asks for the token itself.
        if let Some(page) = dashboard::serve(path).filter(|_| reads) {
            return page;
        }
        if !is_allowed(token.as_ref(), request.headers()) {
            let mut answer = text(StatusCode::UNAUTHORIZED, "Send the admin token as \"Authorization: Bearer …\".");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sungrazer\""));
            return answer;
        }
        match path {
            "/metrics" if reads => {
                self.gateway.metrics.set_budget_stretched(self.gateway.is_stretched());
                self.gateway.metrics.set_history_bytes(self.gateway.hub.memory_budget().used());
                let applications = self.gateway.upstream.load();
                self.gateway.metrics.set_upstreams(applications.values().map(|application| {
                    let away = application.iter().filter(|replica| !replica.is_available()).count();
                    (&**application.name(), application.all_down(), away)
                }));
                metrics(request.headers(), self.gateway.metrics.render())
            }
            state_push::PATH if reads => json_answer(StatusCode::OK, &self.state()),
            "/api/resources" if reads => json_answer(StatusCode::OK, &self.resources()),
            "/api/why" if reads => match target.parameter("url") {
                Some(url) => self.why(&url),
                None => text(StatusCode::BAD_REQUEST, "Which resource? Ask /api/why?url=/path"),
            },
            "/api/observed" if reads => match &self.gateway.passive {
                Some(passive) => json_answer(StatusCode::OK, &observed(passive, &self.gateway)),
                None => text(
                    StatusCode::NOT_FOUND,
                    "Nothing is observed: start with sungrazer observe, or with mode = \"observe\" under [server].",
                ),
            },
            "/api/refresh" if method == Method::POST => self.refresh(target),
            "/api/reload" if method == Method::POST => self.reload().await,
            "/api/refresh" | "/api/reload" => not_allowed("POST"),
            "/" | "/metrics" | state_push::PATH | "/api/observed" | "/api/resources" | "/api/why" => {
                not_allowed("GET, HEAD")
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "There is /, /healthz, /readyz, /metrics, /api/state, /api/observed, /api/resources, /api/why, /api/refresh and /api/reload.",
            ),
        }
    }

    fn resources(&self) -> Value {
        let routes = self.gateway.routes.load();
        let mut resources = self.gateway.hub.resources();
        resources.sort_by(|a, b| (&a.key().target, a.handle()).cmp(&(&b.key().target, b.handle())));
        let resources: Vec<Value> = resources.iter().map(|resource| self.describe(resource, &routes)).collect();
        json!({
            "streams": self.gateway.streams.len(),
            "config": self.config(),
            "shim": { "pages": self.gateway.shim.injections.pages(), "obstacles": self.obstacles(None) },
            "resources": resources,
        })
    }

    /// Returns the obstacles to the browser script, on all pages or on one.
    fn obstacles(&self, page: Option<&str>) -> Vec<Value> {
        let sightings = self.gateway.shim.injections.sightings();
        let on_page = |sighting: &PolicyHit| page.is_none_or(|page| sighting.page == page);
        sightings
            .into_iter()
            .filter(on_page)
            .map(|sighting| {
                json!({
                    "page": sighting.page,
                    "directive": sighting.obstacle.directive,
                    "effect": sighting.obstacle.effect.as_str(),
                    "times": sighting.times,
                    "last": time(sighting.last),
                })
            })
            .collect()
    }

    fn why(&self, url: &str) -> Answer {
        let resources: Vec<Value> = self
            .gateway
            .hub
            .resources()
            .iter()
            .filter(|resource| &*resource.key().target == url)
            .map(|resource| {
                let fetches: Vec<Value> = resource
                    .fetch_log()
                    .iter()
                    .rev()
                    .map(|entry| {
                        json!({
                            "at": time(entry.at),
                            "took_ms": entry.took.as_secs_f64() * 1000.0,
                            "trigger": entry.trigger.as_str(),
                            "status": entry.status,
                            "bytes": entry.bytes,
                            "result": entry.result,
                            "because": entry.reason,
                        })
                    })
                    .collect();
                json!({
                    "resource": resource.handle(),
                    "url": &*resource.key().target,
                    "method": resource.key().method().as_str(),
                    "asks": resource.key().body.as_ref().map(|body| &*body.name),
                    "advice": resource.state().advice.as_deref(),
                    "noise": noise(resource),
                    "looks": fetches,
                })
            })
            .collect();
        let learned = self.learned(url);
        let obstacles = self.obstacles(url.split('?').next());
        if resources.is_empty() && learned.is_none() && obstacles.is_empty() {
            return text(StatusCode::NOT_FOUND, &format!("Nothing is watched at {url}. /api/resources lists what is."));
        }
        json_answer(StatusCode::OK, &json!({ "resources": resources, "learned": learned, "obstacles": obstacles }))
    }

    /// Returns the learned facts about the path of `url`, if there are any.
    fn learned(&self, url: &str) -> Option<Value> {
        let path = url.split('?').next().unwrap_or_default();
        let routes = self.gateway.routes.load();
        let route = routes.find(&Method::GET, path).or_else(|| routes.learning_route(path))?;
        let canonical = Target::parse(url).map(|target| route.canonical(target));
        let facts = route.knowledge.told(path, canonical.as_deref().unwrap_or(url), clock::now());
        let unsteady = route.unsteady.found();
        let learned = json!({
            "headers_that_never_repeat": unsteady.iter().map(|(name, url)| json!({
                "header": name, "url": &**url, "advice": Unsteady::advice(name),
            })).collect::<Vec<_>>(),
            "private": facts.private,
            "varies_by": facts.vary,
            "differs_with_credentials": facts.differs,
            "unwatchable": facts.unwatchable.as_ref().map(ToString::to_string),
            "streams_itself": facts.own_stream.get().copied().unwrap_or(false),
        });
        let is_nothing = facts.private.is_none()
            && facts.vary.is_empty()
            && unsteady.is_empty()
            && !facts.differs
            && facts.unwatchable.is_none()
            && facts.own_stream.get() != Some(&true);
        (!is_nothing).then_some(learned)
    }

    pub(super) fn describe(&self, resource: &Resource, routes: &Table) -> Value {
        let head = resource.state();
        let route =
            routes.iter().find(|route| route.id == resource.key().route).map(|route| route.pattern.as_str().to_owned());
        let subscribers: serde_json::Map<String, Value> = resource
            .subscribers()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect();
        let (state, since) = match &head.status {
            ResourceStatus::Unknown => ("unknown", None),
            ResourceStatus::Live => ("live", None),
            ResourceStatus::Stale { since, .. } => ("stale", Some(time(*since))),
            ResourceStatus::Ended(_) => ("ended", None),
        };
        let last = resource.fetch_log().last().map(|entry| time(entry.at));
        let changed = head.history.at(head.meaning_position).or(head.newest()).map(|snapshot| time(snapshot.at));
        let application = self.gateway.application(resource.key().path());
        let mut described = json!({
            "resource": resource.handle(),
            "url": &*resource.key().target,
            "method": resource.key().method().as_str(),
            "asks": resource.key().body.as_ref().map(|body| &*body.name),
            "host": &*resource.key().origin.public,
            "route": route,
            "version": head.newest().map(|newest| newest.version.to_string()),
            "state": state,
            "stale_since": since,
            "subscribers": subscribers,
            "noise": head.noise.len(),
            "interval_ms": u64::try_from(resource.interval().as_millis()).unwrap_or(u64::MAX),
            "last_fetch": last,
            "last_change": changed,
            "polls": self.polls(resource),
            "history": { "versions": head.history.len(), "bytes": head.history.weight() },
        });
        if !application.name().is_empty() {
            described["upstream"] = application.name().as_ref().into();
        }
        described
    }

    /// Returns the observed behaviour of plain polling clients.
    fn polls(&self, resource: &Resource) -> Value {
        let learned = self.gateway.habits.learned(self.gateway.hub.hash(resource.key()));
        json!({
            "clients": learned.clients,
            "overlapping": learned.overlapping,
            "held_at_most_ms": learned.patience.map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    async fn reload(&self) -> Answer {
        match self.reload.reload().await {
            Reloaded::Applied { kept, added, removed, needs_restart } => json_answer(
                StatusCode::OK,
                &json!({ "kept": kept, "added": added, "removed": removed, "needs_restart": needs_restart }),
            ),
            Reloaded::Wrong(text) => self::text(StatusCode::UNPROCESSABLE_ENTITY, &text),
        }
    }

    /// Triggers the resources of a URL, a group, or a route. The response does not mention resources without clients.
    fn refresh(&self, target: Target<'_>) -> Answer {
        let [url, route, group] = ["url", "route", "group"].map(|name| target.parameter(name));
        if url.is_none() && route.is_none() && group.is_none() {
            return text(
                StatusCode::BAD_REQUEST,
                "Which resources? Post to /api/refresh?url=/path, /api/refresh?route=/pattern or /api/refresh?group=name",
            );
        }
        let now = clock::now();
        let routes = self.gateway.routes.load();
        let mut woken = url.map_or(0, |url| self.gateway.refresh_target(&routes, &url, now));
        woken += group.map_or(0, |group| self.gateway.refresh_group(&group, now));
        for route in routes.iter().filter(|known| route.as_deref() == Some(known.pattern.as_str())) {
            route.events.publish(Trigger::Hook, now);
            woken += self.gateway.hub.resources().iter().filter(|resource| resource.key().route == route.id).count();
        }
        json_answer(StatusCode::ACCEPTED, &json!({ "woken": woken }))
    }
}

/// Returns the observations so far, and the configuration for them.
fn observed(passive: &PassiveObserver, gateway: &Gateway) -> Value {
    let report = passive.report(clock::now());
    let applications = gateway.upstream.load();
    let upstream = applications.general().iter().next().map(|replica| replica.options().address.to_string());
    let mut value = json!(report);
    value["configuration"] = configuration(&report, upstream.as_deref()).into();
    value
}

/// Returns the metrics in the format that the client prefers: the older one unless it asks for the newer.
fn metrics(headers: &HeaderMap, open_metrics: String) -> Answer {
    let wanted = fields::list(headers, &ACCEPT).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_named && quality.is_none_or(|quality| quality > 0.0)
    });
    let mut answer = match wanted {
        true => {
            trusted_types(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics)
        }
        false => {
            trusted_types(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", plain_metrics(&open_metrics))
        }
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    answer
}

/// Returns the learned noise of a resource.
fn noise(resource: &Resource) -> Vec<Value> {
    let part = |part: &NoisePart| json!({ "kind": part.rule.key(), "rule": part.rule.text(), "because": part.why });
    resource.state().noise.iter().map(part).collect()
}

pub(super) fn time(when: SystemTime) -> String {
    humantime::format_rfc3339_millis(when).to_string()
}

pub(super) fn text(status: StatusCode, text: &str) -> Answer {
    trusted_types(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    trusted_types(status, "application/json", format!("{value:#}\n"))
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("Allowed here: {allowed}."));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn trusted_types(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The response may contain texts from clients, such as URLs, so a browser must not render it as a page.
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
