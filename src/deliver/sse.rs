//! Server-sent events (HTML Living Standard, section 9.2) on the resource's own URL.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::format::{StreamFormat, Url, encode_once};
use crate::model::{BodyForm, Frame, Snapshot, Update};
use crate::normalise::text_of;

/// `id:` is the version, `data:` the body; an event without a name is a snapshot. For a client that accepts deltas,
/// snapshots are named too, since `data:` may then be a patch.
#[derive(Debug)]
pub(super) struct Sse {
    deltas: bool,
}

/// The format for clients that only use `onmessage`.
pub(super) static PLAIN: Sse = Sse { deltas: false };

/// For clients that asked for deltas.
static WITH_DELTAS: Sse = Sse { deltas: true };

impl StreamFormat for Sse {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn accept(&self) -> &'static str {
        "text/event-stream"
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn preamble(&self, retry: Duration) -> Option<Frame> {
        Some(Frame::new(retry_field(retry).as_bytes()))
    }

    fn frame(&self, update: &Update, _url: &Url) -> Option<Frame> {
        match update {
            Update::Snapshot(snapshot) if self.deltas => Some(encode_once("sse with deltas", update, || {
                Frame::new(&snapshot_event("event: snapshot\n", snapshot))
            })),
            Update::Snapshot(snapshot) => {
                Some(encode_once(self.name(), update, || Frame::new(&snapshot_event("", snapshot))))
            }
            Update::Patch { snapshot, patch, .. } => {
                Some(encode_once(self.name(), update, || Frame::new(&patch_event(snapshot, patch))))
            }
            Update::Stale { since, status } => {
                let since = humantime::format_rfc3339_seconds(*since);
                let status = status.map_or_else(|| "null".to_owned(), |status| status.to_string());
                let event = format!("event: stale\ndata: {{\"since\":\"{since}\",\"status\":{status}}}\n\n");
                Some(Frame::new(event.as_bytes()))
            }
            Update::Live => Some(Frame::new(b"event: live\ndata: {}\n\n")),
            Update::Down => None,
            Update::Tick => Some(Frame::new(b"event: tick\ndata: {}\n\n")),
            Update::End(reason) => {
                Some(Frame::new(format!("event: end\ndata: {{\"reason\":\"{reason}\"}}\n\n").as_bytes()))
            }
        }
    }

    fn body_form(&self) -> Option<BodyForm> {
        Some(BodyForm::Data)
    }

    fn with_deltas(&self) -> Option<&'static dyn StreamFormat> {
        Some(&WITH_DELTAS)
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(COMMENT))
    }
}

/// Returns `retry:` as a part of the first event, because some clients treat a separate block as an event.
pub(super) fn retry_field(retry: Duration) -> String {
    format!("retry: {}\n", retry.as_millis())
}

/// The heartbeat. It does not end a block, for the same reason.
pub(super) const COMMENT: &[u8] = b":\n";

fn snapshot_event(name: &str, snapshot: &Snapshot) -> BytesMut {
    let representation = &snapshot.representation;
    // SSE is not offered for binary bodies. If the resource of an open stream becomes binary, its bytes are decoded
    // lossily.
    let text = text_of(representation).unwrap_or_else(|| String::from_utf8_lossy(&representation.body));
    let mut event = BytesMut::with_capacity(text.len() + text.len() / 16 + 96);
    event.put_slice(format!("{name}id: {}\n", snapshot.version).as_bytes());
    put_data(&mut event, &text);
    event.put_u8(b'\n');
    event
}

/// Encodes a patch. A patch document contains no line end.
fn patch_event(snapshot: &Snapshot, patch: &[u8]) -> BytesMut {
    let mut event = BytesMut::with_capacity(patch.len() + 128);
    event.put_slice(format!("event: patch\nid: {}\ndata: ", snapshot.version).as_bytes());
    event.put_slice(patch);
    event.put_slice(b"\n\n");
    event
}

/// Writes `text` as `data:` lines. The format has three line ends, each of which would end a field, so each begins a
/// new line; the client receives them as line feeds.
fn put_data(event: &mut BytesMut, text: &str) {
    let mut rest = text;
    loop {
        event.put_slice(b"data: ");
        let Some(end) = rest.find(['\n', '\r']) else {
            event.put_slice(rest.as_bytes());
            event.put_u8(b'\n');
            return;
        };
        event.put_slice(&rest.as_bytes()[..end]);
        event.put_u8(b'\n');
        let line_end = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + line_end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_body_can_write_a_field_of_its_own() {
        let mut event = BytesMut::new();
        put_data(&mut event, "a\r\nid: 1\revent: end\n\nb");
        assert_eq!(&event[..], b"data: a\ndata: id: 1\ndata: event: end\ndata: \ndata: b\n");
    }

    #[test]
    fn an_empty_body_is_still_an_event() {
        let mut event = BytesMut::new();
        put_data(&mut event, "");
        assert_eq!(&event[..], b"data: \n");
    }
}
