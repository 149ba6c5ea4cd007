//! The state of the process as a resource of our own: fetched while an operator watches, and pushed like any other.
//!
//! ```text
//! Api::state ◀── Poller ──▶ Resource ──▶ Session ──▶ a pipe ──▶ the body of hyper's response
//! ```
//!
//! A fetch reads the state of this process and sends no request. Everything else is the same code that holds clients of
//! the public listener.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_util::io::ReaderStream;

use super::Api;
use crate::clock;
use crate::deliver::{
    self, AdmissionRequest, Downstream, FirstState, FormatRef, H1Connection, STREAM_FIRST_STATE_TIMEOUT, Session,
    Source, StreamFormat, StreamLimiter, StreamsOptions, SubscribeRequest, UrlSubscription, UrlSubscriptions,
    await_ready,
};
use crate::hub::{self, Hub, NewResource};
use crate::model::{DeltaKind, Identity, Origin, RequestContext, ResourceKey, ResumeFrom, RouteId, Scheme, fields};
use crate::normalise::Rules;
use crate::poll::{
    Answer, BudgetOptions, FetchLimiter, FetchRequest, Fetcher, Poller, ScheduleOptions, WatchConfig, classify_body,
};
use crate::resource::{FetchOutcome, HistoryOptions, Resource, ResourceRegistry, RouteEvents, WaitLimit};
use crate::telemetry::{Metrics, RouteMetrics};

/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The path of the state.
pub(super) const PATH: &str = "/api/state";

/// The fetch interval while an operator watches.
const EVERY: Duration = Duration::from_millis(500);

/// How long the state is kept for a page that is reloaded.
const LINGER: Duration = Duration::from_secs(2);

/// The number of states kept, so that a page can receive patches.
const HISTORY: usize = 8;
const HISTORY_BYTES: u64 = 1 << 20;

/// The maximum number of operators that watch at a time.
const MAX_WATCHERS: usize = 32;

/// How long to wait for the first state.
const FETCH_WAIT: WaitLimit = WaitLimit { begin: STREAM_FIRST_STATE_TIMEOUT, end: Duration::from_secs(10) };

/// The size of the pipe to a slow reader.
const PIPE: usize = 64 * 1024;

/// The state resource and its watchers.
pub(super) struct StatePush {
    key: ResourceKey,
    plan: Arc<WatchConfig>,
    fetch: Arc<SelfFetcher>,
    hub: Arc<Hub>,
    route_events: Arc<RouteEvents>,
    budget: Arc<FetchLimiter>,
    streams: Arc<StreamLimiter>,
    /// Counted separately, because operators are not clients.
    metrics: Arc<RouteMetrics>,
}

/// Fetches the state of this process.
struct SelfFetcher(Arc<Api>);

#[async_trait]
impl Fetcher for SelfFetcher {
    async fn fetch(&self, _request: &FetchRequest<'_>) -> FetchOutcome {
        let json = HeaderValue::from_static("application/json");
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]) };
        classify_body(&answer, Bytes::from(self.0.state().to_string()), None, clock::wall())
    }
}

/// The body of a streaming response.
pub(super) type PushBody = StreamBody<Pieces>;
type Pieces = futures_util::stream::MapOk<ReaderStream<DuplexStream>, fn(Bytes) -> Frame<Bytes>>;

impl StatePush {
    pub(super) fn new(api: Arc<Api>) -> Self {
        let now = clock::now();
        let name: Arc<str> = PATH.into();
        let here: Arc<str> = "admin".into();
        let rules = Rules::default();
        // This resource is expected to change often, so the warning is suppressed.
        rules.warn_once();
        let plan = WatchConfig {
            route: Arc::clone(&name),
            schedule: ScheduleOptions { every: EVERY, every_max: EVERY, refresh_gap: EVERY, effort: None },
            rules: Arc::new(rules),
            history: HistoryOptions { versions: HISTORY, bytes: HISTORY_BYTES },
            max_body: u64::MAX,
            linger: LINGER,
            verify_safe: false,
            ignored: Vec::new(),
            noise: None,
            cohorts: None,
        };
        Self {
            key: ResourceKey {
                route: RouteId(0),
                origin: Origin { scheme: Scheme::Http, host: Arc::clone(&here), public: here },
                target: Arc::clone(&name),
                variant: Arc::new([]),
                context: RequestContext::default(),
                identity: Identity::selected(Vec::new()),
                body: None,
            },
            plan: Arc::new(plan),
            fetch: Arc::new(SelfFetcher(api)),
            hub: Arc::new(Hub::new(hub::Options { max_resources: 1, ..hub::Options::default() }, clock::seed())),
            route_events: Arc::new(RouteEvents::new(now)),
            budget: FetchLimiter::new(BudgetOptions::default()),
            streams: StreamLimiter::new(
                StreamsOptions { max_streams: MAX_WATCHERS, max_streams_per_address: MAX_WATCHERS },
                now,
            ),
            metrics: Metrics::new().route(&name),
        }
    }

