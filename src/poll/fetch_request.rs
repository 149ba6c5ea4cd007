//! The request by which a resource is fetched, made from its key.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, FORWARDED, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::model::{ResourceKey, Validators, fields};
use crate::resource::ReplicaAffinity;

/// One fetch to be made.
#[derive(Clone, Debug)]
pub struct FetchRequest<'a> {
    /// The resource.
    pub key: &'a ResourceKey,
    /// Validators of what we hold; empty for an unconditional fetch.
    pub validators: Validators,
    /// The largest decoded body that is worth having, in bytes.
    pub max_body: u64,
    /// Where the resource is fetched.
    pub affinity: &'a ReplicaAffinity,
    /// Request headers that count for nobody's identity though they are not neutral.
    pub ignored: &'a [HeaderName],
}

const OWN_USER_AGENT: &str = concat!("sungrazer/", env!("CARGO_PKG_VERSION"));

/// As browsers ask, so that an application compresses what it compresses for them; gzip before all, which every client takes.
const CODINGS: &str = "gzip, br;q=0.5, zstd;q=0.4";

impl FetchRequest<'_> {
    /// The body to send, if there is one.
    pub fn body(&self) -> Option<&Bytes> {
        let body = self.key.body.as_ref()?;
        Some(body.sent(self.key.identity.is_of_one_client()))
    }

    /// The method by which to ask.
    pub fn method(&self) -> &Method {
        self.key.body.as_ref().map_or(&Method::GET, |body| body.sent_by())
    }

    /// The headers to send, `Host` as the client gave it. `CDN-Loop` and `Accept-Encoding` are our own, and so is `User-Agent` unless
    /// the key holds a client's; all else is in the key.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(12);
        let origin = &self.key.origin;
        if let Ok(host) = HeaderValue::from_str(&origin.host) {
            headers.insert(HOST, host);
        }
        if let Ok(host) = HeaderValue::from_str(&origin.public) {
            headers.insert("x-forwarded-host", host);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(OWN_USER_AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(CODINGS));
        headers.insert(&fields::CDN_LOOP, HeaderValue::from_static(fields::PSEUDONYM));
        headers.insert("x-forwarded-proto", HeaderValue::from_static(origin.scheme.as_str()));
        if let Ok(forwarded) =
            HeaderValue::from_str(&format!("host=\"{}\";proto={}", origin.public, origin.scheme.as_str()))
        {
            headers.insert(FORWARDED, forwarded);
        }
        self.key.context.write(origin, &mut headers);
        for (name, value) in self.key.variant.iter() {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
        for (name, value) in self.key.identity.fields() {
            if let Ok(mut value) = HeaderValue::from_bytes(value.expose()) {
                value.set_sensitive(true);
                // Once, though `vary` may name it as well.
                headers.insert(name, value);
            }
        }
        if let Some(body) = self.body() {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        if let Some(etag) = &self.validators.etag {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        if let Some(date) = &self.validators.last_modified {
            headers.insert(IF_MODIFIED_SINCE, date.clone());
        }
        headers
    }
}
