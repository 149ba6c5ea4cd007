//! Applications that hand something out to whoever asks and have it no more, or that count who asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// A page that has polled `target` twice follows it.
async fn follow(sidecar: &Sidecar, target: &str) -> Events {
    for _ in 0..2 {
        sidecar.get(target, &[]).await;
    }
    follow_at_once(sidecar, target).await
}

async fn follow_at_once(sidecar: &Sidecar, target: &str) -> Events {
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
async fn what_a_fetch_took_is_given_to_who_asks_and_to_nobody_else() {
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
    // It is not fetched any more.
    let asked = backend.hits("/inbox");
    let mut again = follow_at_once(&sidecar, "/inbox").await;
    assert_eq!(record(&mut again).await["event"], "end");
    assert_eq!(backend.hits("/inbox"), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_counts_is_neither_followed_nor_given_late() {
    let backend = Backend::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    backend.handle("/ticket", move |_| Page::json(&(asked.fetch_add(1, Ordering::SeqCst) + 1).to_string()));
    let sidecar = Sidecar::start(&backend, LEARNED);
    let mut page = Connection::open(sidecar.address).await;
    let mut events = follow(&sidecar, "/ticket").await;
    assert_eq!(record(&mut events).await["event"], "end");
    for _ in 0..6 {
        let before = count.load(Ordering::SeqCst);
        assert_eq!(page.get("/ticket", &[]).await.text(), (before + 1).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_fetched_twice_once() {
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
    // The page's own two, and ours.
    for (path, page, fetches) in [
        ("/a", (|n| Page::json(&n.to_string())) as fn(u32) -> Page, [4, 6, 7, 8]),
        // A part of a page that a script asks for is no different.
        ("/page", |n| Page::new("text/html", format!("<p>{n}")), [4, 6, 7, 8]),
    ] {
        let mut events = follow(&sidecar, path).await;
        record(&mut events).await;
        assert_eq!(backend.hits(path), fetches[0], "{path}");
        for (n, fetches) in (2..).zip(&fetches[1..]) {
            backend.set(path, page(n));
            refresh(path).await;
            let told = record(&mut events).await;
            assert!(told["body"].as_str().unwrap().ends_with(&n.to_string()), "{told}");
            assert_eq!(backend.hits(path), *fetches, "{path}");
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
async fn who_says_that_a_path_is_watched_knows_what_fetching_does() {
    let backend = Backend::start().await;
    let queue = inbox(&backend).await;
    let sidecar = Sidecar::start(&backend, &LEARNED.replace("shim = \"learn\"", "shim = true"));
    let mut events = follow(&sidecar, "/inbox").await;
    assert_eq!(record(&mut events).await["body"], "[]");
    queue.lock().unwrap().push_back(1);
    assert_eq!(record(&mut events).await["body"], "[1]");
    assert_eq!(record(&mut events).await["body"], "[]");
    eventually("fetches to go on", || backend.hits("/inbox") > 10).await;
    tokio::time::timeout(Duration::from_millis(50), events.next()).await.expect_err("nothing more was said");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_before_a_page_has_been_seen_to_poll() {
    let backend = Backend::start().await;
    let queue = inbox(&backend).await;
    let sidecar = Sidecar::start(&backend, LEARNED);
    queue.lock().unwrap().push_back(1);
    let mut events = follow_at_once(&sidecar, "/inbox").await;
    tokio::time::timeout(Duration::from_millis(200), events.next()).await.expect_err("nothing was said");
    assert_eq!(backend.hits("/inbox"), 0);
    // Neither does a poll wait for what is not asked.
    assert_eq!(within("an answer", sidecar.get("/inbox", &[])).await.text(), "[1]");
    assert_eq!(sidecar.get("/inbox?t=1700000000000", &[]).await.text(), "[]");
    assert_eq!(sidecar.get("/inbox", &[]).await.text(), "[]");
    assert_eq!(record(&mut events).await["body"], "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_reaches_its_client_however_it_asks() {
    for (target, headers, is_given) in [
        ("/inbox?t=1700000000000", vec![("Cookie", "sid=a; _ga=1")], true),
        ("/inbox?_=3", vec![("Cookie", "sid=a; _ga=1")], true),
        ("/inbox", vec![("Cookie", "_ga=2; sid=a; _pk_id.1=x")], true),
        ("/inbox", vec![("Cookie", "sid=a"), ("Accept", "application/json")], true),
        ("/inbox", vec![("Cookie", "sid=a; _ga=1"), ("Accept", "text/html")], false),
        ("/inbox", vec![("Cookie", "sid=b; _ga=1")], false),
        ("/inbox", vec![], false),
        ("/inbox?box=2", vec![("Cookie", "sid=a; _ga=1")], false),
    ] {
        let backend = Backend::start().await;
        let queue = inbox(&backend).await;
        let sidecar = Sidecar::start(&backend, LEARNED);
        let cookie = [("Cookie", "sid=a; _ga=1")];
        for _ in 0..2 {
            sidecar.get("/inbox", &cookie).await;
        }
        let follow = json!({ "follow": [{ "url": "/inbox", "every": 1000 }], "exact": true }).to_string();
        let mut events = Events::post_as(sidecar.address, "/.sungrazer/stream", &follow, &cookie).await;
        assert_eq!(record(&mut events).await["body"], "[]");
        queue.lock().unwrap().push_back(1);
        assert_eq!(record(&mut events).await["event"], "end");
        let given = sidecar.get(target, &headers).await.text() == "[1]";
        assert_eq!(given, is_given, "{target} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_never_given_late() {
    let backend = Backend::start().await;
    let queue = inbox(&backend).await;
    let sidecar = Sidecar::start(&backend, LEARNED);
    for _ in 0..2 {
        sidecar.get("/inbox", &[]).await;
    }
    let follow = json!({ "follow": [{ "url": "/inbox", "every": 250 }], "exact": true }).to_string();
    let mut events = Events::post(sidecar.address, "/.sungrazer/stream", &follow).await;
    assert_eq!(record(&mut events).await["body"], "[]");
    queue.lock().unwrap().push_back(1);
    assert_eq!(record(&mut events).await["event"], "end");
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(sidecar.get("/inbox", &[]).await.text(), "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fetches_are_answered_otherwise_than_pages_is_left_to_them() {
    let backend = Backend::start().await;
    // Told apart by what only browsers send with their own requests.
    backend.handle("/a", |seen| Page::json(if seen.header("x-mine").is_some() { "\"yours\"" } else { "\"nobody's\"" }));
    let sidecar = Sidecar::start(&backend, LEARNED);
    let mut page = Connection::open(sidecar.address).await;
    let mine = [("X-Mine", "1")];
    for _ in 0..2 {
        page.get("/a", &mine).await;
    }
    let mut events = follow_at_once(&sidecar, "/a").await;
    for _ in 0..4 {
        assert_eq!(page.get("/a", &mine).await.text(), "\"yours\"");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = record(&mut events).await;
    assert_eq!((told["event"].as_str(), told["reason"].as_str()), (Some("end"), Some("overload")));
}

/// A message that is shown once, to who loads the page first after something was done.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_not_asked_for_between_a_write_and_its_own_next_load() {
    for shim in ["\"learn\"", "true"] {
        let backend = Backend::start().await;
        let message = Arc::<Mutex<Option<&str>>>::default();
        let shown = Arc::clone(&message);
        backend.handle("/page", move |_| {
            Page::new("text/html", format!("<!doctype html><p>{}<p>jobs", shown.lock().unwrap().take().unwrap_or("")))
        });
        let doing = Arc::clone(&message);
        backend.handle("/go", move |_| {
            *doing.lock().unwrap() = Some("started");
            Page::text("").status(303).header("Location", "/page")
        });
        let sidecar = Sidecar::start(&backend, &LEARNED.replace("\"learn\"", shim).replace("20ms", "400ms"));
        let mut browser = Connection::open(sidecar.address).await;
        let page = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")];
        for _ in 0..2 {
            browser.get("/page", &page).await;
        }
        let follow = json!({ "follow": [{ "url": "/page", "page": true }], "exact": true }).to_string();
        let mut events =
            Events::post_as(sidecar.address, "/.sungrazer/stream", &follow, &[("Accept", "text/html")]).await;
        assert_eq!(record(&mut events).await["event"], "snapshot");
        for _ in 0..3 {
            browser.request("POST", "/go", &[], b"x").await;
            // Plenty of time for a fetch that must not be made.
            tokio::time::sleep(Duration::from_millis(900)).await;
            assert!(browser.get("/page", &page).await.text().contains("started"), "the message was taken away, {shim}");
        }
        // It is fetched again from then on.
        let before = backend.hits("/page");
        eventually("fetches to go on", || backend.hits("/page") > before + 2).await;
    }
}

/// A write waits for a fetch of the page that is under way, but not for long; what that fetch is told is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_fetch_is_told_that_lasts_longer_than_a_write_waits_is_kept() {
    let backend = Backend::start().await;
    let (message, slow) = (Arc::<Mutex<Option<&str>>>::default(), Arc::<AtomicBool>::default());
    let (shown, is_slow) = (Arc::clone(&message), Arc::clone(&slow));
    let taken = Arc::<AtomicBool>::default();
    let takes = Arc::clone(&taken);
    backend.handle("/page", move |seen| {
        let page = |message: &str| Page::new("text/html", format!("<!doctype html><p>{message}<p>jobs"));
        if seen.is_fetch() && is_slow.swap(false, Ordering::SeqCst) {
            // It is asked before the write, and is told what that left to be said.
            takes.store(true, Ordering::SeqCst);
            return page("started").delay(Duration::from_millis(1500));
        }
        page(shown.lock().unwrap().take().unwrap_or(""))
    });
    let doing = Arc::clone(&message);
    backend.handle("/go", move |_| {
        *doing.lock().unwrap() = (!taken.load(Ordering::SeqCst)).then_some("started");
        Page::text("").status(303).header("Location", "/page")
    });
    let sidecar = Sidecar::start(&backend, &LEARNED.replace("\"learn\"", "true").replace("20ms", "100ms"));
    let mut browser = Connection::open(sidecar.address).await;
    let page = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")];
    browser.get("/page", &page).await;
    let follow = json!({ "follow": [{ "url": "/page", "page": true, "every": 5000 }], "exact": true }).to_string();
    let mut events = Events::post_as(sidecar.address, "/.sungrazer/stream", &follow, &[("Accept", "text/html")]).await;
    assert_eq!(record(&mut events).await["event"], "snapshot");
    let before = backend.hits("/page");
    eventually("some fetches", || backend.hits("/page") > before + 3).await;
    slow.store(true, Ordering::SeqCst);
    eventually("a fetch that lasts", || !slow.load(Ordering::SeqCst)).await;
    let began = std::time::Instant::now();
    browser.request("POST", "/go", &[], b"x").await;
    let waited = began.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_millis(1200)).contains(&waited), "{waited:?}");
    assert!(message.lock().unwrap().is_none());
    let mut told = 0;
    for _ in 0..40 {
        told += usize::from(browser.get("/page", &page).await.text().contains("started"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(told, 1);
}

/// Nothing has failed while a client's own next poll is waited for, however long that takes.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_polled_once_is_not_told_that_nothing_can_be_read() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, LEARNED);
    sidecar.get("/a", &[]).await;
    let mut events = follow_at_once(&sidecar, "/a").await;
    // Longer than a stream waits for its first state before it says so.
    let early = tokio::time::timeout(Duration::from_millis(1500), events.next()).await;
    assert!(early.is_err(), "{early:?}");
    sidecar.get("/a", &[]).await;
    assert_eq!(record(&mut events).await["event"], "snapshot");
}

/// A form whose token is good for the newest page only.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_another_with_each_load_is_never_asked_for() {
    let backend = Backend::start().await;
    let token = Arc::<AtomicUsize>::default();
    let newest = Arc::clone(&token);
    backend.handle("/page", move |_| {
        let token = newest.fetch_add(1, Ordering::SeqCst);
        Page::new("text/html", format!("<form><input type=hidden name=t value={token}></form>"))
    });
    let sidecar = Sidecar::start(&backend, LEARNED);
    let mut browser = Connection::open(sidecar.address).await;
    let page = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")];
    let follow = json!({ "follow": [{ "url": "/page", "page": true }], "exact": true }).to_string();
    for loads in 1..5 {
        browser.get("/page", &page).await;
        let _events = Events::post_as(sidecar.address, "/.sungrazer/stream", &follow, &[("Accept", "text/html")]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(backend.hits("/page"), loads, "a fetch has made the form's token worthless");
    }
}
