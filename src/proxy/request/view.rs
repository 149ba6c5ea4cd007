//! A parsed view of a request, before it is dispatched.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    ORIGIN, PRAGMA, RANGE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, Method, Version};
use pingora::http::RequestHeader;
use pingora::protocols::Digest;

use crate::deliver::{AdmissionRequest, StreamFormat};
use crate::model::{DeltaKind, ResumeFrom, fields};
use crate::post::{BodyRead, MAX_BODY};
use crate::proxy::request::forwarded::TrustedProxies;
use crate::proxy::watched::under_way::UnderWay;
use crate::route::{Client, Hop, QUERY, RESUME_PARAMETER, ResourceRequest, Target};

/// Set by the browser script on a page's polls, so that they do not count as writes. Not forwarded.
pub(in crate::proxy) const POLL_MARK: HeaderName = HeaderName::from_static("sungrazer-poll");

/// Fetch Metadata: the initiating site and the mode of a browser's request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// RFC 4918 section 10.4.
pub(in crate::proxy) const IF: HeaderName = HeaderName::from_static("if");

/// Headers that describe the bytes of the body or sign the request: a fetch could not send the same ones, and the
/// request must not be repeated.
const OF_BODIES: [&str; 16] = [
    "digest",
    "expect",
    "idempotency-key",
    "if",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "repr-digest",
    "signature",
    "signature-input",
    "transfer-encoding",
    "upgrade",
    "x-amz-content-sha256",
];

/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The maximum length of a watched target, in bytes.
pub(in crate::proxy) const MAX_TARGET: usize = 8 * 1024;

/// The maximum size of a watched head, in bytes. It is stored as long as a client is held.
const MAX_FIELDS: usize = 32 * 1024;

/// The remote end of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Peer {
    /// The address; `None` on a Unix socket.
    pub(in crate::proxy) address: Option<IpAddr>,
    /// The port; 0 on a Unix socket.
    pub(in crate::proxy) port: u16,
    /// Whether the connection uses TLS.
    pub(in crate::proxy) tls: bool,
}

/// A request and its origin.
pub(in crate::proxy) struct RequestView<'a> {
    /// The sender of the request: the client, or a proxy in front.
    pub(in crate::proxy) peer: Peer,
    /// The method, target and headers.
    pub(in crate::proxy) head: &'a RequestHeader,
    /// The parsed target.
    pub(in crate::proxy) target: Target<'a>,
    /// The client.
    pub(in crate::proxy) client: Client,
    /// Whether a body follows without a length in the head, which HTTP/2 allows.
    pub(in crate::proxy) goes_on: bool,
    /// Notified when the request has been answered.
    pub(in crate::proxy) under_way: UnderWay,
    /// The read that the body requests, if the request certainly only reads.
    pub(in crate::proxy) read: OnceLock<Arc<BodyRead>>,
}

impl Peer {
    /// Returns the remote end of the connection with this digest.
    pub(in crate::proxy) fn of(digest: Option<&Digest>) -> Self {
        let socket = digest.and_then(|digest| digest.socket_digest.as_ref()?.peer_addr()?.as_inet());
        Self::new(socket, digest.is_some_and(|digest| digest.ssl_digest.is_some()))
    }

    pub(in crate::proxy) fn new(socket: Option<&SocketAddr>, tls: bool) -> Self {
        Self { address: socket.map(SocketAddr::ip), port: socket.map_or(0, SocketAddr::port), tls }
    }

    /// Returns the pair that identifies an open connection; `None` on a Unix socket.
    pub(in crate::proxy) fn end(self) -> Option<(IpAddr, u16)> {
        self.address.map(|address| (address, self.port))
    }

    /// Returns the description of this hop for the backend.
    pub(in crate::proxy) fn hop(self, trusted: &TrustedProxies) -> Hop {
        Hop { address: self.address, tls: self.tls, believed: trusted.contains(self.address) }
    }
}

impl<'a> RequestView<'a> {
    /// Creates a view of `head`, which arrived from `peer`. Returns `None` if only pingora may handle the request,
    /// because it has no usable target or no host.
    pub(in crate::proxy) fn new(head: &'a RequestHeader, peer: Peer, trusted: &TrustedProxies) -> Option<Self> {
        let target = Target::parse(std::str::from_utf8(head.raw_path()).ok()?)?;
        let host = match head.headers.get(http::header::HOST) {
            Some(host) => host.to_str().ok()?,
            None => head.uri.authority()?.as_str(),
        };
        let origin = trusted.origin(peer, host, &head.headers)?;
        Some(Self {
            peer,
            head,
            target,
            client: Client::new(trusted.client_address(peer.address, &head.headers), origin, peer.hop(trusted)),
            goes_on: false,
            under_way: UnderWay::default(),
            read: head.extensions.get::<Arc<BodyRead>>().cloned().map_or_else(OnceLock::new, OnceLock::from),
        })
    }

