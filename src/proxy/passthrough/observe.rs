//! Observes passing responses of the application: to polls on unconfigured paths or, in observe mode, to all requests.
//!
//! ```text
//! the head of an answer ─▶ Observation ─ pieces of the body ─▶ complete ─┬▶ Hub::observe: may this be fetched?
//!                                                                        └▶ Observer::note: what would push save?
//! ```

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::time::Instant;

use crate::clock;
use crate::model::{Kind, MediaType, Representation, ResourceKey, Validators, fields};
use crate::observe::{Answered, Body, Exchange, Form, Upload, UploadKind};
use crate::proxy::gateway::{Gateway, PassiveObserver};
use crate::proxy::request::view::{MAX_TARGET, RequestView};
use crate::route::Target;
use crate::upstream::Decoder;

/// A copy of a response that is passing by.
#[derive(Debug)]
pub(in crate::proxy) struct Observation {
    purpose: Purpose,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// The purpose of observing a response.
#[derive(Debug)]
enum Purpose {
    /// Evidence whether the resource may be fetched.
    Evidence(ResourceKey),
    /// The report on traffic.
    Report(Box<Noted>),
}

/// A request whose response is reported.
#[derive(Debug)]
struct Noted {
    began: Instant,
    exchange: Exchange,
    /// The hasher and the length of the whole body.
    hasher: DefaultHasher,
    bytes: u64,
    /// Whether the copy is complete.
    whole: bool,
}

/// The beginning of an upload, in observe mode.
#[derive(Debug, Default)]
pub(in crate::proxy) struct UploadCopy {
    beginning: Vec<u8>,
    /// The same without numbers, since calls are numbered and contain cursor positions.
    signature: Vec<u8>,
}

/// The maximum size of an observed body. The URL of a larger response is not fetched unless configured.
const MAX_BODY: usize = 256 << 10;

/// The same for bodies other than text, markup and JSON.
const MAX_OTHER_BODY: usize = 16 << 10;

/// The maximum number of bytes of an upload that are examined.
const MAX_UPLOAD: usize = 16 << 10;

/// The maximum number of credentials of one request that are distinguished.
const MAX_CREDENTIALS: usize = 24;

impl UploadCopy {
    /// Adds a piece of the upload.
    pub(in crate::proxy) fn push(&mut self, piece: &[u8]) {
        let rest = MAX_UPLOAD.saturating_sub(self.beginning.len());
        for byte in &piece[..piece.len().min(rest)] {
            let shown = if byte.is_ascii_digit() { b'#' } else { *byte };
            if !(shown == b'#' && self.signature.last() == Some(&b'#')) {
                self.signature.push(shown);
            }
            self.beginning.push(*byte);
        }
    }
}

impl Gateway {
    /// Returns whether a route matches the request, without parsing all of it, or every response is observed.
    pub(in crate::proxy) fn is_routed(&self, head: &RequestHeader) -> bool {
        if self.passive.is_some() {
            return true;
        }
        let target = std::str::from_utf8(head.raw_path()).ok().and_then(Target::parse);
        let routes = self.routes.load();
        target.is_some_and(|target| {
            routes.find(&head.method, target.path).is_some()
                || (head.method == Method::GET && routes.learning_route(target.path).is_some())
        })
    }

    /// Begins to observe the unmodified response to `request`, which arrived at `began`, if that is useful.
    pub(in crate::proxy) fn observation(
        &self,
        request: &RequestView<'_>,
        upload: Option<&UploadCopy>,
        began: Option<Instant>,
        answer: &ResponseHeader,
    ) -> Option<Box<Observation>> {
        if let Some(passive) = &self.passive {
            return passive.begin(request, upload, began, answer);
        }
        let routes = self.routes.load();
        let path = request.target.path;
        let route = routes.find(&request.head.method, path).or_else(|| routes.learning_route(path))?;
        if !route.watch.verify_safe || !route.fetch || !request.is_plain_get() {
            return None;
        }
        let is_kept =
            answer.status.is_success() && !MediaType::of(&answer.headers).is_event_stream() && fits(&answer.headers);
        if !is_kept && answer.status != StatusCode::NOT_MODIFIED {
            return None;
        }
        let facts = route.facts(&request.asks(), clock::now());
        let key = route.key(&request.asks(), &facts, false);
        if answer.status == StatusCode::NOT_MODIFIED {
            self.hub.observe(&key, None, clock::now());
            return None;
        }
        let (status, headers) = (answer.status, answer.headers.clone());
        Some(Box::new(Observation { purpose: Purpose::Evidence(key), status, headers, body: Vec::new() }))
    }

