//! Cache purges as triggers: the invalidation requests that an application sends to caches also trigger fetches here.
//!
//! ```text
//! PURGE /a, BAN with a header ─▶ Purge ─▶ the resources it names: fenced, and fetched at once ─▶ 200 {"refreshed": n}
//! ```
//!
//! Applications send such requests for common Varnish and nginx configurations. A purge that matches too much only
//! costs fetches, so ambiguous requests are interpreted generously.

use std::collections::HashSet;
use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use regex::Regex;
use serde_json::json;
use tokio::time::Instant;

use crate::clock;
use crate::deliver::LocalResponse;
use crate::model::fields;
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::resource::{Resource, Trigger};
use crate::route::{Route, Table, Target};

/// The maximum size of a compiled expression.
const MAX_REGEX_BYTES: usize = 1 << 18;

/// Request headers that list groups.
const GROUP_LISTS: [&str; 9] = [
    "xkey",
    "xkey-purge",
    "xkey-softpurge",
    "surrogate-key",
    "cache-tag",
    "cache-tags",
    "x-cache-tags",
    "cache-groups",
    "cache-group-invalidation",
];

/// Request headers with a regular expression for path and query.
const URL_PATTERNS: [&str; 3] = ["x-ban-url", "x-url", "x-ban-regex"];

/// Request headers with a regular expression for a response header, and that header.
const HEADER_PATTERNS: [(&str, &str); 2] =
    [("x-magento-tags-pattern", "x-magento-tags"), ("x-content-type", "content-type")];

/// The prefix of request headers that contain a pattern for the response header named by the rest.
const HEADER_VALUE: &str = "varnish-ban-";

/// The resources that a purge matches.
#[derive(Debug)]
struct Purge {
    /// The target without a fragment, as sent.
    target: Option<String>,
    url: Option<Regex>,
    groups: HashSet<String>,
    /// Response headers and the expressions that they must match.
    headers: Vec<(HeaderName, Regex)>,
}

/// The reason why a purge cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not a regular expression that is supported here: {why}")]
struct BadPattern {
    what: String,
    why: String,
}

impl Purge {
    /// Parses `request`. For `BAN`, its own URL is a pattern, unless a header contains the pattern.
    fn of(request: &RequestView<'_>) -> Result<Self, BadPattern> {
        let headers = request.headers();
        let mut purge = Self { target: None, url: None, groups: HashSet::new(), headers: Vec::new() };
        for name in GROUP_LISTS.map(HeaderName::from_static) {
            for value in headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()) {
                purge.tags(&name, value)?;
            }
        }
        for name in URL_PATTERNS {
            if let Some(value) = text(headers, name) {
                purge.url = Some(pattern(name, value)?);
            }
        }
        for (name, of) in HEADER_PATTERNS {
            if let Some(value) = text(headers, name) {
                purge.headers.push((HeaderName::from_static(of), pattern(name, value)?));
            }
        }
        for (name, value) in headers {
            if let Some(of) = name.as_str().strip_prefix(HEADER_VALUE)
                && let (Ok(of), Ok(value)) = (of.parse(), value.to_str())
            {
                match name.as_str() {
                    "varnish-ban-all" => purge.url = Some(pattern(name.as_str(), "")?),
                    _ => purge.headers.push((of, pattern(name.as_str(), &format!("^{}$", regex::escape(value)))?)),
                }
            }
        }
        if purge.url.is_none() && purge.groups.is_empty() && purge.headers.is_empty() {
            let own = match request.target.query {
                Some(query) => format!("{}?{query}", request.target.path),
                None => request.target.path.to_owned(),
            };
            let is_pattern = text(headers, "x-purge-method").is_some_and(|method| method.eq_ignore_ascii_case("regex"))
                || request.head.method.as_str() == "BAN";
            match (is_pattern, own.strip_suffix('*')) {
                (true, _) => purge.url = Some(pattern("the URL", &format!("^{own}"))?),
                (false, Some(prefix)) => {
                    purge.url = Some(pattern("the URL", &format!("^{}", regex::escape(prefix)))?);
                }
                (false, None) => purge.target = Some(own),
            }
        }
        Ok(purge)
    }

    /// Adds groups: a list or, as some plug-ins send, an expression for the header in which responses list theirs.
    fn tags(&mut self, name: &HeaderName, value: &str) -> Result<(), BadPattern> {
        if value.contains(['(', '^', '$', '[', '\\']) {
            self.headers.push((name.clone(), pattern(name.as_str(), value)?));
        } else {
            let mut one = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(value) {
                one.insert(name, value);
            }
            self.groups.extend(fields::groups(&one, name));
        }
        Ok(())
    }

    /// Returns whether the purge matches `resource` of `route` other than by its exact URL.
    fn names(&self, resource: &Resource, route: Option<&Route>) -> bool {
        if self.url.as_ref().is_some_and(|url| url.is_match(&resource.key().target)) {
            return true;
        }
        let head = resource.state();
        let Some(newest) = head.newest() else { return false };
        let headers = &newest.representation.headers;
        let listed = route.is_some_and(|route| {
            route
                .groups
                .iter()
                .any(|name| fields::groups(headers, name).iter().any(|group| self.groups.contains(group)))
        });
        listed
            || self.headers.iter().any(|(name, pattern)| {
                // An expression for groups applies to all headers that list groups.
                let others =
                    route.filter(|_| GROUP_LISTS.contains(&name.as_str())).map_or(&[][..], |route| &*route.groups);
                let values = std::iter::once(name).chain(others).flat_map(|name| headers.get_all(name));
                values.filter_map(|value| value.to_str().ok()).any(|value| pattern.is_match(value))
            })
    }
}

