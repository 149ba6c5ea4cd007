//! What the upstream sent.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, REFRESH};
use http::{HeaderValue, StatusCode};

use super::{Digest, MediaType};

/// A complete response of the upstream, its content coding removed.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Always a 2xx.
    pub status: StatusCode,
    /// The end-to-end headers that may be repeated to whoever shares the resource: no `Set-Cookie`, nothing hop by hop.
    pub headers: HeaderMap,
    /// The decoded body.
    pub body: Bytes,
    /// What to ask with next time.
    pub validators: Validators,
    /// Whether the answer came with a cookie. It is not kept, so a client that is to have one must ask the upstream.
    pub sets_cookie: bool,
    /// By how many seconds the upstream's clock is ahead of ours, by its `Date`.
    pub ahead: i64,
}

/// What a conditional request asks with (RFC 9110 section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// For `If-None-Match`.
    pub etag: Option<HeaderValue>,
    /// For `If-Modified-Since`.
    pub last_modified: Option<HeaderValue>,
}

impl Validators {
    /// Whether there is nothing to ask with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

impl Representation {
    /// The fingerprint of what a client would be given: status, media type and body, and where a browser is sent from it.
    pub fn digest(&self) -> Digest {
        let media_type = self.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let body = Digest::of(&self.body).to_bytes();
        let parts = [self.status.as_str().as_bytes(), media_type, &body];
        Digest::of_parts(parts.into_iter().chain(self.headers.get(REFRESH).map(HeaderValue::as_bytes)))
    }

    /// Whether two representations would be given to a client as the same thing.
    pub fn same(&self, other: &Self) -> bool {
        self.status == other.status
            && [CONTENT_TYPE, REFRESH].iter().all(|name| self.headers.get(name) == other.headers.get(name))
            && self.body == other.body
    }

    /// Its media type.
    pub fn media_type(&self) -> MediaType {
        MediaType::of(&self.headers)
    }
}
