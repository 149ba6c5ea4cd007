//! Relays requests without a body within the client's own task.
//!
//! ```text
//! a head, as it was read ─ hop-by-hop fields, Forwarded, CDN-Loop ─▶ an idle connection to the backend, or a new one
//!                      the client ◀─ head and body, piece by piece ─┘
//! ```
//!
//! pingora's proxy supports everything that may pass through a proxy, so both bodies travel between tasks concurrently.
//! Nearly all requests consist of a head only, and then only the response is in transit. All other requests are left to
//! pingora.

use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::{ErrorType, RetryType};
use tokio::time::timeout;

use crate::deliver::{Disconnected, Downstream, H1Connection, LocalResponse};
use crate::model::fields;
use crate::proto::Exchange;
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::buffered_stream::HALF_CLOSED;
use crate::proxy::passthrough::inject::Candidate;
use crate::proxy::passthrough::observe::Observation;
use crate::proxy::passthrough::pingora::error_text;
use crate::proxy::passthrough::response::name_site;
use crate::proxy::request::forwarded::forward;
use crate::proxy::request::framing::{strip_connection_headers, strip_h2c_upgrade};
use crate::proxy::request::head::{answer_head, parse_preserving_case, raw_target};
use crate::proxy::request::view::{POLL_MARK, RequestView};
use crate::proxy::watched::writes::BodySignature;
use crate::telemetry::AccessGuard;
use crate::upstream::{ConnectError, Expected, Line, ReplicaGuard, Upstream, expect, summarize};

/// The maximum number of response bytes that are gathered before a write. Larger pieces are written as they were read.
const COALESCE_LIMIT: usize = 16 * 1024;

/// Returns whether `request`, which has no body and keeps its connection open, can be relayed: it expects an ordinary
/// response, and that response is not modified.
pub(in crate::proxy) fn is_eligible(gateway: &Gateway, request: &RequestView<'_>) -> bool {
    let headers = request.headers();
    matches!(request.head.method, Method::GET | Method::HEAD)
        && !fields::overrides_method(headers)
        && !headers.contains_key(UPGRADE)
        && !headers.contains_key(EXPECT)
        && !gateway.bindings.concern(request)
        && !Candidate::is_one(gateway, request)
}

/// A request to relay, and its original head.
pub(in crate::proxy) struct Relay<'a> {
    pub(in crate::proxy) gateway: &'a Gateway,
    pub(in crate::proxy) request: &'a RequestView<'a>,
    pub(in crate::proxy) raw: &'a [u8],
}

/// The reason why there is no complete response.
enum Failure {
    /// The client left or does not read.
    Client,
    /// The backend is down, or the connection broke before the response began. If the connection was `closed`, the
    /// backend may not have received the request.
    Upstream { text: String, late: bool, closed: bool },
    /// The connection broke during the response, so the client's connection is closed to signal the error.
    Broken(String),
}

