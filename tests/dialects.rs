//! Libraries that name streams in whatever they ask for are answered as they would be without us.

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events, head};
use crate::support::sidecar::Sidecar;

const ROUTES: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n\
                      post = { kind = \"json-rpc\", reads = [\"tools/list\"] }\n";

/// What each says of the answer that it takes, and whether that is a stream of ours.
const ACCEPTED: [(&[(&str, &str)], bool); 9] = [
    (&[("Accept", "text/event-stream, text/html, application/json"), ("Datastar-Request", "true")], false),
    (&[("Accept", "text/event-stream,text/html,application/json")], false),
    (&[("Accept", "application/json, text/event-stream")], false),
    (&[("Accept", "text/event-stream, application/json;q=1.0")], false),
    (&[("Accept", "text/html, text/event-stream")], false),
    (&[("Accept", "text/html, text/event-stream"), ("HX-Request", "true")], true),
    (&[("Accept", "text/event-stream, application/json;q=0.9")], true),
    (&[("Accept", "text/event-stream, */*;q=0.1")], true),
    (&[("Accept", "text/event-stream")], true),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_streams_beside_whole_answers_is_given_whole_ones() {
    let backend = Backend::start().await;
    backend.set("/a", Page::new("text/html", "<p id=a>1"));
    let sidecar = Sidecar::start(&backend, ROUTES);
    let direct = Connection::open(backend.address).await.get("/a", &[]).await;
    for (headers, is_stream) in ACCEPTED {
        for round in 0..3 {
            let mut connection = Connection::open(sidecar.address).await;
            connection.send(head("GET", "/a", headers, b"")).await;
            if is_stream {
                let mut events = Events::on(connection).await;
                assert_eq!(events.head.header("content-type"), Some("text/event-stream"), "{headers:?}");
                assert_eq!(events.snapshot().await.data, "<p id=a>1");
                continue;
            }
            let answer = connection.response("GET").await;
            assert_eq!((answer.status, answer.text()), (200, direct.text()), "{headers:?}, {round}");
            assert_eq!(answer.header("content-type"), Some("text/html"), "{headers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_answers_in_a_librarys_own_format_does_so() {
    let backend = Backend::start().await;
    let patch = "event: datastar-patch-elements\ndata: elements <p id=a>1\n\n";
    backend.set("/a", Page::new("text/event-stream", patch));
    let sidecar = Sidecar::start(&backend, ROUTES);
    for _ in 0..3 {
        let answer = sidecar.get("/a", ACCEPTED[0].0).await;
        assert_eq!((answer.header("content-type"), answer.text()), (Some("text/event-stream"), patch));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_a_stream_as_well_is_answered_by_one_message() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        let said: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        Page::json(&serde_json::json!({ "jsonrpc": "2.0", "id": said["id"], "result": {} }).to_string())
    });
    let sidecar = Sidecar::start(&backend, ROUTES);
    for id in 1..4 {
        let headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/list\"}}");
        let mut connection = Connection::open(sidecar.address).await;
        let answer = connection.request("POST", "/a", &headers, body.as_bytes()).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.text().contains(&format!("\"id\":{id}")), "{answer:?}");
    }
}
