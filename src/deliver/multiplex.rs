//! Many resources on one stream of server-sent events, each event a record.

use std::time::Duration;

use super::format::{StreamFormat, Url, encode_once};
use super::record::{RecordDetail, record_with};
use super::sse::{COMMENT, retry_field};
use crate::model::{BodyForm, Frame, Representation, ResumeFrom, Update};

/// `data:` is a record; `id:` says of each URL, in the order in which they were asked for, what the client holds.
#[derive(Debug)]
pub struct Multiplex {
    /// The form's name, under which encoded records are shared.
    form: &'static str,
    /// What snapshots come with.
    detail: RecordDetail,
}

/// The usual one.
pub static MULTIPLEX: Multiplex = Multiplex { form: "stream", detail: RecordDetail::Body };

/// With the headers of responses.
pub static MULTIPLEX_WITH_HEADERS: Multiplex = Multiplex { form: "stream-with-headers", detail: RecordDetail::Headers };

/// For clients that answer requests out of what they are told: with headers, and bodies as they were spelled.
pub static MULTIPLEX_EXACT: Multiplex = Multiplex { form: "stream-exact", detail: RecordDetail::Exact };

/// Stands for a URL of which the client holds nothing.
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

    /// The id of the event that follows: a browser remembers it once it has all of that, and sends it when it reconnects.
    fn resume_marker(&self, versions: &[Option<String>]) -> Option<Frame> {
        let versions: Vec<&str> = versions.iter().map(|version| version.as_deref().unwrap_or(NOTHING)).collect();
        Some(Frame::new(format!("id: {}\n", versions.join(".")).as_bytes()))
    }
}

/// Reads such an id: what is held of each of `count` URLs. Nothing of any, if it is not one for so many.
pub fn resume(id: &str, count: usize) -> Vec<Option<ResumeFrom>> {
    let claims: Vec<Option<ResumeFrom>> = id.split('.').map(ResumeFrom::parse).collect();
    if claims.len() == count { claims } else { vec![None; count] }
}
