//! By which host the application is called, and what clients see of that.

use std::time::Duration;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{Connection, Events};
use crate::support::sidecar::Sidecar;

const ROUTES: &str = "[[route]]\npath = \"/a/**\"\nevery = \"100ms\"\nevery_max = \"100ms\"\n";

fn sidecar(backend: &Backend, host: &str) -> Sidecar {
    Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{host}{ROUTES}", backend.url()))
}

/// What an application sees that forgives nothing: its own host, and pages of its own.
fn strict(own: String, status: u16) -> impl Fn(&Seen) -> Page + Send + Sync + 'static {
    move |seen| {
        let site = seen.header("x-forwarded-host").or_else(|| seen.header("host")).unwrap_or_default();
        let is_foreign = |name: &str| {
            let of = |url: &str| url.split('/').nth(2).unwrap_or_default().to_owned();
            seen.header(name).is_some_and(|url| of(url) != site)
        };
        if seen.header("host") != Some(&own) || is_foreign("origin") || is_foreign("referer") {
            return Page::text("Unauthorized").status(status);
        }
        Page::json(&format!("{{\"forwarded\":\"{}\"}}", seen.header("forwarded").unwrap_or_default().replace('"', "'")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_refuses_another_host_is_called_by_its_own() {
    for status in [400, 401, 403, 421] {
        // Its root refuses, as most do, or is missing, so that only what was asked for shows it.
        for root in [true, false] {
            let backend = Backend::start().await;
            let own = backend.address.to_string();
            if root {
                backend.handle("/", strict(own.clone(), status));
            }
            for path in ["/a/x", "/page"] {
                backend.handle(path, strict(own.clone(), status));
            }
            let sidecar = sidecar(&backend, "");
            let mut client = Connection::open(sidecar.address).await;
            // The first is answered as all the others.
            let origin = ("Origin", "http://site.example");
            let answer = client.get("/a/x", &[]).await;
            assert_eq!(answer.status, 200, "{status} with a root: {root}");
            assert!(answer.text().contains(&format!("host='{own}'")), "{}", answer.text());
            for (method, headers) in [
                ("GET", vec![origin, ("Referer", "http://site.example/page?a=b")]),
                ("POST", vec![origin]),
                ("HEAD", vec![("Referer", "http://site.example/")]),
            ] {
                assert_eq!(client.request(method, "/page", &headers, b"").await.status, 200, "{method} {headers:?}");
            }
            let mut events = Events::open(sidecar.address, "/a/x", &[("Referer", "http://site.example/page")]).await;
            events.snapshot().await;
            // What comes from elsewhere stays foreign.
            for foreign in
                ["http://evil.example", "http://site.example:8080", "http://site.example.evil.example", "null"]
            {
                let answer = client.request("POST", "/page", &[("Origin", foreign)], b"").await;
                assert_eq!(answer.status, status, "{foreign}");
                assert_eq!(backend.seen("/page").last().unwrap().header("origin"), Some(foreign));
            }
        }
    }
}

/// As qBittorrent does: it takes any name, but no other port; pages have to be of the site that is forwarded, or of the host.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_minds_the_port_alone_is_understood() {
    let backend = Backend::start().await;
    let port = backend.address.port().to_string();
    backend.handle("/", move |seen| {
        let host = seen.header("host").unwrap_or_default();
        let site = seen.header("x-forwarded-host").unwrap_or(host);
        let of = |url: &str| url.split('/').nth(2).unwrap_or_default().to_owned();
        let is_foreign = |name: &str| seen.header(name).is_some_and(|url| of(url) != site);
        let other_port = host.split_once(':').is_some_and(|(_, other)| other != port);
        if other_port || is_foreign("origin") || is_foreign("referer") {
            return Page::text("Unauthorized").status(401);
        }
        Page::text("in")
    });
    let sidecar = sidecar(&backend, "");
    let host = sidecar.address.to_string();
    let page = format!("http://{host}");
    let own = [("Host", host.as_str()), ("Origin", page.as_str()), ("Referer", page.as_str())];
    for method in ["GET", "POST", "HEAD"] {
        let status = Connection::open(sidecar.address).await.request(method, "/", &own, b"").await.status;
        assert_eq!(status, 200, "{method}");
    }
    let foreign = [("Host", host.as_str()), ("Origin", "http://evil.example")];
    assert_eq!(Connection::open(sidecar.address).await.request("POST", "/", &foreign, b"").await.status, 401);
}

/// Navigations go another way.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_navigation_is_answered_too() {
    let backend = Backend::start().await;
    let own = backend.address.to_string();
    backend.handle("/", move |seen| {
        if seen.header("host") == Some(&own) {
            Page::new("text/html", "<p>page")
        } else {
            Page::text("Blocked request").status(403)
        }
    });
    let sidecar =
        Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/**\"\nshim = true\n", backend.url()));
    let headers = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")];
    let answer = sidecar.get("/", &headers).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("<p>page"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_minds_something_else_keeps_the_clients_host() {
    type Answer = fn(&Seen) -> Page;
    let login: Answer = |seen| match seen.header("cookie") {
        Some(_) => Page::json("1"),
        None => Page::text("sign in").status(401),
    };
    let challenge: Answer = |_| Page::text("sign in").status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    let forbidden: Answer = |_| Page::text("no").status(403);
    let bad: Answer = |_| Page::text("no").status(400);
    // A server of several sites: this one is forbidden, and there is another for whoever names none.
    let sites: Answer = |seen| match seen.header("host") {
        Some("site.example") => Page::text("not for you").status(403),
        _ => Page::text("welcome"),
    };
    for (name, answer) in
        [("login", login), ("challenge", challenge), ("forbidden", forbidden), ("bad", bad), ("sites", sites)]
    {
        let backend = Backend::start().await;
        backend.handle("/", answer);
        backend.handle("/a/x", answer);
        let sidecar = sidecar(&backend, "");
        for _ in 0..5 {
            sidecar.get("/a/x", &[]).await;
        }
        let ours: Vec<_> = [backend.seen("/"), backend.seen("/a/x")].concat();
        // Fetches ask for codings.
        let ours = ours.iter().filter(|seen| seen.is_fetch() || seen.header("accept-encoding") == Some("identity"));
        let (asked, signed) = ours
            .fold((0, 0), |(asked, signed), seen| (asked + 1, signed + usize::from(seen.header("cookie").is_some())));
        assert!(asked <= 6 && signed == 0, "{name}: asked {asked} times");
        sidecar.get("/a/x", &[("Cookie", "sid=1")]).await;
        assert_eq!(backend.seen("/a/x").last().unwrap().header("host"), Some("site.example"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_again_that_may_be_good_once() {
    let backend = Backend::start().await;
    let own = backend.address.to_string();
    for path in ["/a/b3f1c9d27e5a4f608c1d2e3f", "/write"] {
        backend.handle(path, strict(own.clone(), 403));
    }
    let sidecar = sidecar(&backend, "");
    assert_eq!(sidecar.get("/a/b3f1c9d27e5a4f608c1d2e3f", &[]).await.status, 403);
    assert_eq!(backend.hits("/a/b3f1c9d27e5a4f608c1d2e3f"), 1);
    let mut client = Connection::open(sidecar.address).await;
    assert_eq!(client.request("POST", "/write", &[], b"x").await.status, 403);
    assert_eq!(backend.hits("/write"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_nothing_of_the_applications_own_host() {
    let backend = Backend::start().await;
    let own = backend.address.to_string();
    let names = move |seen: &Seen| {
        let page = match seen.path() {
            "/a/gone" => Page::text("").status(302).header("Location", &format!("HTTP://{own}/login?next=1")),
            "/a/net" => Page::text("").status(307).header("Location", &format!("//{own}/login")),
            _ => Page::json("1"),
        };
        page.header("Content-Location", &format!("http://{own}/a/x.json"))
            .header("Refresh", &format!("3; URL='http://{own}/next'"))
            .header("Link", &format!("<http://{own}/2>; rel=next, <https://other.example/>; rel=x"))
            .header("Set-Cookie", &format!("sid=1; Domain={}; Path=/", own.split(':').next().unwrap()))
            .header("Access-Control-Allow-Origin", &format!("http://{own}"))
    };
    for path in ["/a/x", "/a/gone", "/a/net", "/x"] {
        backend.handle(path, names.clone());
    }
    let plain = names.clone();
    backend.handle("/a/memory", move |seen| {
        let mut page = plain(seen);
        page.headers.retain(|(name, _)| name != "Set-Cookie");
        page
    });
    let port = backend.address.port().to_string();
    let sidecar = sidecar(&backend, "host = \"upstream\"\n");
    let mut watched = sidecar.events("/a/memory").await;
    watched.snapshot().await;
    let mut client = Connection::open(sidecar.address).await;
    let stream = ("Accept", "text/event-stream");
    for (method, path, headers) in [
        ("GET", "/a/x", vec![]),
        ("HEAD", "/a/x", vec![]),
        ("POST", "/a/x", vec![]),
        ("GET", "/x", vec![]),
        ("GET", "/x", vec![stream]),
        ("GET", "/a/gone", vec![]),
        ("GET", "/a/gone", vec![stream]),
        ("GET", "/a/net", vec![]),
        ("GET", "/a/net", vec![stream]),
        ("GET", "/a/gone", vec![("Prefer", "wait=1")]),
        ("GET", "/a/memory", vec![]),
        ("GET", "/a/memory", vec![("Prefer", "wait=1")]),
    ] {
        let ends = headers.contains(&stream);
        let answer = client.request(method, path, &headers, b"").await;
        if ends {
            client = Connection::open(sidecar.address).await;
        }
        for (name, value) in &answer.headers {
            assert!(
                !value.contains(&port) && !value.contains("127.0.0.1"),
                "{method} {path} {headers:?}: {name}: {value}"
            );
        }
        let expected = match path {
            "/a/gone" => Some("http://site.example/login?next=1"),
            "/a/net" => Some("//site.example/login"),
            _ => None,
        };
        assert_eq!(answer.header("location"), expected, "{headers:?}");
        assert_eq!(answer.header("content-location"), Some("http://site.example/a/x.json"));
        assert_eq!(answer.header("refresh"), Some("3; URL='http://site.example/next'"));
        assert_eq!(answer.header("link"), Some("<http://site.example/2>; rel=next, <https://other.example/>; rel=x"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://site.example"));
        assert_eq!(answer.is_from_memory(), path == "/a/memory", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_sees_one_site() {
    let backend = Backend::start().await;
    backend.set("/a/x", Page::json("1"));
    let own = backend.address.to_string();
    let sidecar = Sidecar::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\nhost = \"upstream\"\n{ROUTES}",
        backend.url()
    ));
    let mut client = Connection::open(sidecar.address).await;
    let headers = [
        ("Host", "inner.example"),
        ("X-Forwarded-Host", "site.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=10.0.0.1;host=site.example;proto=https"),
        ("Origin", "https://site.example"),
        ("Referer", "https://site.example/page"),
        ("Destination", "https://site.example/b%20c"),
        ("If", "<https://site.example/b> (<urn:uuid:1>)"),
    ];
    client.request("MOVE", "/a/x", &headers, b"").await;
    let mut events = Events::open(sidecar.address, "/a/x", &headers[..6]).await;
    events.snapshot().await;
    let all = backend.seen("/a/x");
    assert!(all.len() > 1);
    for seen in &all {
        for (name, value) in &seen.headers {
            assert!(!value.contains("site.example") && !value.contains("inner.example"), "{name}: {value}");
        }
        assert_eq!((seen.header("host"), seen.header("x-forwarded-host")), (Some(own.as_str()), Some(own.as_str())));
    }
    let moved = all.iter().find(|seen| seen.method == "MOVE").unwrap();
    assert_eq!(moved.header("origin"), Some(format!("http://{own}").as_str()));
    assert_eq!(moved.header("referer"), Some(format!("http://{own}/page").as_str()));
    assert_eq!(moved.header("destination"), Some(format!("http://{own}/b%20c").as_str()));
    assert_eq!(moved.header("if"), Some(format!("<http://{own}/b> (<urn:uuid:1>)").as_str()));
    tokio::time::timeout(Duration::from_secs(5), backend.is_asked_for("/a/x")).await.unwrap();
}

/// Some servers make URLs of the name in `Host` and of the port that they listen on themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_the_applications_own_port_stays_on_the_site() {
    let backend = Backend::start().await;
    let port = backend.address.port();
    backend.handle("/gone", move |seen| {
        let to = seen.target.split_once("?to=").map_or("site.example", |(_, to)| to).to_owned();
        let url = |path: &str| format!("http://{to}:{port}/{path}");
        let page = Page::text("").status(if seen.method == "POST" { 303 } else { 302 });
        page.header("Location", &url("login?next=1"))
            .header("Content-Location", &url("gone"))
            .header("Refresh", &format!("3; url={}", url("login")))
    });
    backend.handle("/a/moved", move |_| {
        Page::text("").status(301).header("Location", &format!("http://site.example:{port}/a/"))
    });
    for host in ["", "host = \"preserve\"\n"] {
        let sidecar = sidecar(&backend, host);
        let mut client = Connection::open(sidecar.address).await;
        for method in ["GET", "HEAD", "POST"] {
            let answer = client.request(method, "/gone", &[], b"").await;
            assert_eq!(answer.header("location"), Some("http://site.example/login?next=1"), "{method} {host}");
            assert_eq!(answer.header("content-location"), Some("http://site.example/gone"));
            assert_eq!(answer.header("refresh"), Some("3; url=http://site.example/login"));
        }
        assert_eq!(client.get("/a/moved", &[]).await.header("location"), Some("http://site.example/a/"));
        // Another name at that port is another server.
        let answer = client.get("/gone?to=other.example", &[]).await;
        assert_eq!(answer.header("location"), Some(format!("http://other.example:{port}/login?next=1").as_str()));
    }
}
