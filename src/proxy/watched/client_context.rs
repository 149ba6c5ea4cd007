//! The context in which a held client subscribes to more URLs and sends requests: always with its own credentials.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use pingora::http::RequestHeader;

use crate::clock;
use crate::deliver::{
    Kept, PostedBody, RequestMessage, RequestService, ResponseMessage, Source, SubscribeError, SubscribeRequest,
    SubscriptionService, UrlSubscription,
};
use crate::model::{AddressBucket, EndReason, MediaType, Owner, ReadBody, fields};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::forwarded::forward;
use crate::proxy::request::view::{MAX_TARGET, Peer, RequestView};
use crate::proxy::watched::body::Body;
use crate::proxy::watched::settable_header::{is_forbidden_method, may_set, settable_header};
use crate::proxy::watched::writes::BodySignature;
use crate::resource::{ClientFence, Ended, Subscription, TaskNotify};
use crate::route::{Client, ResourceRequest, Route, Table, Target, is_unambiguous};
use crate::telemetry::AccessGuard;
use crate::upstream::rewrite;

/// A client, represented by its opening request.
pub(in crate::proxy) struct ClientContext {
    gateway: Arc<Gateway>,
    client: Client,
    peer: Peer,
    /// The headers of that request, without hop-by-hop headers.
    headers: HeaderMap,
    /// The fence of the client's writes.
    pub(in crate::proxy) fence: Arc<ClientFence>,
    /// Whether the client is the browser script, which may use the stream of any route that injects it.
    is_script: bool,
    /// Whether the client is signed in by its connection.
    is_bound: bool,
    /// The owner of its requests.
    owner: Owner,
}

const NO_PATH: &str = "is no path on this site: write \"/path?query\"";

impl ClientContext {
    pub(in crate::proxy) fn new(gateway: &Arc<Gateway>, request: &RequestView<'_>) -> Self {
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
        // The subscriptions must resemble the page's own requests, independent of the origin of the stream.
        gateway.hints.complete(&request.client, &mut headers);
        let is_bound = gateway.bindings.concern(request);
        let (client, peer) = (request.client.clone(), request.peer);
        let owner = Owner { network: client.address.map(AddressBucket::of), client: clock::seed() };
        let fence = gateway.writes.clients.fence(&gateway.who(request));
        Self { gateway: Arc::clone(gateway), client, peer, headers, fence, is_script: false, is_bound, owner }
    }

    /// Sets whether the client is the browser script.
    pub(in crate::proxy) fn of_script(self, is_script: bool) -> Self {
        Self { is_script, ..self }
    }

    /// Parses `url` as a target on this site, if it can be requested through this server.
    fn target<'a>(&self, url: &'a str) -> Option<Target<'a>> {
        let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
        let target =
            Target::parse(url).filter(|target| visible && is_unambiguous(target.path) && url.len() <= MAX_TARGET)?;
        self.gateway.own_path(target.path).is_none().then_some(target)
    }

    /// Subscribes to the `wanted` resource. Also returns the time from which on a fetch counts as current for the client.
    fn subscribe(
        &self,
        route: &Arc<Route>,
        wanted: &ResourceRequest<'_>,
        asked: &SubscribeRequest,
        delivery: &'static str,
        notify: &Arc<TaskNotify>,
    ) -> Result<(Subscription, tokio::time::Instant), SubscribeError> {
        let now = clock::now();
        if self.is_bound || fields::binds_connection(wanted.headers) {
            // Only the client's own connection is signed in.
            return Err(SubscribeError::Unavailable(EndReason::Gone));
        }
        let facts = route.facts(wanted, now);
        if let Some(decline) = &facts.unwatchable {
            return Err(SubscribeError::Unavailable(decline.reason()));
        }
        if facts.own_stream.get() == Some(&true) {
            return Err(SubscribeError::Unavailable(EndReason::Gone));
        }
        let key = route.key(wanted, &facts, true);
        self.gateway.record_headers(route, &self.client, wanted.headers, &key);
        match self.gateway.hub.join(
            &key,
            self.client.address,
            delivery,
            Arc::clone(notify),
            now,
            self.gateway.new_resource(route),
        ) {
            Ok(subscription) => {
                if !self.is_script {
                    subscription.resource().vouch();
                }
                if asked.page {
                    subscription.resource().page().show_by(&self.fence);
                    if asked.resume_from.is_none() {
                        // The page has just been loaded.
                        subscription.resource().pass(now);
                    }
                }
                // A client that holds a state would not poll sooner than this.
                let pace = asked.interval.filter(|_| asked.resume_from.is_some()).unwrap_or_default();
                let recent = route.watch.schedule.every.max(pace);
                let since = Gateway::current_since(recent, subscription.resource(), self.fence.at(), now);
                Ok((subscription, since))
            }
            Err(full) => {
                self.gateway.metrics.limit_hit(full.limit());
                Err(SubscribeError::Unavailable(EndReason::Overload))
            }
        }
    }

    /// Returns the headers with which this client would request a URL itself. Returns `None` if they contradict its
    /// opening request.
    fn headers_for(&self, asked: &SubscribeRequest) -> Option<HeaderMap> {
        let mut headers = self.headers.clone();
        for (name, value) in &asked.headers {
            if !may_set(&self.headers, name, value) {
                return None;
            }
            headers.insert(name, value.clone());
        }
        if asked.posted.is_some() {
            // The `Origin` that a browser would send for a request of this page.
            headers.insert(header::ORIGIN, HeaderValue::try_from(self.own_origin()).ok()?);
        }
        Some(headers)
    }

    fn own_origin(&self) -> String {
        format!("{}://{}", self.client.origin.scheme.as_str(), self.client.origin.public)
    }

    /// Returns the route for `method` and `path`, if fetches are allowed. A page that may follow any URL applies the
    /// rules of its own route.
    fn watched<'r>(routes: &'r Table, method: &Method, path: &str) -> Option<&'r Arc<Route>> {
        let learned = || routes.learning_route(path).filter(|_| *method == Method::GET);
        routes.find(method, path).or_else(learned).filter(|route| route.fetch)
    }

    /// Returns the read that `posted` requests, by the rules of `route`.
    fn read(
        &self,
        route: &Route,
        target: Target<'_>,
        headers: &mut HeaderMap,
        posted: &PostedBody,
    ) -> Option<Arc<ReadBody>> {
        if let Some(rules) = &route.post {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(rules.content_type()));
        }
        let body = Body { method: &posted.method, target, headers, bytes: &posted.body };
        let is_taken = route.reads_bodies(&posted.method);
        self.gateway.judge_body(route, &self.client, &body).filter(|_| is_taken).map(|read| read.body)
    }
}

