//! The phases of pingora's proxy for requests that the backend answers. They contain no decisions of their own.

use std::io::{self, ErrorKind::InvalidData};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::clock;
use crate::model::{Origin, fields};
use crate::proto::Exchange;
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::buffered_stream::Handed;
use crate::proxy::passthrough::inject::{Candidate, Injection};
use crate::proxy::passthrough::observe::{Observation, UploadCopy, observe};
use crate::proxy::passthrough::response::{edit, name_site};
use crate::proxy::passthrough::upload_timeout::UploadProgress;
use crate::proxy::request::forwarded::forward;
use crate::proxy::request::framing::{rejection, strip_connection_headers, strip_h2c_upgrade, to_origin_form};
use crate::proxy::request::view::{POLL_MARK, Peer, RequestView, is_unsafe, path_of};
use crate::proxy::watched::body::{is_idempotent, needs_post, retry, set_method};
use crate::proxy::watched::under_way::Witness;
use crate::proxy::watched::writes::BodySignature;
use crate::resource::Writing;
use crate::telemetry::AccessGuard;
use crate::upstream::{Expected, Line, ReplicaGuard, describe_connect, summarize};

/// The phases of a proxied request.
pub struct PassthroughProxy {
    pub(in crate::proxy) gateway: Arc<Gateway>,
}

impl PassthroughProxy {
    /// Creates the phases for requests of `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

/// The state of one request between its phases. pingora moves it around, so large parts are boxed; most requests have
/// none of them.
#[derive(Debug, Default)]
pub struct RequestCtx {
    attempts: usize,
    /// The chosen replica.
    upstream: Option<ReplicaGuard>,
    /// The upstream connection.
    line: Option<Arc<Line>>,
    /// The access-log entry.
    visit: Option<Box<AccessGuard>>,
    /// The size of the body so far.
    uploaded: u64,
    /// The signature of an upload.
    shape: BodySignature,
    /// The reason why there was no connection.
    unreachable: Option<String>,
    /// A navigation whose response may receive the browser script.
    candidate: Option<Box<Candidate>>,
    /// The page that receives it.
    injection: Option<Box<Injection>>,
    /// The copy of an upload, in observe mode.
    upload: Option<Box<UploadCopy>>,
    /// The copy of a response that is being observed.
    observation: Option<Box<Observation>>,
    /// Guards for a request that may be a write.
    writing: Vec<Writing>,
    /// Whether the request is a QUERY sent as POST because the QUERY was refused.
    as_post: bool,
}

#[async_trait]
impl ProxyHttp for PassthroughProxy {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        RequestCtx::default()
    }

