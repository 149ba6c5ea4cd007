//! What operators are shown.

use serde_json::Value;

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection, Events, head};
use crate::support::sidecar::Sidecar;
use crate::support::within;

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
    assert_eq!(state["upstream"]["url"], backend.url());
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
async fn the_state_is_pushed_while_somebody_watches_and_not_looked_at_otherwise() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTES);
    let admin = sidecar.server.admin().unwrap();
    let mut watching = Events::open(admin, "/api/state", &[]).await;
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
    records.send(head("GET", "/api/state", &[("Accept", "application/x-ndjson")], b"")).await;
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
