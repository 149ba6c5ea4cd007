//! What operators are shown.

use serde_json::{Value, json};

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection, Events, head};
use crate::support::follower::Follower;
use crate::support::program::Scratch;
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

const ROUTES: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";

async fn state(sidecar: &Sidecar) -> Value {
    serde_json::from_slice(&sidecar.admin("/api/state").await.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_tells_of_routes_resources_and_what_happened() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"n\":1}"));
    let sidecar = Sidecar::start(&backend, ROUTES);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        clients.push(events);
    }
    backend.set("/a", Page::json("{\"n\":2}"));
    for events in &mut clients {
        within("the change", events.snapshot()).await;
    }
    // Five clients that would ask twenty times a second are spared more than the one that asks for them.
    let state = within("something to be spared", async {
        loop {
            let state = state(&sidecar).await;
            if state["routes"][0]["spared"]["requests"].as_u64() > Some(20) {
                return state;
            }
        }
    })
    .await;
    assert_eq!((&state["state"], &state["streams"]["held"]), (&"ready".into(), &5.into()));
    assert_eq!(state["upstream"][0]["url"], backend.url());
    let route = &state["routes"][0];
    assert_eq!((&route["route"], &route["streams"]["sse"], &route["every_ms"]), (&"/a".into(), &5.into(), &50.into()));
    assert!(route["replaced"].as_u64() > route["looks"]["unchanged"].as_u64(), "{route}");
    assert!(route["spared"]["bytes"].as_u64() >= Some(7 * 20), "{route}");
    let delays: u64 = route["delays"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(delays, 5, "each client's change is timed: {route}");
    assert_eq!(route["delays"].as_array().unwrap().len(), state["delay_bounds"].as_array().unwrap().len() + 1);
    assert_eq!((&state["resources"][0]["url"], &state["watched"]), (&"/a".into(), &1.into()));
    let what: Vec<_> =
        state["happenings"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["changed", "first"], "the newest first");
    backend.set("/a", Page::text("no").status(500));
    let stale = within("the outage", async {
        loop {
            let state = self::state(&sidecar).await;
            if state["resources"][0]["state"] == "stale" {
                return state;
            }
        }
    })
    .await;
    assert!(stale["resources"][0]["because"].as_str().unwrap().contains("500"), "{stale}");
    assert_eq!(stale["happenings"][0]["what"], "stale");
    let metrics = sidecar.admin("/metrics").await;
    let replaced =
        metrics.text().lines().find_map(|line| line.strip_prefix("sungrazer_polls_replaced_total{route=\"/a\"} "));
    assert!(replaced.unwrap().parse::<u64>().unwrap() > 20, "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_pushed_while_somebody_watches_and_not_fetched_otherwise() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTES);
    let admin = sidecar.server.admin().unwrap();
    let mut watching = Events::open(admin, "/api/state", &[LOCAL]).await;
    let first: Value = serde_json::from_str(&watching.snapshot().await.data).unwrap();
    assert_eq!(first["watched"], 0);
    let _held = sidecar.events("/a").await;
    within("the news", async {
        loop {
            let state: Value = serde_json::from_str(&watching.snapshot().await.data).unwrap();
            if state["resources"][0]["subscribers"]["sse"] == 1 {
                return;
            }
        }
    })
    .await;
    // Operators are not counted among the clients.
    assert!(!sidecar.admin("/metrics").await.text().contains("/api/state"));
    assert_eq!(sidecar.held(), 1);
    let mut records = Connection::open(admin).await;
    records.send(head("GET", "/api/state", &[("Accept", "application/x-ndjson"), LOCAL], b"")).await;
    let begun = records.head().await;
    assert_eq!((begun.status, begun.header("content-type")), (200, Some("application/x-ndjson")));
    let record: Value = serde_json::from_slice(&records.chunk().await.unwrap()).unwrap();
    assert_eq!((&record["event"], &record["body"]["state"]), (&"snapshot".into(), &"ready".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_ours_alone_and_tells_nothing_without_the_token() {
    let backend = Backend::start().await;
    let sidecar =
        Sidecar::with(&format!("[server]\nadmin_token = \"s3cret\"\n[upstream]\nurl = \"{}\"\n", backend.url()));
    let admin = sidecar.server.admin().unwrap();
    for (path, kind) in [("/", "text/html"), ("/dashboard.css", "text/css"), ("/dashboard.js", "text/javascript")] {
        let page = sidecar.admin(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"), "{path}");
        assert!(!page.text().contains(&backend.url()), "{path}");
        assert!(
            !page.text().contains("//cdn") && !page.text().contains("https://"),
            "{path} asks others for something"
        );
    }
    for accept in ["*/*", "text/event-stream", "application/x-ndjson"] {
        assert_eq!(client::get(admin, "/api/state", &[("Accept", accept)]).await.status, 401, "{accept}");
        let known = [("Accept", accept), ("Authorization", "Bearer s3cret")];
        let mut connection = Connection::open(admin).await;
        connection.send(head("GET", "/api/state", &known, b"")).await;
        assert_eq!(connection.head().await.status, 200, "{accept}");
    }
    let posted = Connection::open(admin).await.request("POST", "/", &[("Authorization", "Bearer s3cret")], b"x").await;
    assert_eq!(posted.status, 405);
}

/// The lines of an access log.
fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_logged_once_when_it_is_over() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"n\":1}"));
    backend.set("/plain", Page::text("hello"));
    backend.set("/events", Page::new("text/event-stream", "").piece(std::time::Duration::ZERO, "data: x\n\n"));
    let scratch = Scratch::new("access");
    let path = scratch.path("access.json");
    let sidecar = Sidecar::with(&format!(
        "[server]\naccess_log = \"{}\"\n[upstream]\nurl = \"{}\"\n{ROUTES}",
        path.display(),
        backend.url()
    ));
    let headers = [("User-Agent", "test/1"), ("traceparent", PARENT), ("Cookie", "sid=hunter2")];
    assert_eq!(sidecar.get("/plain?secret=hunter2", &headers).await.text(), "hello");
    assert_eq!(backend.seen("/plain")[0].header("traceparent"), Some(PARENT), "it is passed on as it came");
    assert_eq!(sidecar.get("/.sungrazer/nothing", &[]).await.status, 404);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    assert!(sidecar.get("/a", &[]).await.is_from_memory());
    sidecar.get("/events", &[("Accept", "text/event-stream")]).await;
    drop(events);
    let origin = [("Origin", "http://site.example"), ("User-Agent", "test/1"), ("traceparent", PARENT)];
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &origin).await;
    socket.say(&json!({ "request": { "id": 1, "url": "/plain?secret=hunter2" } })).await;
    assert_eq!(socket.message().await.unwrap()["response"]["body"], "hello");
    drop(socket);
    eventually("seven lines", || lines(&path).len() == 7).await;
    let lines_of = |how: &str| lines(&path).into_iter().filter(|line| line["how"] == how).collect::<Vec<_>>();
    let proxied = &lines_of("proxied")[0];
    assert_eq!(
        (&proxied["method"], &proxied["path"], &proxied["status"], &proxied["bytes"], &proxied["protocol"]),
        (&"GET".into(), &"/plain".into(), &200.into(), &5.into(), &"HTTP/1.1".into())
    );
    assert_eq!((&proxied["client"], &proxied["agent"]), (&"127.0.0.1".into(), &"test/1".into()));
    assert_eq!(proxied["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(proxied["took_ms"].as_f64() > Some(0.0) && proxied["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines_of("own")[0]["status"], 404);
    let held = &lines_of("sse")[0];
    assert_eq!((&held["route"], &held["status"]), (&"/a".into(), &200.into()));
    assert!(held["bytes"].as_u64() > Some(7), "{held}");
    assert_eq!(lines_of("memory")[0]["bytes"], 7);
    assert_eq!(lines_of("websocket")[0]["status"], 101);
    let asked = &lines_of("request")[0];
    for name in ["method", "path", "status", "bytes", "client", "agent", "trace"] {
        assert_eq!(asked[name], proxied[name], "{name}");
    }
    assert_eq!((&lines_of("tunnel")[0]["path"], &lines_of("tunnel")[0]["status"]), (&"/events".into(), &200.into()));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"), "a secret was logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_could_not_be_written_goes_on_and_says_what_it_lost() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    let scratch = Scratch::new("access-full");
    let path = scratch.path("access.json");
    // No space is left there.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\naccess_log = \"{}\"\n[upstream]\nurl = \"{}\"\n",
        path.display(),
        backend.url()
    );
    let program = crate::support::program::Program::start(&["-c", &scratch.write("a.toml", &toml)]).await;
    for _ in 0..3 {
        assert_eq!(client::get(program.address, "/a", &[]).await.text(), "a");
    }
    program.log_line("the access log cannot be written").await;
    std::fs::remove_file(&path).unwrap();
    within("the log to go on", async {
        while !lines(&path).iter().any(|line| line["path"] == "/a") {
            client::get(program.address, "/a", &[]).await;
        }
    })
    .await;
    assert!(lines(&path)[0]["lost"].as_u64() >= Some(1), "{:?}", lines(&path));
    let log = program.log_line("the access log can be written again").await;
    assert!(log.contains("lost"), "{log}");
    assert_eq!(program.log().matches("the access log cannot be written").count(), 1, "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_written_to_whoever_comes_to_read_it() {
    use tokio::io::AsyncBufReadExt;
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    let scratch = Scratch::new("access-pipe");
    let path = scratch.path("access.pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Nobody reads, and nobody waits for that.
    let sidecar = Sidecar::with(&format!(
        "[server]\naccess_log = \"{}\"\n[upstream]\nurl = \"{}\"\n",
        path.display(),
        backend.url()
    ));
    for _ in 0..2 {
        sidecar.get("/a", &[]).await;
        let reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let mut line = String::new();
        within("a line", tokio::io::BufReader::new(reader).read_line(&mut line)).await.unwrap();
        assert!(line.contains("\"path\":\"/a\""), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_last_is_logged_before_the_end_and_a_lost_file_is_made_anew() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    let scratch = Scratch::new("access-end");
    let path = scratch.path("access.json");
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\naccess_log = \"{}\"\n[upstream]\nurl = \"{}\"\n",
        path.display(),
        backend.url()
    );
    let file = scratch.write("sungrazer.toml", &toml);
    let program = crate::support::program::Program::start(&["-c", &file]).await;
    client::get(program.address, "/a", &[]).await;
    eventually("the line", || lines(&path).len() == 1).await;
    std::fs::rename(&path, scratch.path("access.json.1")).unwrap();
    let reloaded = Connection::open(program.admin).await.request("POST", "/api/reload", &[LOCAL], b"").await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    for _ in 0..20 {
        client::get(program.address, "/a", &[]).await;
    }
    program.signal("TERM");
    assert_eq!(program.wait().await.0, Some(0));
    assert_eq!((lines(&path).len(), lines(&scratch.path("access.json.1")).len()), (20, 1));
    let refused =
        crate::support::program::run(&["-c", &scratch.write("bad.toml", &toml.replace("access.json", "no/such"))])
            .await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot write the access log to"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, ROUTES);
    let admin = sidecar.server.admin().unwrap();
    let newer = "application/openmetrics-text";
    for (accept, is_newer) in [
        ("*/*", false),
        ("text/plain;version=0.0.4", false),
        ("application/openmetrics-text;q=0, text/plain", false),
        (newer, true),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
    ] {
        let answer = client::get(admin, "/metrics", &[LOCAL, ("Accept", accept)]).await;
        let kind = if is_newer { newer } else { "text/plain; version=0.0.4" };
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{accept}");
        assert_eq!(answer.text().ends_with("# EOF\n"), is_newer, "{accept}");
        let counter =
            if is_newer { "# TYPE sungrazer_limits_hit counter" } else { "# TYPE sungrazer_limits_hit_total counter" };
        assert!(answer.text().contains(counter), "{accept}: {}", answer.text());
    }
}
