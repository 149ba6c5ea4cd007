//! `multipart/x-mixed-replace`: each part takes the place of the one before, as browsers show images.

use super::delivery::{Delivery, Url, shared};
use crate::model::{Frame, Representation, Snapshot, Update};

use bytes::{BufMut, BytesMut};
use http::header::CONTENT_TYPE;

/// Each part is one whole body, of any type. The boundary behind it is sent at once, since many a browser shows a part
/// only when it has seen that. There is no way to break a silence, and no words but bodies.
#[derive(Debug)]
pub(super) struct Multipart;

/// What separates parts. No body is searched for it: each part says its length.
const BOUNDARY: &str = "--sungrazer-part-3fNw8Yq1\r\n";

impl Delivery for Multipart {
    fn name(&self) -> &'static str {
        "multipart"
    }

    fn accept(&self) -> &'static str {
        "multipart/x-mixed-replace"
    }

    fn content_type(&self) -> &'static str {
        "multipart/x-mixed-replace; boundary=sungrazer-part-3fNw8Yq1"
    }

    fn carries(&self, _representation: &Representation) -> bool {
        true
    }

    fn preamble(&self, _retry: std::time::Duration) -> Option<Frame> {
        Some(Frame::new(BOUNDARY.as_bytes()))
    }

    fn frame(&self, update: &Update, _url: &Url) -> Option<Frame> {
        match update {
            Update::Snapshot(snapshot) => Some(shared(self.name(), update, || Frame::new(&part(snapshot)))),
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
    part.put_slice(format!("Content-Length: {}\r\nETag: {}\r\n\r\n", body.len(), snapshot.version.etag()).as_bytes());
    part.put_slice(body);
    part.put_slice(b"\r\n");
    part.put_slice(BOUNDARY.as_bytes());
    part
}
