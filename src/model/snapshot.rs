//! Snapshots: representations that became versions.

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

/// One state of a resource, with the forms in which clients receive it.
#[derive(Debug)]
pub struct Snapshot {
    /// Its position and fingerprints.
    pub version: Version,
    /// The upstream's response.
    pub representation: Representation,
    /// When the fetch that brought it completed. Delivery delays are measured from here.
    pub arrived: Instant,
    /// The same moment in wall-clock time.
    pub at: SystemTime,
    /// Its encoded forms. They depend on the body, so a fetch that only refreshes headers keeps them.
    pub encodings: Arc<EncodingCache>,
    /// The reliability of the upstream's own validators.
    pub marks: Marks,
    /// The beginnings of plain HTTP/1.1 responses with this snapshot, by [`Form`]. Each is built once for all polling
    /// clients.
    pub heads: [OnceLock<Bytes>; 3],
    /// The body gzipped by Sungrazer.
    pub gzipped: OnceLock<Bytes>,
    /// The positions of client-specific values in the body.
    pub echoes: OnceLock<Option<Box<[EchoPlace]>>>,
}

/// Which validators of the upstream have been observed to identify a single state (RFC 9110 section 8.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its entity tag does.
    pub tag: bool,
    /// Its modification date does.
    pub date: bool,
}

impl Snapshot {
    /// Returns the cost of keeping it, in bytes of body.
    pub fn weight(&self) -> usize {
        self.representation.body.len() + self.representation.coded.as_ref().map_or(0, |coded| coded.body.len())
    }

    /// Returns the entity tag of one form: the upstream's own tag if it names exactly this form, so that conditional
    /// requests mean the same to the upstream and to the client. Otherwise a tag of this server, which differs between
    /// forms (RFC 9110 section 8.8.3) and is strong unless the upstream's tag is weak.
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

    /// Returns the content coding of one form.
    pub fn coding(&self, form: Form) -> Option<HeaderValue> {
        match form {
            Form::Sent => self.representation.coded.as_ref().map(|coded| coded.coding.clone()),
            Form::Decoded => None,
            Form::Gzipped => Some(HeaderValue::from_static("gzip")),
        }
    }

    /// Returns the body in one form.
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
    // Writing to memory does not fail.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}
