//! What one client takes is not taken from the others: fetches, memory for answers, heads and histories, connections.
//!
//! Clients come from several addresses here: a proxy that is trusted says so, or they use other addresses of the loopback network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::bounds::resident;
use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection, Events, head};
use crate::support::follower::Follower;
use crate::support::program::{Program, Scratch};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

const VICTIM: [(&str, &str); 2] = [("X-Forwarded-For", "198.51.100.7"), ("Cookie", "sid=victim")];

/// A client of another address of this machine.
async fn from(address: [u8; 4], to: SocketAddr) -> Connection {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    let stream = within("a connection", socket.connect(to)).await.unwrap();
    Connection { stream, buffer: Vec::new() }
}

/// The ways in which one client makes as many fetches necessary as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// By lists of URLs in the query.
    Lists,
    /// By lists that are posted.
    Posts,
    /// By lists of URLs that are answered slowly.
    Slow,
    /// By lists, each from another address of one network.
    Network,
    /// By lists under many credentials, from one address.
    Credentials,
    /// By subscribing and unsubscribing over a WebSocket.
    Socket,
    /// By plain polls, each of another URL, several of each at once.
    Polls,
}

impl Flood {
    /// Begins it. It ends with what is returned.
    async fn begin(self, address: SocketAddr) -> JoinSet<()> {
        let mut flood = JoinSet::new();
        for number in 0..8 {
            let path = if self == Self::Slow { "/slow" } else { "/flood" };
            let urls: Vec<String> = (0..50).map(|n| format!("{path}?a={number}&b={n}")).collect();
            let source = if self == Self::Network { format!("2001:db8::{number}") } else { "192.0.2.1".to_owned() };
            let cookie = if self == Self::Credentials { format!("sid={number}") } else { "sid=flood".to_owned() };
            flood.spawn(async move {
                let headers = [("x-forwarded-for", &*source), ("cookie", &*cookie)];
                match self {
                    Self::Posts => {
                        let follow: Vec<_> = urls.iter().map(|url| json!({ "url": url })).collect();
                        let body = json!({ "follow": follow }).to_string();
                        let mut stream = Events::post_as(address, "/.sungrazer/stream", &body, &headers).await;
                        while stream.fill().await {}
                    }
                    Self::Socket => churn(address, &headers, number).await,
                    Self::Polls => polls(address, &headers, number).await,
                    _ => {
                        let urls: Vec<String> =
                            urls.iter().map(|url| format!("url={}", url.replace('&', "%26"))).collect();
                        let target = format!("/.sungrazer/stream?{}", urls.join("&"));
                        let mut stream = Events::open(address, &target, &headers).await;
                        while stream.fill().await {}
                    }
                }
            });
        }
        flood
    }
}