    pub(in crate::proxy) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Returns whether this is a GET for a complete resource, without a body, that every application treats as a GET.
    pub(in crate::proxy) fn is_plain_get(&self) -> bool {
        let headers = self.headers();
        self.head.method == Method::GET
            && !self.goes_on
            && !fields::overrides_method(headers)
            && !headers.contains_key(RANGE)
            && !headers.contains_key(TRANSFER_ENCODING)
            && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
    }

    /// Returns the parts of the request that determine its key.
    pub(in crate::proxy) fn asks(&self) -> ResourceRequest<'_> {
        self.asks_for(self.target)
    }

    /// Returns the same parts for another `target`.
    pub(in crate::proxy) fn asks_for<'b>(&'b self, target: Target<'b>) -> ResourceRequest<'b> {
        let body = self.read.get().map(|read| &read.body);
        ResourceRequest { client: &self.client, target, headers: self.headers(), body }
    }

    /// Returns whether the request only asks for a whole representation: a GET, or a request whose body is known to
    /// read.
    pub(in crate::proxy) fn is_plain_read(&self) -> bool {
        self.read.get().is_some() || self.is_plain_get()
    }

    /// Returns the length of the body if it may be inspected: it is small, and its headers also hold for another
    /// notation.
    pub(in crate::proxy) fn readable_body(&self) -> Option<u64> {
        let headers = self.headers();
        let describes = |name: &HeaderName| {
            let name = name.as_str();
            let is_content = name.starts_with("content-") && !["content-type", "content-length"].contains(&name);
            is_content || OF_BODIES.contains(&name)
        };
        let is_plain = !fields::overrides_method(headers)
            && !headers.keys().any(describes)
            && !self.is_navigation()
            && headers.get_all(CONTENT_TYPE).iter().nth(1).is_none()
            && headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none();
        self.content_length().filter(|length| is_plain && (1..=MAX_BODY).contains(length))
    }

    /// Returns whether it asks for more than the current state: by a precondition that a fetch would not send, or for a
    /// special response (RFC 7240).
    pub(in crate::proxy) fn has_unsupported_preconditions(&self) -> bool {
        let ours = |preference: &str| {
            let name = preference.split([';', '=']).next().unwrap_or_default().trim();
            ["wait", "delta", "respond-async"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
        };
        [IF, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE].iter().any(|name| self.headers().contains_key(name))
            || !fields::list(self.headers(), &PREFER).all(ours)
    }

    /// Returns whether it may change something at the backend.
    pub(in crate::proxy) fn may_write(&self) -> bool {
        self.read.get().is_none() && is_unsafe(self.head)
    }

    /// Returns whether it is too large to be kept in memory. Such a request is proxied without being watched.
    pub(in crate::proxy) fn is_oversized(&self) -> bool {
        let sizes = self.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
        let cookies = fields::cookies(self.headers()).nth(fields::MAX_COOKIES);
        self.head.raw_path().len() > MAX_TARGET || sizes.sum::<usize>() > MAX_FIELDS || cookies.is_some()
    }

    /// Returns whether the browser script marked it as a poll of the page.
    pub(in crate::proxy) fn is_marked_as_poll(&self) -> bool {
        self.headers().contains_key(&POLL_MARK)
    }

    /// Returns the parts of the browser script's mark on a poll: the URL, and after `#` a nonce that distinguishes its
    /// response from one in a cache.
    pub(in crate::proxy) fn poll_marker(&self) -> Option<(&str, &str)> {
        let mark = self.headers().get(&POLL_MARK)?.to_str().ok()?;
        Some(mark.split_once('#').unwrap_or((mark, "")))
    }

    /// Returns the URL of a poll without its cache-busting parameters, according to the browser script: it has the same
    /// path, and only parameters that the request has too.
    pub(in crate::proxy) fn poll_target(&self) -> Option<Target<'_>> {
        let target = Target::parse(self.poll_marker()?.0)?;
        let parameters = |query: Option<&'a str>| query.unwrap_or_default().split('&');
        let mut sent = parameters(self.target.query);
        let is_left = target.query.is_none_or(|query| query.split('&').all(|kept| sent.any(|one| one == kept)));
        (target.path == self.target.path && is_left).then_some(target)
    }

    /// Returns whether the client requests an upgrade to another protocol.
    pub(in crate::proxy) fn is_upgrade(&self) -> bool {
        self.headers().contains_key(UPGRADE) && fields::has_token(self.headers(), &http::header::CONNECTION, "upgrade")
    }

    /// Returns whether this is an upgrade that the backend decides on: to any protocol, and without a body, after which
    /// the new protocol would begin. HTTP/1.0 has no upgrades (RFC 9110 section 7.8).
    pub(in crate::proxy) fn is_tunnelled(&self) -> bool {
        self.is_upgrade() && self.head.version == Version::HTTP_11 && self.content_length() == Some(0)
    }

    /// Returns whether this is an upgrade to WebSocket.
    pub(in crate::proxy) fn is_websocket(&self) -> bool {
        let is_websocket = self.is_tunnelled() && fields::has_token(self.headers(), &UPGRADE, "websocket");
        is_websocket && self.head.method == Method::GET
    }

    /// Returns whether this is a navigation to a page, rather than a poll by one.
    pub(in crate::proxy) fn is_navigation(&self) -> bool {
        match self.headers().get(SEC_FETCH_MODE) {
            Some(mode) => mode == "navigate",
            // Browsers send it only over trusted connections. Scripts that request parts of a page identify themselves.
            None => self.accepts("text/html") && !fields::is_from_script(self.headers()) && !self.is_marked_as_poll(),
        }
    }

    /// Returns whether this is a reload by the user: a navigation that bypasses all caches.
    pub(in crate::proxy) fn is_reload(&self) -> bool {
        let headers = self.headers();
        let past_caches = ["no-cache", "no-store", "max-age=0"]
            .iter()
            .any(|directive| fields::has_token(headers, &CACHE_CONTROL, directive));
        self.is_navigation() && (past_caches || headers.contains_key(PRAGMA))
    }

    /// Returns whether `Accept` allows a response of this media type, as far as it says.
    pub(in crate::proxy) fn takes_type(&self, media_type: &str) -> bool {
        let general = media_type.split('/').next().unwrap_or_default();
        !self.headers().contains_key(ACCEPT)
            || [media_type, &format!("{general}/*"), "*/*"].iter().any(|name| self.accepts(name))
    }

    /// Returns whether `Accept` names exactly this media type with a quality above zero.
    pub(in crate::proxy) fn accepts(&self, media_type: &str) -> bool {
        self.quality(media_type) > 0.0
    }

    /// Returns the stream format that the client requests, among those `offered`; `None` if the client prefers anything
    /// else. Some libraries name streams in every request: Datastar, which reads streams in a format of its own, and MCP clients,
    /// which expect one response. Their requests are polls. htmx 4 does the same and reads our streams.
    pub(in crate::proxy) fn delivery(
        &self,
        offered: &[&'static dyn StreamFormat],
    ) -> Option<&'static dyn StreamFormat> {
        if !self.headers().contains_key(ACCEPT) {
            return None;
        }
        let best = fields::list(self.headers(), &ACCEPT).map(fields::quality).fold(f32::MIN_POSITIVE, f32::max);
        let whole = ["text/html", "application/json"].map(|kind| self.quality(kind)).into_iter().fold(0.0, f32::max);
        let reads_ours = self.headers().contains_key("hx-request");
        let is_wanted = |quality: f32| quality >= best && (reads_ours || quality > whole);
        offered.iter().copied().find(|delivery| is_wanted(self.quality(delivery.accept())))
    }

    /// Returns the quality that `Accept` gives to exactly this media type (RFC 9110 section 12.4.2); zero if it is not
    /// named.
    fn quality(&self, media_type: &str) -> f32 {
        let named =
            |item: &&str| item.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type));
        fields::list(self.headers(), &ACCEPT).filter(named).map(fields::quality).fold(0.0, f32::max)
    }

    /// Returns the kind of delta that the client prefers (RFC 7240: the first preference of a name counts).
    pub(in crate::proxy) fn delta(&self) -> Option<DeltaKind> {
        self.preference("delta")?.parse().ok()
    }

    /// Returns `Last-Event-ID`, or the query parameter `last_event_id`.
    pub(in crate::proxy) fn last_event_id(&self) -> Option<String> {
        let header = self.headers().get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
        header.or_else(|| self.target.parameter(RESUME_PARAMETER))
    }

    /// Returns the state that the client says it holds of the requested resource.
    pub(in crate::proxy) fn resumes_from(&self) -> Option<ResumeFrom> {
        ResumeFrom::parse(&self.last_event_id()?)
    }

    /// Returns how long the client is willing to wait, according to `Prefer: wait` (RFC 7240 section 4.3).
    pub(in crate::proxy) fn wait_preference(&self) -> Option<Duration> {
        self.preference("wait")?.parse().ok().map(Duration::from_secs)
    }

    /// Returns the value of the first preference called `name` (RFC 7240).
    fn preference(&self, name: &str) -> Option<&str> {
        fields::list(self.headers(), &PREFER).find_map(|preference| {
            let (found, value) = preference.split(';').next()?.split_once('=')?;
            found.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    }

    /// Returns whether the client accepts gzip, according to `Accept-Encoding`.
    pub(in crate::proxy) fn accepts_gzip(&self) -> bool {
        self.takes(&["gzip", "x-gzip"])
    }

    /// Returns whether the client accepts brotli, according to `Accept-Encoding`.
    pub(in crate::proxy) fn accepts_brotli(&self) -> bool {
        self.takes(&["br"])
    }

    fn takes(&self, coding: &[&str]) -> bool {
        fields::list(self.headers(), &ACCEPT_ENCODING).any(|item| {
            let found = item.split(';').next().unwrap_or_default().trim();
            coding.iter().any(|name| found.eq_ignore_ascii_case(name)) && fields::quality(item) > 0.0
        })
    }

    /// Returns the length of the body, if the head states it.
    pub(in crate::proxy) fn content_length(&self) -> Option<u64> {
        length_of(self.head)
    }

    /// Returns the admission request of a client that is to be held. `optional` means that the client expects an
    /// ordinary response.
    pub(in crate::proxy) fn admission(&self, optional: bool) -> AdmissionRequest {
        let agent = self.headers().get(USER_AGENT);
        // Every browser sends this prefix. Over HTTP/2 all requests share one connection.
        let browser =
            agent.filter(|agent| agent.as_bytes().starts_with(b"Mozilla/") && self.head.version != Version::HTTP_2);
        let mut hasher = DefaultHasher::new();
        let browser = browser.map(|agent| {
            (self.client.address, agent).hash(&mut hasher);
            NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN)
        });
        AdmissionRequest { address: self.client.address, browser, optional }
    }
}

