//! Limits on the requests of clients: how many of one address, and how large.

use sungrazer::config::{self, Overrides};

use crate::support::backend::{Backend, Page};
use crate::support::client::Connection;
use crate::support::frames::{Fate, Frames, get as frame_get};
use crate::support::sidecar::Sidecar;

async fn limited(server: &str) -> (Backend, Sidecar) {
    let backend = Backend::start().await;
    for path in ["/a", "/plain", "/upload"] {
        backend.set(path, Page::text("served"));
    }
    let sidecar = Sidecar::with(&format!(
        "[server]\nh2c = true\n{server}\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\n",
        backend.url()
    ));
    (backend, sidecar)
}

/// As many requests as one address may make at once.
const AT_ONCE: usize = 10;

/// A rate at which no test earns a further request.
const RATE: &str = "max_request_rate_per_address = 1\ntrusted_proxies = [\"127.0.0.0/8\"]";

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_asks_too_often_is_told_when_to_come_back_and_others_are_served() {
    let (backend, sidecar) = limited(RATE).await;
    let from = |address: &'static str| [("X-Forwarded-For", address)];
    let mut connection = Connection::open(sidecar.address).await;
    let mut refused = Vec::new();
    for path in ["/plain", "/a", "/.sungrazer/shim.js", "/upload"].iter().cycle().take(AT_ONCE * 4) {
        let answer = connection.request("GET", path, &from("192.0.2.1"), b"").await;
        if answer.status == 429 {
            refused.push(answer);
        }
    }
    // A slow machine takes seconds for this, and earns as many requests.
    assert!(refused.len() >= AT_ONCE, "{}", refused.len());
    let wait: u64 = refused[0].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=11).contains(&wait), "{wait}");
    assert!(refused[0].text().contains("too many requests"), "{}", refused[0].text());
    let before = backend.hits("/plain");
    for address in ["192.0.2.2", "2001:db8::1"] {
        assert_eq!(sidecar.get("/plain", &from(address)).await.status, 200, "{address}");
    }
    assert_eq!(backend.hits("/plain"), before + 2);
    // One network is one client.
    for host in 0..40 {
        let address = format!("2001:db8:1::{host:x}");
        let answer = sidecar.get("/plain", &[("X-Forwarded-For", &address)]).await;
        assert!(answer.status == 200 || host >= AT_ONCE, "{host}");
        if answer.status == 429 {
            let metrics = sidecar.admin("/metrics").await;
            assert!(metrics.text().contains("limits_hit_total{limit=\"request_rate\"}"), "{}", metrics.text());
            return;
        }
    }
    panic!("a network of many addresses is not limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_asking_is_left_out() {
    // An address that is not trusted says nothing about others.
    let (_backend, sidecar) = limited("max_request_rate_per_address = 1").await;
    let forged = |number: usize| format!("192.0.2.{number}");
    let mut served = 0;
    for number in 0..AT_ONCE * 4 {
        let answer = sidecar.get("/plain", &[("X-Forwarded-For", &forged(number))]).await;
        served += usize::from(answer.status == 200);
    }
    assert!(served < AT_ONCE * 3, "{served}");
    // The address has used up what it has; each of these is one more request.
    let (_other, free) = limited("").await;
    let refusals = async |address, send: &str| {
        let mut refused = 0;
        for _ in 0..20 {
            let mut connection = Connection::open(address).await;
            connection.send(send).await;
            refused += usize::from(connection.head().await.status == 429);
        }
        refused
    };
    for (what, send) in [
        ("absolute form", "GET http://site.example/plain HTTP/1.1\r\nHost: site.example\r\n\r\n"),
        ("bare line ends", "GET /plain HTTP/1.1\nHost: site.example\n\n"),
        ("HTTP/1.0", "GET /plain HTTP/1.0\r\nHost: site.example\r\n\r\n"),
        ("an upgrade", "GET /plain HTTP/1.1\r\nHost: site.example\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
        ("an event stream", "GET /a HTTP/1.1\r\nHost: site.example\r\nAccept: text/event-stream\r\n\r\n"),
    ] {
        assert_eq!(refusals(free.address, send).await, 0, "{what}");
        assert!(refusals(sidecar.address, send).await > 0, "{what}");
    }
    let mut frames = Frames::open(sidecar.address, &[]).await;
    let mut refused = 0;
    for number in 0..20 {
        let stream = 1 + 2 * number;
        assert!(frames.ask(stream, &frame_get("/plain")).await);
        // 429 is none of the statuses that the static table of HPACK has.
        refused += usize::from(frames.fate(stream).await == Fate::Answered(0));
    }
    assert!(refused > 0, "HTTP/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_refused_before_the_application_hears_of_it() {
    let (backend, sidecar) = limited("max_request_body = \"1KiB\"").await;
    let post = async |size: usize| {
        Connection::open(sidecar.address).await.request("POST", "/upload", &[], &vec![b'x'; size]).await.status
    };
    assert_eq!((post(1024).await, backend.hits("/upload")), (200, 1));
    // More than fits into buffers: the client reads its answer all the same.
    for size in [1025, 100_000, 3_000_000] {
        assert_eq!((post(size).await, backend.hits("/upload")), (413, 1), "{size}");
    }
    let mut waiting = Connection::open(sidecar.address).await;
    waiting
        .send("POST /upload HTTP/1.1\r\nHost: site.example\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n")
        .await;
    assert_eq!(waiting.response("POST").await.status, 413);
    // Without a length it is counted as it comes.
    let mut chunked = Connection::open(sidecar.address).await;
    chunked.send("POST /upload HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        chunked.send(format!("190\r\n{}\r\n", "x".repeat(400))).await;
    }
    assert_eq!(chunked.response("POST").await.status, 413);
    let mut small = Connection::open(sidecar.address).await;
    small
        .send("POST /upload HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(small.response("POST").await.status, 200);
    let metrics = sidecar.admin("/metrics").await;
    assert!(metrics.text().contains("limits_hit_total{limit=\"request_body\"} 5"), "{}", metrics.text());
}

#[test]
fn a_rate_of_nothing_is_a_mistake() {
    let text =
        |rate: &str| format!("[server]\nmax_request_rate_per_address = {rate}\n[upstream]\nurl = \"http://a\"\n");
    let found = config::parse("test.toml", &text("0"), &Overrides::default()).unwrap_err().to_string();
    assert!(found.contains("must be at least 1") && found.contains("test.toml:2:32"), "{found}");
    let read = config::parse("test.toml", &text("7"), &Overrides::default()).unwrap();
    assert_eq!(read.limits.max_rate_per_address, Some(7));
    let found = config::parse("test.toml", &text("\"7/s\""), &Overrides::default()).unwrap_err().to_string();
    assert!(found.contains("expected a whole number") && found.contains("test.toml:2:32"), "{found}");
}