    /// Adds no modules: bodies pass unchanged, so that an endless body is never delayed by a compressor.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, passage: &mut RequestCtx) -> Result<()> {
        // pingora would keep an HTTP/1.1 connection forever. A connection that the client wants closed is not kept.
        if session.get_keepalive().is_some() {
            let keepalive = self.gateway.options().keepalive.as_secs();
            session.set_keepalive((!self.gateway.stopping.is_cancelled()).then_some(keepalive));
        }
        session.set_write_timeout(Some(self.gateway.options().write_timeout));
        let peer = Peer::of(session.digest());
        passage.visit = self.gateway.access_guard(session.req_header(), peer, clock::now(), "proxied");
        let handed = Handed::of(session.digest());
        let head = session.req_header_mut();
        if let Some(handed) = &handed {
            for (name, value) in std::mem::take(&mut *handed.fields.lock()) {
                head.append_header(name, value)?;
            }
        }
        let is_unread = handed.as_ref().is_some_and(|handed| handed.is_unread);
        if let Some(handed) = handed {
            handed.extend(head);
        }
        strip_h2c_upgrade(head);
        let bad = rejection(head).or_else(|| {
            let usable = head.version == Version::HTTP_2 || to_origin_form(head);
            // A request for our own prefix only arrives here if it is malformed in a way that prevents an answer.
            (!usable || self.gateway.own_path(head.uri.path()).is_some()).then_some(StatusCode::BAD_REQUEST)
        });
        let head = session.req_header();
        let refused = || self.gateway.unread_exceeds_limits(peer, head).map(|answer| answer.status);
        let bad = bad.or_else(|| if is_unread { refused() } else { None });
        bad.map_or(Ok(()), |status| Err(Error::new_down(ErrorType::HTTPStatus(status.as_u16()))))
    }

    async fn upstream_peer(&self, session: &mut Session, passage: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        passage.attempts += 1;
        // A reused connection may have been closed at the wrong moment; the retry uses a fresh one.
        let again = passage.line.take().is_some();
        let from = Peer::of(session.digest());
        let binding = self.gateway.bindings.find(from, session.req_header());
        let application = self.gateway.application(path_of(session.req_header()));
        let bound = binding.as_ref().and_then(|binding| binding.upstream(application.name()));
        let upstream = passage.upstream.insert(bound.unwrap_or_else(|| application.choose()));
        match upstream.lend(again, binding.as_ref().map(|binding| binding.group)).await {
            Ok(mut peer) => {
                if let Some(binding) = binding {
                    self.gateway.bindings.stay(from, application.name(), upstream);
                    peer.group_key = binding.group;
                    // The client stays signed in until one of the two ends closes.
                    peer.options.idle_timeout = Some(self.gateway.options().keepalive);
                }
                Ok(Box::new(peer))
            }
            Err(error) => {
                passage.unreachable = Some(error.to_string());
                Err(Error::new_up(ErrorType::ConnectNoRoute))
            }
        }
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        digest: Option<&Digest>,
        passage: &mut RequestCtx,
    ) -> Result<()> {
        passage.line = digest.and_then(|digest| Line::of(digest.proxy_digest.clone()));
        if let Some(line) = &passage.line {
            let head = session.req_header();
            let handed = Handed::of(session.digest());
            let exchange = Exchange { is_head: head.method == Method::HEAD, ..Exchange::default() };
            let target = handed.as_ref().and_then(|handed| handed.target.clone());
            line.expect(Expected { exchange, interim: head.version != Version::HTTP_10, target });
            if let Some(handed) = handed {
                handed.asked_on(line);
            }
        }
        Ok(())
    }

    /// A request sent over a reused connection may be repeated if it is idempotent (RFC 9110 section 9.2.2).
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        passage: &mut RequestCtx,
        _reused: bool,
    ) -> Box<Error> {
        let reused = passage.line.as_ref().is_some_and(|line| line.is_reused());
        let repeatable = is_idempotent(&session.req_header().method) && !session.as_ref().retry_buffer_truncated();
        if repeatable {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        passage: &mut RequestCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let replicas = self.gateway.application(path_of(session.req_header()));
        // Nothing was sent yet, so another address may be tried for any method.
        error.set_retry(passage.attempts < replicas.attempts());
        if let Some(upstream) = &passage.upstream {
            upstream.unreachable();
            let text = describe_connect(&upstream.options().address, &error);
            if replicas.iter().count() > 1 {
                // The next request goes to another replica.
                upstream.health().mark_down(&text);
            }
            passage.unreachable = Some(text);
        }
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        passage: &mut RequestCtx,
    ) -> Result<()> {
        let Some(upstream) = &passage.upstream else { return Err(Error::new_up(ErrorType::ConnectNoRoute)) };
        // Forwarding depends on the client's HTTP version, not on the version used with the backend.
        let spoken = session.req_header().version;
        let sent = request.version;
        request.set_version(spoken);
        request.remove_header(&POLL_MARK);
        let (peer, options) = (Peer::of(session.digest()), self.gateway.options());
        let forwarded = forward(request, peer, &options.trusted, upstream);
        request.set_version(sent);
        forwarded?;
        if let Some(trace) = passage.visit.as_ref().and_then(|visit| visit.traceparent()) {
            request.insert_header("traceparent", trace)?;
        }
        let asked = RequestView::new(session.req_header(), peer, &options.trusted);
        set_method(request, passage.as_post);
        if let Some(asked) = &asked {
            passage.writing = self.gateway.begins(asked).await;
        }
        if !self.gateway.routes.load().inject() {
            return Ok(());
        }
        passage.candidate = asked.and_then(|asked| Candidate::of(&self.gateway, &asked)).map(Box::new);
        passage.candidate.as_ref().map_or(Ok(()), |candidate| candidate.prepare_request(request))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        passage: &mut RequestCtx,
    ) -> Result<()> {
        if let Some(pace) = session.req_header().extensions.get::<UploadProgress>() {
            pace.record(end);
        }
        passage.uploaded += body.as_ref().map_or(0, |piece| piece.len() as u64);
        if !self.gateway.requests.allows(passage.uploaded) && self.gateway.passive.is_none() {
            self.gateway.metrics.limit_hit("request_body");
            return Err(Error::new_down(ErrorType::HTTPStatus(StatusCode::PAYLOAD_TOO_LARGE.as_u16())));
        }
        if let Some(piece) = body
            && is_unsafe(session.req_header())
        {
            passage.shape.push(piece);
            if self.gateway.passive.is_some() {
                passage.upload.get_or_insert_default().push(piece);
            }
        }
        // pingora would write the end of an HTTP/2 upload with a final empty frame twice to an HTTP/1.1 backend, which
        // would parse the second end as the beginning of another request.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        passage: &mut RequestCtx,
    ) -> Result<()> {
        let Some(upstream) = &passage.upstream else { return Ok(()) };
        upstream.health().mark_up();
        let head = session.req_header();
        let host = head.headers.get(HOST);
        if upstream.suspects(host, response.status, &response.headers)
            && let Some(host) = host.and_then(|host| host.to_str().ok())
            && let asks = matches!(head.method, Method::GET | Method::HEAD)
            && (asks || response.status == StatusCode::MISDIRECTED_REQUEST)
            && Box::pin(upstream.finds_out(host, head.uri.path())).await
            && asks
        {
            // The request was refused because of its host name and had no effect, so it is repeated with the backend's
            // own name.
            return Err(retry(StatusCode::MISDIRECTED_REQUEST));
        }
        if needs_post(session.req_header(), response.status, &mut passage.as_post) {
            return Err(retry(response.status));
        }
        if response.status != StatusCode::SWITCHING_PROTOCOLS {
            strip_connection_headers(response);
        }
        if response.status.is_informational() {
            let gateway = if upstream.may_rewrite(&response.headers) { site_of(session, &self.gateway) } else { None };
            return gateway.map_or(Ok(()), |gateway| name_site(upstream, response, &gateway));
        }
        let head = session.req_header();
        if head.version == Version::HTTP_10 {
            // A body without a length ends with the connection (RFC 9112 section 6.1).
            response.remove_header(&TRANSFER_ENCODING);
        }
        let is_page = passage.candidate.is_some();
        if !is_page
            && !is_unsafe(head)
            && !upstream.may_rewrite(&response.headers)
            && !fields::changes_cookies(&response.headers)
            && !self.gateway.is_routed(head)
        {
            return edit(upstream, response);
        }
        let peer = Peer::of(session.digest());
        let Some(request) = RequestView::new(head, peer, &self.gateway.options().trusted) else {
            self.gateway.wrote_unread(head, peer);
            return edit(upstream, response);
        };
        let began = passage.visit.as_deref().map(AccessGuard::began);
        passage.observation = self.gateway.observation(&request, passage.upload.as_deref(), began, response);
        self.gateway.on_response(&request, &passage.shape, upstream, response)?;
        self.gateway.told_of_write(&request).await;
        if let Some(candidate) = passage.candidate.take() {
            passage.injection = candidate.inspect_response(&self.gateway.shim, response)?.map(Box::new);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        passage: &mut RequestCtx,
    ) -> Result<Option<Duration>> {
        observe(&self.gateway, &mut passage.observation, body.as_ref(), end);
        if let Some(injection) = &mut passage.injection {
            injection.process_chunk(&self.gateway.shim, body, end)?;
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, passage: &mut RequestCtx) -> FailToProxy {
        let malformed = error.root_cause().downcast_ref::<io::Error>().is_some_and(|error| error.kind() == InvalidData);
        let status = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(status), _) => *status,
            (_, ErrorSource::Downstream) if malformed => 400,
            (
                ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::TLSHandshakeTimedout,
                ErrorSource::Upstream,
            ) => 504,
            (_, ErrorSource::Upstream) => 502,
            (ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => 0,
            (ErrorType::WriteTimedout | ErrorType::ReadTimedout, ErrorSource::Downstream) => 0,
            (_, ErrorSource::Downstream) => 400,
            _ => 500,
        };
        if let Ok(status) = StatusCode::from_u16(status)
            && passage.upstream.is_some()
            && session.response_written().is_none()
            && let Some(request) =
                RequestView::new(session.req_header(), Peer::of(session.digest()), &self.gateway.options().trusted)
        {
            // The backend may have executed the request before it failed or before the client left.
            self.gateway.record_write(&request, &passage.shape, status, &HeaderMap::new());
            self.gateway.told_of_write(&request).await;
        }
        if *error.esource() == ErrorSource::Upstream && !matches!(error.etype(), ErrorType::HTTPStatus(_)) {
            let text = passage.unreachable.clone().unwrap_or_else(|| summarize(error));
            if let Some(upstream) = &passage.upstream {
                upstream.health().mark_down(&text);
            }
        }
        if let Ok(status) = StatusCode::from_u16(status) {
            // Errors are ignored: the client may have left.
            let _ = respond(session, status).await;
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, passage: &mut RequestCtx) {
        if error.is_none()
            && let Some(witness) = session.req_header().extensions.get::<Witness>()
        {
            witness.saw_whole_answer();
        }
        // A response without a body has no last piece.
        if error.is_none()
            && let Some(observation) = passage.observation.take_if(|observation| observation.is_report())
        {
            self.gateway.observed(*observation);
        }
        if let Some(visit) = &mut passage.visit
            && let Some(written) = session.response_written()
        {
            let (status, bytes) = (written.status.as_u16(), session.body_bytes_sent() as u64);
            visit.set_response(status, Some(bytes));
        }
    }

    /// pingora would log every client that disconnects; relevant failures are logged by [`crate::upstream::Health`].
    fn suppress_error_log(&self, _session: &Session, _passage: &RequestCtx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _passage: &RequestCtx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Returns the short text for a request that cannot be proxied.
pub(in crate::proxy) fn error_text(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_GATEWAY => "The application behind this proxy cannot be reached, or broke off its answer.",
        StatusCode::GATEWAY_TIMEOUT => "The application behind this proxy does not answer in time.",
        StatusCode::BAD_REQUEST => "This request cannot be understood.",
        StatusCode::PAYLOAD_TOO_LARGE => "The body of this request is too large.",
        StatusCode::TOO_MANY_REQUESTS => "There are too many requests from this address.",
        StatusCode::NOT_IMPLEMENTED => "No transfer coding but chunked is understood here.",
        _ => "This request cannot be served.",
    }
}

async fn respond(session: &mut Session, status: StatusCode) -> Result<()> {
    if session.response_written().is_some() {
        // A part of the response has been sent, so the connection is closed to signal the error.
        return Ok(());
    }
    let body = Bytes::from(format!("{}\n", error_text(status)));
    let mut head = ResponseHeader::build(status, Some(5))?;
    head.insert_header(CONTENT_TYPE, "text/plain; charset=utf-8")?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        head.insert_header(RETRY_AFTER, 2)?;
    }
    session.as_downstream_mut().write_error_response(head, body).await
}

/// Returns the site as the client of this request addressed it.
fn site_of(session: &Session, gateway: &Gateway) -> Option<Origin> {
    let request = RequestView::new(session.req_header(), Peer::of(session.digest()), &gateway.options().trusted)?;
    Some(request.client.origin)
}