async fn churn(address: SocketAddr, headers: &[(&'static str, &str)], number: usize) {
    let mut socket = Follower::socket(address, "/.sungrazer/ws", headers).await;
    for n in 0.. {
        // The last of them stay, so that there is always something to fetch.
        if !socket.try_say(&json!({ "subscribe": format!("/flood?s={number}&n={n}") }).to_string()).await {
            return;
        }
        if n >= 40 {
            socket.try_say(&json!({ "unsubscribe": format!("/flood?s={number}&n={}", n - 40) }).to_string()).await;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

async fn polls(address: SocketAddr, headers: &[(&str, &str)], number: usize) {
    let mut pair = [Connection::open(address).await, Connection::open(address).await];
    for n in 0.. {
        let target = format!("/flood?p={number}&n={n}");
        for connection in &mut pair {
            connection.send(head("GET", &target, headers, b"")).await;
        }
        for connection in &mut pair {
            connection.response("GET").await;
        }
    }
}

/// One client floods, in one way or another. Another's stream goes on as before, its plain requests are answered as by the
/// application, and it can open further streams.
async fn nobody_else_is_late(flood: Flood) {
    let backend = Backend::start().await;
    let count = AtomicUsize::new(0);
    backend.handle("/flood", move |_| {
        Page::json(&count.fetch_add(1, Ordering::Relaxed).to_string()).delay(Duration::from_millis(20))
    });
    backend.handle("/slow", |_| Page::json("1").delay(Duration::from_secs(6)));
    backend.set("/a", Page::json("0"));
    let sidecar = Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\nmax_fetches = 8\nmax_fetch_rate = 40\n\
         [[route]]\npath = \"/**\"\nevery = \"100ms\"\nevery_max = \"100ms\"\nrefresh_on = []\n",
        backend.url()
    ));
    let mut stream = Events::open(sidecar.address, "/a", &VICTIM).await;
    stream.snapshot().await;
    let clients = flood.begin(sidecar.address).await;
    let application = sidecar.server.gateway().application("/");
    let budget = application.limiter();
    if flood == Flood::Polls {
        eventually("polls", || backend.hits("/flood") > 40).await;
    } else {
        eventually("the flood to be more than can be fetched", || budget.stats().waiting > 20).await;
        // All that may be fetched at once is being fetched.
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    let mut late = Vec::new();
    for change in 1..=5 {
        backend.set("/a", Page::json(&change.to_string()));
        let began = Instant::now();
        assert_eq!(within("news", stream.snapshot()).await.data, change.to_string());
        late.push(began.elapsed());
        let began = Instant::now();
        let answer = client::get(sidecar.address, "/a", &VICTIM).await;
        assert_eq!(answer.text(), change.to_string());
        late.push(began.elapsed());
    }
    let began = Instant::now();
    let mut another = Events::open(sidecar.address, "/a?another", &VICTIM).await;
    backend.set("/a", Page::json("6"));
    within("the first event of another stream", another.next()).await.unwrap();
    late.push(began.elapsed());
    let worst = late.iter().max().unwrap();
    assert!(*worst < Duration::from_millis(2500), "{flood:?}: {late:?}");
    let spending = budget.stats();
    assert!(spending.last_second <= 40 && spending.running <= 8, "{spending:?}");
    drop(clients);
    eventually("the flood to be over", || budget.stats().waiting <= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_one_client_delay_nobody_else() {
    nobody_else_is_late(Flood::Lists).await;
    nobody_else_is_late(Flood::Posts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_has_answered_slowly_delays_nobody_else() {
    nobody_else_is_late(Flood::Slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_addresses_of_one_network_and_many_credentials_of_one_address_delay_nobody_else() {
    nobody_else_is_late(Flood::Network).await;
    nobody_else_is_late(Flood::Credentials).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_subscribes_and_unsubscribes_delays_nobody_else() {
    nobody_else_is_late(Flood::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_one_client_delay_nobody_else() {
    nobody_else_is_late(Flood::Polls).await;
}

/// Somebody floods and follows what others follow: they are not served with what only he follows.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_flooding_client_follows_beside_others_is_as_soon_as_theirs() {
    let backend = Backend::start().await;
    backend.handle("/slow", |_| Page::json("1").delay(Duration::from_secs(6)));
    backend.set("/a", Page::json("0"));
    let sidecar = Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\nmax_fetches = 8\n\
         [[route]]\npath = \"/**\"\naudience = \"public\"\nevery = \"100ms\"\nevery_max = \"100ms\"\nrefresh_on = []\n",
        backend.url()
    ));
    // It was there first.
    let _first = Events::open(sidecar.address, "/a", &[("X-Forwarded-For", "192.0.2.1")]).await;
    let _clients = Flood::Slow.begin(sidecar.address).await;
    let application = sidecar.server.gateway().application("/");
    let budget = application.limiter();
    eventually("the flood", || budget.stats().waiting > 100).await;
    let mut stream = Events::open(sidecar.address, "/a", &VICTIM).await;
    stream.next().await.unwrap();
    for change in 1..=5 {
        backend.set("/a", Page::json(&change.to_string()));
        let began = Instant::now();
        while within("news", stream.next()).await.unwrap().data != change.to_string() {}
        assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    }
}

/// Clients that ask for large answers over WebSockets and do not read them.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_read_over_sockets_take_little_memory_and_delay_no_others() {
    const LARGE: usize = 6 << 20;
    let backend = Backend::start().await;
    backend.set("/large", Page::new("text/plain", vec![b'x'; LARGE]));
    backend.set("/escaped", Page::new("text/plain", vec![1; LARGE]));
    backend.set("/small", Page::json("[1]"));
    let scratch = Scratch::new("replies");
    let config = scratch.write(
        "sungrazer.toml",
        &format!(
            "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/small\"\n",
            backend.url()
        ),
    );
    let program = Program::start(&["run", "-c", &config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let before = resident(program.pid());
    let mut deaf = Vec::new();
    for number in 0..12 {
        let mut socket = Follower::socket(program.address, "/.sungrazer/ws", &[("x-forwarded-for", "192.0.2.1")]).await;
        for id in 0..16 {
            let url = if number % 2 == 0 { "/large" } else { "/escaped" };
            socket.say(&json!({ "request": { "id": id, "url": url } })).await;
        }
        deaf.push(socket);
    }
    eventually("as many to be under way as may be", || backend.hits("/large") + backend.hits("/escaped") >= 16).await;
    let mut most = 0;
    let mut reader = Follower::socket(program.address, "/.sungrazer/ws", &[("x-forwarded-for", "198.51.100.7")]).await;
    for round in 0..6 {
        let url = if round % 2 == 0 { "/small" } else { "/large" };
        let began = Instant::now();
        reader.say(&json!({ "request": { "id": round, "url": url } })).await;
        let answer = within("an answer", reader.message()).await.unwrap();
        assert_eq!((&answer["response"]["id"], &answer["response"]["status"]), (&json!(round), &json!(200)), "{url}");
        if url == "/large" {
            assert_eq!(answer["response"]["body"].as_str().unwrap().len(), LARGE);
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        most = most.max(resident(program.pid()));
    }
    let grown = most.saturating_sub(before) >> 20;
    eprintln!("{} answers that nobody reads: {grown} MiB", deaf.len() * 16);
    assert!(grown < 250, "{grown} MiB more");
    drop(deaf);
}

/// A client that reads gets all that it asks for, whatever it takes.
#[tokio::test(flavor = "multi_thread")]
async fn many_large_answers_over_one_socket_come_whole() {
    let backend = Backend::start().await;
    let body = "0123456789abcde\n".repeat(64 << 10);
    backend.set("/large", Page::text(&body));
    backend.set("/pieces", Page::text(&body).chunked(5000));
    backend.set("/bytes", Page::new("application/octet-stream", vec![0; 40_000]));
    let sidecar = Sidecar::start(&backend, "");
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    let urls = ["/large", "/pieces", "/bytes"];
    for id in 0..24 {
        socket.say(&json!({ "request": { "id": id, "url": urls[id % 3] } })).await;
    }
    for _ in 0..24 {
        let message = within("an answer", socket.message()).await.unwrap();
        let response = &message["response"];
        let id = usize::try_from(response["id"].as_u64().unwrap()).unwrap();
        assert_eq!(response["status"], 200, "{response}");
        match urls[id % 3] {
            "/bytes" => assert_eq!(response["encoding"], "base64"),
            _ => assert!(response["body"] == *body, "{} bytes", response["body"].as_str().unwrap().len()),
        }
    }
}

/// Heads that are large and do not end.
#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_bounded_in_all_and_leave_room_for_those_of_others() {
    const CLIENTS: usize = 200;
    let backend = Backend::start().await;
    backend.set("/", Page::text("x"));
    let scratch = Scratch::new("heads");
    let config = scratch.write(
        "sungrazer.toml",
        &format!("[server]\nhead_timeout = \"1m\"\n[upstream]\nurl = \"{}\"\n", backend.url()),
    );
    let program = Program::start(&["run", "-c", &config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let before = resident(program.pid());
    let line = format!("X-A: {}\r\n", "x".repeat(8000));
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\n{}", line.repeat(120));
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(program.address).await;
        let sent = connection.stream.write_all(large.as_bytes()).await;
        let answer = tokio::time::timeout(Duration::from_millis(30), connection.fill()).await;
        refused += usize::from(sent.is_err() || answer.is_ok());
        open.push(connection);
    }
    let grown = resident(program.pid()).saturating_sub(before) >> 20;
    eprintln!("{CLIENTS} heads of 940 KiB that do not end: {refused} refused, {grown} MiB");
    assert!(refused > CLIENTS / 2 && grown < 110, "{refused} refused, {grown} MiB more");
    // A usual one of the same address, and a large one of another.
    let mut usual = Connection::open(program.address).await;
    assert_eq!(usual.get("/", &[("X-A", &"x".repeat(8000))]).await.text(), "x");
    let mut other = from([127, 0, 0, 2], program.address).await;
    let headers: Vec<(String, String)> = (0..10).map(|n| (format!("X-{n}"), "x".repeat(8000))).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(other.get("/", &headers).await.text(), "x");
}

/// Connections to the admin listener that say nothing, as many as it takes and again and again.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_when_all_connections_are_taken() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, "");
    let admin = sidecar.server.admin().unwrap();
    let mut open = Vec::new();
    for round in 0..3 {
        for n in 0..300 {
            let mut connection = Connection::open(admin).await;
            if n % 2 == 0 {
                connection.send("GET /healthz HTTP/1.1\r\nHost: ").await;
            }
            open.push(connection);
        }
        for target in ["/healthz", "/readyz"] {
            let began = Instant::now();
            let answer = client::get(admin, target, &[LOCAL]).await;
            assert_eq!(answer.status, 200, "{target} in round {round}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
        assert_eq!(client::get(admin, "/metrics", &[LOCAL]).await.status, 503, "what is reserved is for probes");
    }
    drop(open);
    within("operators to be served again", async {
        while client::get(admin, "/metrics", &[LOCAL]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// One client follows more than there is memory for; one that comes later finds some, and so does one that was there before.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_one_client_leaves_room_for_that_of_others() {
    let backend = Backend::start().await;
    let grown = Arc::new(AtomicBool::new(false));
    backend.handle("/large", {
        let grown = Arc::clone(&grown);
        move |seen| {
            // Small at first, so that all of them find a place.
            let size = if grown.load(Ordering::Relaxed) { 100 << 10 } else { 10 };
            Page::text(&format!("{}{}", seen.path(), "x".repeat(size)))
        }
    });
    for path in ["/a", "/b"] {
        backend.set(path, Page::text("small"));
    }
    let sidecar = Sidecar::with(&format!(
        "[server]\nmax_history_bytes = \"1MiB\"\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\n\
         [[route]]\npath = \"/**\"\nevery = \"100ms\"\nevery_max = \"100ms\"\n",
        backend.url()
    ));
    let mut before = Events::open(sidecar.address, "/a", &VICTIM).await;
    before.snapshot().await;
    let urls: Vec<String> = (0..40).map(|n| format!("url=/large?{n}")).collect();
    let target = format!("/.sungrazer/stream?{}", urls.join("&"));
    let mut flood = Events::open(sidecar.address, &target, &[("X-Forwarded-For", "192.0.2.1")]).await;
    eventually("all to be watched", || sidecar.watched() == 41).await;
    grown.store(true, Ordering::Relaxed);
    let (mut kept, mut ended) = (0, 0);
    while kept + ended < 40 {
        let record: serde_json::Value =
            serde_json::from_str(&within("a record", flood.next()).await.unwrap().data).unwrap();
        kept += usize::from(record["event"] == "snapshot" && record["body"].as_str().unwrap().len() > 1000);
        ended += usize::from(record["event"] == "end" && record["reason"] == "overload");
    }
    let room = sidecar.server.gateway().hub.memory_budget();
    assert!(ended > 20 && kept > 3 && room.used() <= 1 << 20, "{kept} kept, {ended} ended, {} bytes", room.used());
    // The one that was there hears on, and others come.
    backend.set("/a", Page::text("changed"));
    assert_eq!(within("news", before.snapshot()).await.data, "changed");
    let mut later = Events::open(sidecar.address, "/b", &[("X-Forwarded-For", "203.0.113.9")]).await;
    assert_eq!(later.snapshot().await.data, "small");
    // The one that has too much is told to come later, and is proxied as ever.
    let more = Events::try_open(sidecar.address, "/large?more", &[("X-Forwarded-For", "192.0.2.1")]).await;
    assert!([200, 503].contains(&more.head.status), "{:?}", more.head);
    let plain = sidecar.get("/large?more", &[("X-Forwarded-For", "192.0.2.1")]).await;
    assert_eq!(plain.status, 200);
    drop((flood, before, later, more));
    eventually("the room to be given back", || room.used() == 0).await;
}

/// As many connections from one address as it may have.
#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_leave_some_for_others() {
    let backend = Backend::start().await;
    backend.set("/", Page::text("x"));
    let scratch = Scratch::new("doors");
    let config = scratch.write(
        "sungrazer.toml",
        &format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nurl = \"{}\"\n",
            backend.url()
        ),
    );
    let limited = scratch
        .write("limited", &format!("#!/bin/sh\nulimit -n 256\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_sungrazer")));
    std::fs::set_permissions(&limited, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = Program::start_as(&limited, &["run", "-c", &config]).await;
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(Connection::open(program.address).await);
    }
    // The last of them was turned away.
    let mut last = Connection::open(program.address).await;
    last.send(head("GET", "/", &[], b"")).await;
    assert_eq!(last.head().await.status, 503);
    for _ in 0..3 {
        let mut other = from([127, 0, 0, 2], program.address).await;
        assert_eq!(other.get("/", &[]).await.text(), "x");
    }
    assert_eq!(client::get(program.admin, "/healthz", &[LOCAL]).await.status, 200);
}
