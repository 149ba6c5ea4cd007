//! What changes by itself hurries no page, and news beside it is told at once.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use sungrazer::clock;
use sungrazer::deliver::{
    MULTIPLEX, MULTIPLEX_EXACT, Source, StreamFormat, SubscribeRequest, UrlSubscription, UrlSubscriptions,
};
use sungrazer::hub::{Hub, NewResource, Options as HubOptions};
use sungrazer::model::{Identity, Origin, Representation, RequestContext, ResourceKey, RouteId, Scheme, Validators};
use sungrazer::normalise::Rules;
use sungrazer::poll::{BudgetOptions, FetchLimiter, FetchRequest, Fetcher, Poller, ScheduleOptions, WatchConfig};
use sungrazer::resource::{
    FetchOutcome, HistoryOptions, NOISE_LASTS, Resource, ResourceRegistry, RouteEvents, TaskNotify, WaitLimit,
};
use sungrazer::telemetry::Metrics;
use tokio::time::{Instant, sleep, timeout};

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events, get};
use crate::support::program::{Program, Scratch};
use crate::support::sidecar::LOCAL;
use crate::support::{eventually, within};

const EVERY: Duration = Duration::from_millis(500);
const PACE: Duration = Duration::from_secs(5);

/// How long a simulation goes on.
const LASTS: Duration = Duration::from_secs(140);

/// An application: a clock and other noise, and jobs that come and go.
struct World {
    start: Instant,
    noise: [bool; 6],
    form: &'static str,
    asked: AtomicU64,
    rng: Mutex<fastrand::Rng>,
    /// How many jobs there are from when on.
    jobs: Vec<(Duration, u64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut at = Duration::ZERO;
        let jobs = (0..9).map(|n| {
            at += Duration::from_millis(rng.u64(3_000..30_000));
            (at, n * 7 % 5 + 10 * n + 1)
        });
        let jobs = jobs.collect();
        let noise = std::array::from_fn(|_| rng.u8(..3) == 0);
        let form = ["application/json", "text/html", "text/plain"][(seed % 3) as usize];
        let rng = Mutex::new(rng);
        Self { start: clock::now(), noise, form, asked: AtomicU64::new(0), rng, jobs }
    }

    fn jobs(&self, at: Duration) -> u64 {
        self.jobs.iter().rev().find(|(from, _)| *from <= at).map_or(0, |(_, jobs)| *jobs)
    }

    fn body(&self) -> String {
        let passed = clock::now().duration_since(self.start);
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut rng = self.rng.lock().unwrap();
        let seconds = 43_200 + passed.as_secs();
        let values = [
            ("now", format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)),
            ("millis", format!("{}", 1_763_809_200_000 + passed.as_millis())),
            ("served", format!("{asked}")),
            ("token", format!("{:08x}{:08x}", rng.u32(..), rng.u32(..))),
            ("load", format!("0.{}", rng.u8(10..99))),
            ("uptime", format!("{} s", 90_000 + passed.as_secs())),
        ];
        let said = values.into_iter().zip(self.noise).filter(|(_, is_there)| *is_there).map(|(value, _)| value);
        let jobs = self.jobs(passed);
        // The test is told when a body was made.
        match self.form {
            "application/json" => {
                let noise: String = said.map(|(name, value)| format!("\"{name}\":\"{value}\",")).collect();
                format!("{{{noise}\"jobs\":{jobs},\"title\":\"of all that waits\"}}")
            }
            "text/html" => {
                let noise: String =
                    said.map(|(name, value)| format!("<li>{name} is <b id={name}>{value}</b></li>")).collect();
                format!("<html><body><ul>{noise}</ul><p>jobs: <i id=jobs>{jobs}</i></p></body></html>")
            }
            _ => {
                let noise: String = said.map(|(name, value)| format!("the {name} is {value}\n")).collect();
                format!("a report\n{noise}jobs: {jobs} of all that waits\n")
            }
        }
    }

    fn jobs_of(body: &str) -> u64 {
        let (_, behind) = body.rsplit_once("jobs").unwrap();
        let digits = behind.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }
}

#[async_trait]
impl Fetcher for World {
    async fn fetch(&self, _request: &FetchRequest<'_>) -> FetchOutcome {
        sleep(Duration::from_millis(3)).await;
        FetchOutcome::Fresh(Representation {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(self.form))]),
            body: Bytes::from(self.body()),
            validators: Validators::default(),
            coded: None,
            sets_cookie: false,
            ahead: 0,
        })
    }
}

/// A client that follows, and what it was told and when.
struct Follower {
    subscriptions: UrlSubscriptions,
    format: &'static dyn StreamFormat,
    notify: Arc<TaskNotify>,
    told: Vec<(Duration, Value)>,
}

impl Follower {
    fn collect(&mut self, start: Instant) {
        let mut frames = Vec::new();
        let now = clock::now();
        self.subscriptions.collect(self.format, None, &self.notify, now, &mut frames);
        for frame in frames {
            let text = String::from_utf8(frame.payload().to_vec()).unwrap();
            let record = serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
            self.told.push((now.duration_since(start), record));
        }
    }