/// Returns the method of the request.
fn method_of(asked: &SubscribeRequest) -> &Method {
    asked.posted.as_ref().map_or(&Method::GET, |posted| &posted.method)
}

/// Returns the URL without the part that distinguishes requests with different bodies.
fn url_of(asked: &SubscribeRequest) -> &str {
    match asked.posted {
        Some(_) => asked.url.split('#').next().unwrap_or_default(),
        None => &asked.url,
    }
}

impl SubscriptionService for ClientContext {
    fn subscribe(
        &self,
        asked: &SubscribeRequest,
        delivery: &'static str,
        notify: &Arc<TaskNotify>,
    ) -> Result<Vec<UrlSubscription>, SubscribeError> {
        let target = self.target(url_of(asked)).ok_or(SubscribeError::Invalid(NO_PATH))?;
        let routes = self.gateway.routes.load();
        let watched = Self::watched(&routes, method_of(asked), target.path).filter(|_| !asked.tick);
        let route = watched
            .or_else(|| routes.find_path(target.path))
            .or_else(|| routes.learning_route(target.path))
            .ok_or(SubscribeError::Invalid("matches no route"))?;
        let offered = match delivery {
            "websocket" => route.websocket,
            "iframe" => route.iframe,
            _ => self.is_script || route.offers_stream(),
        };
        if !offered {
            return Err(SubscribeError::Invalid("is on a route that does not offer this transport"));
        }
        let follower =
            |source, since| UrlSubscription::new(asked.clone(), source, since, delivery, Arc::clone(&route.metrics));
        let Some(mut headers) = self.headers_for(asked) else {
            return Err(SubscribeError::Invalid(
                "is asked for with another value of a header that the stream was opened with",
            ));
        };
        if fields::overrides_method(&headers) {
            return Err(SubscribeError::Invalid(
                "is asked for with a header that makes it a request by another method",
            ));
        }
        let body = match &asked.posted {
            Some(posted) if !asked.tick => Some(self.read(route, target, &mut headers, posted).ok_or(
                SubscribeError::Invalid("is asked for with a body of which its route does not say that it only reads"),
            )?),
            _ => None,
        };
        let wanted = ResourceRequest { client: &self.client, target, headers: &headers, body: body.as_ref() };
        if watched.is_some() {
            let (mut subscription, since) = self.subscribe(route, &wanted, asked, delivery, notify)?;
            if let Some(pace) = asked.interval {
                subscription.set_client_interval(pace);
            }
            let identity = self.is_script.then(|| self.gateway.hub.identity_tag(subscription.resource().key()));
            return Ok(vec![follower(Source::Resource(subscription), Some(since)).marked(identity)]);
        }
        // Only the client may request this URL, so it receives ticks.
        let listening = route.events.subscribe(Arc::clone(notify));
        // A client that declares its polling interval receives no more ticks than it could use.
        let gap = route.watch.schedule.refresh_gap.max(asked.interval.unwrap_or_default());
        let mut found = vec![follower(Source::RouteEvents { listening, gap }, None)];
        for reason in &route.tick_on {
            let Some(target) = self.target(reason) else { continue };
            let wanted = ResourceRequest { target, body: None, ..wanted };
            let reason = SubscribeRequest::default();
            let Some(watched) = routes.find(&Method::GET, target.path).filter(|route| route.fetch) else { continue };
            if let Ok((subscription, since)) = self.subscribe(watched, &wanted, &reason, delivery, notify) {
                found.push(follower(Source::TickOn(subscription), Some(since)));
            }
        }
        Ok(found)
    }

