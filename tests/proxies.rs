//! nginx and HAProxy between clients and Sungrazer, buffering as they do by default. They must be there, so these are
//! only run on request: `tests/run clients`.

use std::net::SocketAddr;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::follower::{Follower, Form, Heard, Over};
use crate::support::peers::{self, Peer};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// A proxy that runs.
struct Proxy {
    name: &'static str,
    address: SocketAddr,
    /// Whether it is set up to pass WebSockets on.
    upgrades: bool,
    /// Whether it passes on that a client left, before there is something to write to it.
    tells: bool,
    _peer: Peer,
}

/// The least that makes nginx a proxy; it speaks HTTP/1.0 to what is behind it then.
const BARE: &str = "proxy_pass http://UPSTREAM;";

/// What our documents recommend, and what any site with WebSockets has.
const RECOMMENDED: &str = "
    proxy_pass http://UPSTREAM;
    proxy_http_version 1.1;
    proxy_set_header Connection $keep;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_read_timeout 90s;
";

/// Compressing whatever it can.
const COMPRESSING: &str = "
    gzip on;
    gzip_types *;
    gzip_proxied any;
    gzip_min_length 1;
    proxy_pass http://UPSTREAM;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
";

const KEEP: &str = "map $http_upgrade $keep { '' ''; default upgrade; }";

/// What our documents recommend: a client's leaving is passed on.
const ABORTING: &str = "    option abortonclose";

impl Proxy {
    async fn nginx(name: &'static str, location: &str, upstream: SocketAddr) -> Self {
        let location = location.replace("UPSTREAM", &upstream.to_string());
        let peer = peers::nginx(KEEP, &format!("location / {{ {location} }}")).await;
        Self { name, address: peer.address, upgrades: location.contains("$keep;"), tells: true, _peer: peer }
    }

    async fn haproxy(name: &'static str, option: &str, upstream: SocketAddr) -> Self {
        let site = format!("{option}\nlisten site\n    bind ADDRESS\n    server sungrazer {upstream}\n");
        let peer = peers::haproxy(&site).await;
        Self { name, address: peer.address, upgrades: true, tells: !option.is_empty(), _peer: peer }
    }

    /// All of them, in front of `upstream`.
    async fn all(upstream: SocketAddr) -> Vec<Self> {
        vec![
            Self::nginx("nginx, bare", BARE, upstream).await,
            Self::nginx("nginx, recommended", RECOMMENDED, upstream).await,
            Self::nginx("nginx, compressing", COMPRESSING, upstream).await,
            Self::haproxy("haproxy, bare", "", upstream).await,
            Self::haproxy("haproxy, recommended", ABORTING, upstream).await,
        ]
    }
}

/// Nothing but events makes anything move: what a proxy keeps back stays there.
fn sidecar(backend: &Backend, route: &str) -> Sidecar {
    Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\ndrain = \"2s\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"100ms\"\nheartbeat = \"1h\"\n{route}",
        backend.url()
    ))
}

