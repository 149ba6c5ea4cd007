//! Plain requests for watched resources, answered from memory.

use std::time::Duration;

use crate::support::backend::{Backend, Page};
use crate::support::client::Connection;
use crate::support::sidecar::Sidecar;

const ROUTE: &str = "[[route]]\npath = \"/a\"\nevery = \"200ms\"\nevery_max = \"200ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_resource_is_answered_from_memory() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1").header("X-Own", "kept").header("Cache-Control", "max-age=5"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    assert!(!sidecar.get("/a", &[]).await.is_from_memory(), "nobody watches yet");
    let mut events = sidecar.events("/a").await;
    let id = events.snapshot().await.id.unwrap();
    let asked = backend.hits("/a");
    let mut connection = Connection::open(sidecar.address).await;
    for _ in 0..20 {
        let response = connection.get("/a", &[("Accept", "*/*")]).await;
        assert!(response.is_from_memory(), "{response:?}");
        assert_eq!((response.status, response.text()), (200, "1"));
        assert_eq!(response.header("etag"), Some(format!("\"{id}\"").as_str()));
        assert_eq!(response.header("x-own"), Some("kept"));
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    assert!(backend.hits("/a") <= asked + 2, "memory asked the backend");
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_of_both_sides_hold() {
    let backend = Backend::start().await;
    backend.set(
        "/a",
        Page::json("1")
            .header("ETag", "W/\"theirs\"")
            .header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
            .header("Date", "Sun, 22 Nov 2026 00:00:00 GMT"),
    );
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    let ours = format!("\"{}\"", events.snapshot().await.id.unwrap());
    for (name, value, status) in [
        ("If-None-Match", ours.as_str(), 304),
        ("If-None-Match", "\"theirs\"", 304),
        ("If-None-Match", "\"x\", W/\"theirs\"", 304),
        ("If-None-Match", "\"x\"", 200),
        ("If-Modified-Since", "Sun, 01 Nov 2026 00:00:00 GMT", 304),
        ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT", 200),
    ] {
        let response = sidecar.get("/a", &[("Accept", "*/*"), (name, value)]).await;
        assert!(response.is_from_memory(), "{name}: {value}");
        assert_eq!(response.status, status, "{name}: {value}");
        assert_eq!(response.header("etag"), Some("W/\"theirs\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_cannot_answer_reaches_the_backend() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("123"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    for headers in [
        &[("Accept", "*/*"), ("Range", "bytes=0-0")][..],
        &[("Accept", "text/html"), ("Cache-Control", "no-cache")],
        &[("Accept", "*/*"), ("Accept-Language", "de")],
        &[("Accept", "*/*"), ("Cookie", "sid=1")],
        &[("Accept", "*/*"), ("Authorization", "Basic eA==")],
        &[("Accept", "*/*"), ("X-Api-Key", "k")],
    ] {
        let response = sidecar.get("/a", headers).await;
        assert!(!response.is_from_memory(), "{headers:?}");
    }
    for method in ["HEAD", "POST", "DELETE"] {
        let mut connection = Connection::open(sidecar.address).await;
        assert!(!connection.request(method, "/a", &[("Accept", "*/*")], b"").await.is_from_memory(), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_back_to_an_older_state() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"1h\"\nevery_max = \"1h\"\n");
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    backend.set("/a", Page::json("2"));
    // Asked past memory, this client saw the new state.
    let seen = sidecar.get("/a", &[("Accept", "*/*"), ("Range", "bytes=0-")]).await;
    assert_eq!(seen.text(), "2");
    let seen =
        sidecar.get("/a", &[("Accept", "*/*"), ("Sec-Fetch-Mode", "navigate"), ("Cache-Control", "no-cache")]).await;
    assert_eq!(seen.text(), "2");
    let again = sidecar.get("/a", &[("Accept", "*/*")]).await;
    assert_eq!(again.text(), "2", "memory showed the state of before");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_poll_at_the_same_time_are_answered_by_one_fetch() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1").delay(Duration::from_millis(100)));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"10s\"\nevery_max = \"10s\"\n");
    // It is known that the application answers soon.
    for _ in 0..7 {
        sidecar.get("/a", &[]).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    let before = backend.hits("/a");
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(Connection::open(sidecar.address).await);
    }
    for _ in 0..4 {
        let polls = clients.into_iter().map(|mut client| async move {
            assert_eq!(client.get("/a", &[]).await.text(), "1");
            client
        });
        clients = futures_util::future::join_all(polls).await;
    }
    let asked = backend.hits("/a") - before;
    assert!(asked <= 4 * 8, "{asked} requests for 120 polls");
    // Who has just been answered is not given the same again.
    let (mut one, mut other) = (Connection::open(sidecar.address).await, Connection::open(sidecar.address).await);
    tokio::join!(one.get("/a", &[]), other.get("/a", &[]));
    let before = backend.hits("/a");
    one.get("/a", &[]).await;
    assert_eq!(backend.hits("/a"), before + 1);
}

/// Pages tell the time by it.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_when_it_was_made() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one").header("Cache-Control", "no-cache"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let known = sidecar.get("/a", &[]).await.header("etag").unwrap().to_owned();
    for headers in [&[][..], &[("If-None-Match", known.as_str())], &[("Prefer", "wait=1")], &[("Range", "bytes=0-")]] {
        let answer = sidecar.get("/a", headers).await;
        let date = answer.header("date").map(httpdate::parse_http_date);
        assert!(date.is_some_and(|date| date.is_ok()), "{headers:?}: {answer:?}");
        assert_eq!(answer.all("date").len(), 1);
    }
}

/// Whoever polls after a write is answered by a fetch that tells all who are held, too, and soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_after_somebodys_write_is_answered_by_a_fetch() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"20s\"\nrefresh_on = []\n");
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let mut connection = Connection::open(sidecar.address).await;
    for text in ["two", "three", "four"] {
        let fetches = backend.hits("/a");
        assert_eq!(connection.request("POST", "/b", &[], b"").await.status, 404);
        backend.set("/a", Page::text(text));
        let answer = connection.get("/a", &[]).await;
        assert!(answer.is_from_memory() && answer.text() == text, "{answer:?}");
        assert_eq!(backend.hits("/a"), fetches + 1);
        assert_eq!(events.snapshot().await.data, text);
    }
}

/// One client that asks again and again is the only one that may have its requests made: they may take something.
#[tokio::test(flavor = "multi_thread")]
async fn polls_in_a_row_each_reach_the_backend() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    for route in ["[[route]]\npath = \"/**\"\n", "[[route]]\npath = \"/**\"\nhold = \"5s\"\n"] {
        let sidecar = Sidecar::start(&backend, route);
        let before = backend.hits("/a");
        let (mut one, mut other) = (Connection::open(sidecar.address).await, Connection::open(sidecar.address).await);
        for _ in 0..10 {
            assert!(!one.get("/a", &[]).await.is_from_memory());
            assert!(!other.get("/a", &[]).await.is_from_memory());
        }
        assert_eq!(backend.hits("/a"), before + 20, "{route}");
        assert_eq!(sidecar.watched(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_set_cookies_go_to_those_who_asked() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1").header("Set-Cookie", "sid=new"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let response = sidecar.get("/a", &[("Accept", "*/*")]).await;
    assert!(!response.is_from_memory());
    assert_eq!(response.header("set-cookie"), Some("sid=new"));
}
