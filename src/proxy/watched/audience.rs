//! Learns the audience of resources from responses of the backend.

use std::cell::OnceCell;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, USER_AGENT};
use http::{HeaderMap, StatusCode};
use tracing::{info, warn};

use crate::clock;
use crate::model::fields::MAX_COOKIES;
use crate::model::{AddressBucket, EndReason, Owner, Representation, ResourceKey, Validators, fields};
use crate::normalise::Meaning;
use crate::poll::{FetchRequest, Fetcher, Priority};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::resource::{Decline, Ended, FetchOutcome, Refusal, ReplicaAffinity, Resource, ResourceStatus};
use crate::route::{Client, PathFacts, ResourceRequest, Route, Target, Unsteady};
use crate::telemetry::brief;

/// The reason why a path is watched with each client's credentials although its responses have no marker.
const REFUSED: Decline = Decline::Private { reason: "refused without credentials" };

impl Gateway {
    /// Records why the resource that a client requested could not be watched.
    pub(in crate::proxy) fn record_decline(&self, route: &Route, asked: &ResourceRequest<'_>, decline: &Decline) {
        let name = route.known_as(asked);
        let who = route.asked(asked.client, &name, asked.headers);
        if !route.knowledge.record_decline(asked.target.path, &who, decline, clock::now()) {
            return;
        }
        let canonical = route.canonical(asked.target);
        let (route, url) = (route.pattern.as_str(), &*brief(&canonical));
        match decline {
            Decline::Private { .. } => {
                warn!(route, url, "watched under each client's own credentials from now on: {decline}");
            }
            Decline::Rotates { .. } => warn!(route, url, "{decline}"),
            _ => info!(route, url, "{decline}"),
        }
    }

    /// Handles the end of a watch for a client. Returns whether another key may serve the client.
    pub(in crate::proxy) fn on_watch_ended(&self, route: &Route, asked: &ResourceRequest<'_>, ended: &Ended) -> bool {
        match ended {
            Ended::Declined(decline) => {
                self.record_decline(route, asked, decline);
                decline.is_rekey()
            }
            Ended::Refused(refusal) => self.on_refused(route, asked, refusal),
            Ended::Closed(reason) => *reason == EndReason::Reload,
        }
    }

    /// Returns whether a fetch was refused because it omitted credentials that the client has. The route's audience is
    /// wrong then, and the target is no longer shared.
    pub(in crate::proxy) fn on_refused(&self, route: &Route, asked: &ResourceRequest<'_>, refusal: &Refusal) -> bool {
        let facts = route.facts(asked, clock::now());
        let wrong = refusal.asks_for_credentials() && route.strips_credentials(asked.headers, &facts);
        if wrong {
            self.record_decline(route, asked, &REFUSED);
        }
        wrong
    }

    /// Tests from time to time whether `request` would receive a different response with its credentials. If so, the
    /// route shares too much or shows a client another client's data, and operators are warned.
    pub(in crate::proxy) fn audit_audience(
        self: &Arc<Self>,
        route: &Arc<Route>,
        request: &RequestView<'_>,
        facts: &PathFacts,
        key: &ResourceKey,
    ) {
        let path = request.target.path;
        if !route.strips_credentials(request.headers(), facts) || !route.knowledge.should_audit(path, clock::now()) {
            return;
        }
        let own = route.key_with_credentials(&request.asks(), facts);
        let (gateway, route, key) = (Arc::clone(self), Arc::clone(route), key.clone());
        let network = request.client.address.map(AddressBucket::of);
        tokio::spawn(async move { gateway.audit(&route, network, &key, &own).await });
    }

    /// Fetches without the credentials, with them, and without them again, so that ordinary changes do not count as a
    /// difference.
    async fn audit(&self, route: &Route, network: Option<AddressBucket>, key: &ResourceKey, own: &ResourceKey) {
        let before = self.fetch_once(route, network, key).await;
        let with = self.fetch_once(route, network, own).await;
        let after = self.fetch_once(route, network, key).await;
        let (Some(before), Some(with), Some(after)) = (before, with, after) else { return };
        let meaning = |answer: &Representation| {
            let Meaning { digest, .. } = route.watch.rules.meaning(answer, answer.digest());
            digest
        };
        if meaning(&before) != meaning(&after) {
            return;
        }
        let differs = meaning(&with) != meaning(&before);
        let Some(target) = Target::parse(&key.target) else { return };
        if route.knowledge.record_audit(target.path, differs, clock::now()) && differs {
            route.metrics.audience_mismatch();
            warn!(
                route = route.pattern.as_str(),
                path = &*brief(target.path),
                "shared although clients with credentials are answered otherwise: is its audience right?"
            );
        }
    }

