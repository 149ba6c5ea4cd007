//! Updates as JSON objects, used by NDJSON, JSON sequences, multiplexed streams, WebSockets and frames.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, ETAG};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Url;
use crate::model::{Form, Kind, Representation, Snapshot, Update};
use crate::normalise::{plain_utf8, text_of};

/// The level of detail of a snapshot's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordDetail {
    /// The body.
    Body,
    /// The body and the response headers.
    Headers,
    /// The headers and the exact body: a string if its bytes are plain UTF-8, even for JSON, else base64.
    Exact,
}

/// Returns the record of `update` on one line.
pub(super) fn record(update: &Update, url: &Url) -> String {
    record_with(update, url, RecordDetail::Body)
}

/// Returns the record with the given level of detail for snapshots.
pub(super) fn record_with(update: &Update, url: &Url, detail: RecordDetail) -> String {
    // The identity tag consists of characters that need no escaping.
    let identity = url.identity.as_ref().map_or_else(String::new, |identity| format!(",\"identity\":\"{identity}\""));
    let url = json_string(&url.text) + &identity;
    match update {
        Update::Snapshot(snapshot) => snapshot_record(snapshot, &url, detail),
        Update::Patch { client_base: called, snapshot, delta, patch, .. } => {
            let patch = String::from_utf8_lossy(patch);
            let version = snapshot.version;
            // Exact records include the headers.
            let headers = match detail {
                RecordDetail::Exact => {
                    format!("\"headers\":{},", Value::Object(headers_of(snapshot)))
                }
                RecordDetail::Body | RecordDetail::Headers => String::new(),
            };
            format!(
                "{{\"event\":\"patch\",\"url\":{url},\"base\":\"{called}\",\"version\":\"{version}\",{headers}\"delta\":\"{delta}\",\"patch\":{patch}}}"
            )
        }
        Update::Stale { since, status } => {
            let since = humantime::format_rfc3339_seconds(*since);
            let status = status.map_or_else(|| "null".to_owned(), |status| status.to_string());
            format!("{{\"event\":\"stale\",\"url\":{url},\"since\":\"{since}\",\"status\":{status}}}")
        }
        Update::Live => format!("{{\"event\":\"live\",\"url\":{url}}}"),
        Update::Down => format!("{{\"event\":\"down\",\"url\":{url}}}"),
        Update::Tick => format!("{{\"event\":\"tick\",\"url\":{url}}}"),
        Update::End(reason) => format!("{{\"event\":\"end\",\"url\":{url},\"reason\":\"{reason}\"}}"),
    }
}

fn snapshot_record(snapshot: &Snapshot, url: &str, detail: RecordDetail) -> String {
    let representation = &snapshot.representation;
    let media_type = representation
        .headers
        .get(CONTENT_TYPE)
        .map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut text = String::with_capacity(representation.body.len() + representation.body.len() / 8 + url.len() + 192);
    text.push_str("{\"event\":\"snapshot\",\"url\":");
    text.push_str(url);
    text.push_str(",\"version\":\"");
    text.push_str(&snapshot.version.to_string());
    text.push_str("\",\"status\":");
    text.push_str(representation.status.as_str());
    text.push_str(",\"type\":");
    text.push_str(&json_string(&media_type));
    if detail != RecordDetail::Body {
        text.push_str(",\"headers\":");
        text.push_str(&Value::Object(headers_of(snapshot)).to_string());
    }
    match detail {
        RecordDetail::Exact => push_exact(&mut text, representation),
        _ => push_body(&mut text, representation),
    }
    text.push('}');
    text
}

/// Returns the headers of a snapshot. If the upstream sent an entity tag, it is replaced by one that names this
/// snapshot alone.
fn headers_of(snapshot: &Snapshot) -> serde_json::Map<String, Value> {
    let mut headers = snapshot.representation.headers.clone();
    if let Some(etag) = snapshot.etag(Form::Sent).filter(|_| snapshot.representation.tag().is_some()) {
        headers.insert(ETAG, etag);
    }
    headers_object(&headers)
}

/// Returns headers as an object; repeated headers are joined by commas (RFC 9110 section 5.3).
pub fn headers_object(headers: &HeaderMap) -> serde_json::Map<String, Value> {
    let mut object = serde_json::Map::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        object.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    object
}

/// Writes `"body":…`: a JSON value in its original spelling, other text as a string, anything else as base64.
fn push_body(record: &mut String, representation: &Representation) {
    let is_json = representation.media_type().kind() == Kind::Json;
    match text_of(representation) {
        Some(text) => {
            record.push_str(",\"body\":");
            let value = if is_json { serde_json::from_str::<&RawValue>(&text).ok() } else { None };
            match value {
                Some(value) => push_compact(record, value.get()),
                None => record.push_str(&json_string(&text)),
            }
        }
        None => push_base64(record, representation),
    }
}

/// Writes `"body":…` so that the exact bytes can be restored: a string if they are its UTF-8 encoding, else base64.
fn push_exact(record: &mut String, representation: &Representation) {
    match plain_utf8(representation) {
        Some(text) => {
            record.push_str(",\"body\":");
            record.push_str(&json_string(text));
        }
        None => push_base64(record, representation),
    }
}

fn push_base64(record: &mut String, representation: &Representation) {
    record.push_str(",\"encoding\":\"base64\",\"body\":\"");
    STANDARD.encode_string(&representation.body, record);
    record.push('"');
}

/// Appends a JSON text without the white space between its tokens, since a record is one line. Numbers and strings keep
/// their spelling.
fn push_compact(record: &mut String, json: &str) {
    let mut rest = json;
    loop {
        // Only white space outside of strings is dropped.
        let (outside, inside) = rest.split_at(rest.find('"').unwrap_or(rest.len()));
        record.extend(outside.split([' ', '\n', '\r', '\t']));
        if inside.is_empty() {
            return;
        }
        let end = end_of_string(inside);
        record.push_str(&inside[..end]);
        rest = &inside[end..];
    }
}

/// Returns the end of the string at the beginning of `text`.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns `text` as a JSON string.
pub(super) fn json_string(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(json: &str) -> String {
        let mut text = String::new();
        push_compact(&mut text, json);
        text
    }

    #[test]
    fn only_white_space_between_tokens_goes() {
        assert_eq!(
            compact("{ \"a b\" : [ 1.50 ,\n\t-0 , 12345678901234567890123 ] , \"\\\"c \\\\\" : \" \\n \" }"),
            "{\"a b\":[1.50,-0,12345678901234567890123],\"\\\"c \\\\\":\" \\n \"}"
        );
        assert_eq!(compact(" null "), "null");
        assert_eq!(compact("\"\""), "\"\"");
    }
}
