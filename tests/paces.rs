//! Pages that say how often they would ask by themselves do not have the backend asked more than that.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::program::{Program, Scratch};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// Fetches that nobody waits for.
const EAGER: &str = "[[route]]\npath = \"/**\"\nevery = \"20ms\"\n";

/// Intervals that no test waits for, but longer ones would be allowed.
const RARE: &str = "[[route]]\npath = \"/**\"\nevery = \"30m\"\nevery_max = \"1h\"\n";

const HOUR: u32 = 3_600_000;

async fn follow(address: std::net::SocketAddr, what: Value) -> Events {
    Events::post(address, "/.sungrazer/stream", &json!({ "follow": [what], "exact": true }).to_string()).await
}

async fn record(events: &mut Events) -> Value {
    serde_json::from_str(&within("a record", events.next()).await.expect("a record").data).unwrap()
}

/// A page that is another one each time.
async fn restless() -> Backend {
    let backend = Backend::start().await;
    let count = AtomicU32::new(0);
    backend.handle("/counters", move |_| Page::text(&format!("{}", count.fetch_add(1, Ordering::Relaxed))));
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_with_every_fetch_is_fetched_as_often_as_its_page_asks() {
    let backend = restless().await;
    let scratch = Scratch::new("paces");
    let file = scratch.write("sungrazer.toml", &format!("[upstream]\nurl = \"{}\"\n{EAGER}", backend.url()));
    let program = Program::start(&["run", "-c", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        let mut events = follow(program.address, json!({ "url": "/counters", "every": 400 })).await;
        record(&mut events).await;
        tabs.push(events);
    }
    eventually("it to be known for what it is", || backend.hits("/counters") >= 8).await;
    sleep(Duration::from_millis(500)).await;
    let before = backend.hits("/counters");
    sleep(Duration::from_millis(2000)).await;
    let fetches = backend.hits("/counters") - before;
    assert!((1..=6).contains(&fetches), "{fetches} fetches in the time of five");
    // Who did not say how often he would ask is told as often as the route says.
    let mut other = Events::open(program.address, "/counters", &[]).await;
    let before = backend.hits("/counters");
    for _ in 0..20 {
        other.snapshot().await;
    }
    // One may have been under way.
    assert!(backend.hits("/counters") >= before + 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_have_what_is_restless_fetched_once_in_its_pages_interval_and_writers_see_what_they_wrote() {
    let backend = restless().await;
    backend.set("/save", Page::text("saved"));
    let eager = "[[route]]\npath = \"/**\"\nevery = \"20ms\"\nevery_max = \"2h\"\n";
    let sidecar = Sidecar::start(&backend, eager);
    let mut events = follow(sidecar.address, json!({ "url": "/counters", "every": HOUR })).await;
    record(&mut events).await;
    eventually("it to be known for what it is", || backend.hits("/counters") >= 8).await;
    sleep(Duration::from_millis(300)).await;
    let before = backend.hits("/counters");
    let mut writer = Connection::open(sidecar.address).await;
    writer.request("POST", "/save", &[], b"1").await;
    eventually("the fetch after the first write", || backend.hits("/counters") == before + 1).await;
    for n in 0..5 {
        writer.request("POST", "/save", &[], format!("text {n}").as_bytes()).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(backend.hits("/counters"), before + 1, "a fetch for each write");
    // What nobody fetched is asked for when the writer asks.
    let shown: usize = writer.get("/counters", &[]).await.text().parse().unwrap();
    assert_eq!((shown, backend.hits("/counters")), (before + 1, before + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_never_have_an_effect_are_no_reason_to_fetch_but_nothing_older_is_shown_after_them() {
    let backend = Backend::start().await;
    backend.set("/list", Page::text("one"));
    for path in ["/layouts/main", "/layouts/other", "/list/new"] {
        backend.set(path, Page::text("saved"));
    }
    let sidecar = Sidecar::start(&backend, RARE);
    let mut events = follow(sidecar.address, json!({ "url": "/list", "every": HOUR })).await;
    let version = record(&mut events).await["version"].clone();
    let mut client = Connection::open(sidecar.address).await;
    for text in ["wide", "narrow", "tall", "wider"] {
        let before = backend.hits("/list");
        client.request("PUT", "/layouts/main", &[], text.as_bytes()).await;
        eventually("the fetch after the write", || backend.hits("/list") > before).await;
        sleep(Duration::from_secs(1)).await;
    }
    let before = backend.hits("/list");
    client.request("PUT", "/layouts/other", &[], b"5").await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(backend.hits("/list"), before, "a fetch for nothing");
    // What the client holds is not confirmed before it has been fetched again, and nobody looks for that alone.
    let held = json!({ "url": "/list", "every": HOUR, "since": version, "confirm": true, "patient": true });
    let mut again = follow(sidecar.address, held).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), again.next()).await.is_err(), "it is not known");
    assert_eq!(backend.hits("/list"), before);
    // The writer's next poll is answered by a fetch, which tells all others, too.
    backend.set("/list", Page::text("two"));
    assert_eq!(client.get("/list", &[]).await.text(), "two");
    assert_eq!(backend.hits("/list"), before + 1);
    assert_eq!(record(&mut again).await["body"], "two");
    // That came soon after such a write: it may be its effect.
    client.request("PUT", "/layouts/main", &[], b"6").await;
    eventually("a fetch", || backend.hits("/list") > before + 1).await;
    // Others were a reason all along.
    let before = backend.hits("/list");
    client.request("POST", "/list/new", &[], b"x").await;
    eventually("a fetch", || backend.hits("/list") > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_rarely_is_fetched_rarely() {
    let backend = Backend::start().await;
    backend.set("/badge", Page::text("0"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\nevery = \"10ms\"\nevery_max = \"200ms\"\n");
    let mut events = follow(sidecar.address, json!({ "url": "/badge", "every": 700 })).await;
    record(&mut events).await;
    // Nothing has ever changed: fetches become rarer than `every_max`, and as rare as who follows it would ask.
    eventually("fetches to become rare", || interval(&sidecar) >= 600).await;
    drop(events);
    eventually("its leaving to be noticed", || sidecar.held() == 0).await;
    let mut other = sidecar.events("/badge").await;
    other.snapshot().await;
    eventually("fetches to come as the route says", || interval(&sidecar) <= 220).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_are_made_unique_share_the_fetches_of_what_they_ask_for() {
    let backend = Backend::start().await;
    backend.set("/list", Page::text("one"));
    backend.set("/save", Page::text("saved"));
    let sidecar = Sidecar::start(&backend, &format!("{RARE}refresh_on = []\n"));
    let mut events = follow(sidecar.address, json!({ "url": "/list?page=1", "every": HOUR })).await;
    record(&mut events).await;
    let mut client = Connection::open(sidecar.address).await;
    client.request("POST", "/save", &[], b"x").await;
    let fetches = || backend.seen("/list").len();
    let before = fetches();
    for n in 0..3 {
        let target = format!("/list?page=1&{}", 1_763_809_300_000_u64 + n);
        let answer = client.get(&target, &[("Sungrazer-Poll", "/list?page=1")]).await;
        assert_eq!((answer.text(), answer.is_from_memory()), ("one", true), "{target}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "no cache may keep it as what is at {target}");
    }
    assert_eq!(fetches(), before + 1, "the first after the write is a fetch for all");
    // Nothing else can be asked for in that way, and nothing that is not followed.
    for (target, named) in [
        ("/other?1763809200000", "/list?page=1"),
        ("/list?1763809200003", "/list?page=1"),
        ("/list?page=1&1763809200001", "/list"),
        ("/list?page=1&1763809200002", "http://elsewhere.example/list?page=1"),
    ] {
        let answer = client.get(target, &[("Sungrazer-Poll", named)]).await;
        assert!(!answer.is_from_memory(), "{target} as {named}");
    }
    let seen = backend.seen("/list");
    assert!(seen.iter().all(|seen| seen.header("sungrazer-poll").is_none()));
}

/// The interval of what is watched, in milliseconds.
fn interval(sidecar: &Sidecar) -> u128 {
    sidecar.server.gateway().hub.resources().first().map_or(0, |resource| resource.interval().as_millis())
}
