//! Records as a JSON text sequence (RFC 7464).

use super::format::{StreamFormat, Url, encode_once};
use super::record::record;
use crate::model::{BodyForm, Frame, Representation, Update};

/// Each record stands between a record separator and a line feed. The heartbeat is a separator alone, which parsers
/// skip.
#[derive(Debug)]
pub(super) struct JsonSeq;

impl StreamFormat for JsonSeq {
    fn name(&self) -> &'static str {
        "json-seq"
    }

    fn accept(&self) -> &'static str {
        "application/json-seq"
    }

    fn content_type(&self) -> &'static str {
        "application/json-seq"
    }

    fn supports(&self, _representation: &Representation) -> bool {
        true
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let encode = || Frame::new(format!("\u{1e}{}\n", record(update, url)).as_bytes());
        Some(if url.canonical { encode_once(self.name(), update, encode) } else { encode() })
    }

    fn body_form(&self) -> Option<BodyForm> {
        Some(BodyForm::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(b"\x1e"))
    }
}
