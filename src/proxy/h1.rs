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

use super::decide::Disposition;
use super::doors::Open;
use super::front::Proxy;
use super::gather::{Gathered, Handed};
use super::head::{Head, as_written, head_for_pingora, read_head, with_clean_target};
use super::hold::{Kept, hold};
use super::leave::{FIRST_REQUEST, leave};
use super::phases::apology;
use super::relay::{self, Relay};
use super::request::{Peer, Request, length_of};
use super::site::Site;
use super::strict::{refusal, stay_in_http1};
use super::tunnel;
use crate::clock::{self, Alarm};
use crate::deliver::{Answer, H1, Session, Socket, Wire, response_head};
use crate::model::{Network, fields};
use crate::proto::{Body, Framing, find_end};
use crate::telemetry::Visit;

/// What is done with a connection next. Everything large is boxed, so that a connection that is held costs little.
enum Next {
    Request(H1),
    Hold(H1, Box<Session>, Option<Box<Visit>>),
    Socket(H1, Box<Socket>, Option<Box<Visit>>),
    Tunnel(H1, Box<RequestHeader>, Option<Box<Visit>>),
    Close,
}

/// Serves a connection until it ends.
pub(super) async fn serve(site: Arc<Site>, proxy: Arc<Proxy>, mut connection: H1, shutdown: ShutdownWatch, open: Open) {
    let socket = connection.stream.get_socket_digest();
    let socket = socket.as_ref().and_then(|socket| socket.peer_addr()?.as_inet());
    let peer = Peer::new(socket, connection.stream.get_ssl_digest().is_some());
    let bound = Bound { site: Arc::clone(&site), peer };
    // Waited for by the connection, not by each of its requests: all connections wait in one list, under one lock.
    let mut stopping = Box::pin(site.stopping.clone().cancelled_owned());
    let mut alarm = Alarm::new();
    let mut expected = Some(clock::now() + FIRST_REQUEST);
    loop {
        let leave = leave(stopping.as_mut(), expected.take());
        match Box::pin(next(&site, &proxy, connection, &shutdown, peer, leave, &mut alarm)).await {
            Next::Request(again) => connection = again,
            Next::Hold(held, session, visit) => {
                site.tasks.spawn(hold(Wire::H1(held), session, visit, Kept::Connection(open)));
                return;
            }
            Next::Socket(held, socket, _visit) => {
                drop((bound, site, proxy, shutdown, stopping, alarm));
                return Box::pin(socket.run(held)).await;
            }
            Next::Tunnel(taken, request, visit) => {
                drop((proxy, shutdown, stopping, alarm));
                return Box::pin(tunnel::run(&site, taken, request, peer, visit)).await;
            }
            Next::Close => return,
        }
    }
}

/// A connection on which a client may sign in; when it is over, so is that.
struct Bound {
    site: Arc<Site>,
    peer: Peer,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.site.bindings.forget(self.peer);
    }
}

