//! Tunnels: upgrades, and event streams that the backend produces itself.
//!
//! The request's head goes to the backend over a connection of its own, the head of the response comes back, and from
//! then on bytes are copied. After a 101 they are copied in both directions; after any other response only towards the
//! client, so that no further bytes of the client reach the backend unchecked.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::deliver::{Downstream, H1Connection, LocalResponse};
use crate::model::fields;
use crate::proto::{Exchange, find_end};
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::pingora::error_text;
use crate::proxy::passthrough::response::{edit, name_site};
use crate::proxy::request::forwarded::forward;
use crate::proxy::request::head::{answer_head, raw_target};
use crate::proxy::request::view::{Peer, RequestView, path_of};
use crate::proxy::watched::writes::BodySignature;
use crate::telemetry::AccessGuard;
use crate::upstream::{Expected, Upstream, expect};

/// The buffer size in each direction.
const BUFFER: usize = 8 * 1024;

/// The maximum number of header lines in a response: pingora's limit.
const MAX_HEADERS: usize = 256;

/// How long one side of a WebSocket may be silent after the other has ended. By then it should have sent a close frame.
const WEBSOCKET_LINGER: Duration = Duration::from_secs(10);

/// The same for other protocols, in which one side may end long before the other.
const LINGER: Duration = Duration::from_secs(600);

