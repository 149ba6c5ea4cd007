//! Responses of the upstream, as they are kept.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, REFRESH, VARY};
use http::{HeaderValue, StatusCode};

use super::entity::EntityTag;
use super::{Coded, Digest, MediaType, fields};

/// A complete response of the upstream with its content coding removed.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Always a 2xx.
    pub status: StatusCode,
    /// The end-to-end headers that may be sent to every client that shares the resource: no `Set-Cookie`, no hop-by-hop
    /// fields.
    pub headers: HeaderMap,
    /// The decoded body.
    pub body: Bytes,
    /// The same body as the upstream sent it, if it had a content coding.
    pub coded: Option<Coded>,
    /// The validators for the next conditional request.
    pub validators: Validators,
    /// Whether the response set a cookie. Cookies are not kept, so a client that needs one must ask the upstream.
    pub sets_cookie: bool,
    /// The number of seconds by which the upstream's clock is ahead of ours, according to its `Date`.
    pub ahead: i64,
}

/// Validators for a conditional request (RFC 9110 section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The value for `If-None-Match`.
    pub etag: Option<HeaderValue>,
    /// The value for `If-Modified-Since`.
    pub last_modified: Option<HeaderValue>,
}

impl Validators {
    /// Returns whether there is no validator.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

impl Representation {
    /// Returns the fingerprint of everything that a client receives: status, media type, body, and the `Refresh`
    /// header.
    pub fn digest(&self) -> Digest {
        let media_type = self.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let body = Digest::of(&self.body).to_bytes();
        let parts = [self.status.as_str().as_bytes(), media_type, &body];
        Digest::of_parts(parts.into_iter().chain(self.headers.get(REFRESH).map(HeaderValue::as_bytes)))
    }

    /// Returns whether two representations are the same to a client.
    pub fn same(&self, other: &Self) -> bool {
        self.status == other.status
            && [CONTENT_TYPE, REFRESH].iter().all(|name| self.headers.get(name) == other.headers.get(name))
            && self.body == other.body
    }

    /// Returns the upstream's entity tag, if it sent one, well-formed or not.
    pub fn tag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG).filter(|tag| !tag.as_bytes().trim_ascii().is_empty())
    }

    /// Returns the same tag if it is well-formed and can be compared.
    pub fn entity_tag(&self) -> Option<EntityTag<'_>> {
        EntityTag::only(self.tag()?.as_bytes())
    }

    /// Returns whether only the upstream may answer a plain request: the response was made for one request (a cookie),
    /// or depends on unknown factors (`Vary: *`, RFC 9110 section 12.5.5).
    pub fn is_for_one_request(&self) -> bool {
        self.sets_cookie || fields::list(&self.headers, &VARY).any(|name| name == "*")
    }

    /// Returns the media type.
    pub fn media_type(&self) -> MediaType {
        MediaType::of(&self.headers)
    }
}
