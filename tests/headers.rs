//! Headers that the configuration sets and removes.

use sungrazer::config::{self, Overrides};

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events, get, head};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const EDITS: &str = "request_headers = { set = { \"X-Tenant\" = \"a\", Authorization = \"Bearer configured\" }, remove = [\"X-Debug\", \"referer\"] }\n\
    response_headers = { set = { \"Strict-Transport-Security\" = \"max-age=60\", X-Frame-Options = \"DENY\" }, remove = [\"Server\", \"x-powered-by\"] }\n";
const ROUTES: &str =
    "[[route]]\npath = \"/a\"\nevery = \"30ms\"\nevery_max = \"30ms\"\n[[route]]\npath = \"/page\"\nshim = true\n";

/// What a client sends that is changed.
const SENT: [(&str, &str); 4] =
    [("X-Tenant", "mine"), ("X-Debug", "1"), ("Referer", "http://site.example/"), ("Cookie", "sid=1")];

fn page(page: Page) -> Page {
    page.header("Server", "old/1.0")
        .header("X-Powered-By", "age")
        .header("X-Frame-Options", "SAMEORIGIN")
        .header("X-Own", "kept")
}

async fn both() -> (Backend, Sidecar) {
    let backend = Backend::start().await;
    for path in ["/a", "/plain", "/upload"] {
        backend.set(path, page(Page::json("1")).etag());
    }
    backend.set("/page", page(Page::new("text/html", "<html><head></head><body></body></html>")));
    backend.set("/missing", page(Page::text("no").status(404)));
    backend.set("/own", page(Page::new("text/event-stream", "data: theirs\n\n")));
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\n{EDITS}{ROUTES}", backend.url()));
    (backend, sidecar)
}