/// Returns the path of a request with this head, as it was sent.
pub(in crate::proxy) fn path_of(head: &RequestHeader) -> &str {
    let target = std::str::from_utf8(head.raw_path()).ok().and_then(Target::parse);
    target.map_or_else(|| head.uri.path(), |target| target.path)
}

/// Returns whether a request with this head may change state, as far as the head tells.
pub(in crate::proxy) fn is_unsafe(head: &RequestHeader) -> bool {
    !head.method.is_safe() && head.method.as_str() != QUERY || fields::overrides_method(&head.headers)
}

/// Returns the length of a request's body, if its head states it.
pub(in crate::proxy) fn length_of(head: &RequestHeader) -> Option<u64> {
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    head.headers.get(CONTENT_LENGTH).map_or(Some(0), |length| length.to_str().ok()?.parse().ok())
}

/// Returns whether a browser's request comes from a page of this site. Other clients send no such headers and pass.
pub(in crate::proxy) fn is_same_site(request: &RequestView<'_>) -> bool {
    let headers = request.headers();
    if headers.get(SEC_FETCH_SITE).is_some_and(|gateway| gateway == "cross-site") {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    origin.to_str().is_ok_and(|origin| request.client.origin.is_named_by(origin))
}

/// The same for URLs below our own prefix, which even pages on other hosts of the same site (RFC 6265bis) may not use.
pub(in crate::proxy) fn is_own_origin(request: &RequestView<'_>) -> bool {
    is_same_site(request) && request.headers().get(SEC_FETCH_SITE).is_none_or(|gateway| gateway != "same-site")
}

#[cfg(test)]
mod tests {
    use crate::model::{Origin, Scheme};

    #[test]
    fn pages_of_a_site_have_its_origin() {
        let gateway = |scheme, host: &str| Origin { scheme, host: host.into(), public: "public.example".into() };
        for (origin, scheme, host, ours) in [
            ("http://a.example", Scheme::Http, "a.example", true),
            ("HTTP://a.example", Scheme::Http, "a.example", false),
            ("http://A.example", Scheme::Http, "a.example", true),
            ("http://a.example", Scheme::Http, "a.example:80", true),
            ("https://a.example", Scheme::Https, "a.example:443", true),
            ("https://a.example:8443", Scheme::Https, "a.example:8443", true),
            ("https://a.example", Scheme::Http, "a.example", true),
            ("https://public.example", Scheme::Https, "a.example", true),
            ("http://a.example", Scheme::Https, "a.example", false),
            ("http://a.example:8080", Scheme::Http, "a.example", false),
            ("http://a.example", Scheme::Http, "a.example:443", false),
            ("chrome-extension://a.example", Scheme::Http, "a.example", false),
            ("http://b.example", Scheme::Http, "a.example", false),
            ("http://xa.example", Scheme::Http, "a.example", false),
            ("null", Scheme::Http, "null", false),
        ] {
            assert_eq!(gateway(scheme, host).is_named_by(origin), ours, "{origin} at {scheme:?} {host}");
        }
    }
}
