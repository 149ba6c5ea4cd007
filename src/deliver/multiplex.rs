//! Many resources on one stream of server-sent events, each event a record.

use std::time::Duration;

use super::delivery::{Delivery, Url, shared};
use super::record::{Detail, record_with};
use super::sse::{COMMENT, retry_field};
use crate::model::{Claim, Frame, Representation, Shape, Update};

/// `data:` is a record; `id:` says of each URL, in the order in which they were asked for, what the client holds.
#[derive(Debug)]
pub struct Multiplex {
    /// The form's name, under which encoded records are shared.
    form: &'static str,
    /// What snapshots come with.
    detail: Detail,
}

/// The usual one.
pub static MULTIPLEX: Multiplex = Multiplex { form: "stream", detail: Detail::Body };

/// With the headers of responses.
pub static MULTIPLEX_WITH_HEADERS: Multiplex = Multiplex { form: "stream-with-headers", detail: Detail::Headers };

/// For clients that answer requests out of what they are told: with headers, and bodies as they were spelled.
pub static MULTIPLEX_EXACT: Multiplex = Multiplex { form: "stream-exact", detail: Detail::Exact };

/// Stands for a URL of which the client holds nothing.
const NOTHING: &str = "-";

impl Delivery for Multiplex {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn accept(&self) -> &'static str {
        "text/event-stream"
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn carries(&self, _representation: &Representation) -> bool {
        true
    }

    fn preamble(&self, retry: Duration) -> Option<Frame> {
        Some(Frame::new(retry_field(retry).as_bytes()))
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        if matches!(update, Update::Down) && self.detail != Detail::Exact {
            return None;
        }
        let encode = || Frame::new(format!("data: {}\n\n", record_with(update, url, self.detail)).as_bytes());
        Some(if url.canonical { shared(self.form, update, encode) } else { encode() })
    }

    fn shape(&self) -> Option<Shape> {
        Some(if self.detail == Detail::Exact { Shape::Exact } else { Shape::Record })
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(COMMENT))
    }

    /// The id of the event that follows: a browser remembers it once it has all of that, and sends it when it reconnects.
    fn stamp(&self, versions: &[Option<String>]) -> Option<Frame> {
        let versions: Vec<&str> = versions.iter().map(|version| version.as_deref().unwrap_or(NOTHING)).collect();
        Some(Frame::new(format!("id: {}\n", versions.join(".")).as_bytes()))
    }
}

/// Reads such an id: what is held of each of `count` URLs. Nothing of any, if it is not one for so many.
pub fn resume(id: &str, count: usize) -> Vec<Option<Claim>> {
    let claims: Vec<Option<Claim>> = id.split('.').map(Claim::parse).collect();
    if claims.len() == count { claims } else { vec![None; count] }
}
