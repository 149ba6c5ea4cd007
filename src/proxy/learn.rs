//! What answers of the backend teach about who may share them.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use tracing::{info, warn};

use super::request::Request;
use super::site::Site;
use crate::clock;
use crate::model::{EndReason, Representation, ResourceKey, Validators, fields};
use crate::normalise::Meaning;
use crate::poll::{Fetch, Urgency, WatchRequest};
use crate::resource::{Condition, Decline, Ended, Outcome, Refusal, Resource, Seat};
use crate::route::{Facts, Route, Target};

/// Why a path is watched under each client's credentials though its answers bear no mark.
const REFUSED: Decline = Decline::Private { because: "refused without credentials" };

impl Site {
    /// Takes in why what was asked for at `path` could not be watched.
    pub(super) fn learn(&self, route: &Route, path: &str, decline: &Decline) {
        if !route.learned.note(path, decline, clock::now()) {
            return;
        }
        let route = route.pattern.as_str();
        match decline {
            Decline::Private { .. } => {
                warn!(route, path, "watched under each client's own credentials from now on: {decline}");
            }
            _ => info!(route, path, "{decline}"),
        }
    }

    /// Takes in how a watch ended for a client that asked with `headers`. Returns whether asking under another key may
    /// serve it.
    pub(super) fn heed(&self, route: &Route, path: &str, headers: &HeaderMap, ended: &Ended) -> bool {
        match ended {
            Ended::Declined(decline) => {
                self.learn(route, path, decline);
                decline.is_rekey()
            }
            Ended::Refused(refusal) => self.heed_refusal(route, path, headers, refusal),
            Ended::Closed(reason) => *reason == EndReason::Reload,
        }
    }

    /// Whether the look was refused for want of credentials that it left out and the client has. Then the route is wrong
    /// about its audience, and the path is no longer shared.
    pub(super) fn heed_refusal(&self, route: &Route, path: &str, headers: &HeaderMap, refusal: &Refusal) -> bool {
        let facts = route.learned.facts(path, clock::now());
        let wrong = refusal.asks_for_credentials() && route.withholds(headers, &facts);
        if wrong {
            self.learn(route, path, &REFUSED);
        }
        wrong
    }

    /// Finds out, now and then, whether `request` would be answered otherwise if its credentials were not left out. If so
    /// the route shares what it should not, or shows to somebody what is not his; operators are told.
    pub(super) fn sample(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &Request<'_>,
        facts: &Facts,
        key: &ResourceKey,
    ) {
        let path = request.target.path;
        if !route.withholds(request.headers(), facts) || !route.learned.samples(path, clock::now()) {
            return;
        }
        let own = route.own_key(&request.client, request.target, request.headers(), facts);
        let (site, route, key) = (Arc::clone(self), Arc::clone(route), key.clone());
        tokio::spawn(async move { site.compare(&route, &key, &own).await });
    }

    /// Looks without the credentials, with them, and without them again: what changes by itself is no difference.
    async fn compare(&self, route: &Route, key: &ResourceKey, own: &ResourceKey) {
        let before = self.look_once(route, key).await;
        let with = self.look_once(route, own).await;
        let after = self.look_once(route, key).await;
        let (Some(before), Some(with), Some(after)) = (before, with, after) else { return };
        let meaning = |answer: &Representation| {
            let Meaning { digest, .. } = route.plan.rules.meaning(answer, answer.digest());
            digest
        };
        if meaning(&before) != meaning(&after) {
            return;
        }
        let differs = meaning(&with) != meaning(&before);
        let Some(target) = Target::parse(&key.target) else { return };
        if route.learned.note_sample(target.path, differs) && differs {
            route.metrics.differs();
            warn!(
                route = route.pattern.as_str(),
                path = target.path,
                "shared although clients with credentials are answered otherwise: is its audience right?"
            );
        }
    }

    async fn look_once(&self, route: &Route, key: &ResourceKey) -> Option<Representation> {
        route.metrics.triggered("sample");
        let _permit = self.budget.admit(Urgency::Routine, clock::now()).await;
        let (validators, seat) = (Validators::default(), Seat::default());
        let request = WatchRequest { key, validators, max_body: route.plan.max_body, seat: &seat };
        match self.upstream.fetch(&request).await {
            Outcome::Fresh(answer) => Some(answer),
            _ => None,
        }
    }

    /// The backend answers `request` as one that is well does. What it is asked for and could not be read may be readable again; if
    /// it was refused to one client for having asked too often, to that one.
    pub(super) fn note_well(&self, request: &Request<'_>) {
        if self.hub.is_empty() {
            return;
        }
        let routes = self.routes.load();
        let path = request.target.path;
        let Some(route) = routes.find(&request.head.method, path).or_else(|| routes.learns(path)) else { return };
        let now = clock::now();
        let is_same = |resource: &Resource| {
            let facts = route.learned.facts(path, now);
            let key = route.key(&request.client, request.target, request.headers(), &facts, false);
            key.identity == resource.key().identity
        };
        for resource in self.hub.with_target(&route.canonical(request.target)) {
            let Condition::Stale { status, .. } = resource.head().condition else { continue };
            if status != Some(StatusCode::TOO_MANY_REQUESTS.as_u16()) || is_same(&resource) {
                resource.note_well(now);
            }
        }
    }

    /// Takes note that the backend gave the client of `request` another value for a cookie that it came with. Who is held
    /// under the old one, and may be this client, is sent back to come with the new: what is looked at with cookies that
    /// this client did not send is others'.
    pub(super) fn note_cookies(&self, request: &Request<'_>, answer: &HeaderMap) {
        let old = replaced_cookies(request.headers(), answer);
        if old.is_empty() {
            return;
        }
        let now = clock::now();
        let sent: Vec<&[u8]> = fields::cookies(request.headers()).collect();
        self.hub.for_each(|resource| {
            let identity = &resource.key().identity;
            if old.iter().any(|pair| identity.has_cookie(pair)) && identity.has_no_cookie_but(&sent) {
                resource.note_rotation(now);
            }
        });
    }
}

/// The cookies of `request` that `answer` sets to another value, or takes away, as they were.
fn replaced_cookies<'a>(request: &'a HeaderMap, answer: &HeaderMap) -> Vec<&'a [u8]> {
    let lines = answer.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes);
    let set: Vec<&[u8]> =
        lines.map(|line| line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()).collect();
    let is_replaced = |pair: &&[u8]| {
        let name = fields::cookie_name(pair);
        set.iter().any(|set| fields::cookie_name(set) == name && set != pair)
    };
    fields::cookies(request).filter(is_replaced).collect()
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    #[test]
    fn only_cookies_that_get_another_value_are_replaced() {
        let request = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("sid=1; lang=en; theme=dark"))]);
        let mut answer = HeaderMap::new();
        assert!(replaced_cookies(&request, &answer).is_empty());
        for line in ["lang=en; Path=/", "new=1", "sid=2; HttpOnly", "theme=; Max-Age=0"] {
            answer.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(replaced_cookies(&request, &answer), [&b"sid=1"[..], b"theme=dark"]);
    }
}