/// The forms in which clients are held through `proxy`, and over what.
fn forms(proxy: &Proxy) -> Vec<(Form, Over)> {
    let mut forms: Vec<_> =
        Form::ALL.into_iter().filter(|form| *form != Form::WebSocket).map(|form| (form, Over::H1)).collect();
    if proxy.upgrades {
        forms.push((Form::WebSocket, Over::H1));
    }
    forms.push((Form::Sse, Over::H1Gzip));
    forms
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and HAProxy; tests/run sees to it"]
async fn events_arrive_at_once_and_leaving_is_noticed() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    for proxy in Proxy::all(sidecar.address).await {
        for (form, over) in forms(&proxy) {
            let what = format!("{form:?} over {over:?} through {}", proxy.name);
            backend.set("/a", Page::json("{\"n\":1}"));
            let url = format!("/a?{}", what.replace([' ', ','], "-"));
            let mut follower = Follower::open(form, over, proxy.address, &url, None).await;
            assert_eq!(within(&what, follower.next()).await.unwrap().body(), "{\"n\":1}", "{what}");
            backend.set("/a", Page::json("{\"n\":2}"));
            assert_eq!(within(&what, follower.next()).await.unwrap().body(), "{\"n\":2}", "{what}");
            drop(follower);
            let mut n = 3;
            eventually(&format!("its leaving to be noticed: {what}"), || {
                if !proxy.tells {
                    n += 1;
                    backend.set("/a", Page::json(&n.to_string()));
                }
                sidecar.held() == 0
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and HAProxy; tests/run sees to it"]
async fn clients_come_back_through_them_and_are_told_what_they_missed() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    for proxy in Proxy::all(sidecar.address).await {
        for (form, over) in forms(&proxy) {
            let what = format!("{form:?} over {over:?} through {}", proxy.name);
            backend.set("/a", Page::text("one"));
            let url = format!("/a?{}", what.replace([' ', ','], "-"));
            let mut follower = Follower::open(form, over, proxy.address, &url, None).await;
            let version = within(&what, follower.next()).await.unwrap().version();
            drop(follower);
            let mut current = Follower::open(form, over, proxy.address, &url, Some(&version)).await;
            backend.set("/a", Page::text("two"));
            assert_eq!(within(&what, current.next()).await.unwrap().body(), "two", "{what}: told what it held");
            let mut behind = Follower::open(form, over, proxy.address, &url, Some(&version)).await;
            assert_eq!(within(&what, behind.next()).await.unwrap().body(), "two", "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and HAProxy; tests/run sees to it"]
async fn polls_are_held_through_them() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "hold = \"1h\"\n");
    for proxy in Proxy::all(sidecar.address).await {
        let url = format!("/a?{}", proxy.name.replace([' ', ','], "-"));
        backend.set("/a", Page::text("one"));
        let address = proxy.address;
        let mut client = Connection::open(address).await;
        assert_eq!(client.get(&url, &[]).await.text(), "one");
        let first = client.get(&url, &[("Prefer", "wait=1")]).await;
        let known = first.header("etag").unwrap().to_owned();
        let poll = tokio::spawn(async move {
            let news = client.get(&url, &[("Prefer", "wait=600"), ("If-None-Match", &known)]).await;
            (client, url, news)
        });
        eventually("the poll to be held", || sidecar.held() == 1).await;
        backend.set("/a", Page::text("two"));
        let (mut client, url, news) = within("the news", poll).await.unwrap();
        assert_eq!(news.text(), "two", "{}", proxy.name);
        let etag = news.header("etag").unwrap().to_owned();
        let none = client.get(&url, &[("Prefer", "wait=1"), ("If-None-Match", &etag)]).await;
        assert_eq!((none.status, none.header("preference-applied")), (304, Some("wait=1")), "{}", proxy.name);
        if !proxy.tells {
            continue;
        }
        // Who gives up is noticed, though it is the proxy that is connected to us.
        let poll =
            tokio::spawn(async move { client.get(&url, &[("Prefer", "wait=60"), ("If-None-Match", &etag)]).await });
        eventually("the poll to be held", || sidecar.held() == 1).await;
        poll.abort();
        eventually(&format!("its leaving to be noticed through {}", proxy.name), || sidecar.held() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and HAProxy; tests/run sees to it"]
async fn the_end_of_a_stream_is_told_through_them() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = sidecar(&backend, "");
    let proxies = Proxy::all(sidecar.address).await;
    let mut followers = Vec::new();
    for proxy in &proxies {
        for (form, over) in forms(proxy) {
            let mut follower = Follower::open(form, over, proxy.address, "/a", None).await;
            follower.next().await.unwrap();
            followers.push((format!("{form:?} over {over:?} through {}", proxy.name), form, follower));
        }
    }
    let stopped = tokio::spawn(sidecar.server.stop());
    for (what, form, follower) in &mut followers {
        if form.has_words() {
            assert_eq!(within(what, follower.next()).await, Some(Heard::End("drain".into())), "{what}");
        }
        assert_eq!(within(what, follower.next()).await, None, "{what}");
    }
    within("the server to stop", stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and HAProxy; tests/run sees to it"]
async fn clients_behind_one_proxy_are_told_apart_by_their_addresses() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let config = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_streams_per_address = 1\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\n",
        backend.url()
    );
    let sidecar = Sidecar::with(&config);
    let forwarding = RECOMMENDED.replace("$remote_addr", "$http_x_pretend");
    let proxy = Proxy::nginx("nginx, for many", &forwarding, sidecar.address).await;
    let from = |address: &'static str| [("X-Pretend", address)];
    let mut one = Events::open(proxy.address, "/a", &from("192.0.2.1")).await;
    let mut other = Events::open(proxy.address, "/a", &from("192.0.2.2")).await;
    assert_eq!((one.snapshot().await.data, other.snapshot().await.data), ("one".to_owned(), "one".to_owned()));
    let refused = Events::try_open(proxy.address, "/a", &from("192.0.2.2")).await;
    assert_eq!((refused.head.status, refused.head.header("retry-after")), (503, Some("5")));
}
