//! What a client that is held may ask for more: under the credentials that it came with, and in no other way.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use pingora::http::RequestHeader;

use super::forward::forward;
use super::own_header::{is_forbidden_method, may_set, own_header};
use super::request::{MOST_TARGET, Peer, Request};
use super::site::Site;
use super::writes::Shape;
use crate::clock;
use crate::deliver::{Asked, Desk, Follower, Kept, Replied, Replier, Requested, Source, Unfollowed};
use crate::model::{EndReason, MediaType, Network, Owner, fields};
use crate::resource::{Bell, Ended, Subscription};
use crate::route::{Client, Route, Target, is_plain};
use crate::telemetry::Visit;
use crate::upstream::rewrite;

/// A client, by the request with which it came.
pub(super) struct Visitor {
    site: Arc<Site>,
    client: Client,
    peer: Peer,
    /// The headers of that request, without those of the connection.
    headers: HeaderMap,
    /// Whether it is the browser script, which goes where routes have their pages given it, whatever else is offered there.
    is_script: bool,
    /// Whether it is signed in by its connection.
    is_bound: bool,
    /// On whose account its requests are.
    owner: Owner,
}

const NO_PATH: &str = "is no path on this site: write \"/path?query\"";

impl Visitor {
    pub(super) fn new(site: &Arc<Site>, request: &Request<'_>) -> Self {
        let mut headers = request.headers().clone();
        let handshake = headers.keys().filter(|name| name.as_str().starts_with("sec-websocket-")).cloned();
        let gone: Vec<HeaderName> = fields::hop_by_hop(&headers)
            .into_iter()
            .chain(handshake)
            .chain([header::CONTENT_LENGTH, header::CONTENT_TYPE, header::ORIGIN, header::EXPECT])
            .chain([HeaderName::from_static("last-event-id")])
            .collect();
        for name in gone {
            headers.remove(name);
        }
        // What follows is asked for as the page would, from wherever its stream was opened.
        site.hints.complete(&request.client, &mut headers);
        let is_bound = site.bindings.concern(request);
        let (client, peer) = (request.client.clone(), request.peer);
        let owner = Owner { network: client.address.map(Network::of), client: clock::seed() };
        Self { site: Arc::clone(site), client, peer, headers, is_script: false, is_bound, owner }
    }

    /// The same, if it `is_script`.
    pub(super) fn of_script(self, is_script: bool) -> Self {
        Self { is_script, ..self }
    }

    /// The target that `url` names on this site, if it is one that can be asked for through us.
    fn target<'a>(&self, url: &'a str) -> Option<Target<'a>> {
        let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
        let target =
            Target::parse(url).filter(|target| visible && is_plain(target.path) && url.len() <= MOST_TARGET)?;
        self.site.own_path(target.path).is_none().then_some(target)
    }

    /// Follows `target`. Also returns from when on a look tells something new to a client that asked like this.
    fn subscribe(
        &self,
        route: &Arc<Route>,
        target: Target<'_>,
        headers: &HeaderMap,
        asked: &Asked,
        delivery: &'static str,
        bell: &Arc<Bell>,
    ) -> Result<(Subscription, tokio::time::Instant), Unfollowed> {
        let now = clock::now();
        if self.is_bound || fields::binds_connection(headers) {
            // Only the client's own connection is signed in.
            return Err(Unfollowed::Ended(EndReason::Gone));
        }
        let facts = route.facts(&self.client, target, headers, now);
        if let Some(decline) = &facts.unwatchable {
            return Err(Unfollowed::Ended(decline.reason()));
        }
        if facts.own_stream.get() == Some(&true) {
            return Err(Unfollowed::Ended(EndReason::Gone));
        }
        let key = route.key(&self.client, target, headers, &facts, true);
        self.site.note_headers(route, &self.client, headers, &key);
        match self.site.hub.join(&key, self.client.address, delivery, Arc::clone(bell), now, self.site.birth(route)) {
            Ok(subscription) => {
                // Who holds something would not ask again any sooner than this.
                let pace = asked.pace.filter(|_| asked.claim.is_some()).unwrap_or_default();
                let recent = route.plan.schedule.every.max(pace);
                let since = self.site.current_since(recent, subscription.resource(), &self.client, now);
                Ok((subscription, since))
            }
            Err(full) => {
                self.site.metrics.limit_hit(full.limit());
                Err(Unfollowed::Ended(EndReason::Overload))
            }
        }
    }

    /// The headers with which this client would ask for something itself. `None`: they say something in place of what it came
    /// with.
    fn headers_for(&self, asked: &Asked) -> Option<HeaderMap> {
        let mut headers = self.headers.clone();
        for (name, value) in &asked.headers {
            if !may_set(&self.headers, name, value) {
                return None;
            }
            headers.insert(name, value.clone());
        }
        Some(headers)
    }
}

