//! WebSockets and event streams of the backend's own.

use std::time::Duration;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, head};
use crate::support::eventually;
use crate::support::sidecar::Sidecar;

const UPGRADE: &[(&str, &str)] = &[
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Origin", "http://site.example"),
];

fn switching() -> Page {
    Page::text("")
        .status(101)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .linger()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_the_backends_own() {
    let backend = Backend::start().await;
    backend.set("/ws", switching());
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\n");
    // A fast backend answers in the same packet as its 101; a fast client sends before it has seen that.
    for _ in 0..50 {
        let mut connection = Connection::open(sidecar.address).await;
        connection
            .send(head("GET", "/ws", UPGRADE, b"").into_bytes().into_iter().chain(*b"early").collect::<Vec<u8>>())
            .await;
        let answer = connection.head().await;
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(connection.raw(5).await, b"early");
        let payload: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        connection.send(&payload).await;
        let mut echoed = Vec::new();
        while echoed.len() < payload.len() {
            echoed.extend(connection.raw(1).await);
        }
        assert!(echoed == payload);
    }
    let seen = backend.seen("/ws").pop().unwrap();
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.headers.iter().any(|(name, _)| name == "Sec-WebSocket-Key"), "the spelling of a header changed");
    eventually("the tunnels to end with their clients", || backend.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_is_an_answer_and_nothing_behind_it_reaches_the_backend() {
    let backend = Backend::start().await;
    backend.set("/ws", Page::text("not here").status(403));
    backend.set("/smuggled", Page::text("oops"));
    let sidecar = Sidecar::start(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(head("GET", "/ws", UPGRADE, b"")).await;
    connection.send(head("GET", "/smuggled", &[], b"")).await;
    let answer = connection.response("GET").await;
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (403, "not here", Some("close")));
    assert!(connection.is_closed().await);
    assert_eq!(backend.hits("/smuggled"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_of_the_backends_own_passes_through_whatever_the_route_says() {
    let backend = Backend::start().await;
    let own = || Page::new("text/event-stream", "").piece(Duration::ZERO, "data: theirs\n\n").linger();
    backend.handle(
        "/both",
        move |seen| if seen.header("accept") == Some("text/event-stream") { own() } else { Page::json("1") },
    );
    backend.handle("/always", move |_| own());
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\nevery = \"50ms\"\n");
    for path in ["/both", "/always", "/both"] {
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("GET", path, &[("Accept", "text/event-stream")], b"")).await;
        let answer = connection.head().await;
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(connection.raw(14).await, b"data: theirs\n\n", "{path}");
    }
    eventually("the backend to be rid of clients that left", || backend.open() <= 1).await;
    assert_eq!(
        sidecar.watched(),
        1,
        "what the backend streams itself is not watched, but for what /both says to others"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_beside_all_routes_passes_through() {
    let backend = Backend::start().await;
    backend.set(
        "/own",
        Page::new("text/event-stream", "")
            .piece(Duration::ZERO, "data: 1\n\n")
            .piece(Duration::from_millis(200), "data: 2\n\n"),
    );
    let sidecar = Sidecar::start(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(head("GET", "/own", &[("Accept", "text/event-stream")], b"")).await;
    connection.head().await;
    assert_eq!(connection.raw(9).await, b"data: 1\n\n", "the first event was held back");
    assert_eq!(connection.raw(9).await, b"data: 2\n\n");
    assert!(connection.is_closed().await);
}
