//! Requests that Sungrazer has no opinion on.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::support::backend::{Backend, Page, dead_port};
use crate::support::client::{Connection, get};
use crate::support::program::Scratch;
use crate::support::sidecar::Sidecar;
use crate::support::within;

/// A backend whose `/echo` tells what it was sent.
async fn echoing() -> Backend {
    let backend = Backend::start().await;
    backend.handle("/echo", |seen| {
        let mut text = format!("{} {} {}\n", seen.method, seen.target, seen.version);
        for (name, value) in &seen.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        let mut page = Page::new("application/octet-stream", text);
        page.body.extend_from_slice(&seen.body);
        page
    });
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_targets_headers_and_bodies_pass_unchanged() {
    let backend = echoing().await;
    let sidecar = Sidecar::start(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let body: &[u8] = if method == "GET" { b"" } else { b"\x00\xffbody" };
        let response = connection
            .request(method, "/echo?a=%20b&c", &[("X-Twice", "1"), ("X-Twice", "2"), ("X-Camel-CASE", "v")], body)
            .await;
        assert_eq!(response.status, 200);
        let seen = backend.seen("/echo").pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, "/echo?a=%20b&c"));
        assert_eq!(seen.all("x-twice"), ["1", "2"]);
        assert!(
            seen.headers.iter().any(|(name, _)| name == "X-Camel-CASE"),
            "the spelling of a header changed: {:?}",
            seen.headers
        );
        assert_eq!(seen.body, body);
        assert!(response.body.ends_with(body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_and_repeated_headers_come_back_unchanged() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, "");
    for status in [200, 201, 204, 206, 301, 302, 304, 400, 401, 404, 418, 429, 500, 503, 599] {
        backend.set(
            "/a",
            Page::text("body")
                .status(status)
                .header("Set-Cookie", "a=1")
                .header("Set-Cookie", "b=2")
                .header("X-Odd_Name", "v"),
        );
        let response = sidecar.get("/a", &[]).await;
        assert_eq!(response.status, status);
        assert_eq!(response.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(response.header("x-odd_name"), Some("v"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_is_told_of_the_client_and_not_of_its_connection() {
    let backend = echoing().await;
    let sidecar = Sidecar::start(&backend, "");
    let spoofed = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=6.6.6.6"),
        ("Connection", "keep-alive, X-Private"),
        ("X-Private", "hop"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
    ];
    sidecar.get("/echo", &spoofed).await;
    let seen = backend.seen("/echo").pop().unwrap();
    assert_eq!(seen.header("host"), Some("site.example"));
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["site.example"]);
    assert_eq!(seen.all("forwarded"), ["for=127.0.0.1;proto=http;host=\"site.example\""]);
    assert_eq!((seen.all("cdn-loop"), seen.header("via")), (vec!["sungrazer"], None));
    for name in ["x-private", "keep-alive", "te"] {
        assert_eq!(seen.header(name), None, "{name} went through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed() {
    let backend = echoing().await;
    let sidecar = Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n[upstream]\nurl = \"{}\"\n",
        backend.url()
    ));
    let claims = [
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.example"),
        ("Forwarded", "for=1.2.3.4"),
    ];
    sidecar.get("/echo", &claims).await;
    let seen = backend.seen("/echo").pop().unwrap();
    assert_eq!(seen.all("x-forwarded-for"), ["1.2.3.4, 127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), ["public.example"]);
    assert_eq!(seen.all("forwarded"), ["for=1.2.3.4, for=127.0.0.1;proto=http;host=\"site.example\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_origin_and_referer_are_rewritten_together_where_that_is_asked_for() {
    let backend = echoing().await;
    backend.set("/moved", Page::text("").status(302).header("Location", &format!("{}/new?x", backend.url())));
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\nhost = \"upstream\"\n", backend.url()));
    sidecar.get("/echo", &[("Origin", "http://site.example"), ("Referer", "http://site.example/page?q")]).await;
    let seen = backend.seen("/echo").pop().unwrap();
    assert_eq!(seen.header("host"), Some(backend.address.to_string().as_str()));
    assert_eq!(seen.header("origin"), Some(backend.url().as_str()));
    assert_eq!(seen.header("referer"), Some(format!("{}/page?q", backend.url()).as_str()));
    assert_eq!(seen.header("x-forwarded-host"), Some(backend.address.to_string().as_str()));
    sidecar.get("/echo", &[("Origin", "http://evil.example"), ("Referer", "http://evil.example/")]).await;
    let seen = backend.seen("/echo").pop().unwrap();
    assert_eq!(
        (seen.header("origin"), seen.header("referer")),
        (Some("http://evil.example"), Some("http://evil.example/"))
    );
    assert_eq!(sidecar.get("/moved", &[]).await.header("location"), Some("http://site.example/new?x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_stream_both_ways() {
    let backend = echoing().await;
    let body: Vec<u8> = (0..20_000_000u32).map(|i| (i % 251) as u8).collect();
    backend.set("/large", Page::new("application/octet-stream", body.clone()));
    backend.set("/chunked", Page::new("application/octet-stream", body[..3_000_000].to_vec()).chunked(70_001));
    let sidecar = Sidecar::start(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    assert!(connection.get("/large", &[]).await.body == body);
    assert!(connection.get("/chunked", &[]).await.body == body[..3_000_000]);
    let response = connection.request("POST", "/echo", &[], &body[..3_000_000]).await;
    assert!(response.body.ends_with(&body[..3_000_000]));
    // A chunked upload, written in pieces.
    connection.send("POST /echo HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in body[..300_000].chunks(10_000) {
        connection.send(format!("{:x}\r\n", piece.len())).await;
        connection.send(piece).await;
        connection.send("\r\n").await;
    }
    connection.send("0\r\n\r\n").await;
    assert!(connection.response("POST").await.body.ends_with(&body[..300_000]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_arrives_piece_by_piece() {
    let backend = Backend::start().await;
    let page = Page::text("").piece(Duration::ZERO, "first ").piece(Duration::from_millis(600), "second");
    backend.set("/slow", Page { headers: vec![("Content-Type".into(), "text/plain".into())], ..page });
    let sidecar = Sidecar::start(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    connection.send("GET /slow HTTP/1.1\r\nHost: site.example\r\n\r\n").await;
    connection.head().await;
    let began = std::time::Instant::now();
    let first = connection.chunk().await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500), "the first piece was held back");
    let mut whole = first;
    while let Some(chunk) = connection.chunk().await {
        whole.extend(chunk);
    }
    // The page itself is empty and ends with the connection.
    assert_eq!(whole, b"first second");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_expect_continue_work() {
    let backend = echoing().await;
    backend.set("/a", Page::text("four"));
    let sidecar = Sidecar::start(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    let response = connection.request("HEAD", "/a", &[], b"").await;
    assert_eq!((response.status, response.header("content-length"), response.body.len()), (200, Some("4"), 0));
    connection
        .send("POST /echo HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let interim = connection.head().await;
    connection.send("body").await;
    let response = if interim.status == 100 { connection.response("POST").await } else { panic!("{interim:?}") };
    assert!(response.body.ends_with(b"body"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http10_clients_are_served() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"50ms\"\n");
    let mut connection = Connection::open(sidecar.address).await;
    connection.send("GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n").await;
    assert_eq!(connection.response("GET").await.text(), "1");
    assert!(connection.is_closed().await);
    // Their streams have no chunks, and end with the connection.
    let mut connection = Connection::open(sidecar.address).await;
    connection.send("GET /a HTTP/1.0\r\nHost: site.example\r\nAccept: text/event-stream\r\n\r\n").await;
    let head = connection.head().await;
    assert_eq!((head.header("transfer-encoding"), head.header("connection")), (None, Some("close")));
    let text = String::from_utf8(connection.raw(40).await).unwrap();
    assert!(text.starts_with("retry: "), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_requests_in_one_packet_are_answered_in_order() {
    let backend = echoing().await;
    for path in ["/1", "/2", "/3"] {
        backend.set(path, Page::text(path));
    }
    // A connection that may become HTTP/2 is read from before anybody knows what it is.
    for h2c in [false, true] {
        let sidecar = Sidecar::with(&format!("[server]\nh2c = {h2c}\n[upstream]\nurl = \"{}\"\n", backend.url()));
        let mut client = Connection::open(sidecar.address).await;
        client.send(["/1", "/2", "/3"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).concat()).await;
        for path in ["/1", "/2", "/3"] {
            assert_eq!(within("an answer", client.response("GET")).await.text(), path, "h2c = {h2c}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_one_connection_may_be_of_every_kind() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    backend.set("/b", Page::text("b"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"50ms\"\n");
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let mut connection = Connection::open(sidecar.address).await;
    for _ in 0..5 {
        assert_eq!(connection.get("/b", &[]).await.text(), "b");
        assert!(connection.get("/a", &[("Accept", "*/*")]).await.is_from_memory());
        assert_eq!(connection.get("/.sungrazer/x", &[]).await.status, 404);
        assert_eq!(connection.request("POST", "/b", &[], b"body").await.text(), "b");
    }
    // Two at once: both are answered, in order.
    connection
        .send(
            "GET /a HTTP/1.1\r\nHost: site.example\r\nAccept: */*\r\n\r\nGET /b HTTP/1.1\r\nHost: site.example\r\n\r\n",
        )
        .await;
    assert_eq!(connection.response("GET").await.text(), "1");
    assert_eq!(connection.response("GET").await.text(), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_away_is_a_502_with_a_short_text() {
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"http://{}\"\n", dead_port().await));
    let response = sidecar.get("/a", &[]).await;
    assert_eq!(response.status, 502);
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(response.text().len() < 200 && !response.text().contains("127.0.0.1"), "{}", response.text());
    let streamed = sidecar.get("/a", &[("Accept", "text/event-stream")]).await;
    assert_eq!(streamed.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_breaks_off_is_noticed_by_the_client() {
    let backend = Backend::start().await;
    backend.set("/dropped", Page::dropped());
    backend.set("/truncated", Page::text(&"x".repeat(1000)).truncate(100));
    let sidecar = Sidecar::start(&backend, "");
    assert_eq!(sidecar.get("/dropped", &[]).await.status, 502);
    let mut connection = Connection::open(sidecar.address).await;
    connection.send("GET /truncated HTTP/1.1\r\nHost: site.example\r\n\r\n").await;
    let head = connection.head().await;
    assert_eq!(head.header("content-length"), Some("1000"));
    let body = connection.raw(1000).await;
    assert!(body.len() < 1000, "a body that broke off looks whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_an_upstream() {
    let backend = echoing().await;
    backend.set("/a", Page::json("1"));
    let scratch = Scratch::new("unix");
    let path = scratch.path("app.sock");
    backend.also_at(&path);
    let sidecar = Sidecar::with(&format!(
        "[upstream]\nurl = \"unix:{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n",
        path.display()
    ));
    assert_eq!(sidecar.get("/echo", &[]).await.status, 200);
    let mut events = sidecar.events("/a").await;
    assert_eq!(events.snapshot().await.data, "1");
    backend.set("/a", Page::json("2"));
    assert_eq!(events.snapshot().await.data, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_several_addresses_is_tried_until_one_accepts() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    // "localhost" is ::1 as well on most machines; the backend listens on 127.0.0.1 alone.
    let port = backend.address.port();
    let sidecar = Sidecar::with(&format!(
        "[upstream]\nurl = \"http://localhost:{port}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n"
    ));
    assert_eq!(sidecar.get("/a", &[]).await.text(), "1");
    assert_eq!(sidecar.events("/a").await.snapshot().await.data, "1");
}

/// nginx, for one, compresses nothing for a request that bears `Via`, whoever put it there.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_does_not_compress_for_proxies_does_as_it_would_without() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        let takes = seen.header("via").is_none() && seen.header("accept-encoding").unwrap_or_default().contains("gzip");
        Page::text(if takes { "compressed" } else { "as it is" })
    });
    for routes in ["", "[[route]]\npath = \"/a\"\n"] {
        let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{routes}", backend.url()));
        let gzip = ("Accept-Encoding", "gzip");
        assert_eq!(sidecar.get("/a", &[gzip]).await.text(), "compressed", "{routes}");
        // What a proxy in front says stays said.
        let told = sidecar.get("/a", &[gzip, ("Via", "1.1 other"), ("CDN-Loop", "other")]).await;
        assert_eq!(told.text(), "as it is", "{routes}");
        let seen = backend.seen("/a").pop().unwrap();
        assert_eq!((seen.all("via"), seen.all("cdn-loop")), (vec!["1.1 other"], vec!["other, sungrazer"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_leads_back_to_itself_is_noticed() {
    let route = "[[route]]\npath = \"/a\"\nevery = \"10s\"\n";
    for routes in ["", route, &format!("{route}hold = \"1h\"\n"), &format!("{route}shim = \"learn\"\n")] {
        let address = dead_port().await;
        // Who waits for a fetch of his own waits for long.
        let toml = format!("[upstream]\nurl = \"http://{address}\"\nfetch_timeout = \"10m\"\n{routes}");
        let overrides = sungrazer::config::Overrides {
            listen: Some(address.to_string()),
            admin: Some("off".into()),
            upstream: None,
        };
        let server = sungrazer::server::Server::start(
            sungrazer::config::parse("t", &toml, &overrides).unwrap(),
            &sungrazer::server::ConfigSource::default(),
            sungrazer::server::Inherited::default(),
        )
        .unwrap();
        for _ in 0..3 {
            let response = within("an answer", get(address, "/a", &[])).await;
            assert_eq!(response.status, 508, "{routes}");
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_where_it_is_configured() {
    let backend = echoing().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::with(&format!(
        "[server]\nh2c = true\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n",
        backend.url()
    ));
    // HTTP/1.1 goes on working on the same port, however short the request is.
    let mut short = Connection::open(sidecar.address).await;
    short.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(short.response("GET").await.status, 404);
    let tcp = TcpStream::connect(sidecar.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |method: &str, path: &str, accept: &str| {
        http::Request::builder()
            .method(method)
            .uri(format!("http://site.example{path}"))
            .header("accept", accept)
            .body(())
            .unwrap()
    };
    // An upload that ends in an empty frame must not desynchronise the backend's connection.
    for _ in 0..3 {
        let (response, mut upload) = send.send_request(request("POST", "/echo", "*/*"), false).unwrap();
        upload.send_data(Bytes::from_static(b"body"), false).unwrap();
        upload.send_data(Bytes::new(), true).unwrap();
        let response = within("a response", response).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(piece) = within("a body", body.data()).await {
            text.extend_from_slice(&piece.unwrap());
        }
        assert!(text.ends_with(b"body"));
    }
    let seen = backend.seen("/echo").pop().unwrap();
    assert_eq!((seen.header("host"), seen.all("cdn-loop")), (Some("site.example"), vec!["sungrazer"]));
    // A stream, beside it an answer from memory, and the client's leaving.
    let (response, _) = send.send_request(request("GET", "/a", "text/event-stream"), true).unwrap();
    let response = within("a stream", response).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("data: 1") {
        text.push_str(std::str::from_utf8(&within("an event", body.data()).await.unwrap().unwrap()).unwrap());
    }
    let (response, _) = send.send_request(request("GET", "/a", "*/*"), true).unwrap();
    assert_eq!(within("memory", response).await.unwrap().headers()["cache-status"], "sungrazer; hit");
    assert_eq!(sidecar.held(), 1);
    drop(body);
    crate::support::eventually("the stream's end to be noticed", || sidecar.held() == 0).await;
    connection.abort();
}