    async fn fetch_once(
        &self,
        route: &Route,
        network: Option<AddressBucket>,
        key: &ResourceKey,
    ) -> Option<Representation> {
        route.metrics.triggered("sample");
        let application = self.application(key.path());
        let _permit = application.limiter().admit(Owner::of(network, key), Priority::Routine, clock::now()).await;
        let (validators, affinity) = (Validators::default(), ReplicaAffinity::default());
        let request = FetchRequest {
            key,
            validators,
            max_body: route.watch.max_body,
            affinity: &affinity,
            ignored: &route.watch.ignored,
        };
        match self.upstream.fetch(&request).await {
            FetchOutcome::Fresh(answer) => Some(answer),
            _ => None,
        }
    }

    /// Records the identifying headers of a request for `key`. A header that changes with each request prevents
    /// sharing, and operators are told how to exclude it.
    pub(in crate::proxy) fn record_headers(
        &self,
        route: &Route,
        client: &Client,
        headers: &HeaderMap,
        key: &ResourceKey,
    ) {
        let who = [USER_AGENT, COOKIE, AUTHORIZATION].map(|name| headers.get(name));
        for name in route.unsteady.record((client.address, who), key) {
            warn!(
                route = route.pattern.as_str(),
                url = &*brief(&key.target),
                "nothing is shared, held or remembered: each request of a client bears another {name}; {}",
                Unsteady::advice(name.as_str())
            );
        }
    }

    /// Records that the backend answered `request` successfully. A resource with the same URL that could not be read
    /// may be readable again; one that was refused to a client for too many requests, only for that client.
    pub(in crate::proxy) fn record_well(&self, request: &RequestView<'_>) {
        if self.hub.is_empty() {
            return;
        }
        let routes = self.routes.load();
        let path = request.target.path;
        let Some(route) = routes.find(&request.head.method, path).or_else(|| routes.learning_route(path)) else {
            return;
        };
        let now = clock::now();
        // Computed once for all resources.
        let own = OnceCell::new();
        let is_same = |resource: &Resource| {
            let own = own.get_or_init(|| {
                let facts = route.facts(&request.asks(), now);
                route.key(&request.asks(), &facts, false).identity
            });
            *own == resource.key().identity
        };
        for resource in self.hub.with_target(&route.canonical(request.target)) {
            let ResourceStatus::Stale { status, .. } = resource.state().status else { continue };
            if status != Some(StatusCode::TOO_MANY_REQUESTS.as_u16()) || is_same(&resource) {
                resource.record_well(now);
            }
        }
    }

    /// Handles a response that replaced a cookie of `request`'s client. Clients held with the old cookie that may be
    /// this client are sent away to reconnect with the new one; resources fetched with cookies that this client did not
    /// send belong to others.
    ///
    /// Every forwarded response, on every path, is passed to this method.
    pub(in crate::proxy) fn rotate_credentials(&self, request: &RequestView<'_>, answer: &HeaderMap) {
        let changes = fields::changes_cookies(answer);
        let replaced = if changes { fields::replaced(fields::cookies(request.headers()), answer) } else { Vec::new() };
        if !replaced.is_empty() {
            self.hub.cookies().replaced(fields::cookies(request.headers()).take(MAX_COOKIES), &replaced);
        }
        if request.is_plain_get() && request.headers().contains_key(COOKIE) {
            self.credentials_rotated(request, replaced.first().map(|replaced| fields::cookie_name(replaced.pair)));
        }
    }

    /// Records whether a response to a client's own request replaced one of its cookies. If each response does, a fetch
    /// would consume a token that only the client may use.
    fn credentials_rotated(&self, request: &RequestView<'_>, replaced: Option<&[u8]>) {
        let routes = self.routes.load();
        let path = request.target.path;
        let Some(route) = routes.find(&request.head.method, path).or_else(|| routes.learning_route(path)) else {
            return;
        };
        let canonical = route.canonical(request.target);
        let asked = route.asked(&request.client, &canonical, request.headers());
        let cookie = replaced.map(String::from_utf8_lossy);
        if route.knowledge.record_rotation(&asked, cookie.as_deref(), clock::now())
            && let Some(cookie) = cookie
        {
            let decline = Decline::Rotates { cookie: brief(&cookie).into_owned() };
            warn!(route = route.pattern.as_str(), url = &*brief(&canonical), "{decline}");
        }
    }
}
