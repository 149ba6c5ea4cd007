//! What attackers tried, each so that it cannot come back unseen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{Connection, Events, head};
use crate::support::follower::{Follower, Form, Over};
use crate::support::program::{self, Scratch};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";

const STREAM: (&str, &str) = ("Accept", "text/event-stream");

fn is_fetch(seen: &Seen) -> bool {
    seen.is_fetch()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_claims_another_method_is_proxied_once_and_never_repeated() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&format!("{:?}", seen.header("cookie"))));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}hold = \"10s\"\n"));
    for name in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
        for more in [STREAM, ("Accept", "*/*"), ("Prefer", "wait=5")] {
            let before = backend.hits("/a");
            let answer = sidecar.get("/a", &[(name, "DELETE"), more]).await;
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{name} {more:?}");
            assert_eq!(backend.hits("/a"), before + 1, "{name} {more:?}");
        }
        let post = json!({ "follow": [{ "url": "/a", "headers": { name: "DELETE" } }] }).to_string();
        let mut poster = Connection::open(sidecar.address).await;
        assert_eq!(poster.request("POST", "/.sungrazer/stream", &[], post.as_bytes()).await.status, 400, "{name}");
        let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[(lower(name), "DELETE")]).await;
        socket.say(&json!({ "subscribe": "/a" })).await;
        let refused = within("a refusal", socket.message()).await.unwrap().to_string();
        assert!(refused.contains("another method"), "{name}: {refused}");
    }
    assert_eq!(sidecar.watched(), 0);
    assert!(!backend.seen("/a").iter().any(is_fetch), "it was repeated");
    // It may have changed something: what was known before it is not what its client is shown.
    let mut held = sidecar.events("/a").await;
    held.snapshot().await;
    sidecar.get("/a", &[("X-HTTP-Method-Override", "PUT")]).await;
    let fetches = backend.hits("/a");
    eventually("a look after it", || backend.hits("/a") > fetches).await;
}

