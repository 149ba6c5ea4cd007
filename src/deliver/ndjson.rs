//! Records, one a line (NDJSON).

use super::format::{StreamFormat, Url, encode_once};
use super::record::record;
use crate::model::{BodyForm, Frame, Representation, Update};

/// The heartbeat is an empty line, which line parsers skip.
#[derive(Debug)]
pub(super) struct Ndjson;

impl StreamFormat for Ndjson {
    fn name(&self) -> &'static str {
        "ndjson"
    }

    fn accept(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn supports(&self, _representation: &Representation) -> bool {
        true
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let encode = || Frame::new(format!("{}\n", record(update, url)).as_bytes());
        Some(if url.canonical { encode_once(self.name(), update, encode) } else { encode() })
    }

    fn body_form(&self) -> Option<BodyForm> {
        Some(BodyForm::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(b"\n"))
    }
}
