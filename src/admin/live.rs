//! The state of the process as a resource of our own: looked at while somebody watches, and pushed as any other.
//!
//! ```text
//! Api::state ◀── Poller ──▶ Resource ──▶ Session ──▶ a pipe ──▶ the body of hyper's response
//! ```
//!
//! What is looked at is not the backend but this process, and that costs no request; all else is what clients of the public
//! listener are held by.

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
    self, Asked, Delivery, Entering, Follower, Followers, Form, H1, Ready, STREAM_PATIENCE, Session, Source, Streams,
    StreamsOptions, Wire, await_ready,
};
use crate::hub::{self, Birth, Hub};
use crate::model::{Claim, DeltaKind, Identity, Origin, RequestContext, ResourceKey, RouteId, Scheme, fields};
use crate::normalise::Rules;
use crate::poll::{Answer, Budget, BudgetOptions, Fetch, Plan, Poller, ScheduleOptions, WatchRequest, judge_body};
use crate::resource::{HistoryOptions, Outcome, Patience, Pulse, Resource, Retire};
use crate::telemetry::{Metrics, RouteMetrics};

/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Where it is.
pub(super) const PATH: &str = "/api/state";

/// How often we look at ourselves while somebody watches.
const EVERY: Duration = Duration::from_millis(500);

/// How long the state is kept for a page that is reloaded.
const LINGER: Duration = Duration::from_secs(2);

/// States that are kept, so that a page can be told what changed.
const HISTORY: usize = 8;
const HISTORY_BYTES: u64 = 1 << 20;

/// Operators that watch at a time.
const MOST_WATCHERS: usize = 32;

/// How long the first state is waited for.
const PATIENCE: Patience = Patience { begin: STREAM_PATIENCE, end: Duration::from_secs(10) };

/// What may wait in the pipe for a reader that is slow.
const PIPE: usize = 64 * 1024;

/// The state, and those who watch it.
pub(super) struct Live {
    key: ResourceKey,
    plan: Arc<Plan>,
    fetch: Arc<Inspection>,
    hub: Arc<Hub>,
    pulse: Arc<Pulse>,
    budget: Arc<Budget>,
    streams: Arc<Streams>,
    /// Counted apart: operators are no clients.
    metrics: Arc<RouteMetrics>,
}

/// A look at ourselves.
struct Inspection(Arc<Api>);

#[async_trait]
impl Fetch for Inspection {
    async fn fetch(&self, _request: &WatchRequest<'_>) -> Outcome {
        let json = HeaderValue::from_static("application/json");
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]) };
        judge_body(&answer, Bytes::from(self.0.state().to_string()), None, clock::wall())
    }
}

/// The body of a response that goes on.
pub(super) type Going = StreamBody<Pieces>;
type Pieces = futures_util::stream::MapOk<ReaderStream<DuplexStream>, fn(Bytes) -> Frame<Bytes>>;

impl Live {
    pub(super) fn new(api: Arc<Api>) -> Self {
        let now = clock::now();
        let name: Arc<str> = PATH.into();
        let here: Arc<str> = "admin".into();
        let rules = Rules::default();
        // Nobody needs to be told that this changes often.
        rules.advise();
        let plan = Plan {
            route: Arc::clone(&name),
            schedule: ScheduleOptions { every: EVERY, every_max: EVERY, refresh_gap: EVERY },
            rules: Arc::new(rules),
            history: HistoryOptions { versions: HISTORY, bytes: HISTORY_BYTES },
            max_body: u64::MAX,
            linger: LINGER,
            proves: false,
            ignored: Vec::new(),
        };
        Self {
            key: ResourceKey {
                route: RouteId(0),
                origin: Origin { scheme: Scheme::Http, host: Arc::clone(&here), public: here },
                target: Arc::clone(&name),
                variant: Arc::new([]),
                context: RequestContext::default(),
                identity: Identity::partial(Vec::new()),
            },
            plan: Arc::new(plan),
            fetch: Arc::new(Inspection(api)),
            hub: Arc::new(Hub::new(hub::Options { max_resources: 1, ..hub::Options::default() }, clock::seed())),
            pulse: Arc::new(Pulse::new(now)),
            budget: Budget::new(BudgetOptions::default()),
            streams: Streams::new(
                StreamsOptions { max_streams: MOST_WATCHERS, max_streams_per_address: MOST_WATCHERS },
                now,
            ),
            metrics: Metrics::new().route(&name),
        }
    }

    /// Sends all watchers away: the next process will take them.
    pub(super) fn leave(&self) {
        self.streams.drain(clock::now(), Duration::ZERO);
    }

    /// In which form `request` asks to be held, if it does.
    pub(super) fn delivery<B>(request: &Request<B>) -> Option<&'static dyn Delivery> {
        if request.method() != http::Method::GET || request.uri().path() != PATH {
            return None;
        }
        let accepts = |delivery: &&'static dyn Delivery| {
            fields::list(request.headers(), &ACCEPT)
                .filter_map(|item| item.split(';').next())
                .any(|essence| essence.trim().eq_ignore_ascii_case(delivery.accept()))
        };
        deliver::ALL.iter().copied().find(accepts)
    }

    /// Holds a watcher. The response ends when it leaves or is `distrusted`, and otherwise after a while: whoever still
    /// watches comes back.
    pub(super) async fn hold<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        delivery: &'static dyn Delivery,
        distrusted: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Response<Going>> {
        let claim = request.headers().get("last-event-id").and_then(|id| Claim::parse(id.to_str().ok()?));
        let preferred =
            fields::list(request.headers(), &PREFER).find_map(|item| item.strip_prefix("delta=")?.parse().ok());
        let delta: Option<DeltaKind> = preferred.filter(|_| delivery.shape().is_some());
        let asked = Asked { url: Arc::clone(&self.key.target), claim: claim.map(Box::new), delta, ..Asked::default() };
        let (near, far) = tokio::io::duplex(PIPE);
        let live = Arc::clone(self);
        tokio::spawn(async move {
            let stream = Box::new(near);
            let mut wire = Wire::H1(H1 { stream, buffer: BytesMut::new(), chunks: false, sent: 0 });
            tokio::select! {
                () = live.serve(delivery, asked, &mut wire) => {}
                () = distrusted => {}
            }
        });
        let mut body = far;
        // What is written for a bare connection begins with a head; hyper writes its own.
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

    async fn serve(self: Arc<Self>, delivery: &'static dyn Delivery, asked: Asked, wire: &mut Wire) {
        let (now, bell) = (clock::now(), Arc::default());
        let Ok(place) = self.streams.enter(Arc::clone(&bell), Entering::default()) else { return };
        let birth = Birth { pulse: &self.pulse, start: |resource| self.watch(resource) };
        let Ok(subscription) = self.hub.join(&self.key, None, delivery.name(), Arc::clone(&bell), now, birth) else {
            return;
        };
        let Ready::Stream = await_ready(wire, &subscription, now, PATIENCE).await else { return };
        let form = asked.delta.and_then(|_| delivery.with_deltas()).unwrap_or(delivery);
        let source = Source::Resource(subscription);
        let follower = Follower::new(asked, source, None, delivery.name(), Arc::clone(&self.metrics));
        let mut session = Session {
            followers: Followers::one(follower),
            desk: None,
            bell,
            place,
            delivery: Form::Common(form),
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
            plan: Arc::clone(&self.plan),
            fetch: Arc::clone(&self.fetch),
            budget: Arc::clone(&self.budget),
            hub: Arc::clone(&self.hub) as Arc<dyn Retire>,
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
