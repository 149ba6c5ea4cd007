//! A seeded simulation of hub, pollers and faulty clients, on a clock of its own.
//!
//! The upstream counts up at random moments, fails at random, and puts something into each answer that is to be ignored;
//! clients join, lag, leave and come back at random, some of them with deltas. Whatever the seed, the promises hold:
//! everybody ends up with the current state (1), nobody ever saw a state that was not, or went back to an older one (2),
//! every patch applies to what the client holds and makes of it what the upstream sent (3), nobody is told or answered what
//! was read before its own last write, in whatever variant (6), and memory stays within its bounds (7).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use sungrazer::clock;
use sungrazer::deliver::{MULTIPLEX_EXACT, Source, SubscribeRequest, UrlSubscription, UrlSubscriptions};
use sungrazer::hub::{Hub, NewResource, Options as HubOptions};
use sungrazer::model::{
    BodyForm, DeltaKind, DeltaRequest, Identity, Origin, Representation, RequestContext, ResourceKey, ResumeFrom,
    RouteId, Scheme, Snapshot, Update, Validators, Version,
};
use sungrazer::normalise::Rules;
use sungrazer::poll::{BudgetOptions, FetchLimiter, FetchRequest, Fetcher, Poller, ScheduleOptions, WatchConfig};
use sungrazer::resource::{
    ClientFence, Cursor, Failure, FetchOutcome, HistoryOptions, Resource, ResourceRegistry, RouteEvents, Subscription,
    TaskNotify, Trigger, WaitLimit,
};
use sungrazer::telemetry::Metrics;
use tokio::time::{sleep, timeout};

use crate::support::oracle::{self, Json, Reader};

const RESOURCES: u64 = 3;
const CLIENTS: u64 = 15;
const WRITERS: u64 = 2;
const EVERY: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(5);

/// The upstream: one counter a resource.
#[derive(Default)]
struct World {
    counters: [AtomicU64; RESOURCES as usize],
    failing: AtomicBool,
    fetches: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    patches: AtomicUsize,
    rng: Mutex<Option<fastrand::Rng>>,
}

impl World {
    fn random(&self, below: u64) -> u64 {
        self.rng.lock().unwrap().as_mut().unwrap().u64(..below)
    }

    fn counter(&self, target: &str) -> &AtomicU64 {
        &self.counters[target[1..].parse::<usize>().unwrap()]
    }

