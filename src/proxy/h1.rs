//! One HTTP/1.x connection, request after request.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use http::header::CONNECTION;
use http::{StatusCode, Version};
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::decide::Disposition;
use super::front::Proxy;
use super::head::{Head, read_head};
use super::request::{Peer, Request};
use super::site::Site;
use super::tunnel;
use crate::deliver::{Answer, H1, Session, Wire};
use crate::model::fields;

/// What is done with a connection next. Everything large is boxed, so that a connection that is held costs little.
enum Next {
    Request(H1),
    Hold(H1, Box<Session>),
    Tunnel(H1, Box<RequestHeader>),
    Close,
}

/// Serves a connection until it ends.
pub(super) async fn serve(site: Arc<Site>, proxy: Arc<Proxy>, mut connection: H1, shutdown: ShutdownWatch) {
    let socket = connection.stream.get_socket_digest();
    let peer = Peer {
        address: socket.and_then(|socket| Some(socket.peer_addr()?.as_inet()?.ip())),
        tls: connection.stream.get_ssl_digest().is_some(),
    };
    loop {
        match Box::pin(next(&site, &proxy, connection, &shutdown, peer)).await {
            Next::Request(again) => connection = again,
            Next::Hold(held, session) => {
                drop((proxy, shutdown));
                let mut wire = Wire::H1(held);
                return session.run(&mut wire).await;
            }
            Next::Tunnel(taken, request) => {
                drop((proxy, shutdown));
                return Box::pin(tunnel::run(&site, taken, request, peer)).await;
            }
            Next::Close => return,
        }
    }
}

/// Reads one request and sees to its answer.
async fn next(site: &Site, proxy: &Arc<Proxy>, mut connection: H1, shutdown: &ShutdownWatch, peer: Peer) -> Next {
    let patience = site.options.write_timeout;
    let head = tokio::select! {
        biased;
        head = read_head(&mut connection.stream, &mut connection.buffer, site.options.keepalive, site.options.head_timeout) => head,
        () = site.stopping.cancelled() => Head::Closed,
    };
    let (request, length) = match head {
        Head::Closed => return Next::Close,
        Head::Foreign => return hand_over(site, proxy, connection, shutdown).await,
        Head::Late => {
            let answer = Answer::text(StatusCode::REQUEST_TIMEOUT, "The head of the request did not arrive in time.");
            let mut wire = Wire::H1(connection);
            let _ = wire.answer(answer.status, &answer.headers, &answer.body, true, patience).await;
            return Next::Close;
        }
        Head::Ours { request, length } => (request, length),
    };
    connection.chunks = request.version == Version::HTTP_11;
    let persistent = request.version == Version::HTTP_11 && !fields::has_token(&request.headers, &CONNECTION, "close");
    let mut wire = Wire::H1(connection);
    let disposition = match Request::new(&request, peer, &site.options.trusted) {
        Some(asked) => site.dispose(&asked, &mut wire).await,
        None => Disposition::Proxy,
    };
    let Wire::H1(mut connection) = wire else { return Next::Close };
    match disposition {
        Disposition::Proxy => hand_over(site, proxy, connection, shutdown).await,
        Disposition::Gone => Next::Close,
        Disposition::Answer(answer) => {
            connection.buffer.advance(length);
            let close = !persistent || site.stopping.is_cancelled();
            let mut wire = Wire::H1(connection);
            let written = wire.answer(answer.status, &answer.headers, &answer.body, close, patience).await;
            match wire {
                Wire::H1(connection) if written.is_ok() && !close => Next::Request(connection),
                _ => Next::Close,
            }
        }
        Disposition::Hold(session) => {
            connection.buffer = BytesMut::from(&connection.buffer[length..]);
            Next::Hold(connection, session)
        }
        Disposition::Tunnel => {
            connection.buffer.advance(length);
            Next::Tunnel(connection, request)
        }
    }
}

/// Gives the connection to pingora's proxy for one request, with all that was read of it.
async fn hand_over(site: &Site, proxy: &Arc<Proxy>, connection: H1, shutdown: &ShutdownWatch) -> Next {
    let H1 { stream, buffer, .. } = connection;
    let mut session = ServerSession::new_http1(stream);
    session.set_keepalive(Some(site.options.keepalive.as_secs()));
    session.set_pipelined_prefix(buffer);
    match proxy.process_new_http(session, shutdown).await {
        Some(reused) => {
            let (stream, _): (Stream, _) = reused.consume();
            Next::Request(H1 { stream, buffer: BytesMut::new(), chunks: true })
        }
        None => Next::Close,
    }
}
