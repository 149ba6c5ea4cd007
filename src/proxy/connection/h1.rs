//! One HTTP/1.x connection, request after request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::clock::{self, LazyTimer};
use crate::deliver::{Downstream, H1Connection, LocalResponse, Session, Socket, response_head};
use crate::model::{AddressBucket, fields};
use crate::post::BodyRead;
use crate::proto::{Body, Framing, find_end};
use crate::proxy::connection::held::{ActivityGuard, spawn_held};
use crate::proxy::connection::limit::ConnectionPermit;
use crate::proxy::connection::service::Proxy;
use crate::proxy::connection::shutdown::{FIRST_REQUEST_GRACE, closing};
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::buffered_stream::{BufferedStream, Handed};
use crate::proxy::passthrough::pingora::error_text;
use crate::proxy::passthrough::relay::{self, Relay};
use crate::proxy::passthrough::tunnel;
use crate::proxy::request::framing::{rejection, strip_h2c_upgrade};
use crate::proxy::request::head::{ReadHead, head_for_pingora, parse_preserving_case, read_head, with_clean_target};
use crate::proxy::request::view::{Peer, RequestView, length_of};
use crate::proxy::watched::dispatch::Dispatch;
use crate::proxy::watched::under_way::Witness;
use crate::telemetry::AccessGuard;

/// The next step of a connection. Large states are boxed, so that a held connection costs little memory.
enum ConnectionState {
    Request(H1Connection),
    Hold(H1Connection, Box<Session>, Option<Box<AccessGuard>>),
    Socket(H1Connection, Box<Socket>, Option<Box<AccessGuard>>),
    Tunnel(H1Connection, Box<RequestHeader>, Option<Box<AccessGuard>>),
    Close,
}

/// Serves a connection until it ends.
pub(in crate::proxy) async fn serve(
    gateway: Arc<Gateway>,
    proxy: Arc<Proxy>,
    mut connection: H1Connection,
    shutdown: ShutdownWatch,
    open: ConnectionPermit,
) {
    let socket = connection.stream.get_socket_digest();
    let socket = socket.as_ref().and_then(|socket| socket.peer_addr()?.as_inet());
    let peer = Peer::new(socket, connection.stream.get_ssl_digest().is_some());
    let bound = Bound { gateway: Arc::clone(&gateway), peer };
    // Awaited once per connection instead of once per request, because all waiters share one list under one lock.
    let mut stopping = Box::pin(gateway.stopping.clone().cancelled_owned());
    let mut alarm = LazyTimer::new();
    let mut expected = Some(clock::now() + FIRST_REQUEST_GRACE);
    loop {
        let leave = closing(stopping.as_mut(), expected.take());
        match Box::pin(next(&gateway, &proxy, connection, &shutdown, peer, leave, &mut alarm)).await {
            ConnectionState::Request(again) => connection = again,
            ConnectionState::Hold(held, session, visit) => {
                gateway.tasks.spawn(spawn_held(Downstream::H1(held), session, visit, ActivityGuard::Connection(open)));
                return;
            }
            ConnectionState::Socket(held, socket, _visit) => {
                drop((bound, gateway, proxy, shutdown, stopping, alarm));
                return Box::pin(socket.run(held)).await;
            }
            ConnectionState::Tunnel(taken, request, visit) => {
                drop((proxy, shutdown, stopping, alarm));
                return Box::pin(tunnel::run(&gateway, taken, request, peer, visit)).await;
            }
            ConnectionState::Close => return,
        }
    }
}

/// A connection on which a client may sign in. Dropping it removes the binding.
struct Bound {
    gateway: Arc<Gateway>,
    peer: Peer,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.gateway.bindings.forget(self.peer);
    }
}

