//! The whole program between clients of every kind and an application that lags, fails and changes, against what the application
//! says. Seeded.
//!
//! Whatever happens, everybody ends with the application's state, and nobody is told of another's state, of one older than
//! he has seen, or of one from before his own write.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{self, Connection, Response};
use crate::support::eventually;
use crate::support::follower::{Follower, Form, Heard, Over};
use crate::support::program::{Program, Scratch};

const PEOPLE: usize = 6;
const CLIENTS: usize = 21;
const PATHS: [&str; 2] = ["/state", "/held"];

/// What a stream tells was on its way for no longer than this.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// The application: one count for each person.
struct World {
    counts: [AtomicU64; PEOPLE],
    rng: Mutex<fastrand::Rng>,
    calm: AtomicBool,
}

/// The person that a cookie belongs to, and the count; or of whom a state is.
fn numbers(text: &str) -> (usize, u64) {
    let mut runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    let mut next = || runs.next().and_then(|run| run.parse::<u64>().ok()).unwrap_or_else(|| panic!("{text:?}"));
    (usize::try_from(next()).unwrap(), next())
}

impl World {
    fn roll(&self, below: u64) -> u64 {
        self.rng.lock().unwrap().u64(..below)
    }

    fn happens(&self, once_in: u64) -> bool {
        self.roll(once_in) == 0 && !self.calm.load(Ordering::SeqCst)
    }

    fn state(&self, seen: &Seen) -> Page {
        let Some(cookie) = seen.header("cookie") else { return Page::text("who?").status(401) };
        let (who, _) = numbers(cookie);
        let n = self.counts[who].load(Ordering::SeqCst);
        let delay = Duration::from_millis(self.roll(40));
        if self.happens(15) {
            return Page::text("no").status(503).delay(delay);
        }
        if seen.is_fetch() && self.happens(20) {
            return Page::dropped();
        }
        let pad = "x".repeat(100);
        let page = if self.happens(12) {
            Page::text(&format!("who {who} n {n} {pad}"))
        } else {
            Page::json(&format!("{{\"a\":{who},\"n\":{n},\"pad\":\"{pad}\"}}"))
        };
        if seen.is_fetch() && self.happens(20) { page.truncate(20) } else { page }.delay(delay)
    }

    fn write(&self, seen: &Seen) -> Page {
        let (who, _) = numbers(seen.header("cookie").unwrap());
        let n = self.counts[who].fetch_add(1, Ordering::SeqCst) + 1;
        // What fails may have been done.
        let page = Page::text(&format!("{who} {n}"));
        if self.happens(10) { page.status(500) } else { page }.delay(Duration::from_millis(self.roll(20)))
    }
}

/// What one client knows.
struct Known {
    who: usize,
    cookie: Mutex<String>,
    /// The newest state that it was shown, and that its stream tells.
    shown: AtomicU64,
    told: AtomicU64,
    writes: Mutex<Vec<(u64, Instant)>>,
}

impl Known {
    fn cookie(&self) -> String {
        self.cookie.lock().unwrap().clone()
    }

    /// Whatever is asked for from now on is no older than this.
    fn floor(&self) -> u64 {
        self.shown.load(Ordering::SeqCst)
    }

    fn show(&self, n: u64) {
        self.shown.fetch_max(n, Ordering::SeqCst);
    }

    /// The last write that was answered so long ago that no event from before it is on its way.
    fn written(&self) -> u64 {
        let writes = self.writes.lock().unwrap();
        writes.iter().rev().find(|(_, at)| at.elapsed() > ON_ITS_WAY).map_or(0, |(n, _)| *n)
    }

