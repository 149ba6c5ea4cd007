//! What stands against mistakes and malice: who may share, what a client cannot make us say or keep.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{self, Connection, Events};
use crate::support::follower::Follower;
use crate::support::raw::{Raw, Then};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";

fn with(backend: &Backend, server: &str, route: &str) -> Sidecar {
    Sidecar::with(&format!("[server]\n{server}\n[upstream]\nurl = \"{}\"\n{ROUTE}{route}", backend.url()))
}

/// Says whose cookie and address a request came with.
fn signed(seen: &Seen) -> Page {
    Page::text(&format!("{:?} {:?}", seen.header("cookie"), seen.header("x-forwarded-for")))
}

fn is_fetch(seen: &Seen) -> bool {
    seen.is_fetch()
}

async fn open(sidecar: &Sidecar, target: &str, cookie: &str) -> Events {
    Events::open(sidecar.address, target, &[("Cookie", cookie)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_its_address_reaches_no_fetch() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        let addresses: Vec<_> = ["x-forwarded-for", "x-real-ip", "forwarded"].map(|name| seen.header(name)).to_vec();
        Page::text(&format!("{addresses:?}")).header("Vary", "X-Forwarded-For, X-Real-IP, Forwarded")
    });
    let sidecar = Sidecar::start(&backend, ROUTE);
    let lies = [("X-Forwarded-For", "6.6.6.6"), ("X-Real-IP", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")];
    let told = Events::open(sidecar.address, "/a", &lies).await.snapshot().await.data;
    assert_eq!(
        told,
        r#"[Some("127.0.0.1"), Some("127.0.0.1"), Some("for=127.0.0.1;host=\"site.example\";proto=http")]"#
    );
    backend.handle("/b", |seen| Page::text(&format!("{:?}", seen.header("x-real-ip"))));
    assert_eq!(sidecar.get("/b", &lies).await.text(), "None", "proxied");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_frame_a_message_never_reach_a_fetch_whatever_it_varies_by() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        Page::text("x")
            .header("Vary", "Transfer-Encoding, Content-Length, Connection, Expect, TE, If-None-Match, Upgrade")
            .header("X-Seen", &format!("{}", seen.headers.len()))
    });
    let sidecar = Sidecar::start(&backend, ROUTE);
    let odd = [("TE", "trailers"), ("Expect", "100-continue"), ("If-None-Match", "\"x\""), ("Content-Length", "0")];
    Events::open(sidecar.address, "/a", &odd).await.snapshot().await;
    let fetches: Vec<Seen> = backend.seen("/a").into_iter().filter(is_fetch).collect();
    assert!(!fetches.is_empty());
    for seen in fetches {
        for name in ["te", "expect", "if-none-match", "content-length", "transfer-encoding", "upgrade"] {
            assert_eq!(seen.header(name), None, "{seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_cookie_sends_its_streams_back_for_the_new_one() {
    let backend = Backend::start().await;
    let session = Arc::new(AtomicUsize::new(1));
    let current = Arc::clone(&session);
    backend.handle("/a", move |seen| match seen.header("cookie") {
        Some(cookie) if cookie == format!("sid={}", current.load(Ordering::SeqCst)) => Page::text(cookie),
        _ => Page::text("who are you?").status(401),
    });
    let current = Arc::clone(&session);
    backend.handle("/rotate", move |_| {
        let next = current.fetch_add(1, Ordering::SeqCst) + 1;
        Page::text("").header("Set-Cookie", &format!("sid={next}; HttpOnly"))
    });
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = open(&sidecar, "/a", "sid=1").await;
    let first = events.snapshot().await;
    assert_eq!(first.data, "sid=1");
    let answer = sidecar.get("/rotate", &[("Cookie", "sid=1")]).await;
    assert_eq!(answer.header("set-cookie"), Some("sid=2; HttpOnly"));
    let end = within("the end", events.next()).await.unwrap();
    assert_eq!((end.event.as_deref(), end.data.as_str()), (Some("end"), r#"{"reason":"reload"}"#));
    let id = first.id.unwrap();
    let back = [("Cookie", "sid=2"), ("Last-Event-ID", id.as_str())];
    assert_eq!(Events::open(sidecar.address, "/a", &back).await.snapshot().await.data, "sid=2");
    // Who was not the one that it was rotated for is signed out, and is told so.
    let mut stranger = open(&sidecar, "/a", "sid=2").await;
    stranger.snapshot().await;
    session.store(9, Ordering::SeqCst);
    let end = within("the end", stranger.next()).await.unwrap();
    assert_eq!(end.data, r#"{"reason":"auth"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_route_that_asks_for_a_login_is_no_longer_shared() {
    let backend = Backend::start().await;
    for (status, location) in [(302, Some("/login")), (401, None), (403, None)] {
        backend.handle("/a", move |seen| match (seen.header("cookie"), location) {
            (Some(cookie), _) => Page::text(cookie),
            (None, Some(location)) => Page::text("").status(status).header("Location", location),
            (None, None) => Page::text("").status(status),
        });
        let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
        for cookie in ["sid=1", "sid=2"] {
            assert_eq!(open(&sidecar, "/a", cookie).await.snapshot().await.data, cookie);
        }
        let why = sidecar.admin("/api/why?url=/a").await;
        assert!(why.text().contains("refused without credentials"), "{}", why.text());
        // Whoever has no credentials is told what the backend says.
        let anonymous = Events::try_open(sidecar.address, "/a", &[]).await;
        assert_eq!(anonymous.head.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_route_that_answers_otherwise_with_credentials_is_reported() {
    let backend = Backend::start().await;
    backend.handle("/a", signed);
    backend.set("/b", Page::text("the same for all"));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
    let mut one = open(&sidecar, "/a", "sid=1").await;
    assert!(one.snapshot().await.data.starts_with("None"), "a fetch carried a cookie");
    let mut other = open(&sidecar, "/b", "sid=1").await;
    other.snapshot().await;
    let with_cookie =
        |path: &str| backend.seen(path).iter().filter(|seen| is_fetch(seen) && seen.header("cookie").is_some()).count();
    eventually("both samples", || with_cookie("/a") == 1 && with_cookie("/b") == 1).await;
    let mut why = String::new();
    for _ in 0..100 {
        why = sidecar.admin("/api/why?url=/a").await.text().to_owned();
        if why.contains("\"differs_with_credentials\": true") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(why.contains("\"differs_with_credentials\": true"), "{why}");
    assert!(sidecar.admin("/metrics").await.text().contains("sungrazer_audience_differs_total{route=\"/**\"} 1"));
    assert!(!sidecar.admin("/api/why?url=/b").await.text().contains("\"differs_with_credentials\": true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_answered_by_the_backend_alone() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    assert!(sidecar.get("/a", &[]).await.is_from_memory());
    assert!(sidecar.get("/a", &[("Origin", "http://site.example")]).await.is_from_memory());
    for (name, value) in [("Origin", "http://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")] {
        assert!(!sidecar.get("/a", &[(name, value)]).await.is_from_memory(), "{name}: {value}");
        let answer = sidecar.get("/a", &[(name, value), ("Accept", "text/event-stream")]).await;
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{name}: {value}");
        for path in ["/.sungrazer/stream?url=/a", "/.sungrazer/iframe?url=/a&callback=f", "/.sungrazer/ws"] {
            assert_eq!(sidecar.get(path, &[(name, value)]).await.status, 403, "{path} {name}: {value}");
        }
    }
    assert_eq!(events.head.header("access-control-allow-origin"), None);
    let frame = "/.sungrazer/iframe?url=/a&callback=opener.f";
    assert_eq!(sidecar.get(frame, &[("Sec-Fetch-Dest", "document")]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_and_one_address_have_only_so_many_resources() {
    let backend = Backend::start().await;
    for n in 0..6 {
        backend.handle(&format!("/{n}"), signed);
    }
    let sidecar = with(&backend, "max_resources_per_identity = 2\nmax_resources_per_address = 3", "");
    let mut held = Vec::new();
    for n in 0..2 {
        held.push(open(&sidecar, &format!("/{n}"), "sid=1").await);
    }
    let refused = Events::try_open(sidecar.address, "/2", &[("Cookie", "sid=1")]).await;
    assert_eq!(refused.head.status, 503);
    assert!(refused.head.header("retry-after").is_some());
    // Many URLs on one stream: what there is no place for is said to be over.
    let target = "/.sungrazer/stream?url=/0&url=/3";
    let mut many = Events::open(sidecar.address, target, &[("Cookie", "sid=1")]).await;
    let first = within("an event", many.next()).await.unwrap();
    assert!(first.data.contains(r#"{"event":"end","url":"/3","reason":"overload"}"#), "{first:?}");
    held.push(open(&sidecar, "/2", "sid=2").await);
    assert_eq!(Events::try_open(sidecar.address, "/3", &[("Cookie", "sid=3")]).await.head.status, 503);
    // Plain requests reach the backend nevertheless.
    assert_eq!(sidecar.get("/3", &[("Cookie", "sid=3")]).await.status, 200);
    let metrics = sidecar.admin("/metrics").await;
    for limit in ["resources_per_identity", "resources_per_address"] {
        assert!(metrics.text().contains(&format!("sungrazer_limits_hit_total{{limit=\"{limit}\"}}")), "{limit}");
    }
    drop((held, many));
    eventually("the places to be free", || sidecar.watched() == 0).await;
    open(&sidecar, "/3", "sid=1").await.snapshot().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_makes_way_before_anybody_is_refused() {
    let backend = Backend::start().await;
    for n in 0..6 {
        backend.set(&format!("/{n}"), Page::text("x"));
    }
    let sidecar = with(&backend, "max_resources = 3", "");
    let mut held = vec![sidecar.events("/0").await];
    for n in 1..3 {
        sidecar.events(&format!("/{n}")).await.snapshot().await;
    }
    eventually("two of three to linger", || sidecar.watched() == 3 && sidecar.held() == 1).await;
    for n in 3..5 {
        held.push(sidecar.events(&format!("/{n}")).await);
        assert!(sidecar.watched() <= 3);
    }
    let targets: Vec<String> =
        sidecar.server.gateway().hub.resources().iter().map(|resource| resource.key().target.to_string()).collect();
    for kept in ["/0", "/3", "/4"] {
        assert!(targets.iter().any(|target| target == kept), "{targets:?}");
    }
    assert_eq!(Events::try_open(sidecar.address, "/5", &[]).await.head.status, 503, "all are held");
    held[0].snapshot().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_share_one_room() {
    let backend = Backend::start().await;
    let body = |n: usize| Page::text(&format!("{n:010}").repeat(400));
    for path in ["/a", "/b", "/c"] {
        backend.set(path, body(0));
    }
    let sidecar = with(&backend, "max_history_bytes = \"10KiB\"", "");
    let mut first = sidecar.events("/a").await;
    first.snapshot().await;
    for n in 1..12 {
        backend.set("/a", body(n));
        first.snapshot().await;
        let used = sidecar.server.gateway().hub.memory_budget().used();
        assert!(used <= 10 * 1024 + 4000, "{used} bytes of history");
    }
    let mut others = vec![first];
    let mut refused = 0;
    for path in ["/b", "/c"] {
        let events = Events::try_open(sidecar.address, path, &[]).await;
        refused += usize::from(events.head.status == 503);
        others.push(events);
    }
    assert!(refused > 0, "there was room for three times 4 kB in 10 KiB, beside a past");
    assert!(sidecar.admin("/metrics").await.text().contains("limit=\"history_bytes\""));
    drop(others);
    eventually("the room to be given back", || sidecar.server.gateway().hub.memory_budget().used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_to_be_kept_is_proxied_and_not_watched() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let long = "x".repeat(9000);
    let query = format!("/a?q={long}");
    let answer = sidecar.get(&query, &[("Accept", "text/event-stream")]).await;
    assert_eq!((answer.status, answer.text()), (200, "x"));
    let many: Vec<(String, String)> = (0..5).map(|n| (format!("X-{n}"), long.clone())).collect();
    let headers: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(sidecar.get("/a", &headers).await.text(), "x");
    assert_eq!(sidecar.watched(), 0);
    let prefixed = sidecar.get(&format!("/.sungrazer/stream?url=/a%3F{long}"), &[]).await;
    assert_eq!(prefixed.status, 431);
    let list = format!("{{\"follow\":[{{\"url\":{query:?}}}]}}");
    let posted =
        Connection::open(sidecar.address).await.request("POST", "/.sungrazer/stream", &[], list.as_bytes()).await;
    assert_eq!(posted.status, 400, "{}", posted.text());
    assert!(sidecar.admin("/metrics").await.text().contains("limit=\"request_size\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_that_unfolds_into_a_huge_one_costs_no_more_than_max_body() {
    let gigabyte = gzip_of_zeros(1 << 30);
    let backend = Backend::start().await;
    backend.set("/a", Page::new("text/plain", gigabyte.clone()).header("Content-Encoding", "gzip"));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}max_body = \"1MiB\"\n"));
    let answer = sidecar.get("/a", &[("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")]).await;
    assert_eq!((answer.status, answer.body.len()), (200, gigabyte.len()), "proxied as it is");
    let why = sidecar.admin("/api/why?url=/a").await;
    assert!(why.text().contains("larger than max_body"), "{}", why.text());
    assert_eq!(sidecar.server.gateway().hub.memory_budget().used(), 0);
}

/// One megabyte of gzip that unfolds into `length` zeros: a member for each mebibyte.
fn gzip_of_zeros(length: usize) -> Vec<u8> {
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    member.write_all(&vec![0; 1 << 20]).unwrap();
    member.finish().unwrap().repeat(length >> 20)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_answers_no_page_of_another_site() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, ROUTE);
    let admin = sidecar.server.admin().unwrap();
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        Connection::open(admin).await.request(method, path, headers, b"").await
    };
    for path in ["/api/resources", "/metrics", "/api/why?url=/a", "/"] {
        assert_eq!(ask("GET", path, &[("Host", "evil.example:9090")]).await.status, 403, "{path}");
    }
    for path in ["/api/refresh?url=/a", "/api/reload"] {
        let forged = [("Host", "localhost"), ("Origin", "http://evil.example")];
        assert_eq!(ask("POST", path, &forged).await.status, 403, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask("GET", path, &[("Host", "evil.example")]).await.status, 200, "{path}");
    }
    let answer = ask("GET", "/api/resources", &[("Host", "localhost")]).await;
    assert_eq!((answer.status, answer.header("x-content-type-options")), (200, Some("nosniff")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_shows_in_what_operators_see() {
    let backend = Backend::start().await;
    backend.handle("/a", |_| Page::text("x"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let secrets =
        [("Cookie", "sid=hunter2cookie"), ("Authorization", "Bearer hunter2token"), ("X-Api-Key", "hunter2key")];
    let mut events = Events::open(sidecar.address, "/a", &secrets).await;
    events.snapshot().await;
    for path in ["/api/resources", "/api/why?url=/a", "/metrics"] {
        let shown = sidecar.admin(path).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.text().contains("hunter2"), "{path}: {}", shown.text());
    }
    let resources = sidecar.server.gateway().hub.resources();
    assert!(!format!("{resources:?} {:?}", resources[0].key()).contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_http2_requests_have_a_most() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = with(&backend, "h2c = true", "");
    let tcp = tokio::net::TcpStream::connect(sidecar.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
    let driver = tokio::spawn(async move { drop(connection.await) });
    let long = "x".repeat(20_000);
    let ask = |count: usize| {
        let mut request = http::Request::builder().uri("http://site.example/a");
        for n in 0..count {
            request = request.header(format!("x-{n}"), &long);
        }
        request.body(()).unwrap()
    };
    let (good, _) = send.send_request(ask(1), true).unwrap();
    assert_eq!(within("an answer", good).await.unwrap().status(), 200);
    if let Ok((bad, _)) = send.send_request(ask(10), true) {
        match within("a refusal", bad).await {
            Ok(answer) => assert_eq!(answer.status(), 431),
            Err(error) => assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{error}"),
        }
    }
    driver.abort();
    assert_eq!(client::get(sidecar.address, "/a", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_no_answers() {
    let backend = Backend::start().await;
    let raw = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
               HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nfinal";
    let application = Raw::always(raw, Then::Goes).await;
    drop(backend);
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{ROUTE}", application.url()));
    assert_eq!(sidecar.events("/a").await.snapshot().await.data, "final");
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    socket.say_text(r#"{"request":{"id":1,"url":"/a"}}"#).await;
    let replied = socket.message().await.unwrap();
    assert_eq!((&replied["response"]["status"], &replied["response"]["body"]), (&200.into(), &"final".into()));
    // One that never comes to an end.
    let endless = Raw::always(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000), Then::Goes).await;
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{ROUTE}", endless.url()));
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    socket.say_text(r#"{"request":{"id":1,"url":"/a"}}"#).await;
    assert_eq!(socket.message().await.unwrap()["response"]["status"], 502);
    let stale = within("an event", Events::open(sidecar.address, "/a", &[]).await.next()).await.unwrap();
    assert_eq!(stale.event.as_deref(), Some("stale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_beyond_ascii_make_nobody_anonymous_and_cost_no_push() {
    let backend = Backend::start().await;
    // The test's backend reads text, and these bytes are some.
    backend.handle("/a", |seen| Page::text(&format!("{:?}", seen.header("cookie"))));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = {{ cookies = [\"sid\"] }}\n"));
    let mut events = open(&sidecar, "/a", "name=J\u{fc}rgen; sid=1").await;
    assert_eq!(events.snapshot().await.data, r#"Some("sid=1")"#);
    assert_eq!(sidecar.get("/.sungrazer/nothing", &[("Cookie", "name=J\u{fc}rgen")]).await.status, 404);
    assert_eq!(sidecar.get("/.sungrazer/nothing", &[("Host", "a!b")]).await.status, 400);
    assert!(backend.seen("/.sungrazer/nothing").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_connection_may_not_name_is_refused_wherever_it_goes() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = Sidecar::start(&backend, "");
    for named in ["Host", "X-Forwarded-For", "Cookie", "Content-Length"] {
        for more in [("Accept", "text/event-stream"), ("Accept", "*/*"), ("Upgrade", "websocket")] {
            let connection = if more.0 == "Upgrade" { format!("Upgrade, {named}") } else { named.to_owned() };
            let answer = sidecar.get("/a", &[("Connection", &connection), more]).await;
            assert_eq!(answer.status, 400, "{named} {more:?}");
        }
    }
    assert_eq!(backend.hits("/a"), 0);
    // An upgrade comes without a body, or is none.
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let answer = Connection::open(sidecar.address).await.request("POST", "/a", &upgrade, b"abcde").await;
    assert_eq!(answer.text(), "x");
}
