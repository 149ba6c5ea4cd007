//! Requests as spans, sent to a collector.

use serde_json::Value;

use crate::support::backend::{Backend, Page};
use crate::support::client;
use crate::support::program::Program;
use crate::support::within;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The spans that `collector` was sent, once there are `count`.
async fn spans(collector: &Backend, count: usize) -> Vec<Value> {
    within("the spans", async {
        loop {
            let batches = collector.seen("/v1/traces");
            let found: Vec<Value> = batches
                .iter()
                .map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap())
                .flat_map(|batch| batch["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
                .collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|attribute| attribute["key"] == name).map_or(&Value::Null, |attribute| &attribute["value"])
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spans_of_their_traces() {
    let (backend, collector) = (Backend::start().await, Backend::start().await);
    // A path that is asked twice in a row is fetched, and a fetch belongs to no client's trace.
    for path in ["/a", "/b", "/c"] {
        backend.set(path, Page::text("a"));
    }
    backend.set("/wrong", Page::text("no").status(500));
    collector.set("/v1/traces", Page::json("{}"));
    let url = collector.url();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=one, x-key=k"),
        ("OTEL_SERVICE_NAME", "wiki-sidecar"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let program = Program::start_with(
        &["--upstream", &backend.url(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        &variables,
    )
    .await;
    client::get(program.address, "/a", &[("traceparent", PARENT), ("tracestate", "x=y")]).await;
    let span = &spans(&collector, 1).await[0];
    assert_eq!((&span["traceId"], &span["kind"]), (&"4bf92f3577b34da6a3ce929d0e0e4736".into(), &2.into()));
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    let passed_on = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", span["spanId"].as_str().unwrap());
    let seen = &backend.seen("/a")[0];
    assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (Some(passed_on.as_str()), Some("x=y")));
    assert_eq!(attribute(span, "url.path")["stringValue"], "/a");
    assert_eq!(attribute(span, "http.response.status_code")["intValue"], "200");
    let time = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    let batch = &collector.seen("/v1/traces")[0];
    assert_eq!((batch.method.as_str(), batch.header("content-type")), ("POST", Some("application/json")));
    assert_eq!((batch.header("x-tenant"), batch.header("x-key")), (Some("one"), Some("k")));
    let body: Value = serde_json::from_slice(&batch.body).unwrap();
    let resource = &body["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name")["stringValue"], "wiki-sidecar");
    assert_eq!(attribute(resource, "deployment.environment")["stringValue"], "test");
    // A trace that nobody keeps is passed on and not exported; one that nobody began is begun here.
    client::get(program.address, "/b", &[("traceparent", &PARENT.replace("-01", "-00"))]).await;
    assert!(backend.seen("/b")[0].header("traceparent").unwrap().ends_with("-00"));
    client::get(program.address, "/wrong", &[]).await;
    let all = spans(&collector, 2).await;
    assert_eq!((&all[1]["status"]["code"], all[1].get("parentSpanId")), (&2.into(), None));
    assert_eq!(all.len(), 2);
    // What was asked last is sent before the end.
    client::get(program.address, "/c", &[]).await;
    program.signal("TERM");
    assert_eq!(program.wait().await.0, Some(0));
    assert_eq!(spans(&collector, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_complained_of_once_and_holds_nobody_up() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let program = Program::start_with(
        &["--upstream", &backend.url(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        &variables,
    )
    .await;
    for _ in 0..5 {
        assert_eq!(client::get(program.address, "/a", &[]).await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    program.log_line("does not take spans").await;
    program.signal("TERM");
    let (code, log) = program.wait().await;
    assert_eq!((code, log.matches("does not take spans").count()), (Some(0), 1), "{log}");
}
