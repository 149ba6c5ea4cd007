//! How often is fetched where nobody has said: what it costs an application, and how soon changes are found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use sungrazer::clock;
use sungrazer::hub::{Hub, NewResource, Options as HubOptions};
use sungrazer::model::{Identity, Origin, Representation, RequestContext, ResourceKey, RouteId, Scheme, Validators};
use sungrazer::normalise::Rules;
use sungrazer::poll::{
    BudgetOptions, Effort, FetchLimiter, FetchRequest, Fetcher, Poller, ScheduleOptions, WatchConfig,
};
use sungrazer::resource::{
    Failure, FetchOutcome, HistoryOptions, Resource, ResourceRegistry, RouteEvents, Subscription, TaskNotify,
};
use sungrazer::telemetry::Metrics;
use tokio::time::{Instant, sleep};

use crate::support::backend::{Backend, Page};
use crate::support::client::Events;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// An application whose answers take so many milliseconds.
#[derive(Default)]
struct World {
    takes: AtomicU64,
    count: AtomicU64,
    fetches: AtomicUsize,
    limits: AtomicBool,
}

#[async_trait]
impl Fetcher for World {
    async fn fetch(&self, _request: &FetchRequest<'_>) -> FetchOutcome {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(self.takes.load(Ordering::SeqCst))).await;
        if self.limits.load(Ordering::SeqCst) {
            let text = "too many".to_owned();
            return FetchOutcome::Failed(Failure {
                status: Some(429),
                retry_after: Some(Duration::from_secs(20)),
                text,
            });
        }
        FetchOutcome::Fresh(Representation {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(self.count.load(Ordering::SeqCst).to_string()),
            validators: Validators::default(),
            coded: None,
            sets_cookie: false,
            ahead: 0,
        })
    }
}

struct Simulation {
    world: Arc<World>,
    hub: Arc<Hub>,
    limiter: Arc<FetchLimiter>,
    config: Arc<WatchConfig>,
    events: Arc<RouteEvents>,
    metrics: Metrics,
}

impl Simulation {
    fn new(takes: u64) -> Self {
        let world = World { takes: AtomicU64::new(takes), ..World::default() };
        let config = WatchConfig {
            route: "/*".into(),
            schedule: ScheduleOptions { effort: Some(Effort(10_000)), ..ScheduleOptions::default() },
            rules: Arc::new(Rules::default()),
            history: HistoryOptions::default(),
            max_body: 1 << 20,
            linger: Duration::from_secs(3),
            verify_safe: false,
            ignored: Vec::new(),
            noise: None,
            cohorts: None,
        };
        Self {
            world: Arc::new(world),
            hub: Arc::new(Hub::new(HubOptions::default(), 1)),
            limiter: FetchLimiter::new(BudgetOptions::default()),
            config: Arc::new(config),
            events: Arc::new(RouteEvents::new(clock::now())),
            metrics: Metrics::new(),
        }
    }

    /// A client follows one of the resources, and would ask each `pace`.
    fn follow(&self, number: usize, pace: Option<Duration>) -> Subscription {
        let key = ResourceKey {
            route: RouteId(1),
            origin: Origin { scheme: Scheme::Http, host: "sim".into(), public: "sim".into() },
            target: format!("/{number}").into(),
            variant: Arc::new([]),
            context: RequestContext::default(),
            identity: Identity::full(Vec::new()),
            body: None,
        };
        let spawn_poller = |resource: Arc<Resource>| {
            let poller = Poller {
                resource,
                config: Arc::clone(&self.config),
                fetcher: Arc::clone(&self.world),
                limiter: Arc::clone(&self.limiter),
                registry: Arc::clone(&self.hub) as Arc<dyn ResourceRegistry>,
                metrics: self.metrics.route(&self.config.route),
                seed: number as u64,
            };
            tokio::spawn(poller.run());
        };
        let new_resource = NewResource { events: &self.events, spawn_poller };
        let notify = Arc::<TaskNotify>::default();
        let mut joined = self.hub.join(&key, None, "sim", notify, clock::now(), new_resource).unwrap();
        if let Some(pace) = pace {
            joined.set_client_interval(pace);
        }
        joined
    }

    fn fetches(&self) -> usize {
        self.world.fetches.load(Ordering::SeqCst)
    }

    /// Fetches in the next so many seconds.
    async fn in_seconds(&self, seconds: u64) -> usize {
        let before = self.fetches();
        sleep(Duration::from_secs(seconds)).await;
        self.fetches() - before
    }
}

const PACE: Option<Duration> = Some(Duration::from_secs(5));

