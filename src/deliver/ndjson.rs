//! Records, one a line (NDJSON).

use super::delivery::{Delivery, Url, shared};
use super::record::record;
use crate::model::{Frame, Representation, Shape, Update};

/// A silence is broken by an empty line, which readers of lines skip.
#[derive(Debug)]
pub(super) struct Ndjson;

impl Delivery for Ndjson {
    fn name(&self) -> &'static str {
        "ndjson"
    }

    fn accept(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn carries(&self, _representation: &Representation) -> bool {
        true
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let encode = || Frame::new(format!("{}\n", record(update, url)).as_bytes());
        Some(if url.canonical { shared(self.name(), update, encode) } else { encode() })
    }

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(b"\n"))
    }
}