/// Reads one request and sees to its answer.
async fn next(
    site: &Arc<Site>,
    proxy: &Arc<Proxy>,
    mut connection: H1,
    shutdown: &ShutdownWatch,
    peer: Peer,
    leave: impl Future<Output = ()>,
    alarm: &mut Alarm,
) -> Next {
    let options = site.options();
    let patience = options.write_timeout;
    let mut taken = site.heads.of(peer.address.map(Network::of));
    let H1 { stream, buffer, .. } = &mut connection;
    let head = tokio::select! {
        biased;
        head = read_head(stream, buffer, &mut taken, alarm, options.keepalive, options.head_timeout) => head,
        () = leave => Head::Closed,
    };
    let (request, length) = match head {
        Head::Closed => return Next::Close,
        Head::Foreign => {
            return HandOver::foreign(connection).run(site, proxy, shutdown).await;
        }
        Head::Late => {
            let answer = Answer::text(StatusCode::REQUEST_TIMEOUT, "The head of the request did not arrive in time.");
            respond(Wire::H1(connection), &answer, true, patience).await;
            return Next::Close;
        }
        Head::Crowded => {
            site.metrics.limit_hit("request_size");
            let text = "The head of the request is large, and too many large ones are being read.";
            let answer = Answer::text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text);
            respond(Wire::H1(connection), &answer, true, patience).await;
            return Next::Close;
        }
        Head::Ours { mut request, length } => {
            stay_in_http1(&mut request);
            (request, length)
        }
    };
    if let Some(status) = refusal(&request) {
        let answer = Answer::text(status, apology(status));
        respond(Wire::H1(connection), &answer, true, patience).await;
        return Next::Close;
    }
    let began = clock::now();
    connection.chunks = request.version == Version::HTTP_11;
    let raw = connection.buffer.split_to(length);
    let mut wire = Wire::H1(connection);
    let asked = Request::new(&request, peer, &options.trusted);
    // What follows a body that nobody has read cannot be told from it.
    let bodiless = length_of(&request) == Some(0);
    let persistent =
        bodiless && request.version == Version::HTTP_11 && !fields::has_token(&request.headers, &CONNECTION, "close");
    let disposition = match &asked {
        Some(asked) => site.dispose(asked, &mut wire).await,
        None => Disposition::Proxy,
    };
    match (disposition, wire) {
        (Disposition::Answer(answer), wire) => {
            let mut visit = site.visit(&request, peer, began, answer.from());
            if let Some(visit) = &mut visit {
                visit.answered(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            let close = !persistent || site.stopping.is_cancelled();
            respond(wire, &answer, close, patience).await.map_or(Next::Close, Next::Request)
        }
        (Disposition::Whole(whole), Wire::H1(mut connection)) => {
            if let Some(mut visit) = site.visit(&request, peer, began, "memory") {
                visit.answered(StatusCode::OK.as_u16(), Some(whole.body().len() as u64));
            }
            let close = !persistent || site.stopping.is_cancelled();
            let written = connection.answer(&whole, close, patience).await;
            if written.is_ok() && !close { Next::Request(connection) } else { Next::Close }
        }
        (Disposition::Hold(session), Wire::H1(connection)) => {
            let visit = site.visit(&request, peer, began, session.delivery.name());
            Next::Hold(slim(connection), session, visit)
        }
        (Disposition::Tunnel, Wire::H1(connection)) if connection.chunks => {
            let visit = site.visit(&request, peer, began, "tunnel");
            let written = as_written(&raw).map(|mut written| {
                stay_in_http1(&mut written);
                written
            });
            Next::Tunnel(connection, written.unwrap_or(request), visit)
        }
        (Disposition::Socket(opening), Wire::H1(mut connection)) => {
            let head = response_head(StatusCode::SWITCHING_PROTOCOLS, &opening.headers);
            match connection.write(&[&head, b"\r\n"], patience).await {
                Ok(()) => {
                    let mut visit = site.visit(&request, peer, began, "websocket");
                    if let Some(visit) = &mut visit {
                        visit.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16(), None);
                    }
                    Next::Socket(slim(connection), Box::new(opening.socket), visit)
                }
                Err(_) => Next::Close,
            }
        }
        (Disposition::Proxy, Wire::H1(connection))
            if persistent
                && let Some(request) = &asked
                && relay::takes(site, request) =>
        {
            let visit = site.visit(request.head, peer, began, "proxied");
            let relay = Relay { site, request, raw: &raw };
            Box::pin(relay.run(connection, visit)).await.map_or(Next::Close, Next::Request)
        }
        // What ends its answer with the connection is left to pingora, too: it takes what is in chunks out of them.
        (Disposition::Proxy | Disposition::Tunnel, Wire::H1(connection)) => {
            let length = length_of(&request);
            HandOver::ours(connection, &request, raw, length).run(site, proxy, shutdown).await
        }
        (Disposition::Gone, _) => {
            drop(site.visit(&request, peer, began, "own"));
            Next::Close
        }
        (_, Wire::H2(_)) => Next::Close,
    }
}

/// Sends an answer. Returns the connection, if it can be used again.
async fn respond(mut wire: Wire, answer: &Answer, close: bool, patience: Duration) -> Option<H1> {
    let written = wire.answer(answer.status, &answer.headers, &answer.body, close, patience).await;
    match wire {
        Wire::H1(connection) if written.is_ok() && !close => Some(connection),
        _ => None,
    }
}

