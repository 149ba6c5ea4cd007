//! HTTP/2 as an attacker speaks it, and more clients than there are descriptors for.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::bounds::resident;
use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection};
use crate::support::follower::{Follower, Form, Over};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    LAST_REMEMBERED, PING, RST_STREAM, SETTINGS, block, frame, get, remembered,
};
use crate::support::program::{Program, Scratch};
use crate::support::raw::{Raw, Then};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 8;

fn front(backend: &Backend, server: &str) -> Sidecar {
    Sidecar::with(&format!(
        "[server]\nh2c = true\n{server}\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n",
        backend.url()
    ))
}

/// The same as a program of its own, whose memory can be seen.
async fn program(backend: &Backend, scratch: &Scratch, server: &str) -> Program {
    let text = format!(
        "[server]\nh2c = true\n{server}\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n",
        backend.url()
    );
    let file = scratch.write("sungrazer.toml", &text);
    Program::start(&["run", "-c", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await
}

/// What every case is sent with but for what makes it bad: name, and fields.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>);

fn with<'a>(name: &'a str, more: &[(&'a str, &'a str)]) -> Case<'a> {
    (name, get("/a/bad").into_iter().chain(more.iter().copied()).collect())
}

fn but<'a>(name: &'a str, field: &str, value: Option<&'a str>) -> Case<'a> {
    let fields = get("/a/bad").into_iter();
    (
        name,
        fields
            .filter_map(
                |(known, was)| if known == field { value.map(|value| (known, value)) } else { Some((known, was)) },
            )
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http2_that_are_none_reach_nobody() {
    let backend = Backend::start().await;
    backend.set("/a/bad", Page::text("x"));
    backend.set("/a/good", Page::text("x"));
    let sidecar = front(&backend, "");
    let cases = [
        with("a connection field", &[("connection", "close")]),
        with("a transfer coding", &[("transfer-encoding", "chunked")]),
        with("an upgrade", &[("upgrade", "websocket")]),
        with("keep-alive", &[("keep-alive", "timeout=5")]),
        with("a proxy's connection", &[("proxy-connection", "keep-alive")]),
        with("TE for more than trailers", &[("te", "gzip")]),
        with("capitals", &[("X-Capital", "1")]),
        with("a line end in a value", &[("x-a", "b\r\nx-c: d")]),
        with("a line feed in a value", &[("x-a", "b\nx-c: d")]),
        with("a NUL in a value", &[("x-a", "b\0c")]),
        with("a line end in a name", &[("x-a\r\nx-b", "c")]),
        with("a colon in a name", &[("x:a", "c")]),
        with("a space in a name", &[("x a", "c")]),
        with("an empty name", &[("", "c")]),
        with("two paths", &[(":path", "/a/bad")]),
        with("a pseudo-field that there is not", &[(":other", "1")]),
        with("a pseudo-field behind fields", &[("x-a", "b"), (":method", "GET")]),
        with("another host", &[("host", "other.example")]),
        with("two hosts", &[("host", "site.example"), ("host", "site.example")]),
        with("a length that is none", &[("content-length", "abc")]),
        with("lengths that differ", &[("content-length", "0"), ("content-length", "5")]),
        with("a body that does not come", &[("content-length", "5")]),
        with("a response's field", &[(":status", "200")]),
        but("a tunnel", ":method", Some("CONNECT")),
        ("a tunnel to elsewhere", vec![(":method", "CONNECT"), (":authority", "other.example:80")]),
        but("no path", ":path", None),
        but("no method", ":method", None),
        but("no scheme", ":scheme", None),
        but("no authority", ":authority", None),
        but("an empty path", ":path", Some("")),
        but("a path without a slash", ":path", Some("a/bad")),
        but("a path in absolute form", ":path", Some("http://other.example/a/bad")),
        but("a path with a line end", ":path", Some("/a/bad HTTP/1.1\r\nx: y")),
        but("a path with a space", ":path", Some("/a/bad x")),
        but("a method with a space", ":method", Some("GET /a/bad")),
        but("an authority with a user", ":authority", Some("me@site.example")),
        but("an authority that is none", ":authority", Some("site.example/a")),
    ];
    for (name, fields) in cases {
        let mut bad = Frames::open(sidecar.address, &[]).await;
        assert!(bad.ask(1, &fields).await);
        let fate = bad.fate(1).await;
        let refused = matches!(fate, Fate::Answered(400) | Fate::Reset(_) | Fate::Ended(Some(_)));
        assert!(refused && fate != Fate::Reset(CANCEL), "{name}: {fate:?}");
        assert_eq!(backend.hits("/a/bad"), 0, "{name}: {fate:?}");
        // Whoever else is there is not concerned, and neither is the connection but where its compression was broken.
        if !matches!(fate, Fate::Ended(_)) {
            assert!(bad.ask(3, &get("/a/good")).await);
            assert_eq!(bad.fate(3).await, Fate::Answered(200), "{name}");
        }
    }
    assert!(backend.seen("/a/good").iter().all(|seen| seen.all("host").len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_in_crumbs_are_one_cookie_to_the_backend() {
    let backend = Backend::start().await;
    backend.handle("/a/x", |seen| Page::text(&format!("{:?}", seen.all("cookie"))));
    backend.handle("/proxied", |seen| Page::text(&format!("{:?}", seen.all("cookie"))));
    let sidecar = front(&backend, "");
    let mut frames = Frames::open(sidecar.address, &[]).await;
    for (stream, path) in [(1, "/a/x"), (3, "/proxied")] {
        let crumbs = [("cookie", "sid=1"), ("cookie", "theme=dark")];
        let fields: Vec<_> = get(path).into_iter().chain(crumbs).collect();
        assert!(frames.ask(stream, &fields).await);
        assert_eq!(frames.fate(stream).await, Fate::Answered(200));
        let body = frames.next().await.unwrap();
        assert_eq!(
            (body.kind, String::from_utf8(body.payload).unwrap()),
            (DATA, "[\"sid=1; theme=dark\"]".into()),
            "{path}"
        );
    }
    // Who is asked for in crumbs is the same as who is asked for in one piece.
    let whole = [("Cookie", "sid=1; theme=dark"), ("Accept", "text/event-stream")];
    let mut held = client::Events::open(sidecar.address, "/a/x", &whole).await;
    held.snapshot().await;
    let fields: Vec<_> = get("/a/x").into_iter().chain([("cookie", "sid=1"), ("cookie", "theme=dark")]).collect();
    assert!(frames.ask(5, &fields).await);
    assert_eq!(frames.fate(5).await, Fate::Answered(200));
    assert_eq!(sidecar.watched(), 1);
}

/// Requests that are taken back as soon as they were made, or soon after, or whose connection is gone.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_taken_back_are_given_up() {
    const REQUESTS: u32 = 20_000;
    let backend = Raw::always("", Then::Goes).await;
    let sidecar = Sidecar::with(&format!("[server]\nh2c = true\n[upstream]\nurl = \"{}\"\n", backend.url()));
    let fields = block(&get("/slow"));
    let request = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &fields);
    let reset = |number: u32| frame(RST_STREAM, 0, number * 2 + 1, &CANCEL.to_be_bytes());
    let mut most = 0;
    let mut sent = 0;
    let mut frames = Frames::open(sidecar.address, &[]).await;
    while sent < REQUESTS && frames.stream.write_all(&[request(sent), reset(sent)].concat()).await.is_ok() {
        sent += 1;
        most = most.max(backend.open());
    }
    eprintln!("{sent} taken back at once, {} reached the backend, {most} at a time", backend.accepted());
    assert!(sent < REQUESTS && backend.accepted() < 1000);
    eventually("those to be given up", || backend.open() == 0).await;
    // Those that are slow enough to reach the backend, one batch after the other.
    let mut frames = Frames::open(sidecar.address, &[]).await;
    for batch in 0..10 {
        for number in batch * 100..batch * 100 + 100 {
            assert!(frames.send(&request(number)).await);
        }
        let before = batch as usize;
        eventually("them to reach the backend", || backend.open() >= 100).await;
        most = most.max(backend.open());
        for number in batch * 100..batch * 100 + 100 {
            assert!(frames.send(&reset(number)).await, "after {before} batches");
        }
        eventually("them to be given up", || backend.open() == 0).await;
    }
    // And those of a connection that is gone.
    for number in 2000..2100 {
        assert!(frames.send(&request(number)).await);
    }
    eventually("them to reach the backend", || backend.open() >= 100).await;
    most = most.max(backend.open());
    drop(frames);
    eventually("them to be given up", || backend.open() == 0).await;
    assert!(most <= 300, "{most} at a time");
    assert_eq!(sidecar.get("/.sungrazer/none", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_do_not_end_are_given_up() {
    let backend = Backend::start().await;
    let scratch = Scratch::new("continuation");
    let program = program(&backend, &scratch, "").await;
    let before = resident(program.pid());
    let large = "x".repeat(16_000);
    for empty in [false, true] {
        let mut frames = Frames::open(program.address, &[]).await;
        assert!(frames.send(&frame(HEADERS, END_STREAM, 1, &block(&get("/a/x")))).await);
        let piece = if empty { Vec::new() } else { block(&[("x-a", &large)]) };
        let mut sent = 0;
        while sent < 20_000 && frames.send(&frame(CONTINUATION, 0, 1, &piece)).await {
            sent += 1;
        }
        assert!(sent < 20_000, "{sent} pieces of {} bytes were taken", piece.len());
        // Fields that are small where they are sent and large where they are read: a reference to one that was remembered.
        let mut frames = Frames::open(program.address, &[]).await;
        let mut bomb = block(&get("/a/x"));
        bomb.extend(remembered("x", &"y".repeat(3900)));
        bomb.extend(vec![LAST_REMEMBERED; 10_000]);
        assert!(frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await);
        let fate = frames.fate(1).await;
        assert_ne!(fate, Fate::Answered(200));
        assert_ne!(fate, Fate::Answered(404));
    }
    let grown = resident(program.pid()).saturating_sub(before) >> 20;
    assert!(grown < 32, "{grown} MiB more");
    assert_eq!(client::get(program.admin, "/healthz", &[LOCAL]).await.status, 200);
    assert!(backend.seen("/a/x").is_empty());
}

/// A client that asks to be answered and never reads: settings and pings.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_ask_for_answers_cost_no_memory() {
    let backend = Backend::start().await;
    let scratch = Scratch::new("answers");
    let program = program(&backend, &scratch, "").await;
    let before = resident(program.pid());
    for (kind, payload) in [(SETTINGS, [0, 3, 0, 0, 0, 100].as_slice()), (PING, &[7; 8]), (0x42, &[7; 8])] {
        let mut frames = Frames::open(program.address, &[]).await;
        let many = frame(kind, 0, 0, payload).repeat(1000);
        for _ in 0..1000 {
            // Whoever takes no more has had enough of it, which is as good.
            match tokio::time::timeout(Duration::from_millis(500), frames.stream.write_all(&many)).await {
                Ok(Ok(())) => {}
                _ => break,
            }
        }
        let grown = resident(program.pid()).saturating_sub(before) >> 20;
        assert!(grown < 48, "{grown} MiB more after frames of type {kind}");
    }
    assert_eq!(client::get(program.address, "/.sungrazer/none", &[]).await.status, 404);
}

/// Clients that open no window: nothing that they ask for can be sent to them.
#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_window_are_given_up_and_cost_little() {
    const STREAMS: u32 = 200;
    let backend = Backend::start().await;
    backend.set("/large", Page::new("text/plain", vec![b'x'; 4 << 20]));
    backend.set("/a/x", Page::new("text/plain", vec![b'x'; 1 << 20]));
    let scratch = Scratch::new("window");
    let program = program(&backend, &scratch, "write_timeout = \"2s\"").await;
    let before = resident(program.pid());
    let mut frames = Frames::open(program.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for number in 0..STREAMS {
        let path = if number % 2 == 0 { "/large" } else { "/a/x" };
        let stream = [("accept", "text/event-stream")];
        let fields: Vec<_> = get(path).into_iter().chain(stream.into_iter().filter(|_| number % 2 == 1)).collect();
        assert!(frames.ask(number * 2 + 1, &fields).await);
    }
    let mut ended = std::collections::HashSet::new();
    while ended.len() < STREAMS as usize {
        let Some(frame) = frames.next().await else { break };
        assert!(frame.kind != DATA || frame.payload.is_empty(), "there was no window");
        if frame.kind == RST_STREAM {
            ended.insert(frame.stream);
        }
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            frames.send(&self::frame(SETTINGS, ACK, 0, &[])).await;
        }
        if frame.kind == GOAWAY {
            break;
        }
    }
    let grown = resident(program.pid()).saturating_sub(before) >> 20;
    eprintln!("{STREAMS} streams without a window: {grown} MiB");
    assert!(grown < 96, "{grown} MiB more");
    eventually("the backend to be free", || backend.open() <= 2).await;
    let streams = || async {
        let metrics = client::get(program.admin, "/metrics", &[LOCAL]).await;
        let line = metrics.text().lines().find(|line| line.starts_with("sungrazer_streams{")).map(str::to_owned);
        line.is_none_or(|line| line.ends_with(" 0"))
    };
    within("nobody to be held", async {
        while !streams().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// 500 clients, and descriptors for fewer.
#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_there_are_descriptors_for() {
    const LIMIT: usize = 200;
    const CLIENTS: usize = 500;
    let backend = Backend::start().await;
    backend.set("/a/x", Page::text("x"));
    let scratch = Scratch::new("descriptors");
    let file = scratch.write(
        "sungrazer.toml",
        &format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n",
            backend.url()
        ),
    );
    let shell = format!("ulimit -n {LIMIT}; exec {} run -c {file}", env!("CARGO_BIN_EXE_sungrazer"));
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", &shell])
        .env_clear()
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = within("the ready line", lines.next_line()).await.unwrap().unwrap();
    let at = |name: &str| ready.split_once(name).unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let (address, admin) = (at("listen=http://"), at("admin=http://"));
    let mut clients = Vec::new();
    let (mut held, mut refused) = (0, 0);
    let mut idle = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Connection::open(address).await;
        if number % 5 == 4 {
            // Some say nothing.
            idle.push(client);
            continue;
        }
        let asked = client::head("GET", "/a/x", &[("Accept", "text/event-stream")], b"");
        let sent = client.stream.write_all(asked.as_bytes()).await;
        let mut head = [0; 12];
        // Whoever is turned away may hear of it, or only that it is.
        match (sent, within("an answer", client.stream.read_exact(&mut head)).await) {
            (Ok(()), Ok(_)) if head.ends_with(b"200") => held += 1,
            _ => refused += 1,
        }
        clients.push(client);
        if number % 100 == 0 {
            assert_eq!(client::get(admin, "/healthz", &[LOCAL]).await.status, 200);
        }
    }
    eprintln!("{held} of {CLIENTS} clients are held, {refused} were turned away");
    assert!(held > LIMIT / 4 && refused > 0, "{held} held, {refused} refused");
    // Fetches still have descriptors, and so have operators.
    let fetches = backend.hits("/a/x");
    eventually("another fetch", || backend.hits("/a/x") > fetches).await;
    for _ in 0..3 {
        assert_eq!(client::get(admin, "/healthz", &[LOCAL]).await.status, 200);
    }
    let metrics = client::get(admin, "/metrics", &[LOCAL]).await;
    assert!(metrics.text().contains("sungrazer_limits_hit_total{limit=\"connections\"}"), "{}", metrics.text());
    // It waits; it does not spin.
    let spent = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id().unwrap())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
        fields.iter().sum::<u64>()
    };
    let before = spent();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(spent() - before < 150, "{} ticks in two seconds", spent() - before);
    // When they leave there is room again.
    drop((clients, idle));
    within("room", async {
        loop {
            let mut client = Connection::open(address).await;
            let asked = client.stream.write_all(client::head("GET", "/a/x", &[], b"").as_bytes()).await;
            let mut head = [0; 12];
            if asked.is_ok() && client.stream.read_exact(&mut head).await.is_ok() && head.ends_with(b"200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    child.start_kill().unwrap();
    let mut said = String::new();
    within("the log", log.read_to_string(&mut said)).await.unwrap();
    assert!(said.contains("may open only 200 files") && said.contains("LimitNOFILE="), "{said}");
    let complaints = said.lines().filter(|line| line.contains("connections are turned away")).count();
    assert!((1..=10).contains(&complaints), "{complaints} complaints: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_than_it_says_is_cut_off() {
    let backend = Backend::start().await;
    backend.set("/upload", Page::text("x"));
    let sidecar = front(&backend, "");
    for (said, sent) in [("3", &b"abcdef"[..]), ("9", b"abc")] {
        let mut frames = Frames::open(sidecar.address, &[]).await;
        let mut fields = get("/upload");
        fields[0].1 = "POST";
        fields.push(("content-length", said));
        assert!(frames.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await);
        assert!(frames.send(&frame(DATA, END_STREAM, 1, sent)).await);
        let fate = frames.fate(1).await;
        assert!(matches!(fate, Fate::Reset(PROTOCOL_ERROR) | Fate::Answered(400) | Fate::Ended(_)), "{said}: {fate:?}");
        assert!(backend.seen("/upload").is_empty(), "{said}: it arrived");
    }
    let _ = TcpStream::connect(sidecar.address).await.unwrap();
}

/// A GET that goes on is another request than one that does not, though their heads are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_get_with_a_body_that_its_head_does_not_tell_of_is_the_backends_own() {
    let backend = Backend::start().await;
    backend.handle("/a/x", |seen| Page::text(&format!("{:?}", String::from_utf8_lossy(&seen.body))));
    let sidecar = front(&backend, "");
    let mut held = sidecar.events("/a/x").await;
    held.snapshot().await;
    assert!(sidecar.get("/a/x", &[]).await.is_from_memory());
    let mut frames = Frames::open(sidecar.address, &[]).await;
    for (stream, accept) in [(1, "*/*"), (3, "text/event-stream")] {
        let fields: Vec<_> = get("/a/x").into_iter().chain([("accept", accept)]).collect();
        assert!(frames.send(&frame(HEADERS, END_HEADERS, stream, &block(&fields))).await);
        assert!(frames.send(&frame(DATA, END_STREAM, stream, b"{\"query\":1}")).await);
        assert_eq!(frames.fate(stream).await, Fate::Answered(200));
        let mut body = Vec::new();
        while !body.ends_with(b"}\"") {
            let frame = frames.next().await.expect("the body");
            assert_eq!((frame.kind, frame.stream), (DATA, stream), "{body:?}");
            body.extend(frame.payload);
        }
        assert_eq!(String::from_utf8(body).unwrap(), "\"{\\\"query\\\":1}\"", "{accept}");
    }
    assert_eq!(sidecar.held(), 1);
}

/// A connection on which somebody is held is in use, however long nothing is asked for on it.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_held_over_http2_is_not_taken_for_idle() {
    let backend = Backend::start().await;
    backend.set("/a/x", Page::text("1"));
    let sidecar = front(&backend, "keepalive = \"1s\"");
    let mut held = Follower::open(Form::Sse, Over::H2, sidecar.address, "/a/x", None).await;
    assert_eq!(held.next().await.unwrap().body(), "1");
    tokio::time::sleep(Duration::from_secs(3)).await;
    backend.set("/a/x", Page::text("2"));
    assert_eq!(within("the change", held.next()).await.expect("the connection was closed").body(), "2");
}