    /// Disconnects all watchers; they reconnect to the next process.
    pub(super) fn leave(&self) {
        self.streams.drain(clock::now(), Duration::ZERO);
    }

    /// Returns the stream format that `request` asks for, if any.
    pub(super) fn delivery<B>(request: &Request<B>) -> Option<&'static dyn StreamFormat> {
        if request.method() != http::Method::GET || request.uri().path() != PATH {
            return None;
        }
        let accepts = |delivery: &&'static dyn StreamFormat| {
            fields::list(request.headers(), &ACCEPT)
                .filter_map(|item| item.split(';').next())
                .any(|essence| essence.trim().eq_ignore_ascii_case(delivery.accept()))
        };
        deliver::ALL.iter().copied().find(accepts)
    }

    /// Holds a watcher. The response ends when the client leaves, when it is `distrusted`, or after a while; a client
    /// that still watches reconnects.
    pub(super) async fn hold<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        delivery: &'static dyn StreamFormat,
        distrusted: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Response<PushBody>> {
        let claim = request.headers().get("last-event-id").and_then(|id| ResumeFrom::parse(id.to_str().ok()?));
        let preferred =
            fields::list(request.headers(), &PREFER).find_map(|item| item.strip_prefix("delta=")?.parse().ok());
        let delta: Option<DeltaKind> = preferred.filter(|_| delivery.body_form().is_some());
        let asked = SubscribeRequest {
            url: Arc::clone(&self.key.target),
            resume_from: claim.map(Box::new),
            delta,
            ..SubscribeRequest::default()
        };
        let (near, far) = tokio::io::duplex(PIPE);
        let live = Arc::clone(self);
        tokio::spawn(async move {
            let stream = Box::new(near);
            let mut wire = Downstream::H1(H1Connection { stream, buffer: BytesMut::new(), chunks: false, sent: 0 });
            tokio::select! {
                () = live.serve(delivery, asked, &mut wire) => {}
                () = distrusted => {}
            }
        });
        let mut body = far;
        // The output for a bare connection begins with a head; hyper writes its own head.
        skip_head(&mut body).await.ok()?;
        let whole: fn(Bytes) -> Frame<Bytes> = Frame::data;
        let mut response = Response::new(StreamBody::new(ReaderStream::new(body).map_ok(whole)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(delivery.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        if let Some(applied) = delta.and_then(|delta| HeaderValue::from_str(&format!("delta={delta}")).ok()) {
            headers.insert("preference-applied", applied);
        }
        Some(response)
    }

    async fn serve(
        self: Arc<Self>,
        delivery: &'static dyn StreamFormat,
        asked: SubscribeRequest,
        wire: &mut Downstream,
    ) {
        let (now, notify) = (clock::now(), Arc::default());
        let Ok(place) = self.streams.try_admit(Arc::clone(&notify), AdmissionRequest::default()) else { return };
        let new_resource = NewResource { events: &self.route_events, spawn_poller: |resource| self.watch(resource) };
        let Ok(subscription) = self.hub.join(&self.key, None, delivery.name(), Arc::clone(&notify), now, new_resource)
        else {
            return;
        };
        let FirstState::Stream = await_ready(wire, &subscription, now, FETCH_WAIT).await else { return };
        let form = asked.delta.and_then(|_| delivery.with_deltas()).unwrap_or(delivery);
        let source = Source::Resource(subscription);
        let follower = UrlSubscription::new(asked, source, None, delivery.name(), Arc::clone(&self.metrics));
        let mut session = Session {
            followers: UrlSubscriptions::one(follower),
            desk: None,
            notify,
            place,
            delivery: FormatRef::Static(form),
            options: deliver::Options::default(),
            gzip: false,
            headers: Vec::new(),
            once: false,
            seed: clock::seed(),
        };
        session.run(wire).await;
    }

    fn watch(&self, resource: Arc<Resource>) {
        let poller = Poller {
            resource,
            config: Arc::clone(&self.plan),
            fetcher: Arc::clone(&self.fetch),
            limiter: Arc::clone(&self.budget),
            registry: Arc::clone(&self.hub) as Arc<dyn ResourceRegistry>,
            metrics: Arc::clone(&self.metrics),
            seed: clock::seed(),
        };
        tokio::spawn(poller.run());
    }
}

/// Reads up to the first empty line.
async fn skip_head(stream: &mut DuplexStream) -> io::Result<()> {
    let mut last = [0; 4];
    while &last != b"\r\n\r\n" {
        last.rotate_left(1);
        last[3] = stream.read_u8().await?;
    }
    Ok(())
}