    fn check(&self, state: &str, least: u64, what: &str) -> u64 {
        let (who, n) = numbers(state);
        assert_eq!(who, self.who, "{what}: another's state");
        assert!(n >= least, "{what}: {n} after {least}");
        n
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    let members = into.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Follows by one kind of stream, again and again.
async fn follow(known: Arc<Known>, address: SocketAddr, target: String, form: Form, mut rng: fastrand::Rng) {
    let (mut version, mut held, mut told) = (None::<String>, String::new(), 0);
    loop {
        let over = if form == Form::WebSocket || rng.bool() { Over::H1 } else { Over::H2 };
        // What is not presented is forgotten.
        version = version.filter(|_| rng.bool());
        let since = version.clone();
        let delta = (form.has_deltas() && rng.bool()).then_some("merge-patch");
        let what = format!("{} follows {target} by {form:?} over {over:?} since {since:?}", known.who);
        let floor = known.floor().max(told);
        let opened =
            Follower::open_as(form, over, address, &target, since.as_deref(), delta, Some(&known.cookie())).await;
        let kind = opened.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let is_stream = opened.status == 101
            || (opened.status == 200
                && kind.is_some_and(|(_, kind)| kind != "application/json" && kind != "text/plain"));
        let mut stream = Some(opened).filter(|_| is_stream);
        while let Some(follower) = &mut stream {
            match follower.next().await {
                Some(Heard::Snapshot { version: given, body, .. }) => {
                    version = given;
                    held = String::from_utf8(body).unwrap();
                }
                Some(Heard::Patch { base, version: given, patch }) => {
                    assert!(base.is_none() || base == version, "{what}: a patch of {base:?} for {version:?}");
                    let mut state = serde_json::from_str(&held).unwrap();
                    merge(&mut state, &serde_json::from_str(&patch).unwrap());
                    (version, held) = (Some(given), state.to_string());
                }
                Some(Heard::Stale(_) | Heard::Live | Heard::Tick(_)) => continue,
                Some(Heard::End(_)) | None => break,
            }
            told = known.check(&held, floor.max(told).max(known.written()), &what);
            known.told.store(told, Ordering::SeqCst);
            known.show(told);
            if rng.u8(..25) == 0 {
                stream = None;
            }
        }
        drop(stream);
        sleep(Duration::from_millis(rng.u64(5..60))).await;
    }
}

/// Polls plainly and held, writes, and has its cookie replaced.
async fn poll(known: Arc<Known>, world: Arc<World>, address: SocketAddr, target: String, mut rng: fastrand::Rng) {
    let mut held: Option<(String, u64)> = None;
    while !world.calm.load(Ordering::SeqCst) {
        let cookie = known.cookie();
        let what = format!("{} polls {target}", known.who);
        match rng.u8(..12) {
            0 => {
                let answer = send(address, "POST", "/write", &cookie, b"x").await;
                let n = known.check(answer.text(), 0, "a write");
                known.show(n);
                known.writes.lock().unwrap().push((n, Instant::now()));
            }
            1 => {
                let answer = send(address, "GET", "/rotate", &cookie, b"").await;
                let given = answer.header("set-cookie").and_then(|line| line.split(';').next()).unwrap();
                *known.cookie.lock().unwrap() = given.to_owned();
            }
            kind => {
                let floor = known.floor();
                let mut headers = vec![("Cookie", cookie.as_str())];
                headers.extend((kind == 2).then_some(("Prefer", "wait=1")));
                headers.extend((kind == 3).then_some(("Accept", "application/json")));
                let validator = held.clone().filter(|_| rng.bool());
                headers.extend(validator.as_ref().map(|(tag, _)| ("If-None-Match", tag.as_str())));
                let answer = client::get(address, &target, &headers).await;
                match (answer.status, &validator) {
                    (200, _) => {
                        let n = known.check(answer.text(), floor, &what);
                        known.show(n);
                        held = answer.header("etag").map(|tag| (tag.to_owned(), n));
                    }
                    (304, Some((_, n))) => assert!(*n >= floor, "{what}: {n} is current after {floor}"),
                    (status, _) => assert!(status >= 500, "{what}: {status}"),
                }
            }
        }
        sleep(Duration::from_millis(rng.u64(5..150))).await;
    }
}

async fn send(address: SocketAddr, method: &str, path: &str, cookie: &str, body: &[u8]) -> Response {
    Connection::open(address).await.request(method, path, &[("Cookie", cookie)], body).await
}

fn configuration(backend: &Backend, turn: u64) -> String {
    let route = |path: &str, more: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nevery = \"80ms\"\nevery_max = \"{}ms\"\nheartbeat = \"1s\"\n{more}",
            200 + turn % 3
        )
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nh2c = true\n[upstream]\nurl = \"{}\"\n{}{}",
        backend.url(),
        route("/state", ""),
        route("/held", "hold = \"400ms\"\n")
    )
}

