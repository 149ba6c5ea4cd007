//! Injects the browser script into pages on their way to a browser.
//!
//! ```text
//! a navigation ─ Candidate::of ─▶ asked of the backend ─▶ the head of its answer ─ Candidate::inspect_response ─▶ Injection
//!                                                          its body, piece by piece ─ Injection::process_chunk ─┘─▶ the page
//! ```

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, RANGE, REFRESH, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use tracing::info;

use crate::clock;
use crate::deliver::LocalResponse;
use crate::model::{Kind, MediaType, fields};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::route::{Route, Shim, Table};
use crate::shim::{
    Coding, Effect, EtagCodec, Injector, Obstacle, Policy, PolicyDecision, ShimState, Tag, demands_integrity,
};
use crate::telemetry::brief;
use crate::upstream::Decoder;

/// A navigation whose response receives the script if it is a page.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Candidate {
    tag: Tag,
    /// The host by which the browser knows the site.
    host: String,
    /// The validators that are sent to the backend.
    asked: crate::shim::UpstreamValidators,
    scheme: &'static str,
    stream: String,
    page: String,
    takes_gzip: bool,
    is_head: bool,
    /// Whether the client accepts a chunked body.
    chunks: bool,
}

/// A page that is being changed.
pub(in crate::proxy) struct Injection {
    /// Never contended; the mutex makes the type `Sync`.
    injector: Mutex<Injector>,
    decoder: Option<Decoder>,
    encoder: Option<GzEncoder<Vec<u8>>>,
    page: String,
    /// Whether its content coding is damaged or truncated. The output ends after the valid part.
    broken: bool,
}

/// The compression level for pages that were received compressed. It is low, because a user is waiting for each page.
const COMPRESSION: u32 = 5;

/// The maximum number of decoded bytes per piece.
const MAX_DECODED: u64 = 64 << 20;

/// The destination of a navigation.
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The request headers that decide whether a response is for a page.
const DEPENDS_ON: &str = "Sec-Fetch-Dest, Sec-Fetch-Mode";

/// Response headers that contain a digest of the bytes.
const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// Policies that require scripts to state their digest.
const INTEGRITY_POLICIES: [&str; 2] = ["integrity-policy", "integrity-policy-report-only"];

/// Browsers send it with each navigation; scripts do not.
const UPGRADE_INSECURE_REQUESTS: HeaderName = HeaderName::from_static("upgrade-insecure-requests");

impl Candidate {
    /// Returns whether the response to `request` may receive the script.
    pub(in crate::proxy) fn is_one(gateway: &Gateway, request: &RequestView<'_>) -> bool {
        let routes = gateway.routes.load();
        routes.inject() && Self::route(&routes, request).is_some()
    }

    /// Returns the route that injects the script into the response to `request`, if it is for a page.
    fn route<'a>(routes: &'a Table, request: &RequestView<'_>) -> Option<&'a Arc<Route>> {
        let asks = matches!(request.head.method, Method::GET | Method::HEAD) && !request.headers().contains_key(RANGE);
        let is_page = asks && is_for_page(request);
        is_page
            .then(|| routes.find(&Method::GET, request.target.path))
            .flatten()
            .filter(|route| route.shim != Shim::Off)
    }

    /// Creates a candidate if the response to `request` may receive the script.
    pub(in crate::proxy) fn of(gateway: &Gateway, request: &RequestView<'_>) -> Option<Self> {
        let headers = request.headers();
        let is_head = request.head.method == Method::HEAD;
        let routes = gateway.routes.load();
        let route = Self::route(&routes, request)?;
        let prefix = &gateway.options().prefix;
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
        let data = vec![("accept", accept.to_owned()), ("heartbeat", route.deliver.heartbeat.as_millis().to_string())];
        let hash = gateway.shim.script.hash();
        Some(Self {
            tag: Tag {
                path: format!("{prefix}/shim.js"),
                hash: hash.to_owned(),
                data,
                framed: headers.get(SEC_FETCH_DEST).is_some_and(|dest| dest == "iframe" || dest == "frame"),
                ..Tag::default()
            },
            host: request.client.origin.public.to_string(),
            asked: EtagCodec { script: hash }.ask(headers),
            scheme: request.client.origin.scheme.as_str(),
            stream: format!("{prefix}/stream"),
            page: request.target.path.to_owned(),
            takes_gzip: request.accepts_gzip(),
            is_head,
            chunks: request.head.version == Version::HTTP_11,
        })
    }

