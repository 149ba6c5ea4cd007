//! `multipart/x-mixed-replace`: each part takes the place of the one before, as browsers show images.

use std::sync::LazyLock;

use super::format::{StreamFormat, Url, encode_once};
use crate::clock;
use crate::model::{Form, Frame, Representation, Snapshot, Update};

use bytes::{BufMut, BytesMut};
use http::header::CONTENT_TYPE;
use memchr::memmem;

/// Each part is one complete body of any type. The boundary after it is sent immediately, since many browsers display a
/// part only after its boundary. The format has no heartbeat and no control events.
#[derive(Debug)]
pub(super) struct Multipart;

const MEDIA_TYPE: &str = "multipart/x-mixed-replace";

/// The boundary between parts, random in each process, so that a body created without knowing it does not contain it.
/// An attacker who has seen it in a stream could create a body that does, and inject a part for clients that ignore
/// lengths. A body that contains the boundary is therefore never sent as a part.
static BOUNDARY: LazyLock<String> = LazyLock::new(|| format!("sungrazer-{:016x}{:016x}", clock::seed(), clock::seed()));

static CONTENT_TYPE_OF_STREAM: LazyLock<String> = LazyLock::new(|| format!("{MEDIA_TYPE}; boundary={}", *BOUNDARY));

/// The line written before each part, and so after the previous one.
static DELIMITER: LazyLock<String> = LazyLock::new(|| format!("--{}\r\n", *BOUNDARY));

impl StreamFormat for Multipart {
    fn name(&self) -> &'static str {
        "multipart"
    }

    fn accept(&self) -> &'static str {
        MEDIA_TYPE
    }

    fn content_type(&self) -> &'static str {
        &CONTENT_TYPE_OF_STREAM
    }

    fn supports(&self, representation: &Representation) -> bool {
        memmem::find(&representation.body, BOUNDARY.as_bytes()).is_none()
    }

    fn must_end_at(&self, representation: &Representation) -> bool {
        !self.supports(representation)
    }

    fn preamble(&self, _retry: std::time::Duration) -> Option<Frame> {
        Some(Frame::new(DELIMITER.as_bytes()))
    }

    fn frame(&self, update: &Update, _url: &Url) -> Option<Frame> {
        match update {
            Update::Snapshot(snapshot) => Some(encode_once(self.name(), update, || Frame::new(&part(snapshot)))),
            _ => None,
        }
    }

    fn heartbeat(&self) -> Option<Frame> {
        None
    }
}

fn part(snapshot: &Snapshot) -> BytesMut {
    let body = &snapshot.representation.body;
    let mut part = BytesMut::with_capacity(body.len() + 256);
    if let Some(media_type) = snapshot.representation.headers.get(CONTENT_TYPE) {
        part.put_slice(b"Content-Type: ");
        part.put_slice(media_type.as_bytes());
        part.put_slice(b"\r\n");
    }
    part.put_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    if let Some(etag) = snapshot.etag(Form::Decoded) {
        part.put_slice(b"ETag: ");
        part.put_slice(etag.as_bytes());
        part.put_slice(b"\r\n");
    }
    part.put_slice(b"\r\n");
    part.put_slice(body);
    part.put_slice(b"\r\n");
    part.put_slice(DELIMITER.as_bytes());
    part
}
