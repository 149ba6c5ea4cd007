//! Requests without a body, and whatever a backend may answer them with.

use std::time::Duration;

use crate::support::client::Connection;
use crate::support::eventually;
use crate::support::raw::{Raw, Then};
use crate::support::sidecar::Sidecar;

fn in_front_of(backend: &Raw) -> Sidecar {
    Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n", backend.url()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_connection_is_not_seen_on_the_other() {
    let backend = Raw::always(
        "HTTP/1.1 200 Very well\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
         Upgrade: h2c\r\nX-oddLY-Written: \u{e9}\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        Then::Goes,
    )
    .await;
    let sidecar = in_front_of(&backend);
    let mut connection = Connection::open(sidecar.address).await;
    let answer = connection
        .get("/a", &[("Connection", "keep-alive, X-Mine"), ("X-Mine", "1"), ("TE", "trailers"), ("X-yOURS", "2")])
        .await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    for gone in ["keep-alive", "x-hop", "upgrade"] {
        assert_eq!(answer.header(gone), None);
    }
    assert_eq!(answer.all("content-length"), ["2"]);
    assert!(answer.headers.iter().any(|(name, value)| name == "X-oddLY-Written" && value == "\u{e9}"), "{answer:?}");
    assert!(answer.header("date").is_some_and(|date| httpdate::parse_http_date(date).is_ok()), "{answer:?}");
    let head = backend.heads().pop().unwrap();
    let (_, fields) = head.split_once("\r\n").unwrap();
    assert!(fields.contains("X-yOURS: 2\r\n"), "{head}");
    for gone in ["x-mine", "te:", "connection"] {
        assert!(!fields.to_ascii_lowercase().contains(gone), "{gone}: {head}");
    }
    assert!(connection.get("/a", &[]).await.status == 200);
    // However it is passed on.
    for (method, headers) in [("POST", &[][..]), ("GET", &[("Connection", "close")])] {
        let answer = Connection::open(sidecar.address).await.request(method, "/a", headers, b"").await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        for gone in ["keep-alive", "x-hop", "upgrade"] {
            assert_eq!(answer.header(gone), None, "{method}");
        }
        assert_eq!(answer.all("content-length"), ["2"], "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_an_answer_ends_the_next_request_is_answered() {
    let cases: [(&str, Then, &str); 11] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", Then::Goes, "body"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Then::Goes, ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody", Then::Ends, "body"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\n\r\n",
            Then::Goes,
            "body",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n", Then::Goes, "body"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Then::Goes, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            Then::Goes,
            "body",
        ),
        ("HTTP/1.1 200 OK\r\n\r\nbody", Then::Ends, "body"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", Then::Ends, "body"),
        ("HTTP/1.0 200 OK\r\n\r\nbody", Then::Ends, "body"),
        ("HTTP/1.1 204 No Content\r\n\r\n", Then::Goes, ""),
    ];
    for (sent, then, body) in cases {
        let backend = Raw::always(sent, then).await;
        let sidecar = in_front_of(&backend);
        let mut connection = Connection::open(sidecar.address).await;
        for _ in 0..3 {
            assert_eq!(connection.get("/a", &[]).await.text(), body, "{sent}");
        }
        assert_eq!(backend.heads().len(), 3, "{sent}");
        // Who says two things about the end of an answer may be wrong about where the next begins (RFC 9112 section 6.3).
        let kept = then == Then::Goes && !(sent.contains("chunked") && sent.contains("Content-Length"));
        assert_eq!(backend.accepted(), if kept { 1 } else { 3 }, "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_body_by_definition_has_none() {
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked", "X-None: 1"] {
        for (method, status) in [("HEAD", 200), ("GET", 304), ("GET", 204)] {
            let backend = Raw::always(&format!("HTTP/1.1 {status} Fine\r\n{fields}\r\n\r\n"), Then::Goes).await;
            let sidecar = in_front_of(&backend);
            let mut connection = Connection::open(sidecar.address).await;
            for _ in 0..3 {
                let answer = connection.request(method, "/a", &[], b"").await;
                assert_eq!(answer.status, status, "{method} {fields}");
                if fields.starts_with("Content-Length") {
                    let length = (status != 204).then_some("5");
                    assert_eq!(answer.header("content-length"), length, "{method}");
                }
            }
            // A 204 that tells of a body may have one (RFC 9110 section 8.6, RFC 9112 section 6.1).
            let kept = status != 204 || fields.starts_with("X-None");
            assert_eq!(backend.accepted(), if kept { 1 } else { 3 }, "{method} {status} {fields}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_pass_but_not_for_ever() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let end = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = Raw::always(&format!("{hint}{hint}{end}"), Then::Goes).await;
    let sidecar = in_front_of(&backend);
    let mut connection = Connection::open(sidecar.address).await;
    connection.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    for _ in 0..2 {
        let interim = connection.head().await;
        assert_eq!((interim.status, interim.header("link")), (103, Some("</a.css>")));
    }
    assert_eq!(connection.response("GET").await.text(), "ok");
    let backend = Raw::always(&hint.repeat(100), Then::Goes).await;
    let sidecar = in_front_of(&backend);
    let mut connection = Connection::open(sidecar.address).await;
    connection.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut interim = 0;
    let last = loop {
        match connection.head().await.status {
            103 => interim += 1,
            status => break status,
        }
    };
    assert_eq!(last, 502);
    assert!(interim < 100, "all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_a_502() {
    for (sent, then) in [
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", Then::Goes),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Then::Goes),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Then::Goes),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab", Then::Goes),
        ("SSH-2.0-OpenSSH\r\n\r\n", Then::Goes),
        ("HTTP/1.1 200 OK\r\nX", Then::Ends),
        ("", Then::Ends),
    ] {
        let backend = Raw::always(sent, then).await;
        let sidecar = in_front_of(&backend);
        let mut connection = Connection::open(sidecar.address).await;
        let answer = connection.get("/a", &[]).await;
        assert_eq!(answer.status, 502, "{sent}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(backend.heads().len(), 1, "it was asked again: {sent}");
    }
}

/// Operators are told, whether the connection is a new one or was idle.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_gives_no_answers_any_more_is_away() {
    let backend = Raw::start(|number| {
        let answer =
            if number == 0 { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" } else { "SSH-2.0-OpenSSH\r\n\r\n" };
        (answer.into(), Then::Goes)
    })
    .await;
    let sidecar = in_front_of(&backend);
    for (status, away) in [(200, false), (502, true)] {
        assert_eq!(sidecar.get("/a", &[]).await.status, status);
        let state: serde_json::Value = serde_json::from_slice(&sidecar.admin("/api/state").await.body).unwrap();
        assert_eq!(state["upstream"][0]["away"], away, "{state}");
    }
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_passed_on_as_far_as_it_came() {
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let chunk = if head.starts_with('T') { "4\r\npart\r\n" } else { "part" };
        let backend = Raw::always(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{chunk}"), Then::Ends).await;
        let sidecar = in_front_of(&backend);
        let mut connection = Connection::open(sidecar.address).await;
        connection.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(connection.head().await.status, 200);
        let rest = String::from_utf8(connection.raw(1000).await).unwrap();
        assert!(rest.contains("part") && !rest.contains("0\r\n\r\n"), "{rest:?}");
    }
}

/// A backend may close an idle connection at any moment, also at that in which it is used again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_meanwhile_costs_nobody_an_answer() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    // It says nothing of it, and half of the time it takes the request first.
    let backend =
        Raw::start(move |number| if number % 3 == 1 { (Vec::new(), Then::Ends) } else { (answer.clone(), Then::Goes) })
            .await;
    let sidecar = in_front_of(&backend);
    let mut connection = Connection::open(sidecar.address).await;
    for _ in 0..20 {
        assert_eq!(connection.get("/a", &[]).await.text(), "ok");
    }
    let backend = Raw::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Ends).await;
    let sidecar = in_front_of(&backend);
    let mut connection = Connection::open(sidecar.address).await;
    for _ in 0..20 {
        assert_eq!(connection.get("/a", &[]).await.text(), "ok");
    }
    assert_eq!(backend.heads().len(), 20);
}

/// Whatever else goes wrong over a connection that was used before: the backend has seen the request, and may have done something.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_answered_is_not_asked_again() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let backend = Raw::start(move |number| match number {
        0 => (answer.clone(), Then::Goes),
        _ => (b"nonsense\r\n\r\n".to_vec(), Then::Ends),
    })
    .await;
    let sidecar = in_front_of(&backend);
    let mut connection = Connection::open(sidecar.address).await;
    assert_eq!(connection.get("/a", &[]).await.status, 200);
    assert_eq!(connection.get("/a", &[]).await.status, 502);
    assert_eq!((backend.heads().len(), backend.accepted()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_used_again_and_not_kept_for_long() {
    let backend = Raw::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Goes).await;
    let sidecar = in_front_of(&backend);
    for _ in 0..2 {
        let before = backend.accepted();
        let mut connections = Vec::new();
        for _ in 0..5 {
            let mut connection = Connection::open(sidecar.address).await;
            assert_eq!(connection.get("/a", &[]).await.text(), "ok");
            connections.push(connection);
        }
        assert_eq!(backend.accepted() - before, 1);
        eventually("the idle connection to be closed", || backend.open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_says_that_it_closes_is_taken_at_its_word() {
    for said in ["Connection: close", "Connection: keep-alive\r\nConnection: x, Close"] {
        let backend =
            Raw::always(&format!("HTTP/1.1 200 OK\r\n{said}\r\nContent-Length: 2\r\n\r\nok"), Then::Goes).await;
        let sidecar = in_front_of(&backend);
        let mut connection = Connection::open(sidecar.address).await;
        for _ in 0..2 {
            assert_eq!(connection.get("/a", &[]).await.text(), "ok");
        }
        assert_eq!(backend.accepted(), 2, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_kept_than_is_said() {
    let backend = Raw::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Goes).await;
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\nkeepalive = 2\n", backend.url()));
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(Connection::open(sidecar.address).await);
    }
    for connection in &mut connections {
        connection.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    }
    for connection in &mut connections {
        assert_eq!(connection.response("GET").await.text(), "ok");
    }
    eventually("the others to be closed", || backend.open() <= 2).await;
}

/// What a backend sends behind an answer is not the answer to somebody else's request.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_answer_unasked_is_nobodys() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let backend = Raw::always(&format!("{answer}{evil}"), Then::Goes).await;
    let sidecar = in_front_of(&backend);
    for method in ["GET", "HEAD"] {
        let mut connection = Connection::open(sidecar.address).await;
        for _ in 0..5 {
            let read = connection.request(method, "/a", &[], b"").await;
            assert_eq!((read.status, read.header("content-length")), (200, Some("2")));
        }
        assert!(connection.is_silent_for(Duration::from_millis(200)).await, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_not_asked_for_any_more() {
    // Before the answer begins, and in the middle of it.
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegi"] {
        let backend = Raw::always(sent, Then::Goes).await;
        let sidecar = in_front_of(&backend);
        let mut connection = Connection::open(sidecar.address).await;
        connection.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        if sent.is_empty() {
            eventually("the request to arrive", || backend.heads().len() == 1).await;
        } else {
            connection.head().await;
        }
        drop(connection);
        eventually("the backend's connection to be closed", || backend.open() == 0).await;
    }
}