    /// Handles the end of the observed response.
    pub(in crate::proxy) fn observed(&self, observation: Observation) {
        let Observation { purpose, status, mut headers, body } = observation;
        let decode = || {
            let mut decoder = Decoder::new(&headers, MAX_BODY as u64).ok()?;
            decoder.push(&body).ok()?;
            decoder.finish().ok()
        };
        let decoded = decode();
        let key = match (purpose, &self.passive) {
            (Purpose::Evidence(key), _) => key,
            (Purpose::Report(noted), Some(passive)) => {
                return passive.end(*noted, &MediaType::of(&headers), decoded);
            }
            (Purpose::Report(_), None) => return,
        };
        let Some(body) = decoded else { return };
        let sets_cookie = headers.contains_key(SET_COOKIE);
        headers.remove(SET_COOKIE);
        let answer = Representation {
            status,
            headers,
            body,
            validators: Validators::default(),
            sets_cookie,
            coded: None,
            ahead: 0,
        };
        self.hub.observe(&key, Some(answer), clock::now());
    }
}

/// Returns whether a response with this head is small enough to be kept, as far as the head says.
fn fits(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match MediaType::of(headers).kind() {
        Kind::Json | Kind::Html | Kind::Text | Kind::Xml => length.is_none_or(|length: usize| length <= MAX_BODY),
        // Downloads and images are many and large.
        Kind::Binary => length.is_some_and(|length| length <= MAX_OTHER_BODY),
    }
}

impl PassiveObserver {
    fn begin(
        &self,
        request: &RequestView<'_>,
        upload: Option<&UploadCopy>,
        began: Option<Instant>,
        answer: &ResponseHeader,
    ) -> Option<Box<Observation>> {
        let target = request.target;
        if request.head.raw_path().len() > MAX_TARGET {
            self.observer.note_unread();
            return None;
        }
        let began = began.unwrap_or_else(clock::now);
        let media_type = MediaType::of(&answer.headers);
        let private = ["private", "no-store"];
        let credentials = self.credentials(request.headers());
        let identity: Vec<u8> = credentials.iter().flat_map(|(_, value)| value.to_be_bytes()).collect();
        let agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes);
        let client = format!("{:?} {agent:?}", request.client.address);
        let exchange = Exchange {
            at: began.saturating_duration_since(self.began),
            took: None,
            client: self.observer.fingerprint(client.as_bytes()),
            method: method_name(&request.head.method),
            path: target.path.to_owned(),
            parameters: self.observer.parameters(target.query),
            upload: upload.map(|upload| self.upload(upload, request.headers())),
            identity: Some(self.observer.fingerprint(&identity)),
            credentials,
            answer: Answered {
                status: answer.status.as_u16(),
                bytes: None,
                content: None,
                form: Form::of_type(&media_type),
                sets_cookies: answer.headers.contains_key(SET_COOKIE),
                private: private.iter().any(|word| fields::has_token(&answer.headers, &CACHE_CONTROL, word)),
            },
        };
        if exchange.answer.form == Form::Stream {
            // Its end is unknown.
            self.observer.note(&exchange, None);
            return None;
        }
        let hasher = self.observer.hasher();
        let noted = Noted { began, exchange, hasher, bytes: 0, whole: fits(&answer.headers) };
        Some(Box::new(Observation {
            purpose: Purpose::Report(Box::new(noted)),
            status: answer.status,
            headers: answer.headers.clone(),
            body: Vec::new(),
        }))
    }