    fn states(&self) -> Vec<(Duration, u64)> {
        let states = self.told.iter().filter(|(_, record)| record["event"] == "snapshot");
        let body = |record: &Value| match &record["body"] {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        states.map(|(at, record)| (*at, World::jobs_of(&body(record)))).collect()
    }
}

async fn simulate(seed: u64) {
    let world = Arc::new(World::new(seed));
    let hub = Arc::new(Hub::new(HubOptions::default(), seed));
    let limiter = FetchLimiter::new(BudgetOptions::default());
    let metrics = Metrics::new();
    let config = Arc::new(WatchConfig {
        route: "/*".into(),
        // Always at the same interval: when to fetch is not what is tried here.
        schedule: ScheduleOptions {
            every: EVERY,
            every_max: EVERY,
            refresh_gap: Duration::from_millis(50),
            effort: None,
        },
        rules: Arc::new(Rules::default()),
        history: HistoryOptions { versions: 8, bytes: 1 << 20 },
        max_body: 1 << 20,
        linger: Duration::from_secs(3),
        verify_safe: false,
        ignored: Vec::new(),
        noise: Some(Arc::default()),
        cohorts: None,
    });
    let route_events = Arc::new(RouteEvents::new(clock::now()));
    let key = ResourceKey {
        route: RouteId(1),
        origin: Origin { scheme: Scheme::Http, host: "sim".into(), public: "sim".into() },
        target: "/jobs".into(),
        variant: Arc::new([]),
        context: RequestContext::default(),
        identity: Identity::full(Vec::new()),
        body: None,
    };
    let start = world.start;
    let spawn = |resource: Arc<Resource>| {
        let poller = Poller {
            resource,
            config: Arc::clone(&config),
            fetcher: Arc::clone(&world),
            limiter: Arc::clone(&limiter),
            registry: Arc::clone(&hub) as Arc<dyn ResourceRegistry>,
            metrics: metrics.route(&config.route),
            seed,
        };
        tokio::spawn(poller.run());
    };
    let follow = |format: &'static dyn StreamFormat, page: bool| {
        let notify = Arc::<TaskNotify>::default();
        let new_resource = NewResource { events: &route_events, spawn_poller: spawn };
        let mut joined = hub.join(&key, None, "sim", Arc::clone(&notify), clock::now(), new_resource).unwrap();
        joined.set_client_interval(PACE);
        let asked = SubscribeRequest { url: "/jobs".into(), interval: Some(PACE), page, ..SubscribeRequest::default() };
        let follower = UrlSubscription::new(asked, Source::Resource(joined), None, "sim", metrics.route(&config.route))
            .marked(Some("them".to_owned()));
        Follower { subscriptions: UrlSubscriptions::one(follower), format, notify, told: Vec::new() }
    };
    let mut script = follow(&MULTIPLEX_EXACT, false);
    let mut page = follow(&MULTIPLEX_EXACT, true);
    let mut plain = follow(&MULTIPLEX, false);
    let resource = hub.get(&key).unwrap();
    let (mut asks, mut hurried) = (start + PACE, 0);
    while clock::now() < start + LASTS {
        for follower in [&mut script, &mut page, &mut plain] {
            follower.collect(start);
        }
        let now = clock::now();
        if now >= asks {
            // The page's own poll, which the script lets pass if it was told that what it holds is old.
            asks = now + PACE;
            hurried += 1;
            let is_noisy = resource.state().is_noisy();
            let since = if is_noisy { now - NOISE_LASTS } else { now - EVERY * 2 };
            let patience = WaitLimit { begin: Duration::from_secs(1), end: Duration::from_secs(1) };
            let state = resource.fetch_since(since, now, patience).await.expect("an answer");
            assert!(state.last_success.unwrap().started >= since);
            continue;
        }
        let due = [&script, &page, &plain].into_iter().filter_map(|follower| follower.subscriptions.due()).min();
        assert!(due.is_none_or(|due| due > now), "seed {seed}: an alarm that goes off all the time");
        let until = due.unwrap_or(asks).min(asks);
        let woken = async {
            tokio::select! {
                () = script.notify.notified() => {}
                () = page.notify.notified() => {}
                () = plain.notify.notified() => {}
            }
        };
        let _ = timeout(until.saturating_duration_since(now), woken).await;
    }
    assert!(hurried > 20);
    let minute = Duration::from_secs(60);
    let soon = EVERY.mul_f64(1.1) + Duration::from_millis(100);
    for (name, follower) in [("script", &script), ("page", &page), ("plain", &plain)] {
        let states = follower.states();
        for (at, jobs) in world.jobs.iter().filter(|(at, _)| *at + soon < LASTS) {
            let is_last_of_its_kind = world.jobs.iter().all(|(other, _)| other <= at || *other > *at + soon);
            let told = states.iter().find(|(when, told)| when >= at && told == jobs);
            assert!(
                told.is_some_and(|(when, _)| *when <= *at + soon) || !is_last_of_its_kind,
                "seed {seed} {}: {jobs} jobs at {at:?}, {name} was told at {:?}",
                world.form,
                told.map(|(when, _)| when)
            );
        }
        // Beside news there is noise at a pace of the client's own, or not at all.
        let news = |when: Duration| world.jobs.iter().any(|(at, _)| when >= *at && when <= *at + soon);
        let noise: Vec<Duration> =
            states.iter().map(|(when, _)| *when).filter(|when| *when > minute && !news(*when)).collect();
        let paces = u32::try_from((LASTS - minute).as_secs() / PACE.as_secs()).unwrap();
        let most = if name == "script" { 0 } else { paces as usize + 1 };
        assert!(
            noise.len() <= most,
            "seed {seed} {} {:?}: {name} was hurried {} times: {:?} {:?}",
            world.form,
            world.noise,
            noise.len(),
            noise,
            resource.state().noise
        );
        // Nobody who has no other way to see noise is left without it.
        if name != "script" && resource.state().is_noisy() {
            assert!(noise.len() + 14 >= paces as usize, "seed {seed}: {name} had noise {} times", noise.len());
        }
    }
}

