//! Lends connections to pingora's proxy, which return to the pool when they are dropped.
//!
//! pingora would otherwise connect and parse responses by itself. Its own pool identifies connections by their
//! descriptors, and lent streams have none, so it never keeps one, and each returns to [`IdlePool`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::protocols::{GetProxyDigest as _, Stream};
use pingora::upstreams::peer::{HttpPeer, Scheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, Line};
use super::idle_pool::IdlePool;
use super::{ConnectError, Upstream};
use crate::proto::{Body, Framing, find_end};

impl Upstream {
    /// See [`super::ReplicaGuard::lend`].
    pub(super) async fn lend(self: &Arc<Self>, fresh: bool, owner: Option<u64>) -> Result<HttpPeer, ConnectError> {
        let peer = self.peer().await?;
        // TLS is already below the lent stream.
        let mut lent = peer.clone();
        lent.scheme = Scheme::HTTP;
        lent.options.custom_l4 = Some(Arc::new(Lender { upstream: Arc::clone(self), peer, fresh, owner }));
        Ok(lent)
    }
}

/// Connects for pingora's proxy.
struct Lender {
    upstream: Arc<Upstream>,
    peer: HttpPeer,
    fresh: bool,
    /// The client that the connection is restricted to, if any.
    owner: Option<u64>,
}

#[async_trait]
impl L4Connect for Lender {
    async fn connect(&self, _: &SocketAddr) -> pingora::Result<L4Stream> {
        let idle = if self.fresh { None } else { self.upstream.idle_of(self.owner) };
        let stream = match idle {
            Some(stream) => stream,
            None => self.upstream.connect_to(&self.peer).await?,
        };
        let line = Line::of(stream.get_proxy_digest());
        if let Some((line, owner)) = line.as_ref().zip(self.owner) {
            line.own(owner);
        }
        let lent = Lent {
            stream: Some(stream),
            line: line.clone(),
            home: Arc::downgrade(&self.upstream.idle),
            sent: Sent::default(),
        };
        let mut stream = L4Stream::from(VirtualSocketStream::new(Box::new(lent)));
        if let Some(line) = line {
            stream.set_proxy_digest(line.digest()?);
        }
        Ok(stream)
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}

/// A lent connection.
#[derive(Debug)]
struct Lent {
    /// Always `Some` until this is dropped.
    stream: Option<Stream>,
    line: Option<Arc<Line>>,
    home: Weak<IdlePool>,
    sent: Sent,
}

/// Tracks the request sent on the connection. A connection with an unfinished request cannot be reused.
#[derive(Debug, Default)]
struct Sent {
    head: BytesMut,
    body: Option<Body>,
}

impl Sent {
    fn note(&mut self, mut bytes: &[u8]) {
        if self.body.is_none() {
            let searched = self.head.len().saturating_sub(3);
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = find_end(&self.head, searched) else { return };
            self.body = Some(Body::new(framing(&self.head[..end])));
            self.head.clear();
            bytes = &bytes[end - before..];
        }
        let Some(body) = &mut self.body else { return };
        // Data beyond a complete request makes the connection unusable for another.
        if body.take(bytes).ok() != Some(bytes.len()) {
            self.body = Some(Body::UntilClose);
        }
    }

    fn is_whole(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_over)
    }
}

/// Returns the framing of a request written by pingora, which states it once and in one form.
fn framing(head: &[u8]) -> Framing {
    let field = |line: &[u8]| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        if name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str().as_bytes()) {
            return Some(Framing::Chunked);
        }
        let is_length = name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes());
        let length = is_length.then(|| std::str::from_utf8(value[1..].trim_ascii()).ok()?.parse().ok());
        length.map(|length| length.map_or(Framing::UntilClose, Framing::Length))
    };
    head.split(|byte| *byte == b'\n').skip(1).find_map(field).unwrap_or(Framing::Empty)
}

impl Lent {
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn is_done(&self) -> bool {
        let connection = self.stream.as_ref().and_then(|stream| stream.as_any().downcast_ref::<Connection>());
        self.sent.is_whole() && connection.is_some_and(Connection::is_idle)
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(line) = this.line.as_ref().filter(|_| this.sent.is_whole()) {
            line.request_sent();
        }
        this.stream()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.stream()?.poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            this.sent.note(&bytes[..count]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(context)
    }

    /// Called by pingora for a connection that it does not keep.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_done() { Poll::Ready(Ok(())) } else { this.stream()?.poll_shutdown(context) }
    }
}

impl VirtualSocket for Lent {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_done()
            && tokio::runtime::Handle::try_current().is_ok()
            && let (Some(stream), Some(home)) = (self.stream.take(), self.home.upgrade())
        {
            home.put(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        for (pieces, whole) in [
            (&["GET / HTTP/1.1\r\nHost: x\r\n\r\n"][..], true),
            (&["GET / HTTP/1.1\r\nHo", "st: x\r\n\r", "\n"], true),
            (&["GET / HTTP/1.1\r\nHost: x\r\n"], false),
            (&["POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na"], false),
            (&["POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\na", "b"], true),
            (&["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "0\r\n"], false),
            (&["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "0\r\n\r\n"], true),
            (&["GET / HTTP/1.1\r\nHost: x\r\n\r\nmore"], false),
            (&[], false),
        ] {
            let mut sent = Sent::default();
            pieces.iter().for_each(|piece| sent.note(piece.as_bytes()));
            assert_eq!(sent.is_whole(), whole, "{pieces:?}");
        }
    }
}