/// Serves a connection with the next request `request` until it ends.
pub(in crate::proxy) async fn run(
    gateway: &Gateway,
    mut client: H1Connection,
    request: Box<RequestHeader>,
    peer: Peer,
    mut visit: Option<Box<AccessGuard>>,
) {
    let failure = match gateway.application(path_of(&request)).connect().await {
        Ok((upstream, stream)) => {
            let tunnel = Tunnel { gateway, upstream: &upstream, request: &request, peer };
            match tunnel.exchange(&mut client, stream, visit.as_deref_mut()).await {
                Err(Failure::Upstream(text)) => {
                    upstream.health().mark_down(&text);
                    Err(Failure::Upstream(text))
                }
                other => other,
            }
        }
        Err(error) => Err(Failure::Upstream(error.to_string())),
    };
    match failure {
        Ok(()) => {}
        Err(Failure::Client) => return,
        Err(Failure::Upstream(_)) => {
            let answer = LocalResponse::text(StatusCode::BAD_GATEWAY, error_text(StatusCode::BAD_GATEWAY));
            if let Some(visit) = &mut visit {
                visit.set_response(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            let mut wire = Downstream::H1(client);
            let _ =
                wire.answer(answer.status, &answer.headers, &answer.body, true, gateway.options().write_timeout).await;
            return;
        }
    }
    let _ = timeout(gateway.options().write_timeout, client.stream.shutdown()).await;
}

enum Failure {
    /// The client left, or its connection failed.
    Client,
    /// The backend is down, or the connection broke before its response began.
    Upstream(String),
}

/// A request and the upstream that answers it.
struct Tunnel<'a> {
    gateway: &'a Gateway,
    upstream: &'a Upstream,
    request: &'a RequestHeader,
    peer: Peer,
}

impl Tunnel<'_> {
    async fn exchange(
        &self,
        client: &mut H1Connection,
        mut upstream: Stream,
        mut visit: Option<&mut AccessGuard>,
    ) -> Result<(), Failure> {
        let (gateway, request) = (self.gateway, self.request);
        let asked = RequestView::new(request, self.peer, &gateway.options().trusted);
        let protocol = asked.as_ref().filter(|asked| asked.is_tunnelled()).and(request.headers.get(UPGRADE));
        let trace = visit.as_deref().and_then(AccessGuard::traceparent);
        let head = self.outgoing(protocol, trace).ok_or(Failure::Client)?;
        let exchange = Exchange { is_head: request.method == Method::HEAD, upgrade: protocol.is_some(), last: true };
        expect(&upstream, Expected { exchange, interim: false, target: raw_target(request) });
        let writing = match &asked {
            Some(asked) => gateway.begins(asked).await,
            None => Vec::new(),
        };
        let sent = async {
            upstream.write_all(&head).await?;
            upstream.flush().await
        };
        sent.await.map_err(|error| Failure::Upstream(error.to_string()))?;
        let mut received = BytesMut::with_capacity(1024);
        let (mut answer, length) = tokio::select! {
            biased;
            answer = read_answer(&mut upstream, &mut received) => answer.map_err(|error| Failure::Upstream(error.to_string()))?,
            () = client.closed() => return Err(Failure::Client),
        };
        self.upstream.health().mark_up();
        if let Some(visit) = &mut visit {
            visit.set_response(answer.status.as_u16(), None);
        }
        let host = request.headers.get(HOST);
        if self.upstream.suspects(host, answer.status, &answer.headers)
            && let Some(host) = host.and_then(|host| host.to_str().ok())
        {
            // Clients of streams and sockets reconnect by themselves.
            Box::pin(self.upstream.finds_out(host, request.uri.path())).await;
        }
        received.advance(length);
        let switched = answer.status == StatusCode::SWITCHING_PROTOCOLS;
        self.returned(&mut answer, switched, asked.as_ref());
        if let Some(asked) = &asked {
            gateway.told_of_write(asked).await;
        }
        drop(writing);
        let who = asked.map(|asked| gateway.who(&asked));
        let head = answer_head(&answer);
        let patience = gateway.options().write_timeout;
        client.write(&[&head, &received], patience).await.map_err(|_| Failure::Client)?;
        if switched {
            let early = std::mem::take(&mut client.buffer);
            let is_websocket = protocol.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
            let pump = Pump {
                patience,
                linger: if is_websocket { WEBSOCKET_LINGER } else { LINGER },
                ended: CancellationToken::new(),
            };
            let heard = || {
                if let Some(who) = &who {
                    gateway.writes.clients.heard(who, clock::now());
                }
            };
            tokio::select! {
                () = pump.both_ways(&mut client.stream, upstream, &early, &heard) => {}
                () = gateway.stopped() => {}
            }
            return Ok(());
        }
        let pump = Pump { patience, linger: LINGER, ended: CancellationToken::new() };
        let (mut from_client, mut to_client) = tokio::io::split(&mut client.stream);
        tokio::select! {
            // The response ends with the connection to the backend.
            _ = pump.copy(&mut upstream, &mut to_client, || {}) => {}
            () = silence(&mut from_client) => {}
            () = gateway.stopped() => {}
        }
        Ok(())
    }

    /// Returns the request's head for the backend.
    fn outgoing(&self, protocol: Option<&HeaderValue>, trace: Option<String>) -> Option<BytesMut> {
        let mut head = self.request.clone();
        for name in fields::hop_by_hop(&self.request.headers) {
            head.remove_header(&name);
        }
        forward(&mut head, self.peer, &self.gateway.options().trusted, self.upstream).ok()?;
        if let Some(trace) = trace {
            head.insert_header("traceparent", trace).ok()?;
        }
        if let Some(protocol) = protocol {
            head.insert_header(CONNECTION, "Upgrade").ok()?;
            head.insert_header(UPGRADE, protocol.clone()).ok()?;
        } else {
            // The connection carries only this response and ends with it.
            head.insert_header(CONNECTION, "close").ok()?;
        }
        debug_assert!(head.headers.contains_key(HOST), "a head that was accepted names a host");
        http_req_header_to_wire(&head)
    }

    /// Prepares the response's head for the client: it keeps the framing headers, which match the bytes that follow,
    /// and replaces the other hop-by-hop headers. Also records the result of a request that may be a write.
    fn returned(&self, answer: &mut ResponseHeader, switched: bool, asked: Option<&RequestView<'_>>) {
        let framing = answer.headers.get(TRANSFER_ENCODING).cloned();
        let upgrade = answer.headers.get(UPGRADE).cloned().filter(|_| switched);
        for name in fields::hop_by_hop(&answer.headers) {
            answer.remove_header(&name);
        }
        let connection = HeaderValue::from_static(if switched { "Upgrade" } else { "close" });
        let ours = [(TRANSFER_ENCODING, framing), (UPGRADE, upgrade), (CONNECTION, Some(connection))];
        let ours = ours.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in ours {
            // Inserting fails only for invalid header names, and these are valid.
            let _ = answer.insert_header(name, value);
        }
        let Some(asked) = asked else { return };
        let _ = name_site(self.upstream, answer, &asked.client.origin);
        self.gateway.rotate_credentials(asked, &answer.headers);
        if asked.may_write() {
            self.gateway.record_write(asked, &BodySignature::default(), answer.status, &answer.headers);
        }
        if !switched {
            let _ = edit(self.upstream, answer);
        }
    }
}

