//! Whose a request is: what fetches carry of a client, what keeps clients apart, and what ends when somebody signs out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{self, Connection, Events, Response};
use crate::support::follower::Follower;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/a/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";

/// What a browser may be known by, beside its cookies.
const BROWSER: [(&str, &str); 6] = [
    ("User-Agent", "Mozilla/5.0 (Own)"),
    ("Accept-Language", "de-AT"),
    ("Sec-CH-UA", "\"Own\";v=\"1\""),
    ("Sec-CH-UA-Platform", "\"Ownix\""),
    ("Save-Data", "on"),
    ("DNT", "1"),
];

fn fetches(backend: &Backend, path: &str) -> Vec<Seen> {
    backend.seen(path).into_iter().filter(Seen::is_fetch).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_bound_to_its_client_outlives_fetches() {
    let front = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    for bound_to in
        ["user-agent", "x-forwarded-for", "forwarded", "x-real-ip", "accept-language", "sec-ch-ua", "save-data", "dnt"]
    {
        for (server, own) in [
            ("", vec![]),
            (
                front,
                vec![
                    ("X-Forwarded-For", "203.0.113.7, 10.0.0.9"),
                    ("X-Real-IP", "203.0.113.7"),
                    ("Forwarded", "for=203.0.113.7"),
                ],
            ),
        ] {
            let backend = Backend::start().await;
            let session = Arc::new(Mutex::new(None));
            let known = Arc::clone(&session);
            backend.handle("/a/me", move |seen| {
                let mut session = session.lock().unwrap();
                let own = seen.header(bound_to).map(str::to_owned);
                let known: Option<String> = session.get_or_insert_with(|| own.clone()).clone();
                if known != own {
                    *session = Some(Some("nobody".to_owned()));
                    return Page::text("signed out").status(401);
                }
                Page::text(&format!("{own:?}"))
            });
            let sidecar = Sidecar::with(&format!("{server}[upstream]\nurl = \"{}\"\n{ROUTE}", backend.url()));
            let client = [&BROWSER[..], &own, &[("Cookie", "sid=1")]].concat();
            let first = sidecar.get("/a/me", &client).await;
            assert_eq!(first.status, 200, "{bound_to}");
            let mut events = Events::open(sidecar.address, "/a/me", &client).await;
            assert_eq!(events.snapshot().await.data, first.text(), "{bound_to}");
            eventually("fetches", || fetches(&backend, "/a/me").len() > 2).await;
            assert_eq!(sidecar.get("/a/me", &client).await.text(), first.text(), "{bound_to}");
            assert_ne!(*known.lock().unwrap(), Some(Some("nobody".to_owned())), "{bound_to}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_client_is_in_what_others_are_given() {
    let backend = Backend::start().await;
    backend.handle("/a/all", |seen| Page::text(&format!("{:?}", seen.headers)));
    let with = |whose: &'static str| {
        let browser = [
            "User-Agent",
            "Referer",
            "Sec-CH-UA",
            "Sec-CH-UA-Mobile",
            "Sec-Fetch-Mode",
            "Sec-Fetch-Dest",
            "DNT",
            "X-Real-IP",
        ];
        let own = ["Sec-Fetch-Site", "Sec-GPC", "X-Forwarded-For", "Forwarded", "Origin-Agent", "Save-Data"];
        let all = browser.into_iter().chain(own).filter(|name| *name != "Origin-Agent");
        all.map(move |name| {
            (
                name,
                if name == "Referer" {
                    &*Box::leak(format!("http://site.example/{whose}").into_boxed_str())
                } else {
                    whose
                },
            )
        })
        .collect::<Vec<(&str, &str)>>()
    };
    for (audience, cookie) in
        [("credentials", None), ("public", None), ("public", Some("sid")), ("credentials", Some("consent=yes"))]
    {
        let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"{audience}\"\n"));
        let shares = cookie == Some("consent=yes");
        let mut told = Vec::new();
        let mut streams = Vec::new();
        for whose in ["SECRETA", "SECRETB"] {
            let mut client = with(whose);
            if shares {
                // Two people with the same cookie are told apart by their browsers; only from which page they ask must not show.
                client.retain(|(name, _)| *name == "Referer");
            }
            let own = cookie.filter(|_| !shares).map(|name| format!("{name}={whose}"));
            if let Some(cookie) = own.as_deref().or(cookie) {
                client.push(("Cookie", cookie));
            }
            let mut events = Events::open(sidecar.address, "/a/all", &client).await;
            told.push(events.snapshot().await.data);
            told.push(sidecar.get("/a/all", &client).await.text().to_owned());
            streams.push(events);
        }
        assert_eq!(sidecar.watched(), 1, "{audience} {cookie:?}");
        // With somebody's own session it is found out now and then what the application would answer that person.
        let is_own = |fetch: &Seen| fetch.header("cookie").is_some_and(|cookie| cookie.contains("SECRET"));
        for fetch in fetches(&backend, "/a/all").into_iter().filter(|fetch| !is_own(fetch)) {
            assert!(!format!("{:?}", fetch.headers).contains("SECRET"), "{audience} {cookie:?}: {fetch:?}");
        }
        assert!(!told[2].contains("SECRETA"), "{}", told[2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workers_stream_follows_is_what_the_pages_polls_ask_for() {
    let backend = Backend::start().await;
    backend.handle("/a/x", |seen| Page::text(&format!("{:?} {:?}", seen.header("cookie"), seen.header("sec-ch-ua"))));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}shim = \"learn\"\n"));
    for cookie in ["sid=1", "sid=2"] {
        let worker = [("Cookie", cookie), ("User-Agent", "Mozilla/5.0 (Own)"), ("Sec-Fetch-Site", "same-origin")];
        let page = [&worker[..], &[("Sec-CH-UA", "\"Own\";v=\"1\""), ("Sec-CH-UA-Mobile", "?0")]].concat();
        let marked = [&page[..], &[("Sungrazer-Poll", "/a/x#1")]].concat();
        sidecar.get("/a/x", &page).await;
        sidecar.get("/a/x", &marked).await;
        let post = json!({ "follow": [{ "url": "/a/x" }], "exact": true }).to_string();
        let mut stream = Events::post_as(sidecar.address, "/.sungrazer/stream", &post, &worker).await;
        let told: Value = serde_json::from_str(&within("a record", stream.next()).await.unwrap().data).unwrap();
        let polled = sidecar.get("/a/x", &marked).await;
        assert_eq!(told["body"], polled.text());
        let mark = polled.header("sungrazer-identity").unwrap().split('#').next().unwrap();
        assert_eq!(told["identity"], mark, "{told}");
    }
}

/// A backend that knows who speaks by the connection, as IIS does with NTLM and Negotiate.
struct SignedIn {
    address: SocketAddr,
    /// Who was answered with what.
    log: Arc<Mutex<Vec<String>>>,
}

impl SignedIn {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&written)));
            }
        });
        Self { address, log }
    }

    async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<String>>>) {
        let (mut buffer, mut user, mut challenged) = (Vec::new(), None::<String>, false);
        loop {
            let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                let mut piece = [0; 4096];
                match stream.read(&mut piece).await {
                    Ok(read @ 1..) => buffer.extend_from_slice(&piece[..read]),
                    _ => return,
                }
                continue;
            };
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            while buffer.len() < end + 4 + length {
                let mut piece = [0; 4096];
                match stream.read(&mut piece).await {
                    Ok(read @ 1..) => buffer.extend_from_slice(&piece[..read]),
                    _ => return,
                }
            }
            buffer.drain(..end + 4 + length);
            let said = head
                .lines()
                .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("authorization")));
            let scheme = said.map(|(_, value)| value.split(' ').collect::<Vec<_>>());
            let mut challenge = "Basic realm=\"x\", NTLM";
            match scheme.as_deref() {
                Some([scheme, "type1"]) if scheme.eq_ignore_ascii_case("ntlm") => {
                    (challenged, challenge) = (true, "NTLM type2");
                }
                Some([scheme, whose]) if scheme.eq_ignore_ascii_case("ntlm") && challenged => {
                    user = Some((*whose).to_owned());
                }
                Some([scheme, whose]) if scheme.eq_ignore_ascii_case("negotiate") => user = Some((*whose).to_owned()),
                _ => {}
            }
            let answer = match &user {
                Some(user) if head.starts_with("HEAD") => {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 10 + user.len())
                }
                Some(user) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nsecret of {user}", 10 + user.len()),
                None => format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 3\r\n\r\nwho"),
            };
            let by = head.lines().find_map(|line| line.to_lowercase().strip_prefix("x-by: ").map(str::to_owned));
            log.lock().unwrap().push(format!("{:?} {:?}", by.unwrap_or_else(|| "fetch".to_owned()), user));
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_somebody_is_signed_in_on_is_nobody_elses() {
    for routes in ["", ROUTE, "[[route]]\npath = \"/**\"\nshim = \"learn\"\n"] {
        for (scheme, legs) in
            [("NTLM", &["type1", "alice"][..]), ("ntlm", &["type1", "alice"]), ("Negotiate", &["alice"])]
        {
            let backend = SignedIn::start().await;
            let sidecar = Sidecar::with(&format!(
                "[server]\nh2c = true\n[upstream]\nurl = \"http://{}\"\n{routes}",
                backend.address
            ));
            let mut alice = Connection::open(sidecar.address).await;
            assert_eq!(alice.get("/a/x", &[("X-By", "alice")]).await.status, 401);
            let mut last = None;
            for leg in legs {
                let said = format!("{scheme} {leg}");
                last = Some(alice.get("/a/x", &[("X-By", "alice"), ("Authorization", &said)]).await);
            }
            assert_eq!(last.unwrap().text(), "secret of alice", "{scheme}: the handshake does not work");
            // She says no more than once who she is.
            for (method, headers, body) in [
                ("GET", &[("X-By", "alice")][..], &b""[..]),
                ("POST", &[("X-By", "alice")], b"x=1"),
                ("GET", &[("X-By", "alice"), ("Accept", "text/event-stream")], b""),
                ("HEAD", &[("X-By", "alice")], b""),
                ("GET", &[("X-By", "alice"), ("Prefer", "wait=1")], b""),
            ] {
                assert_eq!(
                    alice.request(method, "/a/x", headers, body).await.status,
                    200,
                    "{scheme} {method} {headers:?}"
                );
            }
            for _ in 0..3 {
                let by = [("X-By", "bob"), ("Cookie", "who=bob")];
                for response in [
                    client::get(sidecar.address, "/a/x", &by).await,
                    Connection::open(sidecar.address).await.request("POST", "/a/x", &by, b"x").await,
                    Events::try_open(sidecar.address, "/a/x", &by).await.head,
                ] {
                    assert_eq!(response.status, 401, "{scheme} {routes:?}: {}", response.text());
                }
            }
            let (mut h2, connection) =
                h2::client::handshake(TcpStream::connect(sidecar.address).await.unwrap()).await.unwrap();
            tokio::spawn(async move { drop(connection.await) });
            for (said, status) in [(None, 401), (Some("Negotiate carol"), 200), (None, 401), (None, 401)] {
                let mut request = http::Request::builder().uri("http://site.example/a/x").header("x-by", "h2");
                if let Some(said) = said {
                    request = request.header("authorization", said);
                }
                h2 = h2.ready().await.unwrap();
                let answer = h2.send_request(request.body(()).unwrap(), true).unwrap().0;
                assert_eq!(within("an answer", answer).await.unwrap().status(), status, "{said:?} over HTTP/2");
            }
            let log = backend.log.lock().unwrap();
            for line in log.iter().filter(|line| line.contains("alice\")")) {
                assert!(line.starts_with("\"alice\""), "{scheme}: {line}");
            }
            assert!(
                !log.iter().any(|line| line.starts_with("\"fetch\"") && line.contains("Some")),
                "{scheme}: {log:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_request_on_its_way_keeps_nobody_apart() {
    let backend = Backend::start().await;
    backend.set("/a/x", Page::text("1"));
    for name in [
        "traceparent",
        "sentry-trace",
        "newrelic",
        "X-Datadog-Parent-Id",
        "Request-Id",
        "X-B3-SpanId",
        "b3",
        "uber-trace-id",
        "X-Cloud-Trace-Context",
        "CF-Ray",
        "X-Amz-Cf-Id",
        "X-Request-Start",
        "Fly-Request-Id",
        "X-Vercel-Id",
        "X-Azure-Ref",
        "X-MS-Client-Request-Id",
        "sw8",
        "X-Own",
    ] {
        let sidecar = Sidecar::start(&backend, &format!("{ROUTE}ignore_headers = [\"x-own\"]\n"));
        let mut open = Vec::new();
        for number in 0..3 {
            let value = format!("{number}f0e1d2c3b4a5968778");
            let client = [("Cookie", "sid=1"), (name, value.as_str())];
            let mut events = Events::open(sidecar.address, "/a/x", &client).await;
            events.snapshot().await;
            open.push(events);
            assert!(sidecar.get("/a/x", &client).await.is_from_memory(), "{name}");
        }
        assert_eq!(sidecar.watched(), 1, "{name}");
        assert!(fetches(&backend, "/a/x").iter().all(|fetch| fetch.header(name).is_none()), "{name}");
    }
    // What may be somebody's keeps them apart.
    for name in ["X-Tenant", "X-Api-Key", "X-Session-Id", "X-Device-Id", "X-Request-User"] {
        let sidecar = Sidecar::start(&backend, ROUTE);
        let mut one = Events::open(sidecar.address, "/a/x", &[(name, "1")]).await;
        let mut other = Events::open(sidecar.address, "/a/x", &[(name, "2")]).await;
        one.snapshot().await;
        other.snapshot().await;
        assert_eq!(sidecar.watched(), 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_header_that_the_application_varies_by_counts_all_the_same() {
    let backend = Backend::start().await;
    backend.handle("/a/x", |seen| Page::text(&format!("{:?}", seen.header("x-own"))).header("Vary", "X-Own"));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}ignore_headers = [\"x-own\"]\n"));
    for own in ["1", "2"] {
        let mut events = Events::open(sidecar.address, "/a/x", &[("Cookie", "sid=1"), ("X-Own", own)]).await;
        assert_eq!(events.snapshot().await.data, format!("Some({own:?})"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_never_repeats_is_told_of() {
    let backend = Backend::start().await;
    backend.set("/a/x", Page::text("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    for number in 0..12 {
        let (value, other) = (number.to_string(), (number % 3).to_string());
        sidecar.get("/a/x", &[("Cookie", "sid=1"), ("X-Odd-Trace", &value), ("X-Tenant", &other)]).await;
    }
    let why: Value = serde_json::from_str(sidecar.admin("/api/why?url=/a/x").await.text()).unwrap();
    let told = &why["learned"]["headers_that_never_repeat"];
    assert_eq!(told.as_array().unwrap().len(), 1, "{why}");
    assert_eq!(told[0]["header"], "x-odd-trace");
    assert!(told[0]["advice"].as_str().unwrap().contains("ignore_headers = [\"x-odd-trace\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_pass_for_others_reach_no_application() {
    let backend = Backend::start().await;
    let odd = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("X_Real_IP", "6.6.6.6"),
        ("Remote_User", "admin"),
        ("X.Forwarded.User", "admin"),
        ("X_Auth_Request_Email", "admin@x"),
        ("Transfer_Encoding", "chunked"),
        ("Content_Length", "9"),
        ("X!Forwarded!Proto", "https"),
        ("X_HTTP_Method_Override", "DELETE"),
        ("Client_Cert", "x"),
        ("User_Agent", "x"),
        ("X_Tenant", "other"),
        ("X.Tenant", "other"),
    ];
    let kept = [("X_Api_Key", "own"), ("My.Header", "own"), ("X-Tenant", "own")];
    let is_canonical = |seen: &Seen| {
        let alike = |name: &str| name.to_lowercase().replace(|letter: char| !letter.is_alphanumeric(), "-");
        let names: Vec<String> = seen.headers.iter().map(|(name, _)| alike(name)).collect();
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len(), "{seen:?}");
        assert!(
            !format!("{:?}", seen.headers).contains("admin") && !format!("{:?}", seen.headers).contains("6.6.6.6"),
            "{seen:?}"
        );
    };
    let sidecar = Sidecar::start(&backend, ROUTE);
    let sent = [&odd[..], &kept].concat();
    backend.set("/b", Page::text("1"));
    backend.set("/a/x", Page::text("1"));
    sidecar.get("/b", &sent).await;
    Connection::open(sidecar.address).await.request("POST", "/b", &sent, b"x").await;
    sidecar.get("/b", &[&sent[..], &[("Accept", "text/event-stream")]].concat()).await;
    let mut events = Events::open(sidecar.address, "/a/x", &sent).await;
    events.snapshot().await;
    for seen in backend.seen("/b").into_iter().chain(backend.seen("/a/x")) {
        is_canonical(&seen);
        for (name, value) in kept {
            assert_eq!(seen.header(name), Some(value), "{name}: {seen:?}");
        }
    }
    // Nor by what is said on a stream.
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[("remote-user", "alice")]).await;
    for (name, value) in odd.into_iter().filter(|(name, _)| !name.contains("Tenant")) {
        socket.say(&json!({ "request": { "id": 1, "url": "/b", "headers": { name: value } } })).await;
        assert_eq!(within("an answer", socket.message()).await.unwrap()["response"]["status"], 400, "{name}");
        let post = json!({ "follow": [{ "url": "/a/x", "headers": { name: value } }] }).to_string();
        let posted =
            Connection::open(sidecar.address).await.request("POST", "/.sungrazer/stream", &[], post.as_bytes()).await;
        assert_eq!(posted.status, 400, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_say_nothing_in_place_of_what_opened_their_stream() {
    let backend = Backend::start().await;
    let names = [
        "X-authentik-username",
        "X-Consumer-Username",
        "X-Pomerium-Claim-Email",
        "X-Vouch-User",
        "X-Auth-Email",
        "X-Token-User-Email",
        "X-Appengine-User-Email",
        "Client-Cert",
        "X-Original-Uri",
        "X-Envoy-Original-Path",
        "X-JWT-Payload",
        "X-User",
        "X-Roles",
        "X-Whatever",
        "Authorization",
        "User-Agent",
    ];
    backend.handle("/a/x", move |seen| Page::text(&format!("{:?}", seen.headers)));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let opening: Vec<(&'static str, &str)> =
        names.iter().map(|name| (&*Box::leak(name.to_lowercase().into_boxed_str()), "alice")).collect();
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &opening).await;
    for name in names {
        socket.say(&json!({ "request": { "id": 1, "url": "/a/x", "headers": { name: "admin" } } })).await;
        let answer = within("an answer", socket.message()).await.unwrap();
        assert_eq!(answer["response"]["status"], 400, "{name}: {answer}");
        let post = json!({ "follow": [{ "url": "/a/x", "headers": { name: "admin" } }] }).to_string();
        let posted = Connection::open(sidecar.address)
            .await
            .request("POST", "/.sungrazer/stream", &opening, post.as_bytes())
            .await;
        assert_eq!(posted.status, 400, "{name}");
    }
    // Those of proxies not even where the opening said nothing; a page's own do.
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    for (name, status) in [
        ("X-authentik-username", 400),
        ("X-Some-Proxy-Email", 400),
        ("X-Whatever", 200),
        ("Authorization", 200),
        ("X-CSRF-Token", 200),
        ("X-Requested-With", 200),
        ("Accept", 200),
        ("If-None-Match", 200),
        ("HX-Request", 200),
        ("X-Api-Key", 200),
    ] {
        socket.say(&json!({ "request": { "id": 1, "url": "/a/x", "headers": { name: "own" } } })).await;
        assert_eq!(within("an answer", socket.message()).await.unwrap()["response"]["status"], status, "{name}");
    }
    for method in ["TRACE", "TRACK", "CONNECT", "trace", "Track", "cOnNeCt"] {
        socket.say(&json!({ "request": { "id": 1, "url": "/a/x", "method": method } })).await;
        assert_eq!(within("an answer", socket.message()).await.unwrap()["response"]["status"], 400, "{method}");
        socket.say(&json!({ "request": { "id": 1, "url": "/a/x", "method": "POST", "headers": { "X-HTTP-Method-Override": method } } })).await;
        assert_eq!(within("an answer", socket.message()).await.unwrap()["response"]["status"], 400, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_was_answered_teaches_nothing_about_others() {
    let backend = Backend::start().await;
    backend.handle("/a/messages", |seen| {
        let target = seen.target.as_str();
        match target.split_once('?').map_or("", |(_, query)| query) {
            "limit=all" => Page::text(&"y".repeat(70_000)),
            "go=1" => Page::text("").status(302).header("Location", "/login"),
            "mine=1" => Page::text("1").header("Cache-Control", "private"),
            "stream=1" => Page::new("text/event-stream", "data: 1\n\n"),
            "vary=1" => Page::text("1").header("Vary", "User-Agent"),
            _ => Page::text(&format!("{:?}", seen.header("cookie"))),
        }
    });
    for audience in ["credentials", "public"] {
        let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"{audience}\"\nmax_body = \"64KiB\"\n"));
        for (round, query) in ["limit=all", "go=1", "mine=1", "stream=1", "vary=1"].iter().cycle().take(10).enumerate()
        {
            let cookie = format!("sid=attacker{round}");
            let target = format!("/a/messages?{query}");
            let answer = Events::try_open(sidecar.address, &target, &[("Cookie", &cookie)]).await;
            assert!(answer.head.status < 400, "{query}");
        }
        let victim = [("Cookie", "sid=victim"), ("User-Agent", "v")];
        let mut events = Events::open(sidecar.address, "/a/messages", &victim).await;
        events.snapshot().await;
        let mut other =
            Events::open(sidecar.address, "/a/messages", &[("Cookie", "sid=other"), ("User-Agent", "o")]).await;
        other.snapshot().await;
        let shared = usize::from(audience == "credentials") + 1;
        let site = sidecar.server.gateway();
        assert_eq!(site.hub.with_target("/a/messages").len(), shared, "{audience}");
        let mut many = Events::open(sidecar.address, "/.sungrazer/stream?url=/a/messages", &victim).await;
        assert!(within("a record", many.next()).await.unwrap().data.contains("snapshot"), "{audience}");
        let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[("cookie", "sid=victim")]).await;
        socket.say(&json!({ "subscribe": "/a/messages" })).await;
        assert_eq!(within("a record", socket.message()).await.unwrap()["event"], "snapshot", "{audience}");
    }
}

/// Ways to have a cookie replaced or taken away.
async fn sign_out(sidecar: &Sidecar, way: &str, cookie: &str) {
    let own = [("Cookie", cookie)];
    let (method, path, more): (_, _, &[(&str, &str)]) = match way {
        "close" => ("GET", "/logout", &[("Connection", "close")]),
        "events" => ("GET", "/logout", &[("Accept", "text/event-stream")]),
        "page" => (
            "GET",
            "/logout",
            &[("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        ),
        "head" => ("HEAD", "/logout", &[]),
        "head and close" => ("HEAD", "/logout", &[("Connection", "close")]),
        "post" => ("POST", "/logout", &[]),
        "cleared" => ("GET", "/cleared", &[]),
        "all data" => ("GET", "/data", &[]),
        "upgrade" => ("GET", "/logout", &[("Connection", "Upgrade"), ("Upgrade", "websocket")]),
        _ => ("GET", "/logout", &[]),
    };
    if way == "h2" {
        let (h2, connection) = h2::client::handshake(TcpStream::connect(sidecar.address).await.unwrap()).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let request = http::Request::builder().uri("http://site.example/logout").header("cookie", cookie);
        let answer = h2.ready().await.unwrap().send_request(request.body(()).unwrap(), true).unwrap().0;
        assert_eq!(within("an answer", answer).await.unwrap().status(), 200);
    } else {
        let body: &[u8] = if method == "POST" { b"x" } else { b"" };
        let headers = [&own[..], more].concat();
        assert_eq!(
            Connection::open(sidecar.address).await.request(method, path, &headers, body).await.status,
            200,
            "{way}"
        );
    }
}

fn signs_out(backend: &Backend) {
    backend.handle("/logout", |_| Page::text("bye").header("Set-Cookie", "sid=; Max-Age=0; Path=/"));
    backend.handle("/cleared", |_| Page::text("bye").header("Set-Cookie", "sid=other; Path=/; HttpOnly"));
    backend.handle("/data", |_| Page::text("bye").header("Clear-Site-Data", "\"cookies\", \"storage\""));
    backend.handle("/a/me", |seen| Page::text(&format!("{:?}", seen.header("cookie"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_is_signed_out_everywhere() {
    let backend = Backend::start().await;
    signs_out(&backend);
    let sidecar = Sidecar::with(&format!("[server]\nh2c = true\n[upstream]\nurl = \"{}\"\n{ROUTE}", backend.url()));
    for (number, way) in [
        "keep-alive",
        "close",
        "events",
        "page",
        "head",
        "head and close",
        "post",
        "h2",
        "cleared",
        "all data",
        "upgrade",
        "socket",
    ]
    .into_iter()
    .enumerate()
    {
        // Other cookies than the session's may have changed since, or be of a path of their own.
        let (cookie, by_now) = (format!("sid=alice{number}; seen=1"), format!("sid=alice{number}; seen=2"));
        let other = format!("sid=bob{number}; seen=2");
        let mut stream = Events::open(sidecar.address, "/a/me", &[("Cookie", &cookie)]).await;
        let mut many = Events::open(sidecar.address, "/.sungrazer/stream?url=/a/me", &[("Cookie", &cookie)]).await;
        let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[("cookie", &cookie)]).await;
        let mut bystander = Events::open(sidecar.address, "/a/me", &[("Cookie", &other)]).await;
        stream.snapshot().await;
        bystander.snapshot().await;
        within("a record", many.next()).await.unwrap();
        if way == "socket" {
            socket.say(&json!({ "request": { "id": 1, "method": "POST", "url": "/logout" } })).await;
            let answer = within("an answer", socket.message()).await.unwrap();
            assert_eq!(answer["response"]["body"], "bye", "what signs out is answered: {answer}");
        } else {
            sign_out(&sidecar, way, &by_now).await;
        }
        let end = within("the end", stream.next()).await.unwrap();
        assert_eq!(end.data, r#"{"reason":"reload"}"#, "{way}");
        let end = within("the end", many.next()).await.unwrap();
        assert!(end.data.contains("reload"), "{way}: {}", end.data);
        while let Some(said) = within("the end of the socket", socket.message()).await {
            assert!(said["event"] == "end", "{way}: {said}");
        }
        backend.handle("/a/me", move |seen| Page::text(&format!("{number} {:?}", seen.header("cookie"))));
        assert!(bystander.snapshot().await.data.starts_with(&number.to_string()), "{way}");
        let before = fetches(&backend, "/a/me").iter().filter(|seen| seen.header("cookie") == Some(&cookie)).count();
        assert!(before > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_each_answer_renews_is_the_clients_alone() {
    let backend = Backend::start().await;
    let tokens = Arc::new(Mutex::new(HashMap::from([("t0".to_owned(), 0)])));
    let (given, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, failed) = (Arc::clone(&given), Arc::clone(&refused));
    backend.handle("/a/status", move |seen| {
        let token =
            seen.header("cookie").and_then(|cookie| cookie.strip_prefix("token=")).unwrap_or_default().to_owned();
        let mut tokens = tokens.lock().unwrap();
        if tokens.remove(&token).is_none() {
            failed.fetch_add(1, Ordering::SeqCst);
            return Page::text("signed out").status(403);
        }
        let next = format!("t{}", counted.fetch_add(1, Ordering::SeqCst) + 1);
        tokens.insert(next.clone(), 0);
        Page::text("well").header("Set-Cookie", &format!("token={next}; HttpOnly"))
    });
    for routes in [ROUTE, "[[route]]\npath = \"/**\"\nshim = \"learn\"\nevery = \"50ms\"\n"] {
        let sidecar = Sidecar::start(&backend, routes);
        let ask = async |cookie: &str| sidecar.get("/a/status", &[("Cookie", cookie), ("User-Agent", "Own")]).await;
        let renewed = |answer: &Response| answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let mut cookie = format!("token=t{}", given.load(Ordering::SeqCst));
        for _ in 0..2 {
            cookie = renewed(&ask(&cookie).await);
        }
        // Whatever is opened now is told to wait; nothing is fetched.
        let before = fetches(&backend, "/a/status").len();
        let client = [("Cookie", cookie.as_str()), ("User-Agent", "Own")];
        let post = json!({ "follow": [{ "url": "/a/status" }], "exact": true }).to_string();
        let mut many = Events::post_as(sidecar.address, "/.sungrazer/stream", &post, &client).await;
        assert!(within("the end", many.next()).await.unwrap().data.contains("overload"));
        for _ in 0..4 {
            let answer = ask(&cookie).await;
            assert_eq!((answer.status, answer.is_from_memory()), (200, false));
            cookie = renewed(&answer);
        }
        assert_eq!(fetches(&backend, "/a/status").len(), before);
        let why = sidecar.admin("/api/why?url=/a/status").await;
        assert!(why.text().contains("replace the cookie"), "{}", why.text());
    }
    assert_eq!(refused.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_has_a_cookie_replaced_is_the_last() {
    let backend = Backend::start().await;
    let number = AtomicUsize::new(0);
    backend.handle("/a/status", move |_| {
        Page::text("well").header("Set-Cookie", &format!("token=t{}", number.fetch_add(1, Ordering::SeqCst)))
    });
    let sidecar = Sidecar::start(&backend, ROUTE);
    let client = [("Cookie", "token=own"), ("User-Agent", "Own")];
    let first = Events::try_open(sidecar.address, "/a/status", &client).await;
    assert_eq!(first.head.header("content-type"), Some("text/plain; charset=utf-8"), "it is proxied");
    for _ in 0..3 {
        Events::try_open(sidecar.address, "/a/status", &client).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fetches(&backend, "/a/status").len(), 1);
}
