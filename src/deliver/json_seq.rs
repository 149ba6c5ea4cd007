//! Records as a JSON text sequence (RFC 7464).

use super::delivery::{Delivery, Url, shared};
use super::record::record;
use crate::model::{Frame, Representation, Shape, Update};

/// Each record stands between a record separator and a line feed. A separator alone breaks a silence: parsers skip it.
#[derive(Debug)]
pub(super) struct JsonSeq;

impl Delivery for JsonSeq {
    fn name(&self) -> &'static str {
        "json-seq"
    }

    fn accept(&self) -> &'static str {
        "application/json-seq"
    }

    fn content_type(&self) -> &'static str {
        "application/json-seq"
    }

    fn carries(&self, _representation: &Representation) -> bool {
        true
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let encode = || Frame::new(format!("\u{1e}{}\n", record(update, url)).as_bytes());
        Some(if url.canonical { shared(self.name(), update, encode) } else { encode() })
    }

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(b"\x1e"))
    }
}
