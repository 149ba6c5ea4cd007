//! What a fetch asks, and what its answer is taken for.

use std::io::Write;
use std::time::Duration;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{Connection, Events};
use crate::support::program::{Program, Scratch};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_looks_like_its_clients_own_requests() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let headers = [
        ("Cookie", "sid=1"),
        ("Authorization", "Bearer t"),
        ("X-Tenant", "acme"),
        ("Accept-Language", "de"),
        ("User-Agent", "Browser"),
        ("Referer", "http://site.example/page"),
        ("Origin", "http://site.example"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("Cache-Control", "no-cache"),
    ];
    let mut events = Events::open(sidecar.address, "/a?_=123&b=2", &headers).await;
    events.snapshot().await;
    let fetch = backend.seen("/a").into_iter().find(Seen::is_fetch).expect("a fetch");
    assert_eq!(fetch.target, "/a?b=2");
    for (name, value) in [
        ("cookie", Some("sid=1")),
        ("authorization", Some("Bearer t")),
        ("x-tenant", Some("acme")),
        ("accept-language", Some("de")),
        ("accept", Some("*/*")),
        ("host", Some("site.example")),
        ("x-forwarded-proto", Some("http")),
        ("user-agent", Some("Browser")),
        // From which site, and not from which page: that may name what is nobody's business.
        ("referer", Some("http://site.example/")),
        ("origin", None),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("forwarded", Some("for=127.0.0.1;proto=http;host=\"site.example\"")),
        ("x-real-ip", None),
        ("cache-control", None),
        ("x-requested-with", None),
    ] {
        assert_eq!(fetch.header(name), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_different_credentials_never_share() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&format!("{:?} {:?}", seen.header("cookie"), seen.header("x-user"))));
    let sidecar = Sidecar::start(&backend, ROUTE);
    for round in 0..2 {
        for headers in [&[("Cookie", "sid=1")][..], &[("Cookie", "sid=2")], &[("X-User", "u")], &[]] {
            let expected = Page::text(&format!(
                "{:?} {:?}",
                headers.iter().find(|(name, _)| *name == "Cookie").map(|(_, value)| *value),
                headers.iter().find(|(name, _)| *name == "X-User").map(|(_, value)| *value)
            ));
            let expected = String::from_utf8(expected.body).unwrap();
            let event = Events::open(sidecar.address, "/a", headers).await.snapshot().await;
            assert_eq!(event.data, expected, "round {round}");
            assert_eq!(sidecar.get("/a", headers).await.text(), expected);
        }
    }
    assert_eq!(sidecar.watched(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_route_carries_no_credentials_until_an_answer_turns_out_to_be_private() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&format!("{:?}", seen.header("cookie"))));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
    for cookie in ["sid=1", "sid=2"] {
        assert_eq!(Events::open(sidecar.address, "/a", &[("Cookie", cookie)]).await.snapshot().await.data, "None");
    }
    assert_eq!(sidecar.watched(), 1);
    for mark in [
        ("Set-Cookie", "x=1"),
        ("Cache-Control", "private"),
        ("Cache-Control", "max-age=0, no-store"),
        ("Vary", "*"),
        ("Vary", "Cookie"),
    ] {
        let sidecar = Sidecar::start(&backend, &format!("{ROUTE}audience = \"public\"\n"));
        backend.handle("/a", move |seen| Page::text(&format!("{:?}", seen.header("cookie"))).header(mark.0, mark.1));
        for cookie in ["sid=1", "sid=2"] {
            let event = Events::open(sidecar.address, "/a", &[("Cookie", cookie)]).await.snapshot().await;
            assert_eq!(event.data, format!("Some({cookie:?})"), "{mark:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_varies_by_joins_the_key() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        Page::text(&format!("{:?}", seen.header("user-agent"))).header("Vary", "Accept-Encoding, User-Agent")
    });
    let sidecar = Sidecar::start(&backend, ROUTE);
    for agent in ["phone", "desk"] {
        let event = Events::open(sidecar.address, "/a", &[("User-Agent", agent)]).await.snapshot().await;
        assert_eq!(event.data, format!("Some({agent:?})"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_are_conditional_and_304_is_no_change() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1").etag());
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    eventually("conditional fetches", || {
        backend.seen("/a").iter().filter(|seen| seen.header("if-none-match").is_some()).count() > 3
    })
    .await;
    backend.set("/a", Page::json("2").etag());
    assert_eq!(events.snapshot().await.data, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_may_still_move_is_not_asked_with() {
    let backend = Backend::start().await;
    // Two changes within one second: a server that goes by dates says 304 to the second.
    let handler = |body: &'static str| {
        move |seen: &Seen| {
            let page = Page::json(body)
                .header("Last-Modified", "Sun, 22 Nov 2026 08:00:00 GMT")
                .header("Date", "Sun, 22 Nov 2026 08:00:01 GMT")
                .header("ETag", "\"of-this-second\"");
            if seen.header("if-none-match").is_some() || seen.header("if-modified-since").is_some() {
                Page { body: Vec::new(), ..page.status(304) }
            } else {
                page
            }
        }
    };
    backend.handle("/a", handler("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    assert_eq!(events.snapshot().await.data, "1");
    backend.handle("/a", handler("2"));
    assert_eq!(within("the second change", events.snapshot()).await.data, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_decoded_before_they_are_compared() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, ROUTE);
    let gzip = |text: &str, level: u32| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let text = "again and again ".repeat(100);
    backend.set("/a", Page::new("text/plain", gzip(&text, 9)).header("Content-Encoding", "gzip"));
    let mut events = sidecar.events("/a").await;
    assert_eq!(events.snapshot().await.data, text);
    // The same, packed otherwise, is no change.
    backend.set("/a", Page::new("text/plain", gzip(&text, 1)).header("Content-Encoding", "gzip"));
    let fetches = backend.hits("/a");
    eventually("fetches the other packing", || backend.hits("/a") > fetches + 2).await;
    let packed = zstd::encode_all("new".as_bytes(), 3).unwrap();
    backend.set("/a", Page::new("text/plain", packed).header("Content-Encoding", "zstd"));
    assert_eq!(events.snapshot().await.data, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_cannot_be_read_passes_through_unwatched() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}max_body = \"1KiB\"\n"));
    let large = "x".repeat(2000);
    for page in
        [Page::text(&large), Page::text(&large).chunked(100), Page::text("?").header("Content-Encoding", "compress")]
    {
        backend.set("/a", page.clone());
        let response = sidecar.get("/a", &[("Accept", "text/event-stream")]).await;
        assert_eq!((response.status, &response.body), (200, &page.body));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    assert_eq!(sidecar.watched(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_and_half_answers_are_no_snapshots() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    assert_eq!(events.snapshot().await.data, "1");
    backend.set("/a", Page::json(&"2".repeat(1000)).truncate(10));
    assert_eq!(events.next().await.unwrap().event.as_deref(), Some("stale"));
    backend.set("/a", Page::json("3"));
    assert_eq!(events.next().await.unwrap().event.as_deref(), Some("live"));
    assert_eq!(events.snapshot().await.data, "3");
    backend.set("/a", Page::text("elsewhere").status(302).header("Location", "/login"));
    assert_eq!(events.next().await.unwrap().data, "{\"reason\":\"auth\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caps_over_all_fetches_hold() {
    let backend = Backend::start().await;
    backend.handle("/r/x", |_| Page::json("0"));
    for n in 0..20 {
        backend.set(&format!("/r/{n}"), Page::json("1").delay(Duration::from_millis(100)));
    }
    let toml = format!(
        "[upstream]\nurl = \"{}\"\nmax_fetches = 3\nmax_fetch_rate = 10\n[[route]]\npath = \"/r/*\"\nevery = \"50ms\"\n",
        backend.url()
    );
    let sidecar = Sidecar::with(&toml);
    let began = std::time::Instant::now();
    let streams = (0..20).map(|n| {
        let address = sidecar.address;
        tokio::spawn(async move {
            let mut events = Events::open(address, &format!("/r/{n}"), &[]).await;
            // Those who have to wait for long are told so.
            while events.next().await.expect("an event").event.is_some() {}
            events
        })
    });
    let mut open = Vec::new();
    for stream in streams.collect::<Vec<_>>() {
        open.push(within("every resource to be fetched", stream).await.unwrap());
    }
    // 20 first fetches at 10 a second: the last cannot have begun before a second was over.
    assert!(began.elapsed() >= Duration::from_millis(1000), "{:?}", began.elapsed());
    let fetches: usize = (0..20)
        .map(|n| {
            backend
                .seen(&format!("/r/{n}"))
                .iter()
                .filter(|seen| seen.header("cdn-loop") == Some("sungrazer") && seen.header("x-forwarded-for").is_none())
                .count()
        })
        .sum();
    let seconds = began.elapsed().as_secs() as usize + 1;
    assert!(fetches <= 10 * (seconds + 1), "{fetches} fetches in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_nobody_watched_for_a_while_has_not_waited_for_the_budget() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("1"));
    let file = Scratch::new("idle");
    let config = file.write(
        "sungrazer.toml",
        &format!("[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n", backend.url()),
    );
    let program = Program::start(&["run", "-c", &config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut events = Events::open(program.address, "/a", &[]).await;
    let id = events.snapshot().await.id.unwrap();
    drop(events);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut events = Events::open(program.address, "/a", &[("Last-Event-ID", &id)]).await;
    backend.set("/a", Page::text("2"));
    assert_eq!(events.snapshot().await.data, "2");
    assert!(!program.log().contains("fetches wait for"), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_match_no_route_and_are_proxied_as_they_are() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\nevery = \"50ms\"\n");
    for target in ["/a//b", "/a/../a", "/%2e%2e/a", "/a;x=1", "/a%2fb"] {
        backend.set(target, Page::text("as it is"));
        let mut connection = Connection::open(sidecar.address).await;
        let response = connection.get(target, &[("Accept", "text/event-stream")]).await;
        assert_eq!(response.text(), "as it is", "{target}");
    }
    assert_eq!(sidecar.watched(), 0);
}