/// Reads one request and handles it.
async fn next(
    gateway: &Arc<Gateway>,
    proxy: &Arc<Proxy>,
    mut connection: H1Connection,
    shutdown: &ShutdownWatch,
    peer: Peer,
    leave: impl Future<Output = ()>,
    alarm: &mut LazyTimer,
) -> ConnectionState {
    let options = gateway.options();
    let patience = options.write_timeout;
    let mut taken = gateway.heads.of(peer.address.map(AddressBucket::of));
    let H1Connection { stream, buffer, .. } = &mut connection;
    let head = tokio::select! {
        biased;
        head = read_head(stream, buffer, &mut taken, alarm, options.keepalive, options.head_timeout) => head,
        () = leave => ReadHead::Closed,
    };
    let (request, length) = match head {
        ReadHead::Closed => return ConnectionState::Close,
        ReadHead::Deferred => {
            return HandOver::foreign(connection).run(gateway, proxy, shutdown).await;
        }
        ReadHead::TimedOut => {
            let answer =
                LocalResponse::text(StatusCode::REQUEST_TIMEOUT, "The head of the request did not arrive in time.");
            respond(Downstream::H1(connection), &answer, Closing::Yes, patience).await;
            return ConnectionState::Close;
        }
        ReadHead::Crowded => {
            gateway.metrics.limit_hit("request_size");
            let text = "The head of the request is large, and too many large ones are being read.";
            let answer = LocalResponse::text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text);
            respond(Downstream::H1(connection), &answer, Closing::Yes, patience).await;
            return ConnectionState::Close;
        }
        ReadHead::Parsed { mut request, length } => {
            strip_h2c_upgrade(&mut request);
            (request, length)
        }
    };
    if let Some(status) = rejection(&request) {
        let answer = LocalResponse::text(status, error_text(status));
        respond(Downstream::H1(connection), &answer, Closing::Yes, patience).await;
        return ConnectionState::Close;
    }
    let began = clock::now();
    connection.chunks = request.version == Version::HTTP_11;
    let raw = connection.buffer.split_to(length);
    let mut wire = Downstream::H1(connection);
    let asked = RequestView::new(&request, peer, &options.trusted);
    // Without a known end of an unread body, the next request cannot be found.
    let bodiless = length_of(&request) == Some(0);
    let may_persist = request.version == Version::HTTP_11 && !fields::has_token(&request.headers, &CONNECTION, "close");
    let persistent = bodiless && may_persist;
    let dispatch = match &asked {
        Some(asked) => gateway.dispatch(asked, &mut wire).await,
        None => gateway.unread_exceeds_limits(peer, &request).map_or(Dispatch::Proxy, Dispatch::Answer),
    };
    let read = asked.as_ref().and_then(|asked| asked.read.get());
    // After the body has been read, the start of the next request is known.
    let persistent = persistent || read.is_some() && may_persist;
    match (dispatch, wire) {
        (Dispatch::Answer(answer), wire) => {
            let mut visit = gateway.access_guard(&request, peer, began, answer.from());
            if let Some(visit) = &mut visit {
                visit.set_response(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            let close = !persistent || gateway.stopping.is_cancelled();
            let close = if bodiless || read.is_some() { close.into() } else { Closing::Unread };
            respond(wire, &answer, close, patience).await.map_or(ConnectionState::Close, ConnectionState::Request)
        }
        (Dispatch::Cached(whole), Downstream::H1(mut connection)) => {
            if let Some(mut visit) = gateway.access_guard(&request, peer, began, "memory") {
                visit.set_response(StatusCode::OK.as_u16(), Some(whole.body().len() as u64));
            }
            let close = !persistent || gateway.stopping.is_cancelled();
            let written = connection.answer(&whole, close, patience).await;
            if written.is_ok() && !close { ConnectionState::Request(connection) } else { ConnectionState::Close }
        }
        (Dispatch::HoldStream(session), Downstream::H1(connection)) => {
            let visit = gateway.access_guard(&request, peer, began, session.delivery.name());
            ConnectionState::Hold(shrink_buffer(connection), session, visit)
        }
        (Dispatch::Tunnel, Downstream::H1(connection)) if connection.chunks && read.is_none() => {
            let visit = gateway.access_guard(&request, peer, began, "tunnel");
            let written = parse_preserving_case(&raw).map(|mut written| {
                strip_h2c_upgrade(&mut written);
                written
            });
            ConnectionState::Tunnel(connection, written.unwrap_or(request), visit)
        }
        (Dispatch::Socket(opening), Downstream::H1(mut connection)) => {
            let head = response_head(StatusCode::SWITCHING_PROTOCOLS, &opening.headers);
            match connection.write(&[&head, b"\r\n"], patience).await {
                Ok(()) => {
                    let mut visit = gateway.access_guard(&request, peer, began, "websocket");
                    if let Some(visit) = &mut visit {
                        visit.set_response(StatusCode::SWITCHING_PROTOCOLS.as_u16(), None);
                    }
                    ConnectionState::Socket(shrink_buffer(connection), Box::new(opening.socket), visit)
                }
                Err(_) => ConnectionState::Close,
            }
        }
        (Dispatch::Proxy, Downstream::H1(connection))
            if persistent
                && let Some(request) = &asked
                && relay::is_eligible(gateway, request) =>
        {
            let visit = gateway.access_guard(request.head, peer, began, "proxied");
            let relay = Relay { gateway, request, raw: &raw };
            Box::pin(relay.run(connection, visit)).await.map_or(ConnectionState::Close, ConnectionState::Request)
        }
        // Responses that end with the connection are also left to pingora, which decodes chunks.
        (Dispatch::Proxy | Dispatch::Tunnel, Downstream::H1(connection)) => {
            let length = length_of(&request);
            let witness = asked.as_ref().filter(|asked| asked.under_way.is_watched()).map(|_| Witness::default());
            let knowing = Knowing { read: read.cloned(), witness: witness.clone() };
            let next =
                Box::pin(HandOver::ours(connection, &request, raw, length, knowing).run(gateway, proxy, shutdown))
                    .await;
            if let Some(asked) = asked.as_ref().filter(|_| witness.is_some_and(|witness| witness.has_seen())) {
                asked.under_way.answered();
            }
            next
        }
        (Dispatch::ClientGone, _) => {
            drop(gateway.access_guard(&request, peer, began, "own"));
            ConnectionState::Close
        }
        (_, Downstream::H2(_)) => ConnectionState::Close,
    }
}

/// Whether a connection is closed after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Yes,
    /// It is closed, and the body of the request has not been read.
    Unread,
}