impl Relay<'_> {
    /// Relays the request and its response. Returns the client's connection if it can be reused.
    pub(in crate::proxy) async fn run(
        &self,
        mut client: H1Connection,
        mut visit: Option<Box<AccessGuard>>,
    ) -> Option<H1Connection> {
        let trace = visit.as_deref().and_then(AccessGuard::traceparent);
        let mut asked = self.send(&mut client, trace.clone()).await;
        if self.is_suspect(&asked) && self.finds_out().await {
            asked = self.send(&mut client, trace).await;
        }
        let passed = match asked {
            Ok((upstream, session)) => self.answer(&mut client, upstream, session, visit.as_deref_mut()).await,
            Err(failure) => Err(failure),
        };
        match passed {
            Ok(close) => (!close).then_some(client),
            Err(Failure::Upstream { late, .. }) => {
                let status = if late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
                self.send_error(client, status, visit).await;
                None
            }
            Err(_) => None,
        }
    }

    /// Returns whether the backend may have refused the request because of its host name.
    fn is_suspect(&self, asked: &Result<(ReplicaGuard, HttpSession), Failure>) -> bool {
        let Ok((upstream, session)) = asked else { return false };
        let host = self.request.headers().get(HOST);
        session.resp_header().is_some_and(|head| upstream.suspects(host, head.status, &head.headers))
    }

    /// Returns whether the backend refused the request because of its host name, so that it can be repeated with the
    /// backend's own name. The request had no effect then.
    async fn finds_out(&self) -> bool {
        let request = self.request;
        let upstream = self.gateway.upstream(request.target.path);
        Box::pin(upstream.finds_out(&request.client.origin.host, request.target.path)).await
    }

    /// Sends the request to the backend and reads the head of the response. An idle connection may have been closed in
    /// the meantime, which is not a failure: the request is safe, so it is repeated over another connection.
    async fn send(
        &self,
        client: &mut H1Connection,
        trace: Option<String>,
    ) -> Result<(ReplicaGuard, HttpSession), Failure> {
        let replicas = self.gateway.application(self.request.target.path);
        let upstream = replicas.choose();
        let over_idle = match upstream.idle() {
            Some(idle) => Some(self.ask_over(idle, client, &upstream, trace.clone()).await),
            None => None,
        };
        let (upstream, asked) = match over_idle {
            None | Some(Err(Failure::Upstream { closed: true, .. })) => {
                let (upstream, stream) = replicas.connect_to(upstream).await?;
                let asked = self.ask_over(stream, client, &upstream, trace).await;
                (upstream, asked)
            }
            Some(asked) => (upstream, asked),
        };
        let session = asked.inspect_err(|failure| failure.note(&upstream))?;
        Ok((upstream, session))
    }

    async fn ask_over(
        &self,
        stream: Stream,
        client: &mut H1Connection,
        upstream: &Upstream,
        trace: Option<String>,
    ) -> Result<HttpSession, Failure> {
        let head = self.upstream_head(upstream, trace).ok_or(Failure::Client)?;
        let exchange = Exchange { is_head: head.method == Method::HEAD, ..Exchange::default() };
        let line =
            expect(&stream, Expected { exchange, interim: client.chunks, target: raw_target(self.request.head) });
        let mut session = HttpSession::new(stream);
        session.write_request_header(head).await?;
        loop {
            while_wanted(client, line.as_deref(), session.read_response()).await??;
            match session.resp_header() {
                Some(head) if head.status.is_informational() => {
                    let mut head = head.clone();
                    name_site(upstream, &mut head, &self.request.client.origin)?;
                    client.write(&[&answer_head(&head)], self.gateway.options().write_timeout).await?;
                }
                Some(_) => return Ok(session),
                None => return Err(Failure::wrong("an answer without a head")),
            }
        }
    }

    /// Returns the request's head for the backend.
    fn upstream_head(&self, upstream: &Upstream, trace: Option<String>) -> Option<Box<RequestHeader>> {
        let mut head = parse_preserving_case(self.raw)?;
        strip_h2c_upgrade(&mut head);
        for name in fields::hop_by_hop(&head.headers) {
            head.remove_header(&name);
        }
        head.remove_header(&POLL_MARK);
        forward(&mut head, self.request.peer, &self.gateway.options().trusted, upstream).ok()?;
        if let Some(trace) = trace {
            head.insert_header("traceparent", trace).ok()?;
        }
        Some(head)
    }

    /// Relays a response with an already parsed head. Returns whether the client was told that its connection will be
    /// closed.
    async fn answer(
        &self,
        client: &mut H1Connection,
        upstream: ReplicaGuard,
        mut session: HttpSession,
        visit: Option<&mut AccessGuard>,
    ) -> Result<bool, Failure> {
        upstream.health().mark_up();
        let close = self.gateway.stopping.is_cancelled();
        let began = visit.as_deref().map(AccessGuard::began);
        let observe = |head: &ResponseHeader| self.gateway.observation(self.request, None, began, head);
        let mut observation = session.resp_header().and_then(observe);
        let (head, chunked) =
            self.client_head(&upstream, &session, close).inspect_err(|failure| failure.note(&upstream))?;
        let mut sent = 0;
        let mut out = answer_head(&head);
        let patience = self.gateway.options().write_timeout;
        let passed = pass_body(client, &mut session, &mut out, chunked, &mut sent, &mut observation, patience).await;
        if let Some(visit) = visit {
            visit.set_response(head.status.as_u16(), Some(sent));
        }
        match &passed {
            // This precedes the last bytes of the response: the client's next request may arrive on this connection as
            // soon as it has them.
            Ok(()) => {
                self.request.under_way.answered();
                if let Some(observation) = observation {
                    self.gateway.observed(*observation);
                }
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    upstream.keep(stream);
                }
            }
            Err(failure) => failure.note(&upstream),
        }
        drop(upstream);
        if !matches!(passed, Err(Failure::Client)) {
            client.write(&[&out], self.gateway.options().write_timeout).await?;
        }
        passed.map(|()| close)
    }

    /// Returns the response's head for the client, and whether the body is sent in chunks: if the backend sends chunks
    /// or no length.
    fn client_head(
        &self,
        upstream: &Upstream,
        session: &HttpSession,
        close: bool,
    ) -> Result<(ResponseHeader, bool), Failure> {
        let mut head = session.resp_header().cloned().ok_or_else(|| Failure::wrong("an answer without a head"))?;
        strip_connection_headers(&mut head);
        head.remove_header(&TRANSFER_ENCODING);
        self.gateway.on_response(self.request, &BodySignature::default(), upstream, &mut head)?;
        let bodiless = self.request.head.method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let chunked = !bodiless && !head.headers.contains_key(CONTENT_LENGTH);
        if chunked {
            head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
        if close {
            head.insert_header(CONNECTION, HeaderValue::from_static("close"))?;
        }
        if !head.headers.contains_key(DATE) {
            head.insert_header(DATE, get_cached_date())?;
        }
        Ok((head, chunked))
    }

    async fn send_error(&self, client: H1Connection, status: StatusCode, visit: Option<Box<AccessGuard>>) {
        let mut answer = LocalResponse::text(status, error_text(status));
        answer.headers.insert(http::header::RETRY_AFTER, 2.into());
        if let Some(mut visit) = visit {
            visit.set_response(status.as_u16(), Some(answer.body.len() as u64));
        }
        let patience = self.gateway.options().write_timeout;
        let _ = Downstream::H1(client).answer(status, &answer.headers, &answer.body, true, patience).await;
    }
}