/// Reads the head of the final response, which the connection has made unambiguous.
async fn read_answer(upstream: &mut Stream, received: &mut BytesMut) -> io::Result<(ResponseHeader, usize)> {
    loop {
        if let Some(end) = find_end(received, 0) {
            return Ok((parse(&received[..end])?, end));
        }
        if upstream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(head: &[u8]) -> io::Result<ResponseHeader> {
    let mut headers = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    parsed.parse(head).map_err(|error| invalid(format!("the answer is not HTTP: {error}")))?;
    let status = parsed.code.unwrap_or(502);
    let mut answer =
        ResponseHeader::build(status, Some(parsed.headers.len())).map_err(|error| invalid(error.to_string()))?;
    let _ = answer.set_reason_phrase(parsed.reason);
    for header in parsed.headers.iter() {
        answer.append_header(header.name.to_owned(), header.value).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(answer)
}

/// Copies bytes for a tunnel.
struct Pump {
    /// The timeout for writing each piece.
    patience: Duration,
    /// How long one side may be silent after the other has ended.
    linger: Duration,
    /// Cancelled when one side has ended.
    ended: CancellationToken,
}

impl Pump {
    /// Copies in both directions until both sides have ended, one fails, or one has ended and the other is silent.
    ///
    /// `heard` is called when the backend sends data after the client has: that may be the response to a write.
    async fn both_ways(&self, client: &mut Stream, upstream: Stream, early: &[u8], heard: &(dyn Fn() + Sync)) {
        let said = AtomicBool::new(!early.is_empty());
        let says = || said.store(true, Ordering::Release);
        let answers = || {
            if said.swap(false, Ordering::AcqRel) {
                heard();
            }
        };
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
        let up = async {
            to_upstream.write_all(early).await?;
            to_upstream.flush().await?;
            self.copy(&mut from_client, &mut to_upstream, says).await
        };
        // A failed side is gone, and the other side only learns that it has ended.
        let _ = tokio::try_join!(up, self.copy(&mut from_upstream, &mut to_client, answers));
    }

    /// Copies until the end of `from`, and forwards that end. `passes` is called before each piece.
    async fn copy(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        passes: impl Fn(),
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = tokio::select! {
                biased;
                read = from.read(&mut buffer) => read?,
                () = self.silent() => return Err(io::ErrorKind::TimedOut.into()),
            };
            if read == 0 {
                self.ended.cancel();
                return timeout(self.patience, to.shutdown()).await.map_err(|_| io::ErrorKind::TimedOut)?;
            }
            passes();
            let written = async {
                to.write_all(&buffer[..read]).await?;
                to.flush().await
            };
            timeout(self.patience, written).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
    }

    /// Completes some time after the other side has ended.
    async fn silent(&self) {
        self.ended.cancelled().await;
        sleep(self.linger).await;
    }
}

/// Completes when the client has closed its sending side. Received data is dropped.
async fn silence(from: &mut (impl AsyncRead + Unpin)) {
    let mut dropped = [0; 64];
    while matches!(from.read(&mut dropped).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File descriptors are freed eventually, whatever one side does after the other has ended.
    #[tokio::test(start_paused = true)]
    async fn a_side_that_is_silent_behind_the_end_of_the_other_is_left() {
        let pump = Pump { patience: Duration::from_secs(5), linger: WEBSOCKET_LINGER, ended: CancellationToken::new() };
        let (mut from, mut far) = tokio::io::duplex(64);
        let (mut to, mut read) = tokio::io::duplex(64);
        let began = clock::now();
        let speak = async {
            sleep(Duration::from_secs(60)).await;
            far.write_all(b"a").await.expect("room");
            pump.ended.cancel();
            sleep(Duration::from_secs(8)).await;
            far.write_all(b"b").await.expect("room");
        };
        let (copied, ()) = tokio::join!(pump.copy(&mut from, &mut to, || {}), speak);
        assert_eq!(copied.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert_eq!(clock::now() - began, Duration::from_secs(60 + 8 + 10));
        let mut passed = [0; 2];
        read.read_exact(&mut passed).await.expect("both");
        assert_eq!(&passed, b"ab");
    }
}