/// What a held client keeps of what it sent must not keep the whole buffer in which it came.
fn slim(mut connection: H1) -> H1 {
    connection.buffer = BytesMut::from(&connection.buffer[..]);
    connection
}

/// What of a request's body is to come behind what has been read of it.
fn ahead(mut body: Body, read: &[u8]) -> io::Result<Body> {
    body.take(read).map(|_| body)
}

/// The same of a request whose head pingora is to judge; `None` if it does not say that its body is chunked.
fn ahead_of_foreign(buffer: &[u8]) -> io::Result<Option<Body>> {
    let Some(end) = find_end(buffer, 0) else { return Ok(None) };
    let (head, body) = buffer.split_at(end);
    let name = TRANSFER_ENCODING.as_str().as_bytes();
    let chunked = head.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name));
    chunked.then(|| ahead(Body::new(Framing::Chunked), body)).transpose()
}

/// A request that pingora is handed.
struct HandOver {
    /// All that was read of it, behind a head that pingora takes.
    connection: H1,
    /// What was read of those behind it.
    rest: BytesMut,
    /// What of its body is to come.
    body: io::Result<Option<Body>>,
    /// What pingora is not told.
    handed: Handed,
}

impl HandOver {
    /// One whose head we could not judge.
    fn foreign(mut connection: H1) -> Self {
        let body = ahead_of_foreign(&connection.buffer);
        if let Some((clean, _)) = with_clean_target(&connection.buffer) {
            connection.buffer = BytesMut::from(&clean[..]);
        }
        Self { connection, rest: BytesMut::new(), body, handed: Handed::default() }
    }

    /// One with the head `request`, written as `raw`, of which the bytes behind that are in the buffer of `connection`.
    fn ours(mut connection: H1, request: &RequestHeader, raw: BytesMut, length: Option<u64>) -> Self {
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let body = ahead(Body::new(framing), if length == Some(0) { &[] } else { &connection.buffer }).map(Some);
        let (head, handed) = head_for_pingora(request, raw);
        let mut rest = std::mem::replace(&mut connection.buffer, head);
        // pingora gives up a connection on which it read more than one request. Where this one ends is known only if it has no
        // body.
        if length != Some(0) {
            connection.buffer.unsplit(std::mem::take(&mut rest));
        }
        Self { connection, rest, body, handed }
    }

    /// Gives the connection to pingora's proxy for one request.
    async fn run(self, site: &Site, proxy: &Arc<Proxy>, shutdown: &ShutdownWatch) -> Next {
        let Self { connection, rest, body, handed } = self;
        let Ok(body) = body else {
            let answer = Answer::text(StatusCode::BAD_REQUEST, apology(StatusCode::BAD_REQUEST));
            respond(Wire::H1(connection), &answer, true, site.options().write_timeout).await;
            return Next::Close;
        };
        let H1 { stream, buffer, .. } = connection;
        let mut session = ServerSession::new_http1(Gathered::new(stream, body, handed));
        session.set_keepalive(Some(site.options().keepalive.as_secs()));
        session.set_pipelined_prefix(buffer);
        match proxy.process_new_http(session, shutdown).await {
            Some(reused) => {
                let (stream, _): (Stream, _) = reused.consume();
                let stream = Gathered::release(stream);
                stream.map_or(Next::Close, |stream| Next::Request(H1 { stream, buffer: rest, chunks: true, sent: 0 }))
            }
            None => Next::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    fn size_of_a_request<F>(
        _: impl FnOnce(
            &'static Arc<Site>,
            &'static Arc<Proxy>,
            H1,
            &'static ShutdownWatch,
            Peer,
            Pin<Box<dyn Future<Output = ()>>>,
            &'static mut Alarm,
        ) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Each request in flight has one.
    #[test]
    fn a_request_costs_little() {
        let request = size_of_a_request(next);
        assert!(request <= 2_400, "{request} bytes");
    }
}