/// Awaits data of the backend as long as the client is interested. A client that half-closes its connection still is
/// (RFC 9112 section 9.6): the backend is told of the half-close, and has some time to answer.
async fn while_wanted<T>(
    client: &mut H1Connection,
    line: Option<&Line>,
    read: impl Future<Output = T>,
) -> Result<T, Failure> {
    let mut read = std::pin::pin!(read);
    let left = tokio::select! {
        biased;
        read = &mut read => return Ok(read),
        left = client.disconnected() => left,
    };
    let Some(line) = line.filter(|_| left == Disconnected::HalfClosed) else { return Err(Failure::Client) };
    line.client_ended();
    line.request_sent();
    Box::pin(timeout(HALF_CLOSED, read)).await.map_err(|_| Failure::Client)
}

/// Relays the body after the bytes in `out`, and leaves its end there. Available data is gathered into larger writes,
/// but never delayed for data that has not arrived.
async fn pass_body(
    client: &mut H1Connection,
    session: &mut HttpSession,
    out: &mut BytesMut,
    chunked: bool,
    sent: &mut u64,
    observation: &mut Option<Box<Observation>>,
    patience: Duration,
) -> Result<(), Failure> {
    let line = Line::of(session.digest().proxy_digest.clone());
    loop {
        let ready = session.read_body_ref().now_or_never();
        let piece = match ready {
            Some(piece) => piece,
            None => {
                client.write(&[out], patience).await?;
                out.clear();
                while_wanted(client, line.as_deref(), session.read_body_ref()).await?
            }
        };
        let piece = piece.map_err(|error| Failure::Broken(summarize(&error)))?;
        let Some(piece) = piece else { break };
        *sent += piece.len() as u64;
        if observation.as_mut().is_some_and(|observation| !observation.push(piece)) {
            *observation = None;
        }
        // An empty chunk would end the body.
        let end: &[u8] = if chunked && !piece.is_empty() {
            out.put_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            b"\r\n"
        } else {
            b""
        };
        if out.len() + piece.len() <= COALESCE_LIMIT {
            out.put_slice(piece);
            out.put_slice(end);
        } else {
            client.write(&[out, piece, end], patience).await?;
            out.clear();
        }
    }
    if chunked {
        out.put_slice(b"0\r\n\r\n");
    }
    Ok(())
}

impl Failure {
    /// Reports the failure to the upstream's health, if the backend caused it.
    fn note(&self, upstream: &Upstream) {
        if let Self::Upstream { text, .. } | Self::Broken(text) = self {
            upstream.health().mark_down(text);
        }
    }

    /// Returns the failure for a response that cannot be relayed.
    fn wrong(text: &str) -> Self {
        Self::Upstream { text: text.to_owned(), late: false, closed: false }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let late = error.is_timeout();
        Self::Upstream { text: error.to_string(), late, closed: false }
    }
}

impl From<Box<pingora::Error>> for Failure {
    fn from(error: Box<pingora::Error>) -> Self {
        let late = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
        // pingora's errors for a connection that was closed or did not accept writes.
        let closed = error.retry == RetryType::ReusedOnly || *error.etype() == ErrorType::WriteError;
        Self::Upstream { text: summarize(&error), late, closed }
    }
}

/// I/O errors here come from writes to the client.
impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Client
    }
}
