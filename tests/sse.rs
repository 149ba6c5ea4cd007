//! Server-sent events on a resource's own URL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events, head};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"100ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_every_stream_and_the_backend_is_asked_once() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json(r#"{"n":1}"#));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"400ms\"\nevery_max = \"400ms\"\n");
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(sidecar.events("/a").await);
    }
    for stream in &mut streams {
        assert_eq!(stream.snapshot().await.data, r#"{"n":1}"#);
    }
    let (asked, began) = (backend.hits("/a"), Instant::now());
    backend.set("/a", Page::json(r#"{"n":2}"#));
    for stream in &mut streams {
        let event = within("the change", stream.snapshot()).await;
        assert_eq!(event.data, r#"{"n":2}"#);
    }
    let intervals = began.elapsed().as_millis() / 400 + 1;
    let asked = backend.hits("/a") - asked;
    assert!(asked as u128 <= intervals, "{asked} fetches in {intervals} intervals, for 50 streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_keeps_intermediaries_from_holding_it_back() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{}"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    assert_eq!(events.head.header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(events.head.header("x-accel-buffering"), Some("no"));
    assert_eq!(events.head.header("vary"), Some("Accept, Accept-Encoding, Prefer"));
    events.snapshot().await;
    assert!(events.asides[0].starts_with("retry: "), "{:?}", events.asides);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_many_lines_arrive_whole() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one\ntwo\r\nthree\rid: 7\n\nevent: end\n"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let event = sidecar.events("/a").await.snapshot().await;
    assert_eq!(event.data, "one\ntwo\nthree\nid: 7\n\nevent: end\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_charsets_become_utf8() {
    let backend = Backend::start().await;
    backend.set("/a", Page::new("text/html; charset=ISO-8859-1", b"caf\xe9".to_vec()));
    let sidecar = Sidecar::start(&backend, ROUTE);
    assert_eq!(sidecar.events("/a").await.snapshot().await.data, "café");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_by_header_or_query_and_is_told_only_what_it_missed() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut first = sidecar.events("/a").await;
    let id = first.snapshot().await.id.unwrap();
    // Current: nothing but the next change is sent.
    let mut by_header = Events::open(sidecar.address, "/a", &[("Last-Event-ID", &id)]).await;
    let mut by_query = Events::open(sidecar.address, &format!("/a?last_event_id={id}"), &[]).await;
    backend.set("/a", Page::json("2"));
    let second = by_header.snapshot().await;
    assert_eq!(second.data, "2");
    assert_eq!(by_query.snapshot().await.data, "2");
    // The parameter is for us: it makes no other resource, and the backend's fetches do not carry it.
    assert_eq!(sidecar.watched(), 1);
    let fetches = backend.seen("/a").into_iter().filter(|seen| seen.header("x-forwarded-for").is_none());
    assert!(fetches.map(|fetch| fetch.target).all(|target| target == "/a"));
    // Behind: one event brings the newest state.
    let mut behind = Events::open(sidecar.address, "/a", &[("Last-Event-ID", &id)]).await;
    assert_eq!(behind.snapshot().await.data, "2");
    // Unknown: a snapshot.
    let mut unknown = Events::open(sidecar.address, "/a", &[("Last-Event-ID", "9-nonsense")]).await;
    assert_eq!(unknown.snapshot().await.data, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_known_to_a_server_that_never_saw_it() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let before = Sidecar::start(&backend, ROUTE);
    let id = before.events("/a").await.snapshot().await.id.unwrap();
    before.server.stop().await;
    let after = Sidecar::start(&backend, ROUTE);
    let mut events = Events::open(after.address, "/a", &[("Last-Event-ID", &id)]).await;
    backend.set("/a", Page::json("2"));
    assert_eq!(events.snapshot().await.data, "2", "the state that the client held already was sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_and_so_is_its_end() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    backend.set("/a", Page::text("down").status(503));
    let stale = events.next().await.unwrap();
    assert_eq!(stale.event.as_deref(), Some("stale"));
    assert!(stale.data.contains("\"status\":503") && stale.data.contains("\"since\":\"20"), "{}", stale.data);
    let fetches = backend.hits("/a");
    eventually("more failing fetches", || backend.hits("/a") > fetches + 2).await;
    backend.set("/a", Page::json("2"));
    assert_eq!(events.next().await.unwrap().event.as_deref(), Some("live"));
    assert_eq!(events.snapshot().await.data, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opens_stale_where_the_backend_is_away() {
    let backend = Backend::start().await;
    backend.set("/a", Page::dropped());
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    let stale = events.next().await.unwrap();
    assert_eq!(stale.event.as_deref(), Some("stale"));
    assert!(stale.data.contains("\"status\":null"), "{}", stale.data);
    backend.set("/a", Page::json("1"));
    assert_eq!(events.next().await.unwrap().event.as_deref(), Some("live"));
    assert_eq!(events.snapshot().await.data, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_fetch_that_is_refused_is_answered_as_it_was() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, ROUTE);
    for status in [401, 403, 404] {
        backend.set(
            "/a",
            Page::text("no").status(status).header("WWW-Authenticate", "Basic realm=\"x\"").header("Set-Cookie", "s=1"),
        );
        let events = Events::try_open(sidecar.address, "/a", &[]).await;
        assert_eq!(events.head.status, status);
        assert_eq!(events.head.header("www-authenticate"), Some("Basic realm=\"x\""));
        // A challenge may be good once: each client is given its own. What else a fetch was refused with is for all.
        let own = (status == 401).then_some("s=1");
        assert_eq!(events.head.header("set-cookie"), own, "a fetch's cookie went to a client");
    }
    eventually("nothing to be watched", || sidecar.watched() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_backend_refuses_or_forgets() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, ROUTE);
    for (status, reason) in [(401, "auth"), (403, "auth"), (404, "gone"), (410, "gone")] {
        backend.set("/a", Page::json("1"));
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        backend.set("/a", Page::text("no").status(status));
        let end = events.next().await.unwrap();
        assert_eq!((end.event.as_deref(), end.data), (Some("end"), format!("{{\"reason\":\"{reason}\"}}")));
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_broken_by_comments_and_a_stream_ends_resumably() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}heartbeat = \"100ms\"\nmax_age = \"1s\"\n"));
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let end = within("the end", events.next()).await.unwrap();
    assert_eq!((end.event.as_deref(), end.data.as_str()), (Some("end"), "{\"reason\":\"max-age\"}"));
    assert_eq!(events.next().await, None);
    let comments = events.asides.iter().filter(|line| line.starts_with(':')).count();
    assert!(comments >= 3, "{comments} comments in a second of silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_client_that_leaves_stops_the_fetches() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    assert_eq!(sidecar.held(), 1);
    let left = Instant::now();
    drop(events);
    eventually("the client's leaving to be noticed", || sidecar.held() == 0).await;
    assert!(left.elapsed() < Duration::from_secs(1), "noticed after {:?}", left.elapsed());
    // A fetch may have been under way; after that, none.
    backend.settles("/a").await;
    let fetches = backend.hits("/a");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(backend.hits("/a"), fetches);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_says_so() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::with(&format!("[server]\ndrain = \"2s\"\n[upstream]\nurl = \"{}\"\n{ROUTE}", backend.url()));
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let stopped = tokio::spawn(sidecar.server.stop());
    let end = within("the end", events.next()).await.unwrap();
    assert_eq!((end.event.as_deref(), end.data.as_str()), (Some("end"), "{\"reason\":\"drain\"}"));
    assert_eq!(events.next().await, None);
    within("the server to stop", stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_place_beyond_max_streams() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar =
        Sidecar::with(&format!("[server]\nmax_streams = 2\n[upstream]\nurl = \"{}\"\n{ROUTE}", backend.url()));
    let (first, _second) = (sidecar.events("/a").await, sidecar.events("/a").await);
    let third = Events::try_open(sidecar.address, "/a", &[]).await;
    assert_eq!(third.head.status, 503);
    assert!(third.head.header("retry-after").is_some());
    drop(first);
    eventually("a place", || sidecar.held() == 1).await;
    sidecar.events("/a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_bodies_are_not_offered_as_text() {
    let backend = Backend::start().await;
    backend.set("/a", Page::new("image/png", vec![0x89, b'P', 0xff, 0x00]));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let response = sidecar.get("/a", &[("Accept", "text/event-stream")]).await;
    assert_eq!(response.header("content-type"), Some("image/png"));
    assert_eq!(response.body, [0x89, b'P', 0xff, 0x00]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_given_up_and_the_others_are_not_held_up() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text(&"x".repeat(4 << 20)));
    let sidecar = Sidecar::with(&format!(
        "[server]\nwrite_timeout = \"500ms\"\n[upstream]\nurl = \"{}\"\n{ROUTE}",
        backend.url()
    ));
    let stalled = Events::open(sidecar.address, "/a", &[]).await;
    let mut reading = sidecar.events("/a").await;
    reading.snapshot().await;
    for round in 0..20 {
        backend.set("/a", Page::text(&format!("{round}{}", "y".repeat(4 << 20))));
        assert!(reading.snapshot().await.data.starts_with(&format!("{round}y")));
        if sidecar.held() == 1 {
            break;
        }
    }
    eventually("the stalled client to be given up", || sidecar.held() == 1).await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_asked_for_while_the_server_stops_is_told_the_state_and_to_come_back() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::with(&format!(
        "[server]\ndrain = \"3s\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"10s\"\nhold = \"1h\"\n",
        backend.url()
    ));
    let own = head("GET", "/a", &[("Accept", "text/event-stream")], b"");
    let many = head("GET", "/.sungrazer/stream?url=/a", &[], b"");
    let list = "{\"follow\":[{\"url\":\"/a\"}]}";
    let posted = format!("{}{list}", head("POST", "/.sungrazer/stream", &[], list.as_bytes()));
    let plain = head("GET", "/a", &[], b"");
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(Connection::open(sidecar.address).await);
    }
    // What a poll would be held on is known; and somebody keeps the server from stopping at once.
    let mut poller = connections.pop().unwrap();
    assert_eq!(poller.get("/a", &[]).await.text(), "1");
    let mut leaving = sidecar.events("/a").await;
    leaving.snapshot().await;
    let site = Arc::clone(sidecar.server.gateway());
    let began = Instant::now();
    let stopped = tokio::spawn(sidecar.server.stop());
    eventually("the server to stop", || site.streams.drain_deadline().is_some()).await;
    for (connection, request) in connections.iter_mut().zip([plain, own, many, posted]) {
        connection.send(request).await;
    }
    let mut last = connections.remove(0);
    for connection in connections {
        let mut events = Events::on(connection).await;
        assert_eq!(events.head.status, 200, "{:?}", events.head);
        let first = within("the state", events.next()).await.expect("the state");
        assert!(first.data == "1" || first.data.contains("\"body\":1"), "{first:?}");
        let end = within("the end", events.next()).await.expect("the end");
        assert!(end.data.contains("\"drain\""), "{end:?}");
        assert!(events.asides.iter().any(|line| line.starts_with("retry: ")), "{:?}", events.asides);
        assert!(within("the stream to close", events.next()).await.is_none());
    }
    assert_eq!(within("the poll", last.response("GET")).await.text(), "1");
    within("the server to stop", stopped).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
