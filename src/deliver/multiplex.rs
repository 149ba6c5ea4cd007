//! Many resources on one stream of server-sent events, each event a record.

use std::time::Duration;

use super::format::{StreamFormat, Url, encode_once};
use super::record::{RecordDetail, record_with};
use super::sse::{COMMENT, retry_field};
use crate::model::{BodyForm, Frame, Representation, ResumeFrom, Update};

/// `data:` is a record. `id:` lists the version that the client holds of each URL, in the order of its request.
#[derive(Debug)]
pub struct Multiplex {
    /// The name under which encoded records are shared.
    form: &'static str,
    /// The level of detail of snapshots.
    detail: RecordDetail,
}

/// The usual format.
pub static MULTIPLEX: Multiplex = Multiplex { form: "stream", detail: RecordDetail::Body };

/// The format with response headers.
pub static MULTIPLEX_WITH_HEADERS: Multiplex = Multiplex { form: "stream-with-headers", detail: RecordDetail::Headers };

/// The format for clients that answer requests from received data: with headers, and with bodies in their exact
/// spelling.
pub static MULTIPLEX_EXACT: Multiplex = Multiplex { form: "stream-exact", detail: RecordDetail::Exact };

/// Represents a URL of which the client holds nothing.
const NOTHING: &str = "-";

impl StreamFormat for Multiplex {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn accept(&self) -> &'static str {
        "text/event-stream"
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn supports(&self, _representation: &Representation) -> bool {
        true
    }

    fn preamble(&self, retry: Duration) -> Option<Frame> {
        Some(Frame::new(retry_field(retry).as_bytes()))
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        if matches!(update, Update::Down) && self.detail != RecordDetail::Exact {
            return None;
        }
        let encode = || Frame::new(format!("data: {}\n\n", record_with(update, url, self.detail)).as_bytes());
        Some(if url.canonical { encode_once(self.form, update, encode) } else { encode() })
    }

    fn body_form(&self) -> Option<BodyForm> {
        Some(if self.detail == RecordDetail::Exact { BodyForm::Exact } else { BodyForm::Record })
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(COMMENT))
    }

    /// Returns the `id:` of the event that follows. A browser stores it once the event is complete, and sends it when
    /// it reconnects.
    fn resume_marker(&self, versions: &[Option<String>]) -> Option<Frame> {
        let versions: Vec<&str> = versions.iter().map(|version| version.as_deref().unwrap_or(NOTHING)).collect();
        Some(Frame::new(format!("id: {}\n", versions.join(".")).as_bytes()))
    }
}

/// Parses such an id into the version that the client holds of each of `count` URLs. Returns `None` for every URL if
/// the id has a different number of versions.
pub fn resume(id: &str, count: usize) -> Vec<Option<ResumeFrom>> {
    let claims: Vec<Option<ResumeFrom>> = id.split('.').map(ResumeFrom::parse).collect();
    if claims.len() == count { claims } else { vec![None; count] }
}
