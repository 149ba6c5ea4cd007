//! The request of a fetch, built from the resource key.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, FORWARDED, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::model::{ResourceKey, Validators, fields};
use crate::resource::ReplicaAffinity;

/// A fetch to be made.
#[derive(Clone, Debug)]
pub struct FetchRequest<'a> {
    /// The resource.
    pub key: &'a ResourceKey,
    /// The validators of the stored version; empty for an unconditional fetch.
    pub validators: Validators,
    /// The maximum size of the decoded body, in bytes.
    pub max_body: u64,
    /// The replica on which the resource is fetched.
    pub affinity: &'a ReplicaAffinity,
    /// Request headers that do not identify a client although they are not neutral.
    pub ignored: &'a [HeaderName],
}

const OWN_USER_AGENT: &str = concat!("sungrazer/", env!("CARGO_PKG_VERSION"));

/// The same codings as browsers, so that an application compresses as it does for them; gzip first, which every client
/// accepts.
const CODINGS: &str = "gzip, br;q=0.5, zstd;q=0.4";

impl FetchRequest<'_> {
    /// Returns the body to send, if any.
    pub fn body(&self) -> Option<&Bytes> {
        let body = self.key.body.as_ref()?;
        Some(body.sent(self.key.identity.is_of_one_client()))
    }

    /// Returns the request method.
    pub fn method(&self) -> &Method {
        self.key.body.as_ref().map_or(&Method::GET, |body| body.sent_by())
    }

    /// Returns the headers to send, with the client's `Host`. `CDN-Loop` and `Accept-Encoding` are set by this server,
    /// and so is `User-Agent` unless the key contains a client's; all others come from the key.
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
                // Replaces an earlier value, since `vary` may name the header too.
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
