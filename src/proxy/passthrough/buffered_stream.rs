//! The stream that pingora's proxy receives for a client connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::clock;
use crate::post::BodyRead;
use crate::proto::Body;
use crate::proxy::watched::under_way::Witness;
use crate::upstream::Line;

/// A buffered wrapper around a connection for pingora's proxy, which writes the head of a response and the pieces of
/// its body one by one. The connection itself has no buffer, because every held client would keep one.
#[derive(Debug)]
pub(in crate::proxy) struct BufferedStream {
    stream: BufWriter<Stream>,
    /// The rest of the request's body, if its framing is known. Its bytes are validated before pingora sees them.
    body: Option<Body>,
    request: Arc<Handed>,
    /// The timeout for the response of a client that has half-closed the connection.
    half_closed: Option<Pin<Box<Sleep>>>,
}

/// The parts of a handed-over request that pingora does not see, and the state of the exchange.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Handed {
    /// The target as the client wrote it, if it cannot be represented otherwise.
    pub(in crate::proxy) target: Option<Bytes>,
    /// Fields beyond the number that pingora accepts.
    pub(in crate::proxy) fields: Mutex<Vec<(String, HeaderValue)>>,
    /// Whether its head has not been read yet.
    pub(in crate::proxy) is_unread: bool,
    /// The read that the body requests, if the request certainly only reads.
    pub(in crate::proxy) read: Option<Arc<BodyRead>>,
    /// Observes whether the application's response was complete.
    pub(in crate::proxy) witness: Option<Witness>,
    /// The upstream connection of the request, once there is one.
    line: Mutex<Option<Arc<Line>>>,
    /// Whether the client has closed its sending side.
    ended: AtomicBool,
}

impl Handed {
    pub(in crate::proxy) fn new(target: Option<Bytes>) -> Self {
        Self { target, ..Self::default() }
    }

    /// Creates the data for a request whose head has not been read.
    pub(in crate::proxy) fn unread() -> Self {
        Self { is_unread: true, ..Self::default() }
    }

    /// Returns the data for the request on the connection with this digest.
    pub(in crate::proxy) fn of(digest: Option<&Digest>) -> Option<Arc<Self>> {
        digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }

    /// Adds the state of the request to `head`, after pingora has parsed it.
    pub(in crate::proxy) fn extend(&self, head: &mut RequestHeader) {
        if let Some(read) = &self.read {
            head.extensions_mut().insert(Arc::clone(read));
        }
        if let Some(witness) = &self.witness {
            head.extensions_mut().insert(witness.clone());
        }
    }

    /// Records that the request is about to be sent on `line`.
    pub(in crate::proxy) fn asked_on(&self, line: &Arc<Line>) {
        *self.line.lock() = Some(Arc::clone(line));
        if self.ended.load(Ordering::SeqCst) {
            line.client_ended();
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(line) = &*self.line.lock() {
            line.client_ended();
        }
    }
}

/// How long a half-closed client is kept while no part of its response arrives.
pub(in crate::proxy) const HALF_CLOSED: Duration = Duration::from_secs(60);

/// One packet on most networks.
const BUFFER_SIZE: usize = 1460;

impl BufferedStream {
    pub(in crate::proxy) fn new(stream: Stream, body: Option<Body>, request: Handed) -> Box<Self> {
        let stream = BufWriter::with_capacity(BUFFER_SIZE, stream);
        Box::new(Self { stream, body, request: Arc::new(request), half_closed: None })
    }

    /// Waits for the response of a client that has half-closed the connection after a complete request, up to a
    /// timeout. pingora would drop the connection at once.
    fn poll_half_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.half_closed.is_none() {
            self.request.end();
        }
        self.half_closed.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED))).as_mut().poll(context)
    }

    /// Returns the inner connection, if all written data has been flushed.
    pub(in crate::proxy) fn into_inner(stream: Stream) -> Option<Stream> {
        let gathered = stream.into_any().downcast::<Self>().ok()?;
        gathered.stream.buffer().is_empty().then(|| gathered.stream.into_inner())
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut BufWriter<Stream>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for BufferedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.half_closed.is_none() {
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        }
        let bytes = &buffer.filled()[before..];
        let Some(body) = &mut this.body else { return Poll::Ready(Ok(())) };
        if bytes.is_empty() && buffer.remaining() > 0 && body.is_over() {
            return this.poll_half_closed(context).map(Ok);
        }
        if let Err(error) = body.take(bytes) {
            buffer.set_filled(before);
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BufferedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(half_closed) = &mut this.half_closed {
            half_closed.as_mut().reset(clock::now() + HALF_CLOSED);
        }
        Pin::new(this).inner().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for BufferedStream {
    async fn shutdown(&mut self) {
        // Errors are ignored: the connection is closed either way.
        let _ = self.stream.flush().await;
        Shutdown::shutdown(&mut **self.stream.get_mut()).await;
    }
}

#[async_trait]
impl Peek for BufferedStream {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.stream.get_mut().try_peek(buffer).await
    }
}

impl UniqueID for BufferedStream {
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().id()
    }
}

impl Ssl for BufferedStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ref().get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.get_ref().selected_alpn_proto()
    }
}

impl GetTimingDigest for BufferedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_ref().get_timing_digest()
    }
}

impl GetProxyDigest for BufferedStream {
    /// Carries the data that pingora does not see to the phases. pingora intended this for tunnels through other
    /// proxies.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        let answer = ResponseHeader::build(200, Some(0)).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(answer), Some(Box::new(Arc::clone(&self.request))))))
    }
}

impl GetSocketDigest for BufferedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_ref().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.get_mut().set_socket_digest(digest);
    }
}
