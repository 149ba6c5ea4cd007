//! Public names: command line, configuration keys, metrics, and what is sent over the wire. They are fixed once released, so each is
//! compared with a list that is checked in. A new name is a new line; a line that changes or goes breaks somebody.

use std::collections::BTreeSet;
use std::fs;

use clap::{Command, CommandFactory};
use serde_json::{Value, json};
use sungrazer::cli::Cli;
use sungrazer::config;
use sungrazer::telemetry::ALL_METRICS;

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Events};
use crate::support::follower::Follower;
use crate::support::program::Scratch;
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/public_names.txt");

/// Verbs, flags, values and environment variables.
fn command_line(command: &Command, path: &str, names: &mut BTreeSet<String>) {
    names.insert(format!("cli {path}"));
    for argument in command.get_arguments() {
        let name = match argument.get_long() {
            Some(long) => format!("--{long}"),
            None => argument.get_id().to_string(),
        };
        let short = argument.get_short().map_or_else(String::new, |short| format!(" -{short}"));
        let variable =
            argument.get_env().map_or_else(String::new, |variable| format!(" ${}", variable.to_string_lossy()));
        names.insert(format!("cli {path} {name}{short}{variable}"));
        for value in argument.get_possible_values() {
            names.insert(format!("cli {path} {name}={}", value.get_name()));
        }
    }
    for verb in command.get_subcommands() {
        command_line(verb, &format!("{path} {}", verb.get_name()), names);
    }
}

/// Keys of the configuration, and those values that are words.
fn configuration(schema: &Value, path: &str, names: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        names.insert(format!("config {}", &path[1..]));
        configuration(property, &path, names);
    }
    let words = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
    for word in words.filter_map(Value::as_str) {
        names.insert(format!("config {} = {word}", &path[1..]));
    }
    for part in ["anyOf", "oneOf", "allOf"] {
        for choice in schema[part].as_array().into_iter().flatten() {
            configuration(choice, path, names);
        }
    }
    if let Some(items) = schema.get("items") {
        configuration(items, path, names);
    }
}

/// Metrics, their labels, and the values of labels that are known beforehand.
fn metrics(names: &mut BTreeSet<String>) {
    for (metric, values) in ALL_METRICS {
        names.insert(format!("metric sungrazer_{metric}"));
        names.extend(values.iter().map(|value| format!("metric sungrazer_{metric} {value}")));
    }
}

/// Objects that count by label: which labels there are depends on what has happened, and the list of metrics has them.
const COUNTS: &[&str] =
    &["routes events", "routes looks", "routes triggers", "routes polls", "routes streams", "resources subscribers"];

/// Keys of a JSON value; what is in a list counts as one.
fn keys(value: &Value, path: &str, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(_) if COUNTS.iter().any(|counts| path.ends_with(counts)) => {}
        Value::Object(object) => {
            for (name, value) in object {
                let path = format!("{path} {name}");
                names.insert(path.clone());
                keys(value, &path, names);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| keys(value, path, names)),
        _ => {}
    }
}

/// Notes the keys of the next record of this kind.
async fn record(socket: &mut Follower, kind: &str, names: &mut BTreeSet<String>) {
    within(kind, async {
        loop {
            let record = socket.message().await.expect("the socket stays open");
            if record["event"] == kind {
                let fields: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
                names.insert(format!("record {kind}: {}", fields.join(" ")));
                return;
            }
        }
    })
    .await;
}

/// Records of every kind, and a request with its answer, over `sungrazer.v1`.
async fn socket(backend: &Backend, sidecar: &Sidecar, names: &mut BTreeSet<String>) {
    let long = "x".repeat(400);
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    socket.say(&json!({ "subscribe": "/a", "delta": "json-patch" })).await;
    record(&mut socket, "snapshot", names).await;
    backend.set("/a", Page::json(&format!("{{\"n\":2,\"long\":\"{long}\"}}")));
    record(&mut socket, "patch", names).await;
    backend.set("/a", Page::text("no").status(500));
    record(&mut socket, "stale", names).await;
    backend.set("/a", Page::json(&format!("{{\"n\":2,\"long\":\"{long}\"}}")));
    record(&mut socket, "live", names).await;
    socket.say(&json!({ "subscribe": "/tick" })).await;
    // The subscription may come after the first of these.
    let refresh = async {
        loop {
            let target = "/api/refresh?url=/tick";
            client::Connection::open(sidecar.server.admin().unwrap())
                .await
                .request("POST", target, &[LOCAL], b"")
                .await;
        }
    };
    tokio::select! {
        () = record(&mut socket, "tick", names) => {}
        () = refresh => {}
    }
    socket.say(&json!({ "request": { "id": 7, "method": "GET", "url": "/plain", "headers": {} } })).await;
    let response = within("the response", async {
        loop {
            let message = socket.message().await.unwrap();
            if message.get("response").is_some() {
                return message;
            }
        }
    })
    .await;
    let fields: Vec<_> = response["response"].as_object().unwrap().keys().map(String::as_str).collect();
    names.insert(format!("record response: {}", fields.join(" ")));
    backend.set("/a", Page::text("no").status(403));
    record(&mut socket, "end", names).await;
}