    fn on_watch_ended(&self, asked: &SubscribeRequest, ended: &Ended) -> bool {
        let Some(target) = self.target(url_of(asked)) else { return false };
        let routes = self.gateway.routes.load();
        let route = routes.find(method_of(asked), target.path);
        let Some((route, mut headers)) = route.zip(self.headers_for(asked)) else { return false };
        let body = asked.posted.as_ref().and_then(|posted| self.read(route, target, &mut headers, posted));
        let wanted = ResourceRequest { client: &self.client, target, headers: &headers, body: body.as_ref() };
        self.gateway.on_watch_ended(route, &wanted, ended)
    }
}

#[async_trait]
impl RequestService for ClientContext {
    async fn reply(&self, request: RequestMessage) -> (ResponseMessage, Kept) {
        let id = request.id.clone();
        let mut kept: Kept = Box::new(());
        let replied = self.send(request, &mut kept).await.unwrap_or_else(|(status, text)| ResponseMessage {
            id,
            status: status.as_u16(),
            headers: serde_json::Map::new(),
            body: text,
            encoding: None,
        });
        (replied, kept)
    }
}

/// Returns whether `text` is shorter as a JSON string than as base64. That holds for nearly all texts without many
/// control characters.
fn is_shorter_as_text(text: &str) -> bool {
    let escaped = text.bytes().filter(|byte| *byte < b' ' && !b"\x08\t\n\x0c\r".contains(byte)).count();
    escaped * "\\u0000".len() <= text.len() / 3 + "\\u0000".len()
}

/// The status and text of a failed request.
pub(in crate::proxy) type RequestError = (StatusCode, String);

impl ClientContext {
    /// Sends a request of the client as it would be proxied, and reads the whole response. `kept` holds the response's
    /// share of memory.
    async fn send(&self, request: RequestMessage, kept: &mut Kept) -> Result<ResponseMessage, RequestError> {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        let target = self.target(&request.url).ok_or_else(|| bad(NO_PATH))?;
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
            let (name, value) = settable_header(name, value)
                .filter(|(name, value)| may_set(&self.headers, name, value))
                .ok_or_else(|| bad(&format!("the header {name:?} cannot be set")))?;
            head.insert_header(name, value).map_err(|_| bad("not a header"))?;
        }
        let has_meaning = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        if !body.is_empty() || has_meaning {
            head.insert_header(header::CONTENT_LENGTH, body.len()).map_err(|_| bad("not a header"))?;
        }
        if !head.method.is_safe() || fields::overrides_method(&head.headers) {
            // The value that a browser would send for a request of this page.
            head.insert_header(header::ORIGIN, self.own_origin()).map_err(|_| bad("not a header"))?;
        }
        if let Some(refusal) = self.gateway.exceeds_limits(self.client.address, &head) {
            return Err((refusal.status, String::from_utf8_lossy(&refusal.body).trim_end().to_owned()));
        }
        let mut shape = BodySignature::default();
        shape.push(&body);
        let mut visit = self.gateway.access_guard(&head, self.peer, clock::now(), "request");
        let mut sent = head.clone();
        let upstream = self.gateway.upstream(target.path);
        forward(&mut sent, self.peer, &self.gateway.options().trusted, &upstream).map_err(|_| bad("not a header"))?;
        if let Some(trace) = visit.as_deref().and_then(AccessGuard::traceparent) {
            sent.insert_header("traceparent", trace).map_err(|_| bad("not a header"))?;
        }
        let asked = RequestView::new(&head, self.peer, &self.gateway.options().trusted);
        if let Some(asked) = asked.as_ref().filter(|asked| asked.readable_body().is_some()) {
            self.gateway.note_read(asked, &body);
        }
        let _writing = match &asked {
            Some(asked) => self.gateway.begins(asked).await,
            None => Vec::new(),
        };
        let (mut answer, places) = self.gateway.replies.exchange(&upstream, self.owner, sent, body).await;
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
            visit.set_response(status.as_u16(), Some(bytes as u64));
        }
        if let Some(asked) = asked {
            // Also without a response, because the backend may have executed the request before it failed.
            let none = HeaderMap::new();
            let (status, headers) = match &answer {
                Ok(answer) => (answer.status, &answer.headers),
                Err((status, _)) => (*status, &none),
            };
            self.gateway.rotate_credentials(&asked, headers);
            self.gateway.record_write(&asked, &shape, status, headers);
            self.gateway.told_of_write(&asked).await;
        }
        let answer = answer?;
        let mut headers = answer.headers;
        upstream.options().response_headers.apply(&mut headers);
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
        Ok(ResponseMessage {
            id: request.id,
            status: answer.status.as_u16(),
            headers: crate::deliver::headers_object(&headers),
            body,
            encoding,
        })
    }
}
