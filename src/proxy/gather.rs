//! A stream whose small writes leave together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};

use super::chunks::Chunks;

/// What pingora's proxy is given of a connection: it writes the head of a response, and the pieces of its body, one by
/// one. The connection itself has no buffer, since all who are held would have one, too.
#[derive(Debug)]
pub(super) struct Gathered {
    stream: BufWriter<Stream>,
    /// Where the body of the request stands, if it is chunked: it is looked at before pingora does.
    chunks: Option<Chunks>,
}

/// One packet on most networks.
const ROOM: usize = 1460;

impl Gathered {
    pub(super) fn new(stream: Stream, chunks: Option<Chunks>) -> Box<Self> {
        Box::new(Self { stream: BufWriter::with_capacity(ROOM, stream), chunks })
    }

    /// The connection again, once all that was written has been flushed.
    pub(super) fn release(stream: Stream) -> Option<Stream> {
        let gathered = stream.into_any().downcast::<Self>().ok()?;
        gathered.stream.buffer().is_empty().then(|| gathered.stream.into_inner())
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut BufWriter<Stream>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let (Poll::Ready(Ok(())), Some(chunks)) = (&read, &mut this.chunks)
            && let Err(error) = chunks.follow(&buffer.filled()[before..])
        {
            buffer.set_filled(before);
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(context, bytes)
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
impl Shutdown for Gathered {
    async fn shutdown(&mut self) {
        // Whether the client hears the rest is its own affair.
        let _ = self.stream.flush().await;
        Shutdown::shutdown(&mut **self.stream.get_mut()).await;
    }
}

#[async_trait]
impl Peek for Gathered {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.stream.get_mut().try_peek(buffer).await
    }
}

impl UniqueID for Gathered {
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().id()
    }
}

impl Ssl for Gathered {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ref().get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.get_ref().selected_alpn_proto()
    }
}

impl GetTimingDigest for Gathered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_ref().get_timing_digest()
    }
}

impl GetProxyDigest for Gathered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_ref().get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.get_mut().set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Gathered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_ref().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.get_mut().set_socket_digest(digest);
    }
}