    /// Adapts `request`: it asks for a coding that can be decoded here, and uses the backend's own validators.
    pub(in crate::proxy) fn prepare_request(&self, request: &mut RequestHeader) -> Result<()> {
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE] {
            request.remove_header(&name);
        }
        for (name, value) in self.asked.headers() {
            request.insert_header(name, value)?;
        }
        request.insert_header(ACCEPT_ENCODING, if self.takes_gzip { "gzip" } else { "identity" })
    }

    /// Inspects the head of the response. For a page that receives the script, it changes the head and returns the
    /// injection for the body.
    pub(in crate::proxy) fn inspect_response(
        mut self,
        shims: &ShimState,
        response: &mut ResponseHeader,
    ) -> Result<Option<Injection>> {
        let tagger = EtagCodec { script: shims.script.hash() };
        if response.status == StatusCode::NOT_MODIFIED {
            if let Some(tag) = tagger.tag(&response.headers).or(self.asked.held) {
                response.insert_header(ETAG, tag)?;
            }
            return Ok(None);
        }
        if !is_page(response) {
            return Ok(None);
        }
        let (verdict, decoder) = match self.judge(&response.headers) {
            Ok(judged) => judged,
            Err(obstacle) => {
                self.note(shims, obstacle);
                response.append_header(VARY, DEPENDS_ON)?;
                return Ok(None);
            }
        };
        for obstacle in verdict.obstacles {
            if obstacle.effect == Effect::NoWorker {
                self.tag.data.push(("worker", "no".to_owned()));
            }
            self.note(shims, obstacle);
        }
        self.tag.nonce = verdict.nonce;
        let policies = INTEGRITY_POLICIES.iter().flat_map(|name| response.headers.get_all(*name));
        if demands_integrity(policies.filter_map(|policy| policy.to_str().ok())) {
            self.tag.integrity = Some(shims.script.integrity());
        }
        self.tag.xml = MediaType::of(&response.headers).essence == "application/xhtml+xml";
        if let Some(refresh) = response.headers.get(REFRESH).and_then(|value| value.to_str().ok()) {
            // Scripts cannot read the headers of their own page.
            self.tag.data.push(("refresh", refresh.to_owned()));
        }
        let encoder = self.rewrite_head(tagger, response)?;
        shims.injections.injected();
        Ok((!self.is_head).then(|| Injection {
            injector: Mutex::new(Injector::new(self.tag)),
            decoder,
            encoder,
            page: self.page,
            broken: false,
        }))
    }

    /// Returns the decision of the page's policies and the decoder for its body, or `Err` if the page must stay
    /// unchanged.
    fn judge(&self, headers: &HeaderMap) -> Result<(PolicyDecision, Option<Decoder>), Obstacle> {
        let leave = |directive: String| Err(Obstacle { directive, effect: Effect::NotInjected });
        if fields::has_token(headers, &CACHE_CONTROL, "no-transform") {
            return leave("Cache-Control: no-transform".to_owned());
        }
        if let Some(charset) = MediaType::of(headers).charset.filter(|charset| charset.starts_with("utf-16")) {
            return leave(format!("charset={charset}"));
        }
        let policy = Policy { scheme: self.scheme, host: &self.host, script: &self.tag.path, stream: &self.stream };
        let lines = [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY];
        let lines = lines.iter().flat_map(|name| headers.get_all(name)).filter_map(|line| line.to_str().ok());
        let verdict = policy.judge(lines);
        let stops = |obstacle: &&Obstacle| matches!(obstacle.effect, Effect::NotInjected | Effect::NoStream);
        if let Some(obstacle) = verdict.obstacles.iter().find(stops) {
            return Err(obstacle.clone());
        }
        if !headers.contains_key(CONTENT_ENCODING) {
            return Ok((verdict, None));
        }
        match Decoder::new(headers, MAX_DECODED) {
            Ok(decoder) => Ok((verdict, Some(decoder))),
            Err(_) => {
                let coding = headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()));
                leave(format!("Content-Encoding: {}", coding.unwrap_or_default()))
            }
        }
    }

    /// Rewrites the head for a page that is being changed.
    fn rewrite_head(&self, tagger: EtagCodec<'_>, response: &mut ResponseHeader) -> Result<Option<GzEncoder<Vec<u8>>>> {
        match tagger.tag(&response.headers) {
            Some(tag) => response.insert_header(ETAG, tag)?,
            None => drop(response.remove_header(&ETAG)),
        }
        let gone = DIGESTS.iter().map(|name| HeaderName::from_static(name)).chain([ACCEPT_RANGES, CONTENT_LENGTH]);
        for name in gone {
            response.remove_header(&name);
        }
        response.append_header(VARY, DEPENDS_ON)?;
        let was_coded = response.remove_header(&CONTENT_ENCODING).is_some();
        let encoder =
            (was_coded && self.takes_gzip).then(|| GzEncoder::new(Vec::new(), flate2::Compression::new(COMPRESSION)));
        if encoder.is_some() {
            response.insert_header(CONTENT_ENCODING, "gzip")?;
        }
        if was_coded && !fields::has_token(&response.headers, &VARY, "accept-encoding") {
            response.append_header(VARY, "Accept-Encoding")?;
        }
        if self.chunks && !self.is_head {
            response.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        Ok(encoder)
    }

    fn note(&self, shims: &ShimState, obstacle: Obstacle) {
        note(shims, &self.page, obstacle);
    }
}

