//! Connections that become the backend's own: upgrades, and event streams that it makes itself.
//!
//! The request's head goes to the backend over a connection of its own, the head of the answer comes back, and from then
//! on bytes are copied. After a 101 both ways; after any other answer only towards the client, so that nothing a client
//! sends behind its request ever reaches the backend unseen.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::forward::forward;
use super::head::answer_head;
use super::phases::apology;
use super::request::{Peer, Request};
use super::site::Site;
use crate::deliver::{Answer, H1, Wire};
use crate::model::fields;
use crate::telemetry::Visit;
use crate::upstream::Upstream;

/// Bytes copied at a time, each way.
const BUFFER: usize = 8 * 1024;

/// A head of an answer that is larger than this is refused.
const MOST_HEAD: usize = 64 * 1024;

/// Serves a connection whose next request is `request`, to its end.
pub(super) async fn run(
    site: &Site,
    mut client: H1,
    request: Box<RequestHeader>,
    peer: Peer,
    mut visit: Option<Box<Visit>>,
) {
    let failure = match site.replicas().connect().await {
        Ok((upstream, stream)) => {
            let tunnel = Tunnel { site, upstream: &upstream, request: &request, peer };
            match tunnel.exchange(&mut client, stream, visit.as_deref_mut()).await {
                Err(Failure::Upstream(text)) => {
                    upstream.outage().failed(&text);
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
            let answer = Answer::text(StatusCode::BAD_GATEWAY, apology(StatusCode::BAD_GATEWAY));
            if let Some(visit) = &mut visit {
                visit.answered(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            let mut wire = Wire::H1(client);
            let _ = wire.answer(answer.status, &answer.headers, &answer.body, true, site.options().write_timeout).await;
            return;
        }
    }
    let _ = timeout(site.options().write_timeout, client.stream.shutdown()).await;
}

enum Failure {
    /// The client left, or its connection failed: there is nobody to tell.
    Client,
    /// The backend is away or broke off before its answer began.
    Upstream(String),
}

/// A request, and who is to answer it.
struct Tunnel<'a> {
    site: &'a Site,
    upstream: &'a Upstream,
    request: &'a RequestHeader,
    peer: Peer,
}

impl Tunnel<'_> {
    async fn exchange(
        &self,
        client: &mut H1,
        mut upstream: Stream,
        mut visit: Option<&mut Visit>,
    ) -> Result<(), Failure> {
        let (site, request) = (self.site, self.request);
        let asked = Request::new(request, self.peer, &site.options().trusted);
        let upgrade = asked.is_some_and(|asked| asked.is_websocket());
        let trace = visit.as_deref().and_then(Visit::traceparent);
        let head = self.outgoing(upgrade, trace).ok_or(Failure::Client)?;
        let sent = async {
            upstream.write_all(&head).await?;
            upstream.flush().await
        };
        sent.await.map_err(|error| Failure::Upstream(error.to_string()))?;
        let mut received = BytesMut::with_capacity(1024);
        let (mut answer, length) = tokio::select! {
            biased;
            answer = read_answer(&mut upstream, &mut received) => answer.map_err(|error| Failure::Upstream(error.to_string()))?,
            () = client.gone() => return Err(Failure::Client),
        };
        self.upstream.outage().answered();
        if let Some(visit) = &mut visit {
            visit.answered(answer.status.as_u16(), None);
        }
        received.advance(length);
        let switched = upgrade && answer.status == StatusCode::SWITCHING_PROTOCOLS;
        let content_length = content_length(&answer, &request.method);
        if let Some(length) = content_length.filter(|_| !switched) {
            // More than it said is no part of the answer.
            received.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        self.returned(&mut answer, switched);
        let head = answer_head(&answer);
        let patience = site.options().write_timeout;
        client.write(&[&head, &received], patience).await.map_err(|_| Failure::Client)?;
        if switched {
            let early = std::mem::take(&mut client.buffer);
            both_ways(site, &mut client.stream, upstream, &early, patience).await;
            return Ok(());
        }
        let rest = content_length.map_or(u64::MAX, |length| length.saturating_sub(received.len() as u64));
        let mut body = upstream.take(rest);
        let H1 { stream, .. } = client;
        let (mut from_client, mut to_client) = tokio::io::split(stream);
        tokio::select! {
            _ = pump(&mut body, &mut to_client, patience) => {}
            () = silence(&mut from_client) => {}
            () = site.stopped() => {}
        }
        Ok(())
    }

    /// The request's head as the backend is sent it.
    fn outgoing(&self, upgrade: bool, trace: Option<String>) -> Option<BytesMut> {
        let mut head = self.request.clone();
        for name in fields::hop_by_hop(&self.request.headers) {
            head.remove_header(&name);
        }
        forward(&mut head, self.peer, &self.site.options().trusted, self.upstream).ok()?;
        if let Some(trace) = trace {
            head.insert_header("traceparent", trace).ok()?;
        }
        if upgrade {
            head.insert_header(CONNECTION, "Upgrade").ok()?;
            head.insert_header(UPGRADE, "websocket").ok()?;
        } else {
            // The connection is used for this answer alone: its end is the answer's end.
            head.insert_header(CONNECTION, "close").ok()?;
        }
        debug_assert!(head.headers.contains_key(HOST), "a head that was accepted names a host");
        http_req_header_to_wire(&head)
    }

    /// Makes the answer's head what the client is sent: the framing stays as the bytes behind it are, the rest of what
    /// belongs to the connection becomes ours.
    fn returned(&self, answer: &mut ResponseHeader, switched: bool) {
        let framing = answer.headers.get(TRANSFER_ENCODING).cloned();
        let upgrade = answer.headers.get(UPGRADE).cloned().filter(|_| switched);
        for name in fields::hop_by_hop(&answer.headers) {
            answer.remove_header(&name);
        }
        if framing.is_some() {
            answer.remove_header(&CONTENT_LENGTH);
        }
        let connection = HeaderValue::from_static(if switched { "Upgrade" } else { "close" });
        let ours = [(TRANSFER_ENCODING, framing), (UPGRADE, upgrade), (CONNECTION, Some(connection))];
        let asked = Request::new(self.request, self.peer, &self.site.options().trusted);
        let rewrites = asked.map(|asked| self.upstream.response_rewrites(&answer.headers, &asked.client.origin));
        let ours = ours.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in ours.chain(rewrites.into_iter().flatten()) {
            // Only what is no header name is refused, and these are.
            let _ = answer.insert_header(name, value);
        }
    }
}

/// Reads the head of the final answer; interim ones (1xx but 101) are skipped.
async fn read_answer(upstream: &mut Stream, received: &mut BytesMut) -> io::Result<(ResponseHeader, usize)> {
    loop {
        if let Some((answer, length)) = parse(received)? {
            if answer.status.is_informational() && answer.status != StatusCode::SWITCHING_PROTOCOLS {
                received.advance(length);
                continue;
            }
            return Ok((answer, length));
        }
        if received.len() > MOST_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of the answer is too large"));
        }
        if upstream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(received: &[u8]) -> io::Result<Option<(ResponseHeader, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut headers);
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let length = match parsed.parse(received).map_err(|error| invalid(format!("the answer is not HTTP: {error}")))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = parsed.code.unwrap_or(502);
    let mut answer =
        ResponseHeader::build(status, Some(parsed.headers.len())).map_err(|error| invalid(error.to_string()))?;
    answer.set_version(if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 });
    let _ = answer.set_reason_phrase(parsed.reason);
    for header in parsed.headers.iter() {
        answer.append_header(header.name.to_owned(), header.value).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(Some((answer, length)))
}

/// How long the body is, if the head says so.
fn content_length(answer: &ResponseHeader, method: &Method) -> Option<u64> {
    if *method == Method::HEAD || answer.status == StatusCode::NO_CONTENT || answer.status == StatusCode::NOT_MODIFIED {
        return Some(0);
    }
    if answer.headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    answer.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Copies both ways until both are done, one fails, or the server stops.
async fn both_ways(site: &Site, client: &mut Stream, upstream: Stream, early: &[u8], patience: Duration) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let up = async {
        to_upstream.write_all(early).await?;
        to_upstream.flush().await?;
        pump(&mut from_client, &mut to_upstream, patience).await
    };
    let down = pump(&mut from_upstream, &mut to_client, patience);
    tokio::select! {
        _ = async { tokio::try_join!(up, down) } => {}
        () = site.stopped() => {}
    }
}

/// Copies until the end of `from`, which it passes on, giving `to` so much time to accept each piece.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return timeout(patience, to.shutdown()).await.map_err(|_| io::ErrorKind::TimedOut)?;
        }
        let written = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        timeout(patience, written).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

/// Completes when the client has closed its side. What it sends is dropped.
async fn silence(from: &mut (impl AsyncRead + Unpin)) {
    let mut dropped = [0; 64];
    while matches!(from.read(&mut dropped).await, Ok(1..)) {}
}
