//! Several applications behind one proxy, each for some paths.

use std::time::Duration;

use sungrazer::config::{self, Overrides};

use crate::support::backend::{Backend, Page, dead_port};
use crate::support::client::{Connection, Events, head};
use crate::support::frames::{Frames, get as frame_get};
use crate::support::program::{Program, Scratch, command, run};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

const PATHS: [&str; 7] = ["/", "/api", "/api/a", "/api/a/b", "/api/v2/x", "/apix", "/a"];

/// A backend that answers all of [`PATHS`] with its own name.
async fn named(name: &'static str) -> Backend {
    let backend = Backend::start().await;
    for path in PATHS {
        backend.set(path, Page::text(name));
    }
    backend
}

async fn three() -> [Backend; 3] {
    [named("pages").await, named("api").await, named("v2").await]
}

fn toml(three: &[Backend; 3], more: &str) -> String {
    let [pages, api, v2] = three.each_ref().map(Backend::url);
    format!(
        "[[upstream]]\nurl = \"{pages}\"\n[[upstream]]\npath = \"/api/**\"\nurl = \"{api}\"\n\
         [[upstream]]\npath = \"/api/v2/**\"\nurl = \"{v2}\"\nmax_fetches = 5\n{more}"
    )
}

const WATCHED: &str = "[[route]]\npath = \"/**\"\nevery = \"30ms\"\nevery_max = \"30ms\"\n";