    /// The body for a count, JSON or text. Large ones now and then, so that the history's byte limit is met too.
    fn body(target: &str, count: u64, noise: u64) -> String {
        let rest = "rest ".repeat(if count.is_multiple_of(7) { 300 } else { 20 });
        if target == "/1" {
            let lines: String = (count..count + 5).map(|n| format!("line {n} 😀\r\n")).collect();
            return format!("count {count}\r\nnoise {noise}.\r\n{lines}{rest}");
        }
        let items: Vec<String> =
            (count..count + 8).rev().map(|n| format!("{{\"id\":{n},\"v\":\"{}\"}}", n * (count % 3))).collect();
        let odd = if count.is_multiple_of(5) { "null" } else { "12345678901234567890.10" };
        format!(r#"{{"count": {count}, "noise":{noise}, "items":[{}], "odd":{odd}, "rest":"{rest}"}}"#, items.join(","))
    }

    /// The count that a body says.
    fn count(target: &str, body: &str) -> u64 {
        let number = |before: &str| {
            let (_, behind) = body.split_once(before).unwrap();
            behind.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        let (count, noise) = if target == "/1" {
            (number("count "), number("noise "))
        } else {
            (number("\"count\": "), number("\"noise\":"))
        };
        assert_eq!(body, Self::body(target, count, noise), "a body that the upstream never sent");
        count
    }
}

/// What a client has made of what it was told.
struct Held {
    version: Version,
    document: Json,
}

impl Held {
    /// What a client that is given `snapshot` whole holds, as far as its deltas are concerned.
    fn of(snapshot: &Snapshot, ask: Option<DeltaRequest>) -> Self {
        let body = std::str::from_utf8(&snapshot.representation.body).unwrap();
        let text = |text: &str| Json::String(text.encode_utf16().collect());
        let document = match ask {
            Some(DeltaRequest { kind: DeltaKind::JsonPatch | DeltaKind::MergePatch, .. }) if body.starts_with('{') => {
                Json::read(body, Reader::LastWins)
            }
            Some(DeltaRequest { form: BodyForm::Data, .. }) => text(&body.replace("\r\n", "\n")),
            _ => text(body),
        };
        Self { version: snapshot.version, document }
    }

    /// Applies a patch.
    fn patched(self, base: Version, delta: DeltaKind, patch: &[u8], snapshot: &Snapshot) -> Self {
        assert_eq!(base, self.version, "a patch of something that the client does not hold");
        let patch = Json::read(std::str::from_utf8(patch).unwrap(), Reader::LastWins);
        let document = match (delta, self.document) {
            (DeltaKind::JsonPatch, document) => oracle::json_patch(document, &patch).unwrap(),
            (DeltaKind::MergePatch, document) => oracle::merge_patch(document, &patch),
            (DeltaKind::Splice, Json::String(text)) => {
                let text = oracle::splice(&String::from_utf16(&text).unwrap(), &patch).unwrap();
                Json::String(text.encode_utf16().collect())
            }
            (DeltaKind::Splice, other) => panic!("a splice of {other:?}"),
        };
        Self { version: snapshot.version, document }
    }
}

/// What clients wish for, by turns.
const WISHES: [Option<DeltaRequest>; 5] = [
    None,
    Some(DeltaRequest { kind: DeltaKind::JsonPatch, form: BodyForm::Record }),
    Some(DeltaRequest { kind: DeltaKind::MergePatch, form: BodyForm::Data }),
    Some(DeltaRequest { kind: DeltaKind::Splice, form: BodyForm::Data }),
    Some(DeltaRequest { kind: DeltaKind::Splice, form: BodyForm::Record }),
];

#[async_trait]
impl Fetcher for World {
    async fn fetch(&self, request: &FetchRequest<'_>) -> FetchOutcome {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_millis(self.random(300))).await;
        let count = self.counter(&request.key.target).load(Ordering::SeqCst);
        sleep(Duration::from_millis(self.random(700))).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) && self.random(3) == 0 {
            return FetchOutcome::Failed(Failure {
                status: Some(503),
                retry_after: None,
                text: "the seed says so".to_owned(),
            });
        }
        let noise = self.random(3);
        let etag = HeaderValue::from_str(&format!("\"{count}-{noise}\"")).unwrap();
        if request.validators.etag.as_ref() == Some(&etag) {
            return FetchOutcome::NotModified(HeaderMap::new());
        }
        let content_type = if &*request.key.target == "/1" { "text/plain; charset=utf-8" } else { "application/json" };
        FetchOutcome::Fresh(Representation {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]),
            body: Bytes::from(Self::body(&request.key.target, count, noise)),
            validators: Validators { etag: Some(etag), last_modified: None },
            coded: None,
            sets_cookie: false,
            ahead: 0,
        })
    }
}

struct Simulation {
    world: Arc<World>,
    hub: Arc<Hub>,
    budget: Arc<FetchLimiter>,
    plan: Arc<WatchConfig>,
    metrics: Arc<Metrics>,
    route_events: Arc<RouteEvents>,
    seed: u64,
}

impl Simulation {
    fn key(resource: u64) -> ResourceKey {
        ResourceKey {
            route: RouteId(1),
            origin: Origin { scheme: Scheme::Http, host: "sim".into(), public: "sim".into() },
            target: format!("/{resource}").into(),
            variant: Arc::new([]),
            context: RequestContext::default(),
            identity: Identity::full(Vec::new()),
            body: None,
        }
    }

    fn start(&self, resource: Arc<Resource>) {
        let poller = Poller {
            resource,
            config: Arc::clone(&self.plan),
            fetcher: Arc::clone(&self.world),
            limiter: Arc::clone(&self.budget),
            registry: Arc::clone(&self.hub) as Arc<dyn ResourceRegistry>,
            metrics: self.metrics.route(&self.plan.route),
            seed: self.seed,
        };
        tokio::spawn(poller.run());
    }

