//! What the upstream sent.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, REFRESH, VARY};
use http::{HeaderValue, StatusCode};

use super::entity::EntityTag;
use super::{Coded, Digest, MediaType, fields};

/// A complete response of the upstream, its content coding removed.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Always a 2xx.
    pub status: StatusCode,
    /// The end-to-end headers that may be repeated to whoever shares the resource: no `Set-Cookie`, nothing hop by hop.
    pub headers: HeaderMap,
    /// The decoded body.
    pub body: Bytes,
    /// The same body as the upstream sent it, if that was in a content coding.
    pub coded: Option<Coded>,
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

    /// The upstream's entity tag, if it gave one, whatever it looks like.
    pub fn tag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG).filter(|tag| !tag.as_bytes().trim_ascii().is_empty())
    }

    /// The same, if it can be compared with others.
    pub fn entity_tag(&self) -> Option<EntityTag<'_>> {
        EntityTag::only(self.tag()?.as_bytes())
    }

    /// Whether only the upstream may answer a plain request with it: it was made for one request (a cookie), or depends on
    /// more than anybody knows (`Vary: *`, RFC 9110 section 12.5.5).
    pub fn is_for_one_request(&self) -> bool {
        self.sets_cookie || fields::list(&self.headers, &VARY).any(|name| name == "*")
    }

    /// Its media type.
    pub fn media_type(&self) -> MediaType {
        MediaType::of(&self.headers)
    }
}
