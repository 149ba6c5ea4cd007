//! Nobody reads what is older than his own write, or than what he has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::follower::Follower;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// Method and target, headers, and body of a write.
type Write<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8]);

/// Nothing is fetched by itself, so that only fences make anything current.
const STILL: &str = "every = \"1h\"\nevery_max = \"1h\"\n";

/// An application that counts writes; `/count` says how many there were, and takes its time.
async fn counting(delay: Duration) -> (Backend, Arc<AtomicUsize>) {
    let backend = Backend::start().await;
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    backend.handle("/count", move |_| Page::json(&counted.load(Ordering::SeqCst).to_string()).delay(delay));
    for path in ["/write", "/count/write"] {
        let written = Arc::clone(&count);
        backend.handle(path, move |seen| {
            written.fetch_add(1, Ordering::SeqCst);
            match seen.header("x-fails") {
                Some("drop") => Page::dropped(),
                Some(status) => Page::text("no").status(status.parse().unwrap()),
                None => Page::text("done"),
            }
        });
    }
    (backend, count)
}

fn route(more: &str) -> String {
    format!("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[[route]]\npath = \"/count\"\n{STILL}{more}")
}

fn start(backend: &Backend, more: &str) -> Sidecar {
    Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{}", backend.url(), route(more)))
}

/// A client at `address`, in the words of a proxy that is trusted.
fn at(address: &str) -> (&str, &str) {
    ("X-Forwarded-For", address)
}