    /// One client's life: it follows `resource`, is slow, leaves and comes back, until `quiet`; then it stays.
    async fn client(self: Arc<Self>, number: u64, quiet: Arc<AtomicBool>, done: Arc<AtomicBool>) {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (number << 32));
        let resource = number % RESOURCES;
        let target = format!("/{resource}");
        let ask = WISHES[(number / RESOURCES) as usize % WISHES.len()];
        let mut held: Option<Held> = None;
        let mut count = 0;
        loop {
            sleep(Duration::from_millis(rng.u64(..2000))).await;
            let notify = Arc::<TaskNotify>::default();
            let joined = self.hub.join(
                &Self::key(resource),
                None,
                "sim",
                Arc::clone(&notify),
                clock::now(),
                NewResource { events: &self.route_events, spawn_poller: |resource| self.start(resource) },
            );
            let subscription = joined.unwrap();
            let shared = Arc::clone(subscription.resource());
            let since = (clock::now() - EVERY).max(shared.fenced());
            let patience = WaitLimit { begin: Duration::from_secs(3600), end: Duration::from_secs(3600) };
            if shared.fetch_since(since, clock::now(), patience).await.is_none() {
                // The upstream is left alone: this client comes back later.
                continue;
            }
            let mut cursor = match &held {
                Some(held) => Cursor::resume(&ResumeFrom::Version(held.version), &shared.state()),
                None => Cursor::new(),
            };
            let stays_for = Duration::from_millis(rng.u64(500..20_000));
            let leaves_at = clock::now() + stays_for;
            loop {
                let head = shared.state_full();
                assert!(head.history.len() <= self.plan.history.versions, "history outgrew its count");
                assert!(
                    head.history.len() == 1 || head.history.weight() <= self.plan.history.bytes,
                    "history outgrew its bytes"
                );
                while let Some(update) = cursor.next(&head, ask) {
                    if let Update::Snapshot(snapshot) | Update::Patch { snapshot, .. } = &update {
                        let news = World::count(&target, std::str::from_utf8(&snapshot.representation.body).unwrap());
                        let now = self.world.counters[resource as usize].load(Ordering::SeqCst);
                        assert!(news <= now, "a state from the future: {news} of {now}");
                        assert!(news >= count, "client {number} went back from {count} to {news}");
                        count = news;
                    }
                    match update {
                        Update::Snapshot(snapshot) => held = Some(Held::of(&snapshot, ask)),
                        Update::Patch { client_base: called, snapshot, delta, patch, .. } => {
                            self.world.patches.fetch_add(1, Ordering::SeqCst);
                            let before = held.take().expect("something to be patched");
                            let after = before.patched(called, delta, &patch, &snapshot);
                            assert_eq!(after.document, Held::of(&snapshot, ask).document, "a patch that leads astray");
                            held = Some(after);
                        }
                        _ => {}
                    }
                    if rng.u8(..4) == 0 {
                        // A slow client: it finds out about what it missed only when it looks again.
                        sleep(Duration::from_millis(rng.u64(..5000))).await;
                    }
                }
                if done.load(Ordering::SeqCst) {
                    let now = self.world.counters[resource as usize].load(Ordering::SeqCst);
                    assert_eq!(count, now, "client {number} of /{resource} did not converge");
                    return;
                }
                let stays = quiet.load(Ordering::SeqCst);
                if !stays && clock::now() >= leaves_at {
                    break;
                }
                let _ = timeout(Duration::from_millis(500), notify.notified()).await;
            }
            drop(subscription);
        }
    }
}

/// What one that writes has seen, and must not be shown anything older than.
#[derive(Default)]
struct Shown {
    /// The count that its last answered write made.
    written: u64,
    /// The last count that its stream told.
    told: u64,
}

impl Simulation {
    /// The same as [`Simulation::key`] in another variant.
    fn variant(resource: u64) -> ResourceKey {
        let accept = (ACCEPT, Some(HeaderValue::from_static("text/x-other")));
        ResourceKey { variant: Arc::new([accept]), ..Self::key(resource) }
    }

    fn join(&self, key: &ResourceKey, notify: &Arc<TaskNotify>) -> Subscription {
        let new_resource = NewResource { events: &self.route_events, spawn_poller: |resource| self.start(resource) };
        self.hub.join(key, None, "sim", Arc::clone(notify), clock::now(), new_resource).unwrap()
    }

    /// One that writes, follows what it writes, and polls another variant of it.
    async fn writer(self: Arc<Self>, number: u64, quiet: Arc<AtomicBool>, done: Arc<AtomicBool>) {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (number << 48));
        let resource = number % RESOURCES;
        let target = format!("/{resource}");
        let fence = Arc::new(ClientFence::new(clock::now(), clock::now()));
        let (notify, other_bell) = (Arc::<TaskNotify>::default(), Arc::<TaskNotify>::default());
        let other = self.join(&Self::variant(resource), &other_bell);
        let asked = SubscribeRequest { url: target.clone().into(), ..SubscribeRequest::default() };
        let source = Source::Resource(self.join(&Self::key(resource), &notify));
        let follower =
            UrlSubscription::new(asked, source, Some(fence.at()), "sim", self.metrics.route(&self.plan.route));
        let mut followers = UrlSubscriptions::one(follower).of_client(fence.listen(Arc::clone(&notify), false));
        let mut shown = Shown::default();
        loop {
            let mut frames = Vec::new();
            followers.collect(&MULTIPLEX_EXACT, None, &notify, clock::now(), &mut frames);
            for frame in frames {
                let text = String::from_utf8(frame.payload().to_vec()).unwrap();
                let record: serde_json::Value = serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
                let Some(body) = record["body"].as_str() else { continue };
                let told = World::count(&target, body);
                assert!(told >= shown.written, "told of {told} after {} was written", shown.written);
                assert!(told >= shown.told, "told of {told} after {}", shown.told);
                shown.told = told;
            }
            // A poll of the other variant, if memory answers it.
            let polled = other.resource();
            if let Some(snapshot) = polled.state().current_as_of(polled.current_since().max(fence.latest())) {
                let body = std::str::from_utf8(&snapshot.representation.body).unwrap();
                let count = World::count(&target, body);
                assert!(
                    count >= shown.written.max(shown.told),
                    "polled {count} after {} and {}",
                    shown.written,
                    shown.told
                );
            }
            if done.load(Ordering::SeqCst) {
                assert_eq!(
                    shown.told,
                    self.world.counter(&target).load(Ordering::SeqCst),
                    "writer {number} did not converge"
                );
                return;
            }
            if !quiet.load(Ordering::SeqCst) && rng.u8(..3) == 0 {
                shown.written = self.world.counter(&target).fetch_add(1, Ordering::SeqCst) + 1;
                sleep(Duration::from_millis(rng.u64(..50))).await;
                fence.raise(clock::now());
                // Not every write is a reason to fetch.
                if rng.bool() {
                    self.route_events.publish(Trigger::Write, clock::now());
                }
            }
            let _ = timeout(Duration::from_millis(rng.u64(20..1500)), notify.notified()).await;
        }
    }
}