fn note(shims: &ShimState, page: &str, obstacle: Obstacle) {
    let Obstacle { directive, effect } = obstacle.clone();
    if shims.injections.record(page, obstacle, clock::wall()) {
        info!(page = &*brief(page), directive, "the page says what the browser script may not do: {effect}");
    }
}

/// Returns whether a browser requests a page for display, possibly in a frame.
fn is_for_page(request: &RequestView<'_>) -> bool {
    let headers = request.headers();
    match headers.get(SEC_FETCH_DEST).and_then(|value| value.to_str().ok()) {
        // A navigation that a service worker forwards loses its destination; scripts cannot create a navigation.
        Some("empty") => request.is_navigation() && request.accepts("text/html"),
        Some(dest) => matches!(dest, "document" | "iframe" | "frame"),
        // Browsers send it only over trusted connections. To other sites, navigations send this header instead.
        None => request.is_navigation() && headers.contains_key(UPGRADE_INSECURE_REQUESTS),
    }
}

/// Returns whether this response is a complete page.
fn is_page(response: &ResponseHeader) -> bool {
    let is_whole = response.status.is_success() && !matches!(response.status.as_u16(), 204..=206);
    let is_saved = response.headers.get(CONTENT_DISPOSITION).is_some_and(|value| {
        value.as_bytes().get(..10).is_some_and(|dispatch| dispatch.eq_ignore_ascii_case(b"attachment"))
    });
    is_whole && !is_saved && MediaType::of(&response.headers).kind() == Kind::Html
}

impl Injection {
    /// Processes a piece of the body, or its end.
    pub(in crate::proxy) fn process_chunk(
        &mut self,
        shims: &ShimState,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<()> {
        let piece = body.take().unwrap_or_default();
        let decoded = self.decode(piece, end);
        let mut out = self.injector.get_mut().push(&decoded);
        if end {
            let injector = self.injector.get_mut();
            out.extend(injector.finish());
            for policy in injector.take_policies() {
                let directive = format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">");
                note(shims, &self.page, Obstacle { directive, effect: Effect::InMarkup });
            }
        }
        let out = self.encode(out, end).map_err(|error| Error::because(ErrorType::InternalError, "gzip", error))?;
        *body = (end || !out.is_empty()).then(|| Bytes::from(out));
        Ok(())
    }

    /// Decodes a piece. If the coding is damaged, the page ends after the valid part, as it would without the proxy.
    fn decode(&mut self, piece: Bytes, end: bool) -> Bytes {
        if self.broken {
            return Bytes::new();
        }
        let Some(decoder) = &mut self.decoder else { return piece };
        let taken = decoder.push(&piece).and_then(|()| decoder.take());
        self.broken = taken.is_err();
        let mut decoded = taken.unwrap_or_else(|_| decoder.partial_output());
        if end
            && !self.broken
            && let Some(decoder) = self.decoder.take()
        {
            match decoder.finish() {
                Ok(rest) => decoded.extend_from_slice(&rest),
                Err(_) => self.broken = true,
            }
        }
        decoded.into()
    }

    fn encode(&mut self, out: Vec<u8>, end: bool) -> std::io::Result<Vec<u8>> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(out) };
        encoder.write_all(&out)?;
        if end && !self.broken {
            return encoder.finish();
        }
        if !out.is_empty() {
            // The server sent this piece separately, so it is flushed.
            encoder.flush()?;
        }
        let packed = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Ok(packed)
    }
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Injection({})", self.page)
    }
}

/// The `Cache-Control` of the script under a URL with its version.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

impl Gateway {
    /// Returns the response with the browser script.
    pub(in crate::proxy) fn script(&self, request: &RequestView<'_>) -> LocalResponse {
        let script = &self.shim.script;
        let coding = match (request.accepts_brotli(), request.accepts_gzip()) {
            (true, _) => Coding::Brotli,
            (false, true) => Coding::Gzip,
            (false, false) => Coding::Identity,
        };
        let is_named = request.target.query == Some(script.hash());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(if is_named { FOR_EVER } else { "no-cache" }));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if let Some(name) = coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        let tag = format!("W/\"{}\"", script.hash());
        if fields::list(request.headers(), &IF_NONE_MATCH).any(|known| known == tag || known == "*") {
            return LocalResponse { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() };
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        LocalResponse { status: StatusCode::OK, headers, body: script.coded(coding) }
    }
}
