//! What many clients, or bad ones, cannot do: take memory, places or fetches that belong to others.
//!
//! The sizes are those of a quick run; the environment variables named here raise them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection, Events};
use crate::support::follower::{Follower, Form, Over};
use crate::support::program::{Program, Scratch};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

/// How many, if the environment does not say otherwise.
fn size(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().map_or(usual, |size| size.parse().expect(variable))
}

/// A client that asks for a stream and never reads. What the kernels keep for it, on both sides, is kept small by short
/// segments.
async fn deaf(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(socket.into()).unwrap();
    stream.write_all(client::head("GET", "/a", &[("Accept", "text/event-stream")], b"").as_bytes()).await.unwrap();
    stream
}

/// The memory of a process that is resident, in bytes.
pub fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

/// A counter of the admin listener's metrics, by the start of its line.
async fn counter(admin: SocketAddr, line: &str) -> usize {
    let metrics = client::get(admin, "/metrics", &[LOCAL]).await;
    let value = metrics.text().lines().find_map(|found| found.strip_prefix(line)).map(str::trim);
    value.map_or(0, |value| value.parse().unwrap())
}

/// `SUNGRAZER_TEST_DEAF` clients.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_take_no_memory_and_are_given_up_with_a_reason() {
    const CHANGE: usize = 64 << 10;
    const CHANGES: usize = 30;
    let clients = size("SUNGRAZER_TEST_DEAF", 1000);
    let backend = Backend::start().await;
    backend.set("/a", Page::text("small"));
    let scratch = Scratch::new("deaf");
    let config = scratch.write(
        "sungrazer.toml",
        &format!(
            "[server]\nmax_streams_per_address = {}\nwrite_timeout = \"4s\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n",
            clients + 1,
            backend.url()
        ),
    );
    let program = Program::start(&["run", "-c", &config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut reader = Events::open(program.address, "/a", &[]).await;
    reader.snapshot().await;
    let mut deaf_ones = Vec::new();
    for _ in 0..clients {
        deaf_ones.push(deaf(program.address).await);
    }
    let all = "sungrazer_streams{route=\"/a\",transport=\"sse\"} ";
    within("all to be held", async {
        while counter(program.admin, all).await < clients + 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let before = resident(program.pid());
    let mut most = before;
    for round in 0..CHANGES {
        backend.set("/a", Page::text(&format!("{round:04}{}", "x".repeat(CHANGE))));
        let told = within("the change", reader.snapshot()).await.data;
        assert_eq!(told[..4], format!("{round:04}"), "the one that reads was held up");
        most = most.max(resident(program.pid()));
    }
    let grown = (most - before) >> 20;
    let unread = (clients * CHANGES * CHANGE) >> 20;
    eprintln!(
        "{clients} clients have not read {unread} MiB; the process grew by {grown} MiB, from {} MiB",
        before >> 20
    );
    assert!(grown < 32, "{grown} MiB more for {clients} clients that do not read");
    let slow = "sungrazer_streams_ended_total{route=\"/a\",reason=\"slow\"} ";
    within("all to be given up", async {
        while counter(program.admin, slow).await < clients {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(counter(program.admin, all).await, 1);
    backend.set("/a", Page::text("last"));
    assert_eq!(within("the change", reader.snapshot()).await.data, "last");
}

/// Opens `clients` streams at once, which claim to hold `id`, or nothing.
async fn herd(address: SocketAddr, clients: usize, id: &str) -> Vec<Events> {
    let opening = (0..clients).map(|number| {
        let claim = if number % 2 == 0 { id.to_owned() } else { "none".to_owned() };
        tokio::spawn(async move { Events::open(address, "/a", &[("Last-Event-ID", &claim)]).await })
    });
    let mut open = Vec::new();
    for client in opening.collect::<Vec<_>>() {
        open.push(within("a client of the herd", client).await.unwrap());
    }
    open
}

/// `SUNGRAZER_TEST_HERD` clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_herd_that_comes_back_makes_no_more_fetches_than_one_client() {
    let clients = size("SUNGRAZER_TEST_HERD", 500);
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"n\":1}"));
    let start = || {
        Sidecar::with(&format!(
            "[server]\nmax_streams_per_address = 100000\nmax_streams = 100000\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"1h\"\nevery_max = \"1h\"\n",
            backend.url()
        ))
    };
    // What one client costs a server that knows nothing yet.
    let sidecar = start();
    let mut first = sidecar.events("/a").await;
    let id = first.snapshot().await.id.unwrap();
    let one = backend.hits("/a");
    // They come back to a server that watches already.
    let began = Instant::now();
    let open = herd(sidecar.address, clients, &id).await;
    eprintln!("{clients} clients were back after {:?}", began.elapsed());
    assert_eq!(sidecar.held(), clients + 1);
    assert_eq!(backend.hits("/a"), one, "the herd was not served from memory");
    drop(open);
    eventually("all to leave", || sidecar.held() == 1).await;
    // They come to one that was started anew.
    let asked = backend.hits("/a");
    let sidecar = start();
    let began = Instant::now();
    let mut open = herd(sidecar.address, clients, &id).await;
    eprintln!("{clients} clients were back after {:?}, at a server that had been started anew", began.elapsed());
    assert_eq!(backend.hits("/a") - asked, one, "the herd asked more than one client does");
    // Each is told what it does not hold, and the next change.
    backend.set("/a", Page::json("{\"n\":2}"));
    Connection::open(sidecar.server.admin().unwrap()).await.request("POST", "/api/refresh?url=/a", &[LOCAL], b"").await;
    for (number, events) in open.iter_mut().enumerate() {
        if number % 2 == 1 {
            assert_eq!(within("the state", events.snapshot()).await.data, "{\"n\":1}");
        }
        assert_eq!(within("the change", events.snapshot()).await.data, "{\"n\":2}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_that_polls_again_is_held_on_one_fetch() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"1h\"\nevery_max = \"1h\"\n");
    let mut first = Connection::open(sidecar.address).await;
    let etag = first.get("/a", &[("Prefer", "wait=1")]).await.header("etag").unwrap().to_owned();
    let asked = backend.hits("/a");
    let polls: Vec<_> = (0..200)
        .map(|_| {
            let (address, etag) = (sidecar.address, etag.clone());
            tokio::spawn(
                async move { client::get(address, "/a", &[("Prefer", "wait=60"), ("If-None-Match", &etag)]).await },
            )
        })
        .collect();
    eventually("all to be held", || sidecar.held() == 200).await;
    assert_eq!(backend.hits("/a"), asked);
    backend.set("/a", Page::json("2"));
    Connection::open(sidecar.server.admin().unwrap()).await.request("POST", "/api/refresh?url=/a", &[LOCAL], b"").await;
    for poll in polls {
        assert_eq!(within("the news", poll).await.unwrap().text(), "2");
    }
    assert_eq!(backend.hits("/a"), asked + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_client_that_leaves_stops_the_fetches_whatever_it_spoke() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::with(&format!(
        "[server]\nh2c = true\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n",
        backend.url()
    ));
    for (form, over) in [(Form::Sse, Over::H1), (Form::Sse, Over::H2), (Form::WebSocket, Over::H1)] {
        let mut followers = Vec::new();
        for _ in 0..3 {
            let mut follower = Follower::open(form, over, sidecar.address, "/a", None).await;
            follower.next().await.unwrap();
            followers.push(follower);
        }
        followers.truncate(1);
        eventually("two to have left", || sidecar.held() == 1).await;
        let fetches = backend.hits("/a");
        eventually("fetches for the last one", || backend.hits("/a") > fetches + 2).await;
        let left = Instant::now();
        drop(followers);
        eventually("its leaving to be noticed", || sidecar.held() == 0).await;
        assert!(left.elapsed() < Duration::from_secs(1), "{form:?} over {over:?}: after {:?}", left.elapsed());
        // A fetch may have been under way; after that, none.
        backend.settles("/a").await;
        let fetches = backend.hits("/a");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(backend.hits("/a"), fetches, "{form:?} over {over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_is_told_when_to_come_back() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::with(&format!(
        "[server]\nh2c = true\nmax_streams = 1\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\nhold = \"1h\"\n",
        backend.url()
    ));
    let mut held = sidecar.events("/a").await;
    held.snapshot().await;
    let etag = sidecar.get("/a", &[]).await.header("etag").unwrap().to_owned();
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "sungrazer.v1"),
    ];
    let cases: [(&str, &[(&str, &str)]); 7] = [
        ("/a", &[("Accept", "text/event-stream")]),
        ("/a", &[("Accept", "application/x-ndjson")]),
        ("/a", &[("Accept", "multipart/x-mixed-replace")]),
        ("/.sungrazer/stream?url=/a", &[]),
        ("/.sungrazer/iframe?url=/a&callback=f", &[]),
        ("/.sungrazer/ws", &upgrade),
        // It would ask again at once.
        ("/a", &[("Prefer", "wait=30"), ("If-None-Match", &etag)]),
    ];
    for (target, headers) in cases {
        let refused = within("an answer at once", sidecar.get(target, headers)).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{target} {headers:?}");
    }
    // Those that need not wait are answered.
    for headers in [&[("Prefer", "wait=30")][..], &[], &[]] {
        let answer = within("an answer at once", sidecar.get("/a", headers)).await;
        assert_eq!((answer.status, answer.text()), (200, "1"), "{headers:?}");
    }
    let metrics = sidecar.admin("/metrics").await;
    assert!(metrics.text().contains("sungrazer_limits_hit_total{limit=\"streams\"} 7"), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_beyond_a_limit_on_an_open_stream_ends_as_overload() {
    let backend = Backend::start().await;
    backend.handle("/a", |_| Page::json("1"));
    let sidecar = Sidecar::with(&format!(
        "[server]\nmax_resources = 2\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\nmax_body = \"64KiB\"\n",
        backend.url()
    ));
    let end = |url: &str| json!({ "event": "end", "url": url, "reason": "overload" });
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    for url in ["/a?1", "/a?2"] {
        socket.say(&json!({ "subscribe": url })).await;
        assert_eq!(within("a snapshot", socket.message()).await.unwrap()["event"], "snapshot");
    }
    socket.say(&json!({ "subscribe": "/a?3" })).await;
    assert_eq!(within("the end", socket.message()).await.unwrap(), end("/a?3"));
    let refused = sidecar.get("/a?4", &[("Accept", "text/event-stream")]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let mut stream = Events::open(sidecar.address, "/.sungrazer/stream?url=/a%3F1&url=/a%3F5", &[]).await;
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(serde_json::from_str(&within("a record", stream.next()).await.unwrap().data).unwrap());
    }
    assert!(heard.contains(&end("/a?5")), "{heard:?}");
    // The one that can be followed is; and ends when it grows beyond what is watched.
    backend.set("/a", Page::json(&format!("\"{}\"", "x".repeat(80 << 10))));
    let record: serde_json::Value =
        serde_json::from_str(&within("the end", stream.next()).await.unwrap().data).unwrap();
    assert_eq!(record, end("/a?1"));
    assert_eq!(stream.next().await, None);
    let ended = sidecar.admin("/metrics").await;
    assert!(
        ended.text().contains("sungrazer_streams_ended_total{route=\"/a\",reason=\"overload\"}"),
        "{}",
        ended.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_follows_only_so_many() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"1h\"\nevery_max = \"1h\"\n");
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    for number in 0..64 {
        socket.say(&json!({ "subscribe": format!("/a?{number}") })).await;
        assert_eq!(within("a snapshot", socket.message()).await.unwrap()["event"], "snapshot");
    }
    socket.say(&json!({ "subscribe": "/a?64" })).await;
    let end = within("the end", socket.message()).await.unwrap();
    assert_eq!(end, json!({ "event": "end", "url": "/a?64", "reason": "overload" }));
    // The others go on, and one that is given up makes room.
    socket.say(&json!({ "unsubscribe": "/a?0" })).await;
    socket.say(&json!({ "subscribe": "/a?64" })).await;
    assert_eq!(within("a snapshot", socket.message()).await.unwrap()["url"], "/a?64");
}