impl Desk for Visitor {
    fn follow(&self, asked: &Asked, delivery: &'static str, bell: &Arc<Bell>) -> Result<Vec<Follower>, Unfollowed> {
        let target = self.target(&asked.url).ok_or(Unfollowed::Malformed(NO_PATH))?;
        let routes = self.site.routes.load();
        // A page that may follow whatever it polls brings the rules of its own route along.
        let learned = || routes.learns(target.path);
        let watched =
            routes.find(&Method::GET, target.path).or_else(learned).filter(|route| route.fetch && !asked.tick);
        let route = watched
            .or_else(|| routes.find_path(target.path))
            .or_else(learned)
            .ok_or(Unfollowed::Malformed("matches no route"))?;
        let offered = match delivery {
            "websocket" => route.websocket,
            "iframe" => route.iframe,
            _ => self.is_script || route.offers_stream(),
        };
        if !offered {
            return Err(Unfollowed::Malformed("is on a route that does not offer this transport"));
        }
        let follower =
            |source, since| Follower::new(asked.clone(), source, since, delivery, Arc::clone(&route.metrics));
        let Some(headers) = self.headers_for(asked) else {
            return Err(Unfollowed::Malformed(
                "is asked for with another value of a header that the stream was opened with",
            ));
        };
        if fields::overrides_method(&headers) {
            return Err(Unfollowed::Malformed("is asked for with a header that makes it a request by another method"));
        }
        if watched.is_some() {
            let (mut subscription, since) = self.subscribe(route, target, &headers, asked, delivery, bell)?;
            if let Some(pace) = asked.pace {
                subscription.keep_pace(pace);
            }
            let identity = self.is_script.then(|| self.site.hub.mark(subscription.resource().key()));
            return Ok(vec![follower(Source::Resource(subscription), Some(since)).marked(identity)]);
        }
        // Only the client may ask for this; it is told when.
        let listening = route.pulse.listen(Arc::clone(bell));
        // One that says how often it asks is told no more often than it could use.
        let gap = route.plan.schedule.refresh_gap.max(asked.pace.unwrap_or_default());
        let mut found = vec![follower(Source::Beats { listening, gap }, None)];
        for reason in &route.tick_on {
            let Some(target) = self.target(reason) else { continue };
            let reason = Asked::default();
            let Some(watched) = routes.find(&Method::GET, target.path).filter(|route| route.fetch) else { continue };
            if let Ok((subscription, since)) = self.subscribe(watched, target, &headers, &reason, delivery, bell) {
                found.push(follower(Source::Reason(subscription), Some(since)));
            }
        }
        Ok(found)
    }

    fn wrote(&self) -> tokio::time::Instant {
        self.site.writes.last(self.client.address)
    }

    fn heed(&self, asked: &Asked, ended: &Ended) -> bool {
        let Some(target) = self.target(&asked.url) else { return false };
        let routes = self.site.routes.load();
        let route = routes.find(&Method::GET, target.path);
        let headers = self.headers_for(asked);
        route.zip(headers).is_some_and(|(route, headers)| self.site.heed(route, &self.client, target, &headers, ended))
    }
}

#[async_trait]
impl Replier for Visitor {
    async fn reply(&self, request: Requested) -> (Replied, Kept) {
        let id = request.id.clone();
        let mut kept: Kept = Box::new(());
        let replied = self.send(request, &mut kept).await.unwrap_or_else(|(status, text)| Replied {
            id,
            status: status.as_u16(),
            headers: serde_json::Map::new(),
            body: text,
            encoding: None,
        });
        (replied, kept)
    }
}

/// Whether `text` is no longer as a JSON string than in base64, as nearly all texts are: those that are not are full of control
/// characters.
fn is_shorter_as_text(text: &str) -> bool {
    let escaped = text.bytes().filter(|byte| *byte < b' ' && !b"\x08\t\n\x0c\r".contains(byte)).count();
    escaped * "\\u0000".len() <= text.len() / 3 + "\\u0000".len()
}

/// Why a request got no answer, in a status and in words.
pub(super) type Refusal = (StatusCode, String);

