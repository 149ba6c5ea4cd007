//! What the browser script asks of the stream.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::{Backend, Page};
use crate::support::client::Events;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const FAST: &str = "[[route]]\npath = \"/a/**\"\nevery = \"20ms\"\nevery_max = \"20ms\"\nheartbeat = \"1s\"\n";

async fn follow(sidecar: &Sidecar, what: Value) -> Events {
    Events::post(sidecar.address, "/.sungrazer/stream", &what.to_string()).await
}

async fn record(events: &mut Events) -> Value {
    serde_json::from_str(&within("a record", events.next()).await.expect("a record").data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_exactly() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, FAST);
    for (target, page, encoding, body) in [
        ("/a/json", Page::json("{ \"n\":  1.50 }").header("x-own", "7"), None, "{ \"n\":  1.50 }"),
        ("/a/text", Page::text("one\r\ntwo"), None, "one\r\ntwo"),
        ("/a/latin", Page::new("text/plain; charset=iso-8859-1", b"caf\xe9".to_vec()), Some("base64"), "Y2Fm6Q=="),
        ("/a/marked", Page::new("text/plain", b"\xef\xbb\xbfa".to_vec()), Some("base64"), "77u/YQ=="),
    ] {
        backend.set(target, page);
        let mut events = follow(&sidecar, json!({ "follow": [{ "url": target }], "exact": true })).await;
        let record = record(&mut events).await;
        assert_eq!((record["body"].as_str(), record["encoding"].as_str()), (Some(body), encoding), "{target}");
        assert!(record["headers"]["content-type"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn splices_are_of_what_was_spelled() {
    let backend = Backend::start().await;
    let long = "x".repeat(500);
    let body = |n: u32| format!("{{ \"n\": {n}, \"long\": \"{long}\" }}");
    backend.set("/a/json", Page::json(&body(1)).header("x-own", "1"));
    let sidecar = Sidecar::start(&backend, FAST);
    let mut events =
        follow(&sidecar, json!({ "follow": [{ "url": "/a/json", "delta": "splice" }], "exact": true })).await;
    let first = record(&mut events).await;
    assert_eq!(first["body"], body(1));
    backend.set("/a/json", Page::json(&body(2)).header("x-own", "2"));
    let patch = record(&mut events).await;
    assert_eq!((&patch["event"], &patch["base"]), (&json!("patch"), &first["version"]));
    assert_eq!(patch["patch"], json!([[7, 1, "2"]]));
    assert_eq!(patch["headers"]["x-own"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_confirmed_on_request() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    let sidecar = Sidecar::start(&backend, FAST);
    let mut events = follow(&sidecar, json!({ "follow": [{ "url": "/a/b" }], "exact": true })).await;
    let version = record(&mut events).await["version"].clone();
    let asked = json!({ "follow": [{ "url": "/a/b", "since": version, "confirm": true }], "exact": true });
    let mut again = follow(&sidecar, asked.clone()).await;
    assert_eq!(record(&mut again).await, json!({ "event": "live", "url": "/a/b" }));
    // Once, not with every look.
    backend.set("/a/b", Page::text("two"));
    assert_eq!(record(&mut again).await["body"], "two");
    // What is not current is told instead.
    let mut late = follow(&sidecar, asked).await;
    assert_eq!(record(&mut late).await["body"], "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_for_one_piece_of_news() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    let sidecar = Sidecar::start(&backend, FAST);
    let asked = |since: &Value| json!({ "follow": [{ "url": "/a/b", "since": since }], "exact": true, "once": true });
    let mut events = follow(&sidecar, asked(&Value::Null)).await;
    let version = record(&mut events).await["version"].clone();
    assert!(within("the end", events.next()).await.is_none());
    // Without news it ends with the first heartbeat.
    let mut silent = follow(&sidecar, asked(&version)).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), silent.next()).await.is_err(), "it ended at once");
    let mut silent = follow(&sidecar, asked(&version)).await;
    assert!(within("the end", silent.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_keep_the_pace_of_the_most_eager_client_while_it_is_there() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    let slow = "[[route]]\npath = \"/a/**\"\nevery = \"1m\"\nevery_max = \"1m\"\nheartbeat = \"200ms\"\n";
    let sidecar = Sidecar::start(&backend, slow);
    let asked = |every: u32| json!({ "follow": [{ "url": "/a/b", "every": every }], "exact": true });
    let mut patient = follow(&sidecar, asked(60_000)).await;
    record(&mut patient).await;
    let mut eager = follow(&sidecar, asked(300)).await;
    record(&mut eager).await;
    // It would ask by itself, whatever the route says.
    eventually("looks at its pace", || backend.hits("/a/b") > 3).await;
    drop(eager);
    eventually("its leaving to be noticed", || sidecar.held() == 1).await;
    let before = backend.hits("/a/b");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(backend.hits("/a/b") <= before + 1, "looks at the pace of somebody who has left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_does_not_stop_the_rest() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    backend.set("/other", Page::text("other"));
    let follows = json!({ "follow": [{ "url": "/other" }, { "url": "/a/b" }], "exact": true });
    let sidecar = Sidecar::start(&backend, FAST);
    let mut events = follow(&sidecar, follows.clone()).await;
    assert_eq!(record(&mut events).await, json!({ "event": "end", "url": "/other", "reason": "gone" }));
    assert_eq!(record(&mut events).await["body"], "one");
    assert_eq!(backend.hits("/other"), 0);
    // Pages of a route that learns may follow what no route takes.
    let learning = format!("{FAST}[[route]]\npath = \"/pages/**\"\nshim = \"learn\"\n");
    let sidecar = Sidecar::start(&backend, &learning);
    let mut events = follow(&sidecar, follows).await;
    let mut bodies = [record(&mut events).await["body"].clone(), record(&mut events).await["body"].clone()];
    bodies.sort_by_key(Value::to_string);
    assert_eq!(bodies, [json!("one"), json!("other")]);
}