/// Returns how many patches were applied.
async fn simulate(seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = Arc::new(World::default());
    *world.rng.lock().unwrap() = Some(fastrand::Rng::with_seed(seed + 1));
    let budget_options = BudgetOptions { max_fetches: 2, max_fetch_rate: 5 };
    let simulation = Arc::new(Simulation {
        world: Arc::clone(&world),
        hub: Arc::new(Hub::new(HubOptions { max_resources: 100, ..HubOptions::default() }, seed)),
        budget: FetchLimiter::new(budget_options),
        plan: Arc::new(WatchConfig {
            route: "/*".into(),
            schedule: ScheduleOptions {
                every: EVERY,
                every_max: EVERY_MAX,
                refresh_gap: Duration::from_millis(50),
                effort: None,
            },
            rules: Arc::new(Rules::new(
                vec!["/noise".parse().unwrap()],
                Vec::new(),
                vec![r"noise \d+\.".parse().unwrap()],
            )),
            history: HistoryOptions { versions: 5, bytes: 4000 },
            max_body: 1 << 20,
            linger: Duration::from_secs(3),
            verify_safe: false,
            ignored: Vec::new(),
            noise: None,
            cohorts: None,
        }),
        metrics: Arc::new(Metrics::new()),
        route_events: Arc::new(RouteEvents::new(clock::now())),
        seed,
    });
    let (quiet, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> =
        (0..CLIENTS)
            .map(|number| tokio::spawn(Arc::clone(&simulation).client(number, Arc::clone(&quiet), Arc::clone(&done))))
            .chain((1..=WRITERS).map(|number| {
                tokio::spawn(Arc::clone(&simulation).writer(number, Arc::clone(&quiet), Arc::clone(&done)))
            }))
            .collect();
    for _ in 0..60 {
        sleep(Duration::from_millis(rng.u64(..2500))).await;
        world.counters[rng.usize(..RESOURCES as usize)].fetch_add(1, Ordering::SeqCst);
        world.failing.store(rng.u8(..4) == 0, Ordering::SeqCst);
        if rng.u8(..3) == 0 {
            // A write passed through the proxy.
            simulation.route_events.publish(Trigger::Write, clock::now());
        }
    }
    world.failing.store(false, Ordering::SeqCst);
    quiet.store(true, Ordering::SeqCst);
    // One fetch, however long its interval has become, however slow the upstream and the client are.
    sleep(EVERY_MAX * 2 + Duration::from_secs(10)).await;
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(
        world.most_in_flight.load(Ordering::SeqCst) <= budget_options.max_fetches,
        "more fetches of a time than may be"
    );
    // Nobody watches any more: after the linger time nothing is kept, and nothing is asked.
    sleep(Duration::from_secs(10)).await;
    assert!(simulation.hub.is_empty(), "resources that nobody watches are kept");
    let fetches = world.fetches.load(Ordering::SeqCst);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.fetches.load(Ordering::SeqCst), fetches, "fetches that nobody waits for");
    world.patches.load(Ordering::SeqCst)
}

#[test]
fn the_promises_hold_whatever_the_seed() {
    let mut patches = 0;
    for seed in 0..120 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed))));
        patches += outcome.unwrap_or_else(|_| panic!("seed {seed} breaks a promise"));
    }
    assert!(patches > 1000, "only {patches} patches were tried");
}