impl From<bool> for Closing {
    fn from(close: bool) -> Self {
        if close { Self::Yes } else { Self::No }
    }
}

/// Sends a response. Returns the connection if it can be reused.
async fn respond(
    mut wire: Downstream,
    answer: &LocalResponse,
    close: Closing,
    patience: Duration,
) -> Option<H1Connection> {
    let is_last = close != Closing::No;
    let written = wire.answer(answer.status, &answer.headers, &answer.body, is_last, patience).await;
    let Downstream::H1(connection) = wire else { return None };
    match close {
        Closing::No if written.is_ok() => return Some(connection),
        Closing::Unread if written.is_ok() => Box::pin(discard_body(connection)).await,
        _ => {}
    }
    None
}

/// Reads the body of a request that has been answered, for a while, and closes the connection: if unread data were left, the
/// kernel would discard the response.
async fn discard_body(mut connection: H1Connection) {
    let reading = async {
        connection.stream.shutdown().await?;
        while connection.stream.read(&mut [0; 4096]).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = timeout(UNREAD_BODY_TIMEOUT, reading).await;
}

/// How long the body of a request that has been answered is read.
const UNREAD_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Shrinks the buffer, so that a held client does not keep the whole receive buffer alive.
fn shrink_buffer(mut connection: H1Connection) -> H1Connection {
    connection.buffer = BytesMut::from(&connection.buffer[..]);
    connection
}

/// Returns the part of a request's body that is still to come after the bytes already read.
fn ahead(mut body: Body, read: &[u8]) -> io::Result<Body> {
    body.take(read).map(|_| body)
}

/// The same for a request with a head that pingora is to parse; `None` if it does not say that its body is chunked.
fn ahead_of_foreign(buffer: &[u8]) -> io::Result<Option<Body>> {
    let Some(end) = find_end(buffer, 0) else { return Ok(None) };
    let (head, body) = buffer.split_at(end);
    let name = TRANSFER_ENCODING.as_str().as_bytes();
    let chunked = head.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name));
    chunked.then(|| ahead(Body::new(Framing::Chunked), body)).transpose()
}

