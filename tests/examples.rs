//! The examples, with real applications behind them. They need programs that `tests/run` installs, so they are only run
//! on request: `tests/run examples`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::backend::dead_port;
use crate::support::client::{Connection, Events};
use crate::support::sidecar::Sidecar;
use crate::support::within;

/// A running example: its application, and a sidecar in front of that.
struct Example {
    name: &'static str,
    _running: Running,
    environment: Vec<(&'static str, String)>,
    /// Where the application itself is.
    app: SocketAddr,
    /// Where the sidecar is.
    sidecar: SocketAddr,
    /// What the application says, which includes each request that it is asked.
    log: PathBuf,
}

fn script(name: &str, file: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join(file));
    command.env("SUNGRAZER", env!("CARGO_BIN_EXE_sungrazer")).stdin(Stdio::null());
    command
}

impl Example {
    /// Starts it by its own script, on free ports; `ports` are the variables that choose them.
    async fn start(name: &'static str, ports: &[&'static str]) -> Self {
        let mut environment = vec![("LISTEN", "127.0.0.1:0".to_owned()), ("ADMIN", "127.0.0.1:0".to_owned())];
        for port in ports {
            environment.push((*port, dead_port().await.port().to_string()));
        }
        let mut running =
            Running(script(name, "run").envs(environment.clone()).stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let (mut app, mut log) = (None, None);
        let ready = loop {
            // It may have to install something first.
            let line = tokio::time::timeout(Duration::from_secs(300), lines.next_line()).await;
            let line = line.expect("the example does not become ready").unwrap().expect("the example ended early");
            if let Some(rest) = line.strip_prefix("polled:  http://") {
                let (address, rest) = rest.split_once("/ ").unwrap();
                app = Some(address.parse().unwrap());
                log = Some(rest.split_once("asked: ").unwrap().1.trim_end_matches(')').into());
            }
            if line.starts_with("sungrazer ready") {
                break line;
            }
        };
        let sidecar = ready.split_once("listen=http://").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        // What else it says is not to block it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { name, _running: running, environment, app: app.unwrap(), sidecar, log: log.unwrap() }
    }

    /// Runs another script of the example to its end.
    async fn run(&self, file: &str) {
        let ran = script(self.name, file).envs(self.environment.clone()).output();
        let output = within(file, ran).await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// How often the application has been asked for `path`, by its own record.
    fn asked(&self, path: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(&format!("\"GET {path} "))).count()
    }
}

/// A script that stops what it started when it is asked to stop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pid) = self.0.id() else { return };
        let _ = std::process::Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status();
        for _ in 0..1000 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3; tests/run sees to it"]
async fn the_wiki_is_live() {
    let example = Example::start("wiki", &["WIKI_PORT"]).await;
    let mut events = Events::open(example.sidecar, "/wiki/text", &[]).await;
    assert_eq!(events.snapshot().await.data, include_str!("../examples/wiki/start.txt"));
    for (way, text) in [(example.app, "Written past Sungrazer."), (example.sidecar, "Written through it.")] {
        let saved = Connection::open(way).await.request("POST", "/wiki/text", &[], text.as_bytes()).await;
        assert_eq!(saved.status, 204);
        assert_eq!(within("the edit", events.snapshot()).await.data, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3; tests/run sees to it"]
async fn the_gallery_is_live() {
    let example = Example::start("gallery", &["GALLERY_PORT"]).await;
    let mut events = Events::open(example.sidecar, "/market/quotes", &[]).await;
    let mut deal = async || {
        let quotes: Value = serde_json::from_str(&within("the market", events.snapshot()).await.data).unwrap();
        quotes["deal"].as_str().unwrap().to_owned()
    };
    assert_eq!(deal().await, "none");
    for (name, way) in [("ann", example.app), ("bob", example.sidecar)] {
        let form = format!("name={name}&symbol=AKU");
        let bought = Connection::open(way).await.request("POST", "/market/buy", &[], form.as_bytes()).await;
        assert_eq!(bought.status, 204);
        within("the deal", async { while deal().await != format!("{name} buys AKU") {} }).await;
    }
}

const QUEUES: &str = "/0/data/queues.json";

/// How many jobs the newest event of a stream of queues tells of.
async fn jobs(events: &mut Events) -> u64 {
    let queues: Value = serde_json::from_str(&within("the queues", events.snapshot()).await.data).unwrap();
    queues["queues"][0]["count"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rq-dashboard and redis-server; tests/run sees to it"]
async fn a_job_that_is_queued_by_a_write_through_the_proxy_is_seen_long_before_the_next_fetch() {
    let example = Example::start("rq-dashboard", &["REDIS_PORT", "APP_PORT"]).await;
    example.run("fail").await;
    let routes = "[[route]]\npath = \"/*/data/**\"\nevery = \"30s\"\nevery_max = \"30s\"\n";
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"http://{}\"\n{routes}", example.app));
    let mut events = sidecar.events(QUEUES).await;
    assert_eq!(jobs(&mut events).await, 0, "all jobs were worked off");
    for (write, expected) in [("/requeue/default", 1), ("/queue/default/queued/empty", 0)] {
        let mut client = Connection::open(sidecar.address).await;
        let written = Instant::now();
        assert_eq!(client.request("POST", write, &[("Content-Length", "0")], b"").await.status, 200);
        let answered = Instant::now();
        assert_eq!(jobs(&mut events).await, expected, "after {write}");
        let (took, shown) = (answered - written, answered.elapsed());
        eprintln!("POST {write} was answered after {took:?} and seen {shown:?} later; fetches are made every 30 s");
        assert!(shown < Duration::from_secs(10), "seen by chance");
    }
    let why = sidecar.admin(&format!("/api/why?url={QUEUES}")).await;
    assert!(why.text().contains("\"trigger\": \"write\""), "{}", why.text());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs rq-dashboard and redis-server; tests/run sees to it"]
async fn rq_dashboard_shows_a_job_to_all_and_is_asked_as_by_one() {
    let example = Example::start("rq-dashboard", &["REDIS_PORT", "APP_PORT"]).await;
    let mut streams = vec![Events::open(example.sidecar, QUEUES, &[]).await];
    assert_eq!(jobs(&mut streams[0]).await, 1, "the example begins with one job");
    let mut asked = Vec::new();
    let window = Duration::from_secs(5);
    for (count, expected) in [(1, 2), (50, 3)] {
        while streams.len() < count {
            let mut stream = Events::open(example.sidecar, QUEUES, &[]).await;
            assert_eq!(jobs(&mut stream).await, expected - 1);
            streams.push(stream);
        }
        example.run("enqueue").await;
        for stream in &mut streams {
            assert_eq!(jobs(stream).await, expected);
        }
        // Each count begins with a change, so that both windows find the same interval.
        let before = example.asked(QUEUES);
        tokio::time::sleep(window).await;
        asked.push(example.asked(QUEUES) - before);
    }
    let [one, fifty] = asked[..] else { unreachable!() };
    eprintln!("requests at rq-dashboard in {window:?}: {one} for one stream, {fifty} for fifty");
    assert!(one >= 1, "nobody fetched");
    assert!(fifty <= one + 1, "{one} requests for one stream, {fifty} for fifty");
}