async fn read(sidecar: &Sidecar, address: &str) -> usize {
    sidecar.get("/count", &[at(address)]).await.text().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_may_write_is_answered_by_what_was_read_before_it() {
    let (backend, count) = counting(Duration::ZERO).await;
    for refresh in ["", "refresh_on = []\n", "refresh_on = [\"PUT /other\"]\n"] {
        let sidecar = start(&backend, refresh);
        // Somebody else keeps it in memory.
        let mut events = Events::open(sidecar.address, "/count", &[at("10.0.0.9")]).await;
        events.snapshot().await;
        let mut writer = Connection::open(sidecar.address).await;
        let marked = ("Sungrazer-Poll", "1");
        let overridden = ("X-HTTP-Method-Override", "DELETE");
        let upgrade: &[(&str, &str)] = &[("Upgrade", "websocket"), ("Connection", "Upgrade"), overridden];
        let stream: &[(&str, &str)] = &[("Accept", "text/event-stream"), overridden];
        let form: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];
        let writes: [Write<'_>; 13] = [
            ("POST", &[], b"{\"id\":17}"),
            ("POST", &[], b"{\"id\":18}"),
            ("POST", &[], b"{\"id\":19}"),
            ("POST", &[marked], b"{\"id\":20}"),
            ("POST", &[("Sungrazer-Poll", "/write#0.1")], b""),
            ("POST", form, b"a=1"),
            ("PUT", &[], b"x"),
            ("DELETE", &[], b""),
            ("POST", &[("X-Fails", "500")], b"x"),
            ("POST", &[("X-Fails", "drop")], b"x"),
            ("GET", &[overridden], b""),
            ("GET", upgrade, b""),
            ("GET", stream, b""),
        ];
        for (method, headers, body) in writes {
            let mut connection = Connection::open(sidecar.address).await;
            let headers: Vec<_> = headers.iter().copied().chain([at("10.0.0.1")]).collect();
            connection.request(method, "/write", &headers, body).await;
            let now = count.load(Ordering::SeqCst);
            assert_eq!(read(&sidecar, "10.0.0.1").await, now, "{method} {headers:?} with {refresh:?}");
        }
        // Without a name for the site, as HTTP/1.0 allows.
        writer.send("POST /write HTTP/1.0\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 1\r\n\r\nx").await;
        assert!(within("an answer", writer.fill()).await);
        assert_eq!(read(&sidecar, "10.0.0.1").await, count.load(Ordering::SeqCst), "HTTP/1.0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_repeated_as_a_write_is_no_reason_to_fetch_and_fences_nevertheless() {
    let (backend, count) = counting(Duration::ZERO).await;
    let sidecar = start(&backend, "");
    let mut events = Events::open(sidecar.address, "/count", &[at("10.0.0.9")]).await;
    events.snapshot().await;
    // Alike but for digits, and far enough apart to be counted each: from the third on it would be a poll.
    backend.handle("/like", |_| Page::json("{}"));
    for id in 17..21 {
        let body = format!("{{\"id\":{id}}}");
        let mut writer = Connection::open(sidecar.address).await;
        if id == 20 {
            backend.settles("/count").await;
        }
        writer.request("POST", "/like", &[at("10.0.0.1")], body.as_bytes()).await;
        count.fetch_add(usize::from(id == 20), Ordering::SeqCst);
        if id < 20 {
            tokio::time::sleep(Duration::from_millis(950)).await;
        }
    }
    assert_eq!(read(&sidecar, "10.0.0.1").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_over_a_socket_fences_too() {
    let (backend, count) = counting(Duration::ZERO).await;
    let sidecar = start(&backend, "transports = [\"sse\", \"websocket\"]\nrefresh_on = []\n");
    let mut events = Events::open(sidecar.address, "/count", &[at("10.0.0.9")]).await;
    events.snapshot().await;
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[("x-forwarded-for", "10.0.0.1")]).await;
    for id in 0..4 {
        socket.say(&json!({"request":{"id":id,"method":"POST","url":"/write","body":"1"}})).await;
        assert_eq!(socket.message().await.unwrap()["response"]["status"], 200);
        assert_eq!(read(&sidecar, "10.0.0.1").await, count.load(Ordering::SeqCst));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_is_known_by_its_credentials() {
    let (backend, count) = counting(Duration::ZERO).await;
    let sidecar = start(&backend, "refresh_on = []\naudience = \"public\"\n");
    let mut events = Events::open(sidecar.address, "/count", &[at("10.0.0.9")]).await;
    events.snapshot().await;
    let cookie = ("Cookie", "sid=a");
    let mut writer = Connection::open(sidecar.address).await;
    writer.request("POST", "/write", &[at("10.0.0.1"), cookie], b"x").await;
    let answer = sidecar.get("/count", &[at("10.0.0.2"), cookie]).await;
    assert_eq!(answer.text(), count.load(Ordering::SeqCst).to_string());
    // Others are served from memory as before.
    let before = backend.hits("/count");
    let other = sidecar.get("/count", &[at("10.0.0.3"), ("Cookie", "sid=b")]).await;
    assert!(other.is_from_memory() || backend.hits("/count") > before);
}

/// Writes as fast as answers come, for a while; each event of `events` is not older than the write answered before it was
/// written to the client. Returns how many events there were.
async fn storm(sidecar: &Sidecar, writer: &str, mut events: Events, fenced: bool) -> usize {
    let answered = Arc::<AtomicUsize>::default();
    let address = sidecar.address;
    let writing = tokio::spawn({
        let (answered, writer) = (Arc::clone(&answered), writer.to_owned());
        async move {
            let mut connection = Connection::open(address).await;
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                let before = connection.request("POST", "/write", &[at(&writer)], b"1").await;
                assert_eq!(before.status, 200);
                answered.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        }
    });
    let mut told = 0;
    while !writing.is_finished() {
        // What is read now was written to the socket before, perhaps before the last write: the one before counts.
        let known = answered.load(Ordering::SeqCst).saturating_sub(1);
        let Ok(event) = tokio::time::timeout(Duration::from_millis(100), events.next()).await else { continue };
        let state: usize = event.expect("an event").data.parse().unwrap();
        assert!(!fenced || state >= known, "told of {state} after {known} writes were answered");
        told += 1;
    }
    writing.await.unwrap();
    let last = answered.load(Ordering::SeqCst);
    within("the last state", async {
        while events.next().await.expect("an event").data.parse::<usize>().unwrap() < last {}
    })
    .await;
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_never_tells_its_writer_what_was_read_before_his_last_write() {
    for refresh in ["refresh_on = []\nevery = \"60ms\"\nevery_max = \"60ms\"\n", ""] {
        let (backend, _) = counting(Duration::from_millis(150)).await;
        let routes = route(refresh).replace(if refresh.is_empty() { "" } else { STILL }, "");
        let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{routes}", backend.url()));
        let mut own = Events::open(sidecar.address, "/count", &[at("10.0.0.1")]).await;
        let mut other = Events::open(sidecar.address, "/count", &[at("10.0.0.2")]).await;
        own.snapshot().await;
        other.snapshot().await;
        storm(&sidecar, "10.0.0.1", own, true).await;
        // Others go on to be told.
        let told = storm(&sidecar, "10.0.0.1", other, false).await;
        assert!(told >= 3, "others were told {told} times in two seconds");
    }
}

async fn exact(sidecar: &Sidecar, target: &str, headers: &[(&str, &str)]) -> Events {
    let follow = json!({ "follow": [{ "url": target }], "exact": true }).to_string();
    Events::post_as(sidecar.address, "/.sungrazer/stream", &follow, headers).await
}

async fn record(events: &mut Events) -> Value {
    serde_json::from_str(&within("a record", events.next()).await.expect("a record").data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writers_own_streams_hear_of_a_write_before_it_is_answered() {
    let (backend, _) = counting(Duration::ZERO).await;
    let sidecar = start(&backend, "refresh_on = []\n");
    let mut own = exact(&sidecar, "/count", &[at("10.0.0.1")]).await;
    let mut other = exact(&sidecar, "/count", &[at("10.0.0.2")]).await;
    assert_eq!(record(&mut own).await["body"], "0");
    assert_eq!(record(&mut other).await["body"], "0");
    for written in 1..4 {
        let mut writer = Connection::open(sidecar.address).await;
        writer.request("POST", "/write", &[at("10.0.0.1")], b"x").await;
        // It is there already: nothing more needs to come for it.
        let mut there = [0; 512];
        let mut text = String::from_utf8_lossy(&std::mem::take(&mut own.connection.buffer)).into_owned();
        while let Ok(read @ 1..) = own.connection.stream.try_read(&mut there) {
            text.push_str(&String::from_utf8_lossy(&there[..read]));
        }
        assert!(text.contains("\"event\":\"down\""), "{text:?}");
        // The next fetch says how it stands.
        assert_eq!(read(&sidecar, "10.0.0.1").await, written);
        assert_eq!(record(&mut own).await["body"], written.to_string());
        assert_eq!(
            record(&mut other).await["body"],
            written.to_string(),
            "others are not told that they hold something old"
        );
    }
    // Where nothing has changed, it is what it was.
    backend.set("/nothing", Page::text("done"));
    Connection::open(sidecar.address).await.request("POST", "/nothing", &[at("10.0.0.1")], b"x").await;
    assert_eq!(record(&mut own).await["event"], "down");
    read(&sidecar, "10.0.0.1").await;
    assert_eq!(record(&mut own).await["event"], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_what_nobody_here_knows_is_told_what_was_read_after_he_came() {
    let (backend, count) = counting(Duration::ZERO).await;
    let one = start(&backend, "refresh_on = []\n");
    let two = start(&backend, "refresh_on = []\n");
    let mut kept = two.events("/count").await;
    assert_eq!(kept.snapshot().await.data, "0");
    count.store(1, Ordering::SeqCst);
    // From the other process, or from this one before it was replaced.
    let newer = one.events("/count").await.snapshot().await;
    assert_eq!(newer.data, "1");
    let version = newer.id.unwrap();
    let quoted = format!("\"{version}\"");
    for (headers, what) in [
        (vec![("If-None-Match", quoted.as_str())], "a validator"),
        (vec![("If-None-Match", "\"other\", \"more\"")], "one of the application's"),
        (vec![("If-None-Match", quoted.as_str()), ("Prefer", "wait=1")], "a long poll"),
    ] {
        let answer = two.get("/count", &headers).await;
        assert!(answer.status == 304 || answer.text() == "1", "{what}: {answer:?}");
    }
    drop(kept);
    let three = start(&backend, "refresh_on = []\n");
    count.store(0, Ordering::SeqCst);
    let mut kept = three.events("/count").await;
    assert_eq!(kept.snapshot().await.data, "0");
    for (n, form) in ["/count", "/.sungrazer/stream?url=/count"].into_iter().enumerate() {
        count.store(100 + n, Ordering::SeqCst);
        let elsewhere = start(&backend, "refresh_on = []\n");
        let since = elsewhere.events("/count").await.snapshot().await.id.unwrap();
        count.store(n + 1, Ordering::SeqCst);
        let mut events = Events::open(three.address, form, &[("Last-Event-ID", &since)]).await;
        let told = within("a state", events.next()).await.unwrap().data;
        let body = told.rsplit("\"body\":").next().unwrap().trim_end_matches('}');
        assert_eq!(body, (n + 1).to_string(), "{form}: {told}");
    }
    // What is known needs no fetch.
    let known = three.events("/count").await.snapshot().await.id.unwrap();
    let before = backend.hits("/count");
    let answer = three.get("/count", &[("If-None-Match", &format!("\"{known}\""))]).await;
    assert_eq!((answer.status, backend.hits("/count")), (304, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_one_variant_is_known_to_the_polls_of_all() {
    let (backend, count) = counting(Duration::ZERO).await;
    let sidecar = start(&backend, "refresh_on = []\n");
    let cookie = ("Cookie", "sid=a");
    let xml = ("Accept", "application/xml");
    // Both variants are watched.
    let mut plain = Events::open(sidecar.address, "/count", &[cookie]).await;
    let follow = json!({ "follow": [{ "url": "/count", "headers": { "accept": "application/xml" } }] }).to_string();
    let mut other = Events::post_as(sidecar.address, "/.sungrazer/stream", &follow, &[cookie]).await;
    plain.snapshot().await;
    record(&mut other).await;
    for change in 1..4 {
        count.store(change, Ordering::SeqCst);
        // One of them is found changed, through a poll that has to be as new as something else.
        let fresh = format!("\"{change}-unknown\"");
        sidecar.get("/count", &[cookie, ("If-None-Match", &fresh)]).await;
        eventually("the change to be found", || sidecar.server.gateway().hub.len() == 2).await;
        assert_eq!(within("the change", plain.snapshot()).await.data, change.to_string());
        assert_eq!(sidecar.get("/count", &[cookie, xml]).await.text(), change.to_string());
    }
}
