//! A representation that became a version.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use tokio::time::Instant;

use super::entity::{self, Kind};
use super::{EchoPlace, EncodingCache, Form, Representation, Version};

/// One state of a resource, with the forms in which clients are given it.
#[derive(Debug)]
pub struct Snapshot {
    /// Its place and fingerprints.
    pub version: Version,
    /// What the upstream sent.
    pub representation: Representation,
    /// When the fetch that brought it was complete; deliveries measure their delay from here.
    pub arrived: Instant,
    /// The same moment on the calendar.
    pub at: SystemTime,
    /// Its encoded forms; they depend on the body, so a fetch that only refreshes headers keeps them.
    pub encodings: Arc<EncodingCache>,
    /// What the upstream's own validators are worth.
    pub marks: Marks,
    /// How plain HTTP/1.1 responses with it begin, by [`Form`], each made once for all who poll.
    pub heads: [OnceLock<Bytes>; 3],
    /// The body as we have gzipped it.
    pub gzipped: OnceLock<Bytes>,
    /// Where in its body values stand that are others for each client.
    pub echoes: OnceLock<Option<Box<[EchoPlace]>>>,
}

/// Which validators of the upstream name a state and no other, as far as has been seen (RFC 9110 section 8.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its entity tag.
    pub tag: bool,
    /// Its modification date.
    pub date: bool,
}

impl Snapshot {
    /// What it costs to keep, in bytes of body.
    pub fn weight(&self) -> usize {
        self.representation.body.len() + self.representation.coded.as_ref().map_or(0, |coded| coded.body.len())
    }

    /// The entity tag of one form of it: the upstream's own wherever that names just this, so that what a client asks on
    /// the condition of it means to the upstream what it means to the client. Otherwise one of ours, strong unless the
    /// upstream's is weak, and another one for each form (RFC 9110 section 8.8.3).
    pub fn etag(&self, form: Form) -> Option<HeaderValue> {
        let Some(given) = self.representation.tag() else {
            let mut tag = entity::make(&self.version, None);
            if let Some(coding) = self.coding(form) {
                tag.pop();
                tag.extend([b"-", coding.as_bytes(), b"\""].concat());
            }
            return HeaderValue::from_bytes(&tag).ok();
        };
        let Some(own) = self.representation.entity_tag() else { return Some(given.clone()) };
        let kind = match form {
            _ if own.weak => Kind::Weak,
            Form::Decoded if self.representation.coded.is_some() => Kind::Decoded,
            Form::Sent | Form::Decoded => Kind::Sent,
            Form::Gzipped => Kind::Recoded,
        };
        if self.marks.tag && matches!(kind, Kind::Weak | Kind::Sent) {
            return Some(given.clone());
        }
        HeaderValue::from_bytes(&entity::make(&self.version, Some((kind, own.opaque)))).ok()
    }

    /// The content coding of one form.
    pub fn coding(&self, form: Form) -> Option<HeaderValue> {
        match form {
            Form::Sent => self.representation.coded.as_ref().map(|coded| coded.coding.clone()),
            Form::Decoded => None,
            Form::Gzipped => Some(HeaderValue::from_static("gzip")),
        }
    }

    /// Its body in one form.
    pub fn body(&self, form: Form) -> &Bytes {
        let plain = &self.representation.body;
        match (form, &self.representation.coded) {
            (Form::Sent, Some(coded)) => &coded.body,
            (Form::Sent | Form::Decoded, _) => plain,
            (Form::Gzipped, _) => self.gzipped.get_or_init(|| gzip(plain)),
        }
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4 + 64), Compression::new(6));
    // Into memory nothing fails to be written.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}