/// Events and headers of a resource's own URL.
async fn own_url(backend: &Backend, sidecar: &Sidecar, names: &mut BTreeSet<String>) {
    let headers = [("Prefer", "delta=json-patch")];
    let long = "x".repeat(400);
    backend.set("/b", Page::json(&format!("{{\"n\":1,\"long\":\"{long}\"}}")));
    let mut events = Events::open(sidecar.address, "/b", &headers).await;
    let mut steps = [("patch", 200), ("stale", 500), ("live", 200), ("end", 403)].into_iter();
    let mut expected = "snapshot";
    while let Some(event) = within(expected, events.next()).await {
        if event.event.as_deref() != Some(expected) {
            continue;
        }
        names.insert(format!("sse event {expected}"));
        if matches!(expected, "stale" | "end") {
            keys(&serde_json::from_str(&event.data).unwrap(), &format!("sse event {expected}"), names);
        }
        let Some((next, status)) = steps.next() else { break };
        backend.set("/b", Page::json(&format!("{{\"n\":2,\"long\":\"{long}\"}}")).status(status));
        expected = next;
    }
    assert_eq!(expected, "end", "all events came");
}

async fn admin(sidecar: &Sidecar, names: &mut BTreeSet<String>) {
    for target in ["/api/state", "/api/resources", "/api/why?url=/b"] {
        let answer = sidecar.admin(target).await;
        let path = format!("admin {}", target.split('?').next().unwrap());
        names.insert(path.clone());
        keys(&serde_json::from_str(answer.text()).unwrap(), &path, names);
    }
    for target in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(sidecar.admin(target).await.status, 200, "{target}");
        names.insert(format!("admin {target}"));
    }
}

/// The report where all is only observed.
async fn observed(backend: &Backend, names: &mut BTreeSet<String>) {
    let url = backend.url();
    let sidecar = Sidecar::with(&format!("[server]\nmode = \"observe\"\n[upstream]\nurl = \"{url}\"\n"));
    let mut poll = tokio::time::interval(std::time::Duration::from_millis(100));
    let answer = within("a poll in the report", async {
        loop {
            poll.tick().await;
            sidecar.get("/plain", &[("Cookie", "sid=1")]).await;
            let answer = sidecar.admin("/api/observed").await;
            let value: Value = serde_json::from_str(answer.text()).unwrap();
            if value["polls"].as_array().is_some_and(|polls| !polls.is_empty()) {
                return value;
            }
        }
    })
    .await;
    names.insert("admin /api/observed".to_owned());
    keys(&answer, "admin /api/observed", names);
    let state: Value = serde_json::from_str(sidecar.admin("/api/state").await.text()).unwrap();
    keys(&state["observed"], "admin /api/state observed", names);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_names_are_those_of_the_list() {
    let mut names = BTreeSet::new();
    let mut command = Cli::command();
    command.build();
    command_line(&command, "sungrazer", &mut names);
    configuration(&config::schema(), "", &mut names);
    metrics(&mut names);

    let backend = Backend::start().await;
    backend.set("/a", Page::json(&format!("{{\"n\":1,\"long\":\"{}\"}}", "x".repeat(400))));
    backend.set("/tick", Page::json("1"));
    backend.set("/plain", Page::json("1"));
    let scratch = Scratch::new("names");
    let log = scratch.path("access.log");
    let sidecar = Sidecar::with(&format!(
        "[server]\naccess_log = \"{}\"\n[upstream]\nurl = \"{}\"\n\
         [[route]]\npath = \"/tick\"\nfetch = false\n[[route]]\npath = \"/*\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n",
        log.display(),
        backend.url()
    ));
    own_url(&backend, &sidecar, &mut names).await;
    // Somebody watches while the admin listener tells of it.
    backend.set("/b", Page::json("1"));
    let mut events = sidecar.events("/b").await;
    events.snapshot().await;
    let held = sidecar.get("/b", &[]).await;
    assert_eq!((held.header("cache-status"), held.header("etag").is_some()), (Some("sungrazer; hit"), true));
    admin(&sidecar, &mut names).await;
    observed(&backend, &mut names).await;
    socket(&backend, &sidecar, &mut names).await;
    for endpoint in ["/stream?url=/b", "/iframe?url=/b&callback=f", "/shim.js", "/ws"] {
        let head = Events::try_open(sidecar.address, &format!("/.sungrazer{endpoint}"), &[]).await.head;
        assert_ne!(head.status, 404, "{endpoint}");
        names.insert(format!("endpoint {}", endpoint.split('?').next().unwrap()));
    }
    let line = || fs::read_to_string(&log).unwrap_or_default().lines().next().map(str::to_owned);
    eventually("a line of the access log", || line().is_some()).await;
    keys(&serde_json::from_str(&line().unwrap()).unwrap(), "access log", &mut names);

    let found: String = names.into_iter().map(|name| name + "\n").collect();
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(FILE, &found).unwrap();
    }
    let listed = fs::read_to_string(FILE).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (listed, found) = (lines(&listed), lines(&found));
    let gone: Vec<_> = listed.difference(&found).collect();
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(gone.is_empty() && new.is_empty(), "no longer there: {gone:#?}\nnot in the list: {new:#?}");
}