/// The state of a request that is passed to pingora.
#[derive(Default)]
struct Knowing {
    read: Option<Arc<BodyRead>>,
    witness: Option<Witness>,
}

/// A request to hand over to pingora.
struct HandOver {
    /// The connection with all bytes of the request read so far, behind a head that pingora accepts.
    connection: H1Connection,
    /// The bytes of later requests.
    rest: BytesMut,
    /// The part of the body that is still to come.
    body: io::Result<Option<Body>>,
    /// The parts of the request that pingora does not see.
    handed: Handed,
}

impl HandOver {
    /// Creates the handover of a request with a head that this server did not parse.
    fn foreign(mut connection: H1Connection) -> Self {
        let body = ahead_of_foreign(&connection.buffer);
        if let Some((clean, _)) = with_clean_target(&connection.buffer) {
            connection.buffer = BytesMut::from(&clean[..]);
        }
        let handed = Handed::unread();
        Self { connection, rest: BytesMut::new(), body, handed }
    }

    /// Creates a request with the head `request`, written as `raw`. The bytes after the head are in the buffer of
    /// `connection`, unless they have been read.
    fn ours(
        mut connection: H1Connection,
        request: &RequestHeader,
        raw: BytesMut,
        length: Option<u64>,
        Knowing { read, witness }: Knowing,
    ) -> Self {
        if let Some(read) = &read {
            let behind = std::mem::replace(&mut connection.buffer, BytesMut::from(&read.raw[..]));
            connection.buffer.unsplit(behind);
        }
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let body = ahead(Body::new(framing), if length == Some(0) { &[] } else { &connection.buffer }).map(Some);
        let (head, mut handed) = head_for_pingora(request, raw);
        (handed.read, handed.witness) = (read, witness);
        let mut rest = std::mem::replace(&mut connection.buffer, head);
        // pingora drops a connection from which it read more than one request. The end of this request is only known if
        // it has no body.
        if length != Some(0) {
            connection.buffer.unsplit(std::mem::take(&mut rest));
        }
        Self { connection, rest, body, handed }
    }

    /// Hands the connection to pingora's proxy for one request.
    async fn run(self, gateway: &Gateway, proxy: &Arc<Proxy>, shutdown: &ShutdownWatch) -> ConnectionState {
        let Self { connection, rest, body, handed } = self;
        let Ok(body) = body else {
            let answer = LocalResponse::text(StatusCode::BAD_REQUEST, error_text(StatusCode::BAD_REQUEST));
            respond(Downstream::H1(connection), &answer, Closing::Yes, gateway.options().write_timeout).await;
            return ConnectionState::Close;
        };
        let H1Connection { stream, buffer, .. } = connection;
        let mut session = ServerSession::new_http1(BufferedStream::new(stream, body, handed));
        session.set_keepalive(Some(gateway.options().keepalive.as_secs()));
        session.set_pipelined_prefix(buffer);
        match proxy.process_new_http(session, shutdown).await {
            Some(reused) => {
                let (stream, _): (Stream, _) = reused.consume();
                let stream = BufferedStream::into_inner(stream);
                stream.map_or(ConnectionState::Close, |stream| {
                    ConnectionState::Request(H1Connection { stream, buffer: rest, chunks: true, sent: 0 })
                })
            }
            None => ConnectionState::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    fn size_of_a_request<F>(
        _: impl FnOnce(
            &'static Arc<Gateway>,
            &'static Arc<Proxy>,
            H1Connection,
            &'static ShutdownWatch,
            Peer,
            Pin<Box<dyn Future<Output = ()>>>,
            &'static mut LazyTimer,
        ) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Each request in flight has one such future.
    #[test]
    fn a_request_costs_little() {
        let request = size_of_a_request(next);
        assert!(request <= 2_400, "{request} bytes");
    }
}
