//! Encodes requests as spans in the JSON encoding of the OpenTelemetry protocol (OTLP 1.x).

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Record, Trace};

/// The origin of the spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Attributes by name, including `service.name`.
    pub attributes: Vec<(String, String)>,
}

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// Returns the body of one export.
pub fn encode(resource: &Resource, records: &[Record]) -> Value {
    let attributes: Vec<Value> = resource.attributes.iter().map(|(name, value)| text(name, value)).collect();
    let spans: Vec<Value> = records.iter().filter_map(|record| span(record, record.trace.as_ref()?)).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes },
        "scopeSpans": [{ "scope": { "name": "sungrazer", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
    }] })
}

/// Returns one span, with the names and attributes of the semantic conventions for HTTP servers.
fn span(record: &Record, trace: &Trace) -> Option<Value> {
    let mut attributes = vec![
        text("http.request.method", &record.method),
        text("url.path", &record.path),
        text("server.address", &record.host),
        text("network.protocol.version", record.protocol.trim_start_matches("HTTP/")),
        text("sungrazer.how", record.how),
    ];
    let optional = [
        ("http.route", record.route.as_deref().map(str::to_owned)),
        ("client.address", record.client.map(|client| client.to_canonical().to_string())),
        ("user_agent.original", record.agent.clone()),
    ];
    attributes.extend(optional.iter().filter_map(|(name, value)| Some(text(name, value.as_deref()?))));
    if let Some(status) = record.status {
        attributes.push(json!({ "key": "http.response.status_code", "value": { "intValue": status.to_string() } }));
    }
    let name = match &record.route {
        Some(route) => format!("{} {route}", record.method),
        None => record.method.clone(),
    };
    let mut span = json!({
        "traceId": trace.id(),
        "spanId": trace.span_id(),
        "name": name,
        "kind": SERVER,
        "startTimeUnixNano": nanos(record.at)?,
        "endTimeUnixNano": nanos(record.at + record.took)?,
        "attributes": attributes,
    });
    if let Some(parent) = trace.parent_id() {
        span["parentSpanId"] = parent.into();
    }
    if record.status.is_some_and(|status| status >= 500) {
        span["status"] = json!({ "code": ERROR });
    }
    Some(span)
}

fn text(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

/// Returns a 64-bit number as a string, as in the JSON encoding of protocol buffers.
fn nanos(time: SystemTime) -> Option<String> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().as_ref().map(Duration::as_nanos).map(|nanos| nanos.to_string())
}