#[tokio::test(start_paused = true)]
async fn it_begins_gently_and_goes_as_far_as_the_effort_allows() {
    for (takes, most) in [(1, 72), (10, 60), (50, 12)] {
        let simulation = Simulation::new(takes);
        let _tab = simulation.follow(1, PACE);
        let first = simulation.in_seconds(15).await;
        assert!((3..=10).contains(&first), "{first} fetches of {takes} ms in the first three intervals");
        sleep(Duration::from_secs(60)).await;
        let fetches = simulation.in_seconds(60).await;
        assert!(fetches <= most && fetches * 5 >= most * 4, "{fetches} fetches of {takes} ms in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_an_hour_is_found_as_soon_as_any() {
    let simulation = Simulation::new(1);
    let tab = simulation.follow(1, PACE);
    sleep(Duration::from_secs(3600)).await;
    simulation.world.count.fetch_add(1, Ordering::SeqCst);
    let changed = Instant::now();
    while tab.resource().state().newest().unwrap().representation.body != "1" {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(changed.elapsed() <= Duration::from_millis(940), "{:?}", changed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_learns_later_than_by_asking_himself_whatever_it_costs() {
    let simulation = Simulation::new(900);
    let _tab = simulation.follow(1, PACE);
    sleep(Duration::from_secs(60)).await;
    let fetches = simulation.in_seconds(300).await;
    assert!((58..=62).contains(&fetches), "{fetches} fetches in sixty intervals");
}

#[tokio::test(start_paused = true)]
async fn a_busy_application_and_one_that_says_it_is_too_much_are_left_alone() {
    let simulation = Simulation::new(1);
    let _tab = simulation.follow(1, PACE);
    sleep(Duration::from_secs(60)).await;
    assert!(simulation.in_seconds(10).await > 8);
    simulation.world.takes.store(200, Ordering::SeqCst);
    sleep(Duration::from_secs(5)).await;
    let busy = simulation.in_seconds(20).await;
    assert!(busy <= 5, "{busy} fetches in four intervals of a busy application");
    simulation.world.takes.store(1, Ordering::SeqCst);
    sleep(Duration::from_secs(180)).await;
    assert!(simulation.in_seconds(10).await > 8);
    simulation.world.limits.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(1)).await;
    simulation.world.limits.store(false, Ordering::SeqCst);
    assert_eq!(simulation.in_seconds(15).await, 0, "it asked for a rest");
    let fetches = simulation.in_seconds(60).await;
    assert!((11..=14).contains(&fetches), "{fetches} fetches in twelve intervals of a page");
}

#[tokio::test(start_paused = true)]
async fn all_resources_together_take_five_times_the_effort() {
    let simulation = Simulation::new(4);
    let tabs: Vec<_> = (0..60).map(|number| simulation.follow(number, None)).collect();
    sleep(Duration::from_secs(120)).await;
    let fetches = simulation.in_seconds(60).await;
    let busy = fetches as f64 * 0.004 / 60.0;
    assert!((0.03..=0.055).contains(&busy), "{fetches} fetches: {busy} of a worker");
    drop(tabs);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(simulation.in_seconds(60).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_finds_changes_sooner_than_a_page_would() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("0"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\n");
    let asked = json!({ "follow": [{ "url": "/a", "every": 2000 }], "exact": true });
    let mut events = Events::post(sidecar.address, "/.sungrazer/stream", &asked.to_string()).await;
    within("the first state", events.next()).await.unwrap();
    let interval = || sidecar.server.gateway().hub.resources().first().map_or(0, |it| it.interval().as_millis());
    eventually("fetches to become frequent", || (240..=1500).contains(&interval())).await;
    for n in 1..4 {
        backend.set("/a", Page::text(&n.to_string()));
        let record = within("the change", events.next()).await.unwrap();
        assert!(record.data.contains(&format!("\"body\":\"{n}\"")), "{}", record.data);
    }
}

/// What it costs an application whose answers take 3 ms, next to no Sungrazer: run with `--ignored --nocapture`, and alone.
#[tokio::test(start_paused = true)]
#[ignore = "prints a table for docs/guide/changes.md"]
async fn what_it_costs() {
    const TAKES: u64 = 3;
    println!(
        "| tabs, each polling every 5 s | without: requests and work an hour | with: requests and work an hour | a change after an hour is found after |"
    );
    println!("| ---: | ---: | ---: | ---: |");
    for tabs in [1_usize, 10, 100] {
        let simulation = Simulation::new(TAKES);
        let held: Vec<_> = (0..tabs).map(|_| simulation.follow(1, PACE)).collect();
        let fetches = simulation.in_seconds(3600).await;
        let mut found = Vec::new();
        for n in 1..=10 {
            sleep(Duration::from_millis(3600 * 1000 + n * 37)).await;
            simulation.world.count.store(n, Ordering::SeqCst);
            let changed = Instant::now();
            while held[0].resource().state().newest().unwrap().representation.body != n.to_string() {
                sleep(Duration::from_millis(1)).await;
            }
            found.push(changed.elapsed());
        }
        found.sort_unstable();
        let work = |requests: usize| requests as f64 * TAKES as f64 / 1000.0;
        let without = tabs * 720;
        println!(
            "| {tabs} | {without}, {:.1} s | {fetches}, {:.1} s | {} ms (at most {} ms) |",
            work(without),
            work(fetches),
            found[found.len() / 2].as_millis(),
            found[found.len() - 1].as_millis()
        );
    }
}