/// Whose answer is expected for each path.
const OWNERS: [(&str, &str); 7] = [
    ("/", "pages"),
    ("/api", "api"),
    ("/api/a", "api"),
    ("/api/a/b", "api"),
    ("/api/v2/x", "v2"),
    ("/apix", "pages"),
    ("/a", "pages"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_path_is_answered_by_its_application_however_it_is_asked() {
    let three = three().await;
    let sidecar = Sidecar::with(&toml(&three, ""));
    for (path, owner) in OWNERS {
        // A plain request is relayed; one that is an upload, or of HTTP/1.0, takes another way.
        assert_eq!(sidecar.get(path, &[]).await.text(), owner, "{path}");
        let query = format!("{path}?path=/api/v2/x");
        assert_eq!(sidecar.get(&query, &[]).await.text(), owner, "{query}");
        let mut connection = Connection::open(sidecar.address).await;
        assert_eq!(connection.request("POST", path, &[], b"upload").await.text(), owner, "POST {path}");
        assert_eq!(connection.request("GET", path, &[("X-Http-Method", "GET")], b"").await.text(), owner, "{path}");
        let mut old = Connection::open(sidecar.address).await;
        old.send(format!("GET {path} HTTP/1.0\r\nHost: site.example\r\n\r\n")).await;
        assert_eq!(old.response("GET").await.text(), owner, "HTTP/1.0 {path}");
        let mut absolute = Connection::open(sidecar.address).await;
        absolute.send(format!("GET http://site.example{path} HTTP/1.1\r\nHost: site.example\r\n\r\n")).await;
        assert_eq!(absolute.response("GET").await.text(), owner, "absolute {path}");
    }
    for backend in &three {
        let requests: usize = PATHS.iter().map(|path| backend.hits(path)).sum();
        assert_eq!(requests % 6, 0, "each request reached one application");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_requests_and_upgrades_reach_the_application_of_their_path() {
    let three = three().await;
    three[1].set("/api/ws", switching("api"));
    three[0].set("/ws", switching("pages"));
    let [pages, api, _] = three.each_ref().map(Backend::url);
    let sidecar = Sidecar::with(&format!(
        "[server]\nh2c = true\n[[upstream]]\npath = \"/api/**\"\nurl = \"{api}\"\n[[upstream]]\nurl = \"{pages}\"\n"
    ));
    let mut frames = Frames::open(sidecar.address, &[]).await;
    for (stream, path) in [(1, "/api/a"), (3, "/a")] {
        assert!(frames.ask(stream, &frame_get(path)).await);
        frames.fate(stream).await;
    }
    assert_eq!((three[1].hits("/api/a"), three[0].hits("/api/a")), (1, 0));
    assert_eq!((three[0].hits("/a"), three[1].hits("/a")), (1, 0));
    for (path, name) in [("/api/ws", "api"), ("/ws", "pages")] {
        let upgrade = [("Connection", "Upgrade"), ("Upgrade", "echo")];
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("GET", path, &upgrade, b"")).await;
        let answer = connection.head().await;
        assert_eq!((answer.status, answer.header("x-name")), (101, Some(name)), "{path}");
        connection.send(b"hello").await;
        assert_eq!(connection.raw(5).await, b"hello");
    }
}

fn switching(name: &str) -> Page {
    let page = Page::text("").status(101).header("Connection", "Upgrade").header("Upgrade", "echo");
    page.header("X-Name", name).linger()
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_fetched_from_the_application_of_their_path_and_one_outage_leaves_the_others() {
    let three = three().await;
    let sidecar = Sidecar::with(&toml(&three, WATCHED));
    let mut all =
        Events::open(sidecar.address, "/.sungrazer/stream?url=/a&url=/api/a&url=/api/v2/x", &[("Cookie", "sid=1")])
            .await;
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(within("a snapshot", all.next()).await.unwrap().data);
    }
    for (path, owner) in [("/a", "pages"), ("/api/a", "api"), ("/api/v2/x", "v2")] {
        let is_it = |data: &&String| data.contains(&format!("\"url\":\"{path}\"")) && data.contains(owner);
        assert!(first.iter().any(|data| is_it(&data)), "{path}: {first:?}");
    }
    for (backend, own) in three.iter().zip(["/a", "/api/a", "/api/v2/x"]) {
        for path in ["/a", "/api/a", "/api/v2/x"] {
            assert_eq!(backend.hits(path) > 0, path == own, "{path}");
        }
        assert_eq!(backend.seen(own)[0].header("cookie"), Some("sid=1"), "all are one site");
    }
    let resources = sidecar.admin("/api/resources").await;
    let resources: serde_json::Value = serde_json::from_str(resources.text()).unwrap();
    let of = |url: &str| {
        let found = resources["resources"].as_array().unwrap().iter().find(|resource| resource["url"] == url);
        found.unwrap()["upstream"].clone()
    };
    assert_eq!((of("/a"), of("/api/a"), of("/api/v2/x")), (().into(), "/api/**".into(), "/api/v2/**".into()));
    let state: serde_json::Value = serde_json::from_str(sidecar.admin("/api/state").await.text()).unwrap();
    assert_eq!(state["budget"]["max_fetches"], 32 + 32 + 5, "each has a budget of its own");
    let [pages, api, _v2] = three;
    api.stop().await;
    let stale = within("the outage", all.next()).await.unwrap().data;
    assert!(stale.contains("\"event\":\"stale\"") && stale.contains("\"url\":\"/api/a\""), "{stale}");
    pages.set("/a", Page::text("news"));
    let news = within("the others' news", all.next()).await.unwrap().data;
    assert!(news.contains("news"), "{news}");
    assert_eq!(sidecar.get("/api/a/b", &[]).await.status, 502);
    assert_eq!(sidecar.get("/api/v2/x", &[]).await.text(), "v2");
    let metrics = sidecar.admin("/metrics").await;
    for line in [
        "sungrazer_upstream_path_away{path=\"/api/**\"} 1",
        "sungrazer_upstream_path_away{path=\"/api/v2/**\"} 0",
        "sungrazer_upstream_away 1",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    assert_eq!(sidecar.admin("/readyz").await.status, 200, "as with one application that is away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_signed_in_by_its_connection_reaches_each_application() {
    let three = three().await;
    let sidecar = Sidecar::with(&toml(&three, WATCHED));
    let negotiate = [("Authorization", "NTLM TlRMTVNTUAABAAAA")];
    let mut signed_in = Connection::open(sidecar.address).await;
    for (path, owner) in OWNERS.into_iter().chain(OWNERS) {
        assert_eq!(signed_in.request("GET", path, &negotiate, b"").await.text(), owner, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_path_does_not_slip_into_another_application() {
    let three = three().await;
    let paths =
        ["/api/../a", "/api/%2e%2e/a", "/api/..%2fa", "/api/..;/a", "/api/a%2Fb", "/api//a", "//api/a", "/%61pi/a"];
    for (backend, name) in three.iter().zip(["pages", "api", "v2"]) {
        paths.iter().for_each(|path| backend.set(path, Page::text(name)));
    }
    let sidecar = Sidecar::with(&toml(&three, WATCHED));
    for path in paths {
        let within = ["/api/a%2Fb", "/api//a", "/%61pi/a"].contains(&path);
        let answer = sidecar.get(path, &[]).await;
        assert_eq!((answer.status, answer.text()), (200, if within { "api" } else { "pages" }), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_application_has_its_own_names_limits_and_time() {
    let (pages, api) = (named("pages").await, named("api").await);
    api.set("/api/go", Page::text("").status(302).header("Location", &format!("{}/api/a", api.url())));
    pages.set("/go", Page::text("").status(302).header("Location", "http://site.example/a"));
    let sidecar = Sidecar::with(&format!(
        "[[upstream]]\nurl = \"{}\"\nhost = \"preserve\"\n[[upstream]]\npath = \"/api/**\"\nurl = \"{}\"\nhost = \"upstream\"\n\
         [[route]]\npath = \"/**\"\nevery = \"30ms\"\n",
        pages.url(),
        api.url()
    ));
    for path in ["/api/a", "/a"] {
        drop(sidecar.get(path, &[("Host", "site.example")]).await);
        drop(Events::open(sidecar.address, path, &[("Host", "site.example")]).await.snapshot().await);
    }
    let hosts = |backend: &Backend, path: &str| {
        let seen = backend.seen(path);
        seen.iter().map(|seen| seen.header("host").unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = api.url().replace("http://", "");
    assert!(hosts(&api, "/api/a").iter().all(|host| *host == own), "{:?}", hosts(&api, "/api/a"));
    assert!(hosts(&pages, "/a").iter().all(|host| host == "site.example"), "{:?}", hosts(&pages, "/a"));
    let host = [("Host", "site.example")];
    assert_eq!(sidecar.get("/api/go", &host).await.header("location"), Some("http://site.example/api/a"));
    assert_eq!(sidecar.get("/go", &host).await.header("location"), Some("http://site.example/a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_one_application_and_leaves_the_streams_of_the_others() {
    let three = three().await;
    let scratch = Scratch::new("upstreams");
    let front = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
    let routes = "[[route]]\npath = \"/a\"\nevery = \"30ms\"\n[[route]]\npath = \"/api/a\"\nevery = \"30ms\"\n";
    let text = |three: &[Backend; 3]| format!("{front}{}", toml(three, routes));
    let file = scratch.write("sungrazer.toml", &text(&three));
    let program = Program::start(&["-c", &file]).await;
    let (mut page, mut api) =
        (Events::open(program.address, "/a", &[]).await, Events::open(program.address, "/api/a", &[]).await);
    assert_eq!((page.snapshot().await.data, api.snapshot().await.data), ("pages".into(), "api".into()));
    let [pages, _api, v2] = three;
    let three = [pages, named("other").await, v2];
    scratch.write("sungrazer.toml", &text(&three));
    let end = within("the end of the stream whose application changed", async {
        loop {
            let event = api.next().await.unwrap();
            if event.event.as_deref() == Some("end") {
                return event.data;
            }
        }
    })
    .await;
    assert_eq!(end, "{\"reason\":\"reload\"}");
    assert_eq!(Events::open(program.address, "/api/a", &[]).await.snapshot().await.data, "other");
    three[0].set("/a", Page::text("still here"));
    assert_eq!(within("news on the same stream", page.next()).await.unwrap().data, "still here");
    // One alone, as a table.
    scratch.write("sungrazer.toml", &format!("{front}[upstream]\nurl = \"{}\"\n{routes}", three[0].url()));
    within("one application for all", async {
        while Connection::open(program.address).await.get("/api/a/b", &[]).await.text() != "pages" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let answer = Connection::open(program.admin).await.get("/metrics", &[LOCAL]).await;
    assert!(!answer.text().contains("upstream_path_away{"), "{}", answer.text());
    eventually("the end of the other stream, or its news", || three[0].hits("/api/a/b") > 0).await;
}

/// The mistakes or warnings in a file.
fn said(text: &str, overrides: &Overrides) -> String {
    match config::parse("test.toml", text, overrides) {
        Ok(config) => config.warnings.map_or_else(String::new, |found| found.to_string()),
        Err(found) => format!("error: {found}"),
    }
}

#[test]
fn what_cannot_be_meant_is_said_with_its_place() {
    let none = Overrides::default();
    let general = "[[upstream]]\nurl = \"http://a\"\n";
    for (text, parts) in [
        (
            "[upstream]\npath = \"/a/**\"\nurl = \"http://a\"\n".to_owned(),
            &["only one", "test.toml:2:8", "[[upstream]]"][..],
        ),
        (format!("{general}[[upstream]]\nurl = \"http://b\"\n"), &["no path either", "test.toml:3:1"]),
        ("[[upstream]]\nurl = \"http://a\"\npath = \"/a/**\"\n".to_owned(), &["without a path", "test.toml:1:1"]),
        (
            format!("{general}[[upstream]]\npath = \"/a/**\"\n"),
            &["no application to stand in front of", "test.toml:3:1"],
        ),
        (
            format!(
                "{general}[[upstream]]\npath = \"/b\"\nurl = \"http://b\"\n[[upstream]]\npath = \"/b\"\nurl = \"http://c\"\n"
            ),
            &["has the path \"/b\" already", "test.toml:7:8"],
        ),
        (
            format!("{general}[[upstream]]\npath = \"a/**\"\nurl = \"http://b\"\n"),
            &["write \"/a/**\"", "test.toml:4:8"],
        ),
        (
            format!("{general}[[upstream]]\npath = \"/b\"\nurl = \"http://b/x\"\n"),
            &["leave out \"/x\"", "test.toml:5:7"],
        ),
        (
            format!("{general}[[upstream]]\npath = \"/b\"\nulr = \"http://b\"\n"),
            &["\"ulr\"", "test.toml:5:1", "\"url\""],
        ),
        (
            format!("{general}[[upstream]]\npath = \"/b\"\nurl = \"http://b\"\nmax_fetches = 0\n"),
            &["between 1 and 100000", "test.toml:6:15"],
        ),
        (
            format!("{general}[[upstream]]\npath = \"/.sungrazer/x\"\nurl = \"http://b\"\n"),
            &["Sungrazer's own", "test.toml:4:8"],
        ),
        (
            format!("{general}[[upstream]]\npath = \"/b\"\nurl = \"https://b\"\ntls = {{ ca = \"/nowhere.pem\" }}\n"),
            &["upstream.tls", "test.toml:6:7"],
        ),
        ("upstream = [\"http://a\"]\n".to_owned(), &["is a table", "test.toml:1:12", "url = [\"..\", \"..\"]"]),
    ] {
        let said = said(&text, &none);
        assert!(said.starts_with("error:"), "{text}{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is missing for\n{text}in\n{said}");
        }
    }
    let special = |path: &str| format!("[[upstream]]\npath = \"{path}\"\nurl = \"http://b\"\n");
    for (paths, parts) in [
        (&["/**"][..], &["leaves nothing to the application without a path", "test.toml:4:8"][..]),
        (&["/api/"], &["this one path alone", "write \"/api/**\"", "test.toml:4:8"]),
        (&["/api/**", "/%61pi/**"], &["never asked", "for \"/api/**\"", "test.toml:7:8"]),
    ] {
        let all: String = paths.iter().map(|path| special(path)).collect();
        let said = said(&format!("{general}{all}"), &none);
        for part in parts {
            assert!(said.contains(part) && !said.starts_with("error"), "{paths:?} {part:?}: {said}");
        }
    }
    for paths in [&["/api/**"][..], &["/api/**", "/api/*", "/api/v2/**", "/graphql"], &["/*/x", "/api/**"]] {
        let all: String = paths.iter().map(|path| special(path)).collect();
        assert_eq!(said(&format!("{all}{general}"), &none), "", "{paths:?}");
        let upstream = Overrides { upstream: Some("http://c".into()), ..Overrides::default() };
        assert_eq!(said(&all, &upstream), "", "--upstream is the one without a path");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_all_applications() {
    let scratch = Scratch::new("checked");
    let nobody = dead_port().await;
    let file = scratch.write(
        "sungrazer.toml",
        &format!("[[upstream]]\nurl = \"http://{nobody}\"\n[[upstream]]\npath = \"/api/**\"\nurl = [\"http://b:1\", \"http://c:2\"]\n"),
    );
    let output = run(&["check", "-c", &file]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("http://{nobody}; http://b:1, http://c:2 for /api/**")), "{said}");
    let printed = command().args(["check", "--print", "-c", &file]).output().await.unwrap();
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert_eq!(printed.matches("[[upstream]]").count(), 2, "{printed}");
    assert!(printed.contains("path = \"/api/**\""), "{printed}");
}
