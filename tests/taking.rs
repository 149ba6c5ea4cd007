//! Applications that hand something out to whoever asks and have it no more, or that count who asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const LEARNED: &str = "[[route]]\npath = \"/**\"\nevery = \"20ms\"\nevery_max = \"20ms\"\nshim = \"learn\"\n";

/// A queue that is empty once it was asked for.
async fn inbox(backend: &Backend) -> Arc<Mutex<VecDeque<u32>>> {
    let queue = Arc::<Mutex<VecDeque<u32>>>::default();
    let asked = Arc::clone(&queue);
    backend
        .handle("/inbox", move |_| Page::json(&json!(asked.lock().unwrap().drain(..).collect::<Vec<_>>()).to_string()));
    queue
}

async fn follow(sidecar: &Sidecar, target: &str) -> Events {
    Events::post(
        sidecar.address,
        "/.sungrazer/stream",
        &json!({ "follow": [{ "url": target }], "exact": true }).to_string(),
    )
    .await
}

async fn record(events: &mut Events) -> Value {
    serde_json::from_str(&within("a record", events.next()).await.expect("a record").data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_look_took_is_given_to_who_asks_and_to_nobody_else() {
    let backend = Backend::start().await;
    let queue = inbox(&backend).await;
    let sidecar = Sidecar::start(&backend, LEARNED);
    let mut page = Connection::open(sidecar.address).await;
    assert_eq!(page.get("/inbox", &[]).await.text(), "[]");
    let mut events = follow(&sidecar, "/inbox").await;
    assert_eq!(record(&mut events).await["body"], "[]");
    queue.lock().unwrap().extend([1, 2]);
    let end = record(&mut events).await;
    assert_eq!((end["event"].as_str(), end["reason"].as_str()), (Some("end"), Some("overload")));
    // Another's session is another's queue: it is not given what was taken from this one.
    assert_eq!(sidecar.get("/inbox", &[("Cookie", "sid=other")]).await.text(), "[]");
    let mut got = Vec::new();
    for next in 3..10 {
        got.extend(page.get("/inbox", &[]).await.text().trim_matches(['[', ']']).split(',').map(str::to_owned));
        queue.lock().unwrap().push_back(next);
    }
    got.retain(|one| !one.is_empty());
    assert_eq!(got, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    // It is not looked at any more.
    let asked = backend.hits("/inbox");
    let mut again = follow(&sidecar, "/inbox").await;
    assert_eq!(record(&mut again).await["event"], "end");
    assert_eq!(backend.hits("/inbox"), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_counts_those_who_ask_misses_nobody() {
    let backend = Backend::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    backend.handle("/ticket", move |_| Page::json(&(asked.fetch_add(1, Ordering::SeqCst) + 1).to_string()));
    let sidecar = Sidecar::start(&backend, LEARNED);
    let mut page = Connection::open(sidecar.address).await;
    let mut got = vec![page.get("/ticket", &[]).await.text().to_owned()];
    let mut events = follow(&sidecar, "/ticket").await;
    assert_eq!(record(&mut events).await["event"], "end");
    for _ in 0..6 {
        got.push(page.get("/ticket", &[]).await.text().to_owned());
    }
    assert_eq!(got, ["1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_looked_at_twice_once() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    backend.set("/page", Page::new("text/html", "<p>1"));
    let sidecar = Sidecar::start(&backend, &LEARNED.replace("20ms", "10m"));
    let refresh = async |path: &str| {
        let admin = sidecar.server.admin().unwrap();
        let mut connection = Connection::open(admin).await;
        let target = format!("/api/refresh?url={path}");
        assert_eq!(connection.request("POST", &target, &[("Host", "localhost")], b"").await.status, 202);
    };
    for (path, page, looks) in [
        ("/a", (|n| Page::json(&n.to_string())) as fn(u32) -> Page, [2, 4, 5, 6]),
        ("/page", |n| Page::new("text/html", format!("<p>{n}")), [1, 2, 3, 4]),
    ] {
        let mut events = follow(&sidecar, path).await;
        record(&mut events).await;
        assert_eq!(backend.hits(path), looks[0], "{path}");
        for (n, looks) in (2..).zip(&looks[1..]) {
            backend.set(path, page(n));
            refresh(path).await;
            let told = record(&mut events).await;
            assert!(told["body"].as_str().unwrap().ends_with(&n.to_string()), "{told}");
            assert_eq!(backend.hits(path), *looks, "{path}");
        }
    }
}

/// What a write sets going may change more than once before it stays; or it was told once, to us, and is something else since.
#[tokio::test(flavor = "multi_thread")]
async fn what_moves_on_and_stays_is_followed() {
    let backend = Backend::start().await;
    let states = Arc::new(Mutex::new(VecDeque::from(["idle"; 2])));
    let asked = Arc::clone(&states);
    backend.handle("/job", move |_| {
        let mut states = asked.lock().unwrap();
        let state = states[0];
        if states.len() > 1 {
            states.pop_front();
        }
        Page::json(&format!("\"{state}\""))
    });
    let sidecar = Sidecar::start(&backend, LEARNED);
    let mut events = follow(&sidecar, "/job").await;
    assert_eq!(record(&mut events).await["body"], "\"idle\"");
    states.lock().unwrap().extend(["queued", "running"]);
    for told in ["queued", "running"] {
        assert_eq!(record(&mut events).await["body"], format!("\"{told}\""));
    }
    states.lock().unwrap().extend(["done"]);
    assert_eq!(record(&mut events).await["body"], "\"done\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_a_path_is_watched_knows_what_looking_does() {
    let backend = Backend::start().await;
    let queue = inbox(&backend).await;
    let sidecar = Sidecar::start(&backend, &LEARNED.replace("shim = \"learn\"", "shim = true"));
    let mut events = follow(&sidecar, "/inbox").await;
    assert_eq!(record(&mut events).await["body"], "[]");
    queue.lock().unwrap().push_back(1);
    assert_eq!(record(&mut events).await["body"], "[1]");
    assert_eq!(record(&mut events).await["body"], "[]");
    eventually("looks to go on", || backend.hits("/inbox") > 10).await;
    tokio::time::timeout(Duration::from_millis(50), events.next()).await.expect_err("nothing more was said");
}