fn lower(name: &str) -> &'static str {
    name.to_ascii_lowercase().leak()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_proxy_in_front_says_that_a_client_is_cannot_be_said_by_the_client() {
    let backend = Backend::start().await;
    backend
        .handle("/a", |seen| Page::text(&format!("{:?} {:?}", seen.header("x-remote-user"), seen.header("x-real-ip"))));
    let sidecar = Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\n{ROUTE}",
        backend.url()
    ));
    let front = [("x-remote-user", "alice"), ("x-real-ip", "10.0.0.9")];
    let told = "Some(\"alice\") Some(\"10.0.0.9\")";
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &front).await;
    for (name, value) in [("X-Remote-User", "admin"), ("X-Real-IP", "127.0.0.1"), ("X-Forwarded-User", "admin")] {
        socket.say(&json!({ "request": { "id": 1, "url": "/a", "headers": { name: value } } })).await;
        let answer = within("an answer", socket.message()).await.unwrap();
        assert_eq!(answer["response"]["status"], 400, "{answer}");
        let post = json!({ "follow": [{ "url": "/a", "headers": { name: value } }] }).to_string();
        let mut poster = Connection::open(sidecar.address).await;
        assert_eq!(poster.request("POST", "/.sungrazer/stream", &front, post.as_bytes()).await.status, 400, "{name}");
    }
    socket.say(&json!({ "request": { "id": 2, "url": "/a" } })).await;
    assert_eq!(within("an answer", socket.message()).await.unwrap()["response"]["body"], told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_holds_the_boundary_is_no_part() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("good"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let accept = [("Accept", "multipart/x-mixed-replace")];
    let mut victim = Follower::open(Form::Multipart, Over::H1, sidecar.address, "/a", None).await;
    assert_eq!(victim.next().await.unwrap().body(), "good");
    // The attacker sees the boundary in a stream of his own, and writes it into what the application shows.
    let content_type =
        |headers: &[(String, String)]| headers.iter().find(|(name, _)| name == "content-type").unwrap().1.clone();
    let seen = content_type(&victim.headers);
    let boundary = seen.split_once("boundary=").unwrap().1;
    assert!(boundary.len() >= 32, "{boundary} can be guessed");
    let evil = format!("x\r\n--{boundary}\r\nContent-Type: text/html\r\n\r\n<script>1</script>");
    backend.set("/a", Page::text(&evil));
    assert_eq!(within("the end", victim.next()).await, None, "a part was forged");
    let answer = sidecar.get("/a", &accept).await;
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "it is proxied");
    // Other forms carry it.
    assert_eq!(sidecar.events("/a").await.snapshot().await.data, evil.replace("\r\n", "\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_that_says_whose_it_is_is_believed() {
    let backend = Backend::start().await;
    let marked = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&marked);
    backend.handle("/a", move |seen| {
        let page = match seen.header("if-none-match") {
            Some(_) => Page::text("").status(304),
            None => Page::text(&format!("{:?}", seen.header("cookie"))),
        };
        let page = page.header("ETag", "\"1\"");
        if mark.load(Ordering::SeqCst) { page.header("Cache-Control", "private") } else { page }
    });
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
    let mut one = Events::open(sidecar.address, "/a", &[("Cookie", "sid=1")]).await;
    assert_eq!(one.snapshot().await.data, "None");
    marked.store(true, Ordering::SeqCst);
    let end = within("the end", one.next()).await.unwrap();
    assert_eq!(end.data, "{\"reason\":\"reload\"}");
    let mut again = Events::open(sidecar.address, "/a", &[("Cookie", "sid=1")]).await;
    assert_eq!(again.snapshot().await.data, "Some(\"sid=1\")");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_among_bytes_beyond_ascii_is_seen() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        Page::text(&format!("{:?}", seen.header("cookie"))).header("Cache-Control", "note=\"J\u{fc}rgen\", private")
    });
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
    for cookie in ["sid=1", "sid=2"] {
        let mut events = Events::open(sidecar.address, "/a", &[("Cookie", cookie)]).await;
        assert_eq!(events.snapshot().await.data, format!("Some({cookie:?})"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_same_site_but_of_another_host_follow_nothing() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let site = |value| [("Sec-Fetch-Site", value)];
    for path in ["/.sungrazer/stream?url=/a", "/.sungrazer/iframe?url=/a&callback=parent.f", "/.sungrazer/ws"] {
        assert_eq!(sidecar.get(path, &site("same-site")).await.status, 403, "{path}");
    }
    let mut frame = Connection::open(sidecar.address).await;
    frame.send(head("GET", "/.sungrazer/iframe?url=/a&callback=parent.f", &site("same-origin"), b"")).await;
    let answer = frame.head().await;
    assert_eq!((answer.status, answer.header("x-frame-options")), (200, Some("SAMEORIGIN")));
    assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'self'"));
    assert_eq!(sidecar.get("/.sungrazer/iframe?url=/a&callback=opener.f", &[]).await.status, 400);
    // A link on such a page leads here like any other.
    assert_eq!(sidecar.get("/a", &site("same-site")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_came_without_tls_is_none_of_a_site_that_has_it() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\n{ROUTE}",
        backend.url()
    ));
    let stream = "/.sungrazer/stream?url=/a";
    let open = async |headers: &[(&str, &str)]| {
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("GET", stream, headers, b"")).await;
        connection.head().await.status
    };
    let tls = ("X-Forwarded-Proto", "https");
    assert_eq!(open(&[tls, ("Origin", "https://site.example")]).await, 200);
    assert_eq!(open(&[tls, ("Origin", "http://site.example")]).await, 403);
    assert_eq!(open(&[("Origin", "http://site.example")]).await, 200);
    // A proxy that says nothing of TLS may speak it.
    assert_eq!(open(&[("Origin", "https://site.example")]).await, 200);
    assert_eq!(open(&[("Origin", "chrome-extension://site.example")]).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn codings_that_would_be_lost_are_refused_and_lines_end_in_one_way() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("x"));
    let sidecar = Sidecar::start(&backend, "");
    let ask = async |head: &str, body: &str| {
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(format!("POST /a HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}")).await;
        connection.head().await.status
    };
    let last = "0\r\n\r\n";
    for coding in ["gzip, chunked", "deflate,chunked", "identity, chunked"] {
        assert_eq!(ask(&format!("Transfer-Encoding: {coding}"), last).await, 501, "{coding}");
    }
    assert_eq!(ask("Transfer-Encoding: gzip", "").await, 400);
    assert!(backend.seen("/a").is_empty());
    for body in ["5;a\nabcde\r\n0\r\n\r\n", "1\r\nx\r\n0;\n\r\n\r\n", "1;\0\r\nx\r\n0\r\n\r\n"] {
        assert_eq!(ask("Transfer-Encoding: chunked", body).await, 400, "{body:?}");
        // What only pingora may judge is looked at as well.
        assert_eq!(ask("X: y\nTransfer-Encoding: chunked", body).await, 400, "{body:?}");
    }
    assert!(backend.seen("/a").iter().all(|seen| seen.body.is_empty()), "{:?}", backend.seen("/a"));
    // One that arrives when the head is long gone.
    let mut slow = Connection::open(sidecar.address).await;
    slow.send("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    slow.send("3;\nx\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(slow.head().await.status, 400);
    let good = "3;a=\"b c\"\r\nabc\r\n0\r\nX: y\r\n\r\n";
    assert_eq!(ask("Transfer-Encoding: chunked", good).await, 200);
    assert!(backend.seen("/a").iter().any(|seen| seen.body == b"abc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_never_end_are_not_read_to_their_end() {
    let scratch = Scratch::new("endless");
    let file = |name: &str, server: &str, upstream: &str| {
        let text = format!("[server]\n{server}\n[upstream]\nurl = \"https://127.0.0.1:1\"\n{upstream}\n");
        scratch.write(name, &text)
    };
    for (name, file) in [
        ("token", file("1.toml", "admin_token = \"file:/dev/zero\"", "")),
        ("cert", file("2.toml", "tls = { cert = \"/dev/zero\", key = \"/dev/zero\" }", "")),
        ("ca", file("3.toml", "", "tls = { ca = \"/dev/zero\" }")),
        ("client", file("4.toml", "", "tls = { cert = \"/dev/zero\", key = \"/dev/zero\" }")),
    ] {
        let output = program::run(&["check", "-c", &file]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("/dev/zero") && said.contains("it is no regular file"), "{name}: {said}");
    }
    let output = program::run(&["check", "-c", "/dev/zero"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(0) && said.contains("larger than 16 MiB"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_mistakes_are_shown_as_anybody_reads() {
    let route = |number: usize| format!("[[route]]\npath = \"/{number}/**\"\nevery = {number}\nevry_max = 1\n");
    let text: String = (0..20_000).map(route).collect();
    let scratch = Scratch::new("mistakes");
    let file = scratch.write("sungrazer.toml", &format!("[upstream]\nurl = \"http://127.0.0.1:1\"\n{text}"));
    let output = program::run(&["check", "-c", &file]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("There are more mistakes than these 50"), "{}", &said[said.len().saturating_sub(500)..]);
    assert_eq!(said.matches("did you mean").count(), 50);
}

/// The host is a part of what is asked for, however it is said.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_nothing() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&format!("{:?}", seen.header("host"))));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
    let mut held = Vec::new();
    for host in ["a.example", "b.example", "a.example:8080", "a.example.", "[::1]", "[fe80::1%25eth0]"] {
        let mut events = Events::open(sidecar.address, "/a", &[("Host", host)]).await;
        assert_eq!(events.snapshot().await.data, format!("Some({host:?})"));
        // Nobody who is not trusted says for which other host he asks.
        let lies =
            [("Host", host), ("X-Forwarded-Host", "c.example"), ("Forwarded", "host=c.example"), ("X-Host", "c")];
        assert_eq!(sidecar.get("/a", &lies).await.text(), format!("Some({host:?})"));
        held.push(events);
    }
    assert_eq!(sidecar.watched(), 6);
    let mut same = Events::open(sidecar.address, "/a", &[("Host", "A.Example")]).await;
    same.snapshot().await;
    assert_eq!(sidecar.watched(), 6, "a host is one whatever its letters");
}

/// Credentials in unusual places are credentials: nobody who differs in one of them is answered what another was.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_wherever_they_are_keep_clients_apart() {
    let backend = Backend::start().await;
    // All that a backend might know anybody by.
    let signed = |seen: &Seen| {
        let mut all: Vec<String> = seen
            .headers
            .iter()
            .filter(|(name, _)| {
                !["user-agent", "cdn-loop", "forwarded", "accept", "accept-encoding", "host"]
                    .contains(&name.to_ascii_lowercase().as_str())
                    && !["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
                        .contains(&name.to_ascii_lowercase().as_str())
            })
            .map(|(name, value)| format!("{}={value}", name.to_ascii_lowercase()))
            .collect();
        all.sort();
        Page::text(&format!("{} {all:?}", seen.target))
    };
    backend.handle("/a", signed);
    let sidecar = Sidecar::start(&backend, ROUTE);
    let people: &[(&str, &[(&str, &str)])] = &[
        ("/a", &[]),
        ("/a?token=1", &[]),
        ("/a?token=2", &[]),
        ("/a", &[("Cookie", "a=1; b=2")]),
        ("/a", &[("Cookie", "b=2; a=1")]),
        ("/a", &[("Cookie", "a=1;b=2")]),
        ("/a", &[("Cookie", "a=1"), ("Cookie", "b=3")]),
        ("/a", &[("Cookie", "a=1"), ("Cookie", "b=4")]),
        ("/a", &[("Cookie", "")]),
        ("/a", &[("Authorization", "Bearer 1")]),
        ("/a", &[("Authorization", "bearer 1")]),
        ("/a", &[("Authorization", "Bearer 1"), ("Authorization", "Bearer 2")]),
        ("/a", &[("Authorization", "Bearer 2"), ("Authorization", "Bearer 1")]),
        ("/a", &[("X-Forwarded-Client-Cert", "By=a")]),
        ("/a", &[("X-Client-Cert", "abc")]),
        ("/a", &[("X-Amzn-Oidc-Data", "abc")]),
        ("/a", &[("Remote-User", "alice")]),
        ("/a", &[("Remote-User", "bob")]),
        ("/a", &[("From", "alice@example.org")]),
        ("/a", &[("X-Original-URL", "/admin")]),
        ("/a", &[("X-CSRF-Token", "1")]),
        ("/a", &[("Early-Data", "1")]),
        ("/a", &[("X-Tenant", "\u{fc}")]),
    ];
    let mut held = Vec::new();
    for (target, headers) in people {
        let mut all = vec![STREAM];
        all.extend(*headers);
        let mut events = Events::open(sidecar.address, target, headers).await;
        let told = events.snapshot().await.data;
        for (name, value) in *headers {
            assert!(told.contains(value), "{name} {value}: {told}");
        }
        assert!(told.starts_with(&format!("{target} ")), "{told}");
        held.push((told, events));
    }
    for (number, (told, _)) in held.iter().enumerate() {
        let same = held.iter().filter(|(other, _)| other == told).count();
        assert_eq!(same, 1, "{:?} was told what another was: {told}", people[number]);
    }
    assert_eq!(sidecar.watched(), people.len());
}

/// Whatever a client adds to a request, an answer that was kept for others is theirs alone.
#[tokio::test(flavor = "multi_thread")]
async fn parts_and_conditions_and_heads_are_the_backends_own() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&format!("{} {:?}", seen.method, seen.header("range"))));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut held = sidecar.events("/a").await;
    held.snapshot().await;
    for headers in [[("Range", "bytes=0-1")], [("Content-Length", "5")]] {
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("GET", "/a", &headers, b"")).await;
        connection.send("abcde").await;
        assert!(!connection.head().await.is_from_memory(), "{headers:?}");
    }
    let mut connection = Connection::open(sidecar.address).await;
    assert!(!connection.request("HEAD", "/a", &[], b"").await.is_from_memory());
    assert!(!connection.request("OPTIONS", "/a", &[], b"").await.is_from_memory());
}

/// An application that would speak HTTP/2 without TLS is not asked to: what came then would pass everything here by.
#[tokio::test(flavor = "multi_thread")]
async fn no_backend_is_asked_to_go_on_in_http2() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        let asked = ["upgrade", "http2-settings"].map(|name| seen.header(name));
        Page::text(&format!("{asked:?}"))
    });
    for routes in ["", ROUTE] {
        let sidecar = Sidecar::start(&backend, routes);
        for upgrade in ["h2c", "H2C", "websocket, h2c", "h2c, websocket"] {
            let headers =
                [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", upgrade), ("HTTP2-Settings", "AAMAAABk")];
            assert_eq!(sidecar.get("/a", &headers).await.text(), "[None, None]", "{upgrade}");
        }
    }
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut tunnel = Connection::open(sidecar.address).await;
    tunnel.send("CONNECT other.example:80 HTTP/1.1\r\nHost: other.example:80\r\n\r\n").await;
    assert!(matches!(tunnel.head().await.status, 400 | 405));
    assert_eq!(backend.hits("other.example:80"), 0);
}