    /// Handles the end of a response; `decoded` is its body, if the copy is complete.
    fn end(&self, noted: Noted, media_type: &MediaType, decoded: Option<Bytes>) {
        let Noted { began, mut exchange, hasher, bytes, whole } = noted;
        exchange.took = Some(clock::now().saturating_duration_since(began));
        exchange.answer.bytes = Some(bytes);
        let decoded = decoded.filter(|_| whole);
        let has_content = exchange.answer.status != StatusCode::NOT_MODIFIED.as_u16();
        exchange.answer.content = has_content.then(|| match &decoded {
            Some(body) => self.observer.fingerprint(body),
            None => hasher.finish(),
        });
        let wall = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let text = decoded.as_deref().and_then(|body| std::str::from_utf8(body).ok());
        let body = text.map(|text| Body { kind: media_type.kind(), text, wall });
        self.observer.note(&exchange, body.as_ref());
    }

    /// Returns the names of all properties by which the application may identify a client, each with a fingerprint of
    /// its value.
    fn credentials(&self, headers: &HeaderMap) -> Vec<(String, u64)> {
        let cookies = fields::cookies(headers).map(|pair| {
            let name = String::from_utf8_lossy(fields::cookie_name(pair));
            (format!("cookie:{name}"), self.observer.fingerprint(pair), fields::is_of_statistics(name.as_bytes()))
        });
        let others = headers.iter().filter(|(name, _)| !fields::is_neutral(name) && *name != http::header::COOKIE);
        let others = others.map(|(name, value)| (name.to_string(), self.observer.fingerprint(value.as_bytes()), false));
        let all = cookies.chain(others).filter(|(name, _, of_statistics)| !of_statistics && name.len() <= 80);
        let mut all: Vec<_> = all.take(MAX_CREDENTIALS).map(|(name, value, _)| (name, value)).collect();
        all.sort_unstable();
        all
    }

    fn upload(&self, upload: &UploadCopy, headers: &HeaderMap) -> Upload {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = MediaType::parse(media_type.unwrap_or_default());
        Upload {
            print: self.observer.fingerprint(&upload.signature),
            kind: UploadKind::of(&media_type, &upload.beginning),
        }
    }
}

/// Returns the names of well-known methods; all others count as one.
fn method_name(method: &Method) -> String {
    let known = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND", "REPORT", "SEARCH", "CONNECT",
    ];
    known.iter().find(|name| method == **name).map_or("other", |name| *name).to_owned()
}

impl Observation {
    /// Adds a piece of the body. Returns `false` if the body is too large.
    pub(in crate::proxy) fn push(&mut self, piece: &[u8]) -> bool {
        let fits = self.body.len() + piece.len() <= MAX_BODY;
        match &mut self.purpose {
            Purpose::Evidence(_) => {}
            Purpose::Report(noted) => {
                noted.hasher.write(piece);
                noted.bytes += piece.len() as u64;
                noted.whole &= fits;
                if !noted.whole {
                    self.body = Vec::new();
                    return true;
                }
            }
        }
        if fits {
            self.body.extend_from_slice(piece);
        }
        fits
    }

    /// Returns whether the purpose is a report, which is useful without a body too.
    pub(in crate::proxy) fn is_report(&self) -> bool {
        matches!(self.purpose, Purpose::Report(_))
    }
}

/// Adds `piece` to the observation of a response, and completes it after the last piece.
pub(in crate::proxy) fn observe(
    gateway: &Gateway,
    observation: &mut Option<Box<Observation>>,
    piece: Option<&Bytes>,
    end: bool,
) {
    if let Some(piece) = piece
        && observation.as_mut().is_some_and(|observation| !observation.push(piece))
    {
        *observation = None;
    }
    if end && let Some(observation) = observation.take() {
        gateway.observed(*observation);
    }
}