impl Gateway {
    /// Answers a purge from an address that may send one. All other purges go to the application.
    pub(in crate::proxy) fn purge(&self, request: &RequestView<'_>) -> Option<LocalResponse> {
        if !["PURGE", "BAN"].contains(&request.head.method.as_str()) || !self.may_purge(request.client.address) {
            return None;
        }
        let purge = match Purge::of(request) {
            Ok(purge) => purge,
            Err(error) => {
                return Some(LocalResponse::text(StatusCode::BAD_REQUEST, &format!("Nothing was refreshed: {error}.")));
            }
        };
        let now = clock::now();
        let routes = self.routes.load();
        let refreshed = match &purge.target {
            Some(target) => self.refresh_target(&routes, target, now),
            None => self.refresh_where(now, |resource| {
                purge
                    .names(resource, routes.iter().find(|route| route.id == resource.key().route).map(|route| &**route))
            }),
        };
        Some(LocalResponse::json(StatusCode::OK, &json!({ "refreshed": refreshed })))
    }

    fn may_purge(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        address.is_some_and(|address| self.options().purge_from.iter().any(|network| network.contains(&address)))
    }

    /// Triggers the resources of a URL, and sends ticks to pages that must request it themselves. Returns the number of
    /// resources.
    pub fn refresh_target(&self, routes: &Table, target: &str, now: Instant) -> usize {
        let path = target.split('?').next().unwrap_or_default();
        for route in routes.iter().filter(|known| !known.fetch && known.pattern.matches(path)) {
            route.events.publish(Trigger::Hook, now);
        }
        let canonical = Target::parse(target)
            .and_then(|parsed| routes.find_path(parsed.path).map(|route| route.canonical(parsed)))
            .unwrap_or_else(|| target.to_owned());
        let resources = self.hub.with_target(&canonical);
        resources.iter().for_each(|resource| refresh(resource, now));
        resources.len()
    }

    /// Triggers the resources of `group`. Returns their number.
    pub fn refresh_group(&self, group: &str, now: Instant) -> usize {
        let purge = Purge { target: None, url: None, groups: HashSet::from([group.to_owned()]), headers: Vec::new() };
        let routes = self.routes.load();
        self.refresh_where(now, |resource| {
            purge.names(resource, routes.iter().find(|route| route.id == resource.key().route).map(|route| &**route))
        })
    }

    fn refresh_where(&self, now: Instant, named: impl Fn(&Resource) -> bool) -> usize {
        let resources = self.hub.resources();
        resources.iter().filter(|resource| named(resource)).map(|resource| refresh(resource, now)).count()
    }
}

fn refresh(resource: &Resource, now: Instant) {
    resource.fence(now);
    resource.trigger(Trigger::Hook);
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn pattern(what: &str, text: &str) -> Result<Regex, BadPattern> {
    regex::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        BadPattern { what: what.to_owned(), why }
    })
}