/// Panics as the first of the tasks has that did; one that was aborted did not.
async fn failure(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        if let Err(ended) = task.await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_sees_what_he_would_see_without_us_and_nothing_older_or_anothers() {
    let seconds = std::env::var("DIFFERENTIAL_SECONDS").map_or(12, |seconds| seconds.parse().unwrap());
    let seed = std::env::var("DIFFERENTIAL_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("DIFFERENTIAL_SEED={seed} DIFFERENTIAL_SECONDS={seconds}");
    let backend = Backend::start().await;
    let world = Arc::new(World {
        counts: std::array::from_fn(|_| AtomicU64::new(0)),
        rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        calm: AtomicBool::new(false),
    });
    for path in PATHS {
        let world = Arc::clone(&world);
        backend.handle(path, move |seen| world.state(seen));
    }
    let writes = Arc::clone(&world);
    backend.handle("/write", move |seen| writes.write(seen));
    let rotates = Arc::clone(&world);
    backend.handle("/rotate", move |seen| {
        let (who, _) = numbers(seen.header("cookie").unwrap());
        Page::text("")
            .header("Set-Cookie", &format!("sid={who}-{}-a-session-of-somebody; Path=/", rotates.roll(1 << 30)))
    });
    let scratch = Scratch::new("differential");
    let file = scratch.write("sungrazer.toml", &configuration(&backend, 0));
    let program = Program::start(&["-c", &file]).await;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut clients = Vec::new();
    let (mut polls, mut streams) = (Vec::new(), Vec::new());
    for number in 0..CLIENTS {
        let who = number % PEOPLE;
        let known = Arc::new(Known {
            who,
            // A session of its own: those of one person write what the others read.
            cookie: Mutex::new(format!("sid={who}-{number}-a-session-of-somebody")),
            shown: AtomicU64::new(0),
            told: AtomicU64::new(0),
            writes: Mutex::default(),
        });
        let target = rng.choice(PATHS).unwrap().to_owned();
        let form = Form::ALL[number % Form::ALL.len()];
        let (one, other) = (rng.fork(), rng.fork());
        streams.push(tokio::spawn(follow(Arc::clone(&known), program.address, target.clone(), form, one)));
        polls.push(tokio::spawn(poll(Arc::clone(&known), Arc::clone(&world), program.address, target.clone(), other)));
        clients.push((known, target));
    }
    let begun = Instant::now();
    for turn in 1.. {
        if begun.elapsed() > Duration::from_secs(seconds) || polls.iter().chain(&streams).any(JoinHandle::is_finished) {
            break;
        }
        sleep(Duration::from_millis(rng.u64(300..1200))).await;
        scratch.write("sungrazer.toml", &configuration(&backend, turn));
    }
    world.calm.store(true, Ordering::SeqCst);
    eventually("polls to end", || polls.iter().all(JoinHandle::is_finished)).await;
    failure(polls).await;
    let ends = |known: &Known| world.counts[known.who].load(Ordering::SeqCst);
    let is_done = || clients.iter().all(|(known, _)| known.told.load(Ordering::SeqCst) == ends(known));
    let began = Instant::now();
    while !is_done() && !streams.iter().any(JoinHandle::is_finished) {
        let behind = clients.iter().find(|(known, _)| known.told.load(Ordering::SeqCst) != ends(known));
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?} is behind",
            behind.map(|(known, target)| (known.who, target, known.told.load(Ordering::SeqCst), ends(known)))
        );
        sleep(Duration::from_millis(20)).await;
    }
    for (known, target) in &clients {
        let answer = client::get(program.address, target, &[("Cookie", &known.cookie())]).await;
        assert_eq!(numbers(answer.text()), (known.who, ends(known)));
    }
    streams.iter().for_each(JoinHandle::abort);
    failure(streams).await;
}