#[test]
fn news_is_told_at_once_and_noise_hurries_nobody_whatever_the_seed() {
    for seed in 0..15 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed));
    }
}

async fn follow(program: &Program, what: Value) -> Events {
    Events::post(program.address, "/.sungrazer/stream", &json!({ "follow": [what], "exact": true }).to_string()).await
}

async fn record(events: &mut Events) -> Value {
    serde_json::from_str(&within("a record", events.next()).await.expect("a record").data).unwrap()
}

fn millis() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_a_clock_is_told_of_news_alone_and_shows_the_clock_when_it_asks() {
    let backend = Backend::start().await;
    let jobs = Arc::new(AtomicU64::new(1));
    let shown = Arc::clone(&jobs);
    backend.handle("/api/status", move |_| {
        Page::json(&format!("{{\"now\":{},\"jobs\":{}}}", millis(), shown.load(Ordering::SeqCst)))
    });
    let scratch = Scratch::new("noise");
    let route = "[[route]]\npath = \"/**\"\nevery = \"100ms\"\nevery_max = \"100ms\"\nnoise = \"learn\"\n";
    let file = scratch.write("sungrazer.toml", &format!("[upstream]\nurl = \"{}\"\n{route}", backend.url()));
    let program = Program::start(&["run", "-c", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut events = follow(&program, json!({ "url": "/api/status", "every": 60_000 })).await;
    let why = || async {
        let text = get(program.admin, "/api/why?url=/api/status", &[LOCAL]).await.text().to_owned();
        serde_json::from_str::<Value>(&text).ok()
    };
    // A page that asks once a minute is not told of a clock.
    let mut first = record(&mut events).await;
    while first["event"] != "down" {
        first = record(&mut events).await;
    }
    assert!(timeout(Duration::from_secs(2), events.next()).await.is_err(), "it was hurried by a clock");
    let told = why().await.unwrap();
    assert_eq!(told["resources"][0]["noise"][0]["rule"], "/now", "{told}");
    // But it shows what it is, when it asks.
    let mut client = Connection::open(program.address).await;
    for _ in 0..5 {
        let before = millis();
        let answer = client.get("/api/status", &[("Sungrazer-Poll", "/api/status")]).await;
        let now: Value = serde_json::from_str(answer.text()).unwrap();
        assert!(u128::from(now["now"].as_u64().unwrap()) + 300 >= before, "an old clock: {now}, at {before}");
        sleep(Duration::from_millis(120)).await;
    }
    // News is news.
    jobs.store(2, Ordering::SeqCst);
    let began = Instant::now();
    let news = record(&mut events).await;
    assert_eq!(serde_json::from_str::<Value>(news["body"].as_str().unwrap()).unwrap()["jobs"], 2, "{news}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(record(&mut events).await["event"], "down", "the clock goes on");
    // Whoever wants to write it down is told once.
    let line = program.log_line("what changes there by itself").await;
    assert!(line.contains("ignore.json = [") && line.contains("/now"), "{line}");
    assert_eq!(program.log().matches("what changes there by itself").count(), 1);
    let metrics = get(program.admin, "/metrics", &[LOCAL]).await.text().to_owned();
    assert!(!metrics.contains("sungrazer_noise_total{route=\"/**\"} 0"), "nothing was counted");
    // Somebody else's stream, which does not say how often it would ask, has the clock once in a while, not each time.
    let mut other = Events::open(program.address, "/api/status", &[]).await;
    other.snapshot().await;
    assert!(timeout(Duration::from_secs(1), other.next()).await.is_err(), "a stream was woken by a clock");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_learning_all_is_news() {
    let backend = Backend::start().await;
    backend.handle("/api/status", |_| Page::json(&format!("{{\"now\":{}}}", millis())));
    let scratch = Scratch::new("noise-off");
    let route = "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";
    let file = scratch.write("sungrazer.toml", &format!("[upstream]\nurl = \"{}\"\n{route}", backend.url()));
    let program = Program::start(&["run", "-c", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut events = Events::open(program.address, "/api/status", &[]).await;
    for _ in 0..30 {
        events.snapshot().await;
    }
    eventually("the fetches", || backend.hits("/api/status") >= 30).await;
}