fn assert_changed(what: &str, all: &dyn Fn(&str) -> Vec<String>) {
    for (name, expected) in [
        ("strict-transport-security", &["max-age=60"][..]),
        ("x-frame-options", &["DENY"]),
        ("server", &[]),
        ("x-powered-by", &[]),
        ("x-own", &["kept"]),
    ] {
        assert_eq!(all(name), expected, "{what}: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_requests_for_the_application_are_changed_whoever_makes_them() {
    let (backend, sidecar) = both().await;
    drop(sidecar.get("/plain", &SENT).await);
    drop(Connection::open(sidecar.address).await.request("POST", "/upload", &SENT, b"body").await);
    drop(sidecar.get("/own", &[&SENT[..], &[("Accept", "text/event-stream")]].concat()).await);
    let mut events = Events::open(sidecar.address, "/a", &SENT).await;
    events.snapshot().await;
    eventually("fetches", || backend.hits("/a") > 2).await;
    for path in ["/plain", "/upload", "/own", "/a"] {
        for seen in backend.seen(path) {
            assert_eq!(seen.all("x-tenant"), ["a"], "{path}");
            assert_eq!(seen.all("authorization"), ["Bearer configured"], "{path}");
            assert!(seen.all("x-debug").is_empty() && seen.all("referer").is_empty(), "{path}");
            assert_eq!(seen.all("cookie"), ["sid=1"], "{path}");
        }
    }
    let written = backend.seen("/plain")[0].headers.iter().any(|(name, _)| name == "X-Tenant");
    assert!(written, "the spelling of a header changed");
    // Clients that the application cannot tell apart by what is changed are still apart by what is not.
    let mut other = Events::open(sidecar.address, "/a", &[("Cookie", "sid=2")]).await;
    other.snapshot().await;
    assert!(backend.seen("/a").iter().any(|seen| seen.header("cookie") == Some("sid=2")));
    assert_eq!(sidecar.watched(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_responses_of_the_application_are_changed_wherever_they_come_from() {
    let (backend, sidecar) = both().await;
    let browser = [("Accept", "text/html"), ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Mode", "navigate")];
    for (what, method, path, headers) in [
        ("relayed", "GET", "/plain", &[][..]),
        ("relayed without a body", "HEAD", "/plain", &[]),
        ("an upload", "POST", "/upload", &[]),
        ("an error of the application", "GET", "/missing", &[]),
        ("a page with the script", "GET", "/page", &browser),
    ] {
        let answer = Connection::open(sidecar.address).await.request(method, path, headers, b"").await;
        assert_changed(what, &|name| answer.all(name).into_iter().map(str::to_owned).collect());
        assert_eq!(answer.text().contains("shim.js"), what == "a page with the script");
    }
    let own = get(sidecar.address, "/own", &[("Accept", "text/event-stream")]).await;
    assert_changed("an own stream", &|name| own.all(name).into_iter().map(str::to_owned).collect());
    // From memory, with and without a body.
    let mut events = Events::open(sidecar.address, "/a", &[]).await;
    events.snapshot().await;
    let memory = within("an answer from memory", async {
        loop {
            let answer = sidecar.get("/a", &[]).await;
            if answer.is_from_memory() {
                return answer;
            }
        }
    })
    .await;
    let all = |name: &str| memory.all(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_changed("memory", &all);
    let tag = memory.header("etag").unwrap().to_owned();
    let unchanged = within("a 304 from memory", async {
        loop {
            let answer = sidecar.get("/a", &[("If-None-Match", &tag)]).await;
            if answer.is_from_memory() {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(unchanged.status, 304);
    assert_eq!(unchanged.header("x-frame-options"), Some("DENY"));
    // A stream's own headers stay what the stream needs.
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(head("GET", "/a", &[("Accept", "text/event-stream")], b"")).await;
    let stream = connection.head().await;
    assert_eq!(stream.header("strict-transport-security"), Some("max-age=60"));
    assert_eq!(stream.header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    drop(backend);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_belong_to_the_application_of_a_path() {
    let (pages, api) = (Backend::start().await, Backend::start().await);
    pages.set("/a", Page::text("pages"));
    api.set("/api/a", Page::text("api"));
    let sidecar = Sidecar::with(&format!(
        "[[upstream]]\nurl = \"{}\"\n[[upstream]]\npath = \"/api/**\"\nurl = \"{}\"\nrequest_headers.set = {{ X-Who = \"api\" }}\n\
         response_headers.set = {{ X-From = \"api\" }}\n",
        pages.url(),
        api.url()
    ));
    let (page, data) = (sidecar.get("/a", &[]).await, sidecar.get("/api/a", &[]).await);
    assert_eq!((page.header("x-from"), data.header("x-from")), (None, Some("api")));
    assert_eq!(pages.seen("/a")[0].header("x-who"), None);
    assert_eq!(api.seen("/api/a")[0].header("x-who"), Some("api"));
}

#[test]
fn headers_that_are_not_to_be_changed_are_refused_with_their_place() {
    let said = |line: &str| {
        let text = format!("[upstream]\nurl = \"http://a\"\n{line}\n");
        match config::parse("test.toml", &text, &Overrides::default()) {
            Ok(_) => String::new(),
            Err(found) => found.to_string(),
        }
    };
    for (line, parts) in [
        (
            "request_headers.set = { Connection = \"close\" }",
            &["\"Connection\" cannot be changed", "belongs to a connection", "test.toml:3:"][..],
        ),
        ("request_headers.set = { Host = \"b\" }", &["belongs to a connection"]),
        ("request_headers.remove = [\"X-A\", \"Content-Length\"]", &["\"Content-Length\"", "test.toml:3:34"]),
        ("request_headers.set = { X-Forwarded-For = \"1.2.3.4\" }", &["who the client is"]),
        ("request_headers.remove = [\"X-Forwarded-Proto\"]", &["who the client is"]),
        ("request_headers.set = { X-HTTP-Method-Override = \"DELETE\" }", &["turns requests into others"]),
        ("request_headers.set = { If-None-Match = \"x\" }", &["which response is wanted"]),
        ("request_headers.set = { Accept-Encoding = \"br\" }", &["which response is wanted"]),
        ("request_headers.set = { Authorization = \"Negotiate abc\" }", &["sign in connections"]),
        ("request_headers.set = { Sungrazer-Poll = \"/a\" }", &["a protocol that is spoken here"]),
        ("request_headers.set = { \"X A\" = \"1\" }", &["not a header name"]),
        ("request_headers.set = { X-A = \"1\\n2\" }", &["cannot be the value of a header"]),
        ("request_headers = { set = { X-A = \"1\" }, remove = [\"x-a\"] }", &["both set and removed"]),
        ("response_headers.set = { Transfer-Encoding = \"chunked\" }", &["belongs to a connection"]),
        ("response_headers.set = { Content-Encoding = \"gzip\" }", &["describes the body"]),
        ("response_headers.remove = [\"ETag\"]", &["belongs to one response"]),
        ("response_headers.set = { Set-Cookie = \"a=b\" }", &["belongs to one response"]),
        ("response_headers.set = { Vary = \"Cookie\" }", &["belongs to one response"]),
        ("response_headers.remove = [\"WWW-Authenticate\"]", &["between the client and the application"]),
        ("response_headers.add = { X-A = \"1\" }", &["no key \"add\"", "known here: remove, set"]),
        ("response_headers = \"X-A: 1\"", &["expected a table"]),
    ] {
        let found = said(line);
        for part in parts {
            assert!(found.contains(part), "{line}: {part:?} is missing in\n{found}");
        }
    }
    for line in [
        "request_headers.set = { Authorization = \"Basic YTpi\", Cookie = \"a=b\", Origin = \"http://a\" }",
        "response_headers.set = { Content-Security-Policy = \"default-src 'self'\", Cache-Control = \"no-cache\" }",
        "response_headers.remove = [\"Server\", \"Content-Language\"]",
    ] {
        assert_eq!(said(line), "", "{line}");
    }
}
