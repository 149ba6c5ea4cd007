//! Fetches from the real backend.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::ErrorType;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use tokio::time::timeout;

use super::decode::{Decoder, Undecoded};
use super::error::ExchangeError;
use super::naming::rewrite;
use super::{Expected, Upstream, ask_on};
use crate::clock;
use crate::model::Coded;
use crate::poll::{Answer, FetchRequest, classify_body, classify_head};
use crate::resource::FetchOutcome;

impl Upstream {
    /// Makes one fetch, and records whether the backend is available.
    pub(super) async fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchOutcome, ExchangeError> {
        let fetched = self.in_time(self.exchange(request)).await;
        match &fetched {
            Ok(_) => self.health.mark_up(),
            Err(unread) => self.health.mark_down(&unread.to_string()),
        }
        fetched
    }

    /// Sends a client's request that only reads as it would be proxied and returns only the head of the response, to
    /// determine its kind. Returns `None` if there is no response.
    pub async fn probe_head(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: Option<&Bytes>,
    ) -> Option<Answer> {
        let mut headers = headers.clone();
        self.options.request_headers.apply(&mut headers);
        let asking = async {
            let mut session = ask_on(self.connect().await.ok()?, Expected::default());
            ask(&mut session, method, target, &headers, body).await.ok()
        };
        timeout(self.options.fetch_timeout, asking).await.ok()?
    }

    /// Makes one fetch. If an idle connection turns out to be closed, the fetch is repeated, because that is not a
    /// failure of the backend.
    async fn exchange(&self, request: &FetchRequest<'_>) -> Result<FetchOutcome, ExchangeError> {
        let mut headers = request.headers();
        let site = &request.key.origin;
        let rewrites = self.request_rewrites(&headers, site);
        rewrite(&mut headers, rewrites);
        self.options.request_headers.apply(&mut headers);
        let mut method = request.method();
        loop {
            let (stream, reused) = match self.idle() {
                Some(idle) => (idle, true),
                None => (self.connect().await?, false),
            };
            let mut session = ask_on(stream, Expected::default());
            match ask(&mut session, method, &request.key.target, &headers, request.body()).await {
                Ok(answer) if *method != Method::POST && may_need_post(request, answer.status) => {
                    method = &Method::POST;
                }
                Ok(mut answer) => {
                    if method != request.method() && answer.status.is_success() {
                        request.key.body.iter().for_each(|body| body.needs_post());
                    }
                    // The stored representation must never contain the backend's own name.
                    let rewrites = self.response_rewrites(&answer.headers, site);
                    rewrite(&mut answer.headers, rewrites);
                    return self.read(request, answer, session).await;
                }
                Err(_) if reused => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn read(
        &self,
        request: &FetchRequest<'_>,
        answer: Answer,
        mut session: HttpSession,
    ) -> Result<FetchOutcome, ExchangeError> {
        if let Err(outcome) = classify_head(request, &answer, clock::wall()) {
            // A 304 leaves the connection ready for the next fetch; it is not worth waiting for any other body.
            if matches!(*outcome, FetchOutcome::NotModified(_)) && session.is_body_done() {
                self.release(session).await;
            }
            return Ok(*outcome);
        }
        // Without a body, the content coding is meaningless.
        let none = HeaderMap::new();
        let coded = if session.is_body_done() { &none } else { &answer.headers };
        let mut decoder = match Decoder::new(coded, request.max_body) {
            Ok(decoder) => decoder,
            Err(decline) => return Ok(FetchOutcome::Declined(decline)),
        };
        let mut coded = Sent::of(&answer.headers, request.max_body);
        while let Some(piece) = session.read_body_ref().await? {
            if let Err(decline) = decoder.push(piece) {
                return Ok(FetchOutcome::Declined(decline));
            }
            coded = coded.and_then(|coded| coded.with(piece));
        }
        self.release(session).await;
        match decoder.finish() {
            Ok(body) => Ok(classify_body(&answer, body, coded.and_then(Sent::finish), clock::wall())),
            Err(Undecoded::Declined(decline)) => Ok(FetchOutcome::Declined(decline)),
            Err(truncated) => Err(truncated.into()),
        }
    }
}

impl Upstream {
    /// Keeps the connection of a completed exchange, if both sides keep it open.
    async fn release(&self, mut session: HttpSession) {
        session.respect_keepalive();
        if let Some(stream) = session.reuse().await {
            self.keep(stream);
        }
    }
}

/// A coded body as received, for clients that accept its coding.
struct Sent {
    coding: HeaderValue,
    body: BytesMut,
    limit: u64,
}

impl Sent {
    fn of(headers: &HeaderMap, limit: u64) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_ENCODING).iter();
        let coding = lines.next().filter(|_| lines.next().is_none())?;
        let is_one = |known: &&str| coding.as_bytes().eq_ignore_ascii_case(known.as_bytes());
        let coding = ["gzip", "x-gzip", "br", "zstd", "deflate"].into_iter().find(is_one)?;
        Some(Self { coding: HeaderValue::from_static(coding), body: BytesMut::new(), limit })
    }

    /// Adds a piece. Returns `None` if the coded body exceeds the limit for the decoded one.
    fn with(mut self, piece: &[u8]) -> Option<Self> {
        self.body.extend_from_slice(piece);
        (self.body.len() as u64 <= self.limit).then_some(self)
    }

    /// Returns the coded body; `None` if it is empty.
    fn finish(self) -> Option<Coded> {
        (!self.body.is_empty()).then(|| Coded { coding: self.coding, body: self.body.freeze() })
    }
}

/// Returns whether the fetch should be sent again by POST after a response with `status`.
fn may_need_post(request: &FetchRequest<'_>, status: StatusCode) -> bool {
    request.key.body.as_ref().is_some_and(|body| body.may_need_post(status))
}

/// Sends a request and reads the head of the response.
async fn ask(
    session: &mut HttpSession,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: Option<&Bytes>,
) -> pingora::Result<Answer> {
    let mut request = RequestHeader::build(method.clone(), target.as_bytes(), Some(headers.len()))?;
    for (name, value) in headers {
        request.append_header(name.clone(), value.clone())?;
    }
    session.write_request_header(Box::new(request)).await?;
    if let Some(body) = body {
        session.write_body(body).await?;
        session.finish_body().await?;
    }
    session.read_response().await?;
    match session.resp_header() {
        Some(head) => Ok(Answer { status: head.status, headers: head.headers.clone() }),
        None => pingora::Error::e_explain(ErrorType::InvalidHTTPHeader, "an answer without a head"),
    }
}