impl Visitor {
    /// Sends a request of the client as it would be proxied, and reads the whole answer, which is in the memory that is `kept`.
    async fn send(&self, request: Requested, kept: &mut Kept) -> Result<Replied, Refusal> {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        self.target(&request.url).ok_or_else(|| bad(NO_PATH))?;
        let method = request.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .ok()
            .filter(|method| !is_forbidden_method(method.as_str()))
            .ok_or_else(|| bad("not a method"))?;
        let body = match (request.body, request.encoding.as_deref()) {
            (None, _) => Bytes::new(),
            (Some(text), None) => Bytes::from(text),
            (Some(text), Some("base64")) => {
                Bytes::from(STANDARD.decode(text).map_err(|_| bad("the body is not base64"))?)
            }
            (Some(_), Some(_)) => return Err(bad("encoding is \"base64\", or left out")),
        };
        let mut head = RequestHeader::build(method, request.url.as_bytes(), Some(self.headers.len() + 8))
            .map_err(|_| bad(NO_PATH))?;
        for (name, value) in &self.headers {
            head.append_header(name.clone(), value.clone()).map_err(|_| bad("not a header"))?;
        }
        for (name, value) in &request.headers {
            let (name, value) = own_header(name, value)
                .filter(|(name, value)| may_set(&self.headers, name, value))
                .ok_or_else(|| bad(&format!("the header {name:?} cannot be set")))?;
            head.insert_header(name, value).map_err(|_| bad("not a header"))?;
        }
        let has_meaning = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        if !body.is_empty() || has_meaning {
            head.insert_header(header::CONTENT_LENGTH, body.len()).map_err(|_| bad("not a header"))?;
        }
        if !head.method.is_safe() || fields::overrides_method(&head.headers) {
            // What a browser would say of a request of this page's.
            let origin = format!("{}://{}", self.client.origin.scheme.as_str(), self.client.origin.public);
            head.insert_header(header::ORIGIN, origin).map_err(|_| bad("not a header"))?;
        }
        let mut shape = Shape::default();
        shape.push(&body);
        let mut visit = self.site.visit(&head, self.peer, clock::now(), "request");
        let mut sent = head.clone();
        let upstream = self.site.upstream();
        forward(&mut sent, self.peer, &self.site.options().trusted, &upstream).map_err(|_| bad("not a header"))?;
        if let Some(trace) = visit.as_deref().and_then(Visit::traceparent) {
            sent.insert_header("traceparent", trace).map_err(|_| bad("not a header"))?;
        }
        let (mut answer, places) = self.site.replies.exchange(&upstream, self.owner, sent, body).await;
        *kept = places;
        if let Ok(answer) = &mut answer {
            let rewrites = upstream.response_rewrites(&answer.headers, &self.client.origin);
            rewrite(&mut answer.headers, rewrites);
        }
        if let Some(visit) = &mut visit {
            let (status, bytes) = match &answer {
                Ok(answer) => (answer.status, answer.body.len()),
                Err((status, text)) => (*status, text.len()),
            };
            visit.answered(status.as_u16(), Some(bytes as u64));
        }
        if let Some(asked) = Request::new(&head, self.peer, &self.site.options().trusted) {
            // Without an answer, too: the backend may have done what it was asked before it failed.
            let none = HeaderMap::new();
            let (status, headers) = match &answer {
                Ok(answer) => (answer.status, &answer.headers),
                Err((status, _)) => (*status, &none),
            };
            self.site.note_cookies(&asked, headers);
            self.site.wrote(&asked, &shape, status, headers);
        }
        let answer = answer?;
        let mut headers = answer.headers;
        let own = [header::SET_COOKIE, header::CONTENT_LENGTH, header::CONTENT_ENCODING];
        for name in fields::hop_by_hop(&headers).into_iter().chain(own) {
            headers.remove(name);
        }
        let media_type = MediaType::of(&headers);
        let is_utf8 = media_type.charset.as_deref().is_none_or(|charset| charset == "utf-8");
        let text = std::str::from_utf8(&answer.body).ok().filter(|text| is_utf8 && is_shorter_as_text(text));
        let (body, encoding) = match text {
            Some(text) => (text.to_owned(), None),
            None => (STANDARD.encode(&answer.body), Some("base64")),
        };
        Ok(Replied {
            id: request.id,
            status: answer.status.as_u16(),
            headers: crate::deliver::headers_object(&headers),
            body,
            encoding,
        })
    }
}
