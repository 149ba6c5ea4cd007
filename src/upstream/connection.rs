//! A connection to the backend that validates responses.
//!
//! ```text
//! caller ─ expect ─▶ Exchange                          (the request that will be answered)
//!          bytes ─────────────────────────────────────▶ backend
//! caller ◀─ head as ResponseHead writes it, body up to its end ─ Connection ◀─ any bytes
//! ```
//!
//! Everything that reads responses of the backend reads them through this type: relayed requests, pingora's proxy,
//! tunnels and fetches. The end of a response is therefore determined in one place, and no caller sees ambiguous
//! framing or unsolicited data.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::MAX_INTERIM;
use crate::model::fields;
use crate::proto::{Body, Exchange, ResponseHead, find_end};

/// The facts about a request that must be known before it is sent.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The facts that determine the framing of its response.
    pub exchange: Exchange,
    /// Whether the caller accepts interim responses (RFC 9110 section 15.2).
    pub interim: bool,
    /// The target as the client wrote it, if it cannot be represented otherwise.
    pub target: Option<Bytes>,
}

/// A shared handle to a connection, for use while other code reads and writes it.
#[derive(Debug)]
pub struct Line {
    expected: Mutex<Option<Expected>>,
    /// The target to substitute in the next request.
    retarget: Mutex<Option<Bytes>>,
    /// Whether the client has closed its sending side, and whether this connection is to be half-closed too.
    client_ended: AtomicBool,
    half_closed: AtomicBool,
    reused: AtomicBool,
    /// The only client whose requests the connection may carry; 0 for any client.
    owner: AtomicU64,
    reader: AtomicWaker,
}

impl Line {
    /// Returns the line of a stream that is a `Connection`, found through its digest.
    pub fn of(digest: Option<Arc<ProxyDigest>>) -> Option<Arc<Self>> {
        digest?.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }

    /// Returns a digest through which other code finds the line. pingora intended this for tunnels through other
    /// proxies.
    pub(super) fn digest(self: &Arc<Self>) -> pingora::Result<ProxyDigest> {
        let answer = ResponseHeader::build(200, Some(0))?;
        Ok(ProxyDigest::new(Box::new(answer), Some(Box::new(Arc::clone(self)))))
    }

    /// Announces the next request. Must be called before its head is written.
    pub fn expect(&self, mut expected: Expected) {
        *self.retarget.lock() = expected.target.take();
        *self.expected.lock() = Some(expected);
    }

    /// Records that the client has closed its sending side. Once its request is sent, this connection is half-closed
    /// too, so that the backend can react as it would without the proxy.
    pub fn client_ended(&self) {
        self.client_ended.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Records that the request has been sent completely.
    pub fn request_sent(&self) {
        if self.client_ended.load(Ordering::Acquire) {
            self.half_closed.store(true, Ordering::Release);
        }
    }

    /// Returns whether this connection has served other requests before.
    pub fn is_reused(&self) -> bool {
        self.reused.load(Ordering::Relaxed)
    }

    /// Restricts the connection to requests of this client.
    pub(super) fn own(&self, owner: u64) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Returns the client whose requests it may carry; `None` for any client.
    pub(super) fn owner(&self) -> Option<u64> {
        Some(self.owner.load(Ordering::Relaxed)).filter(|owner| *owner != 0)
    }

    pub(super) fn reuse(&self) {
        self.reused.store(true, Ordering::Relaxed);
    }
}

/// The state of the connection.
#[derive(Debug)]
enum Place {
    /// Between two exchanges.
    Idle,
    /// In the head of a response: the number of bytes searched, and the number of interim responses before it.
    Head { expected: Expected, searched: usize, interim: usize },
    /// In the body.
    Body(Body),
    /// After the last response, or after an error.
    Over,
}

/// A connection to the backend.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    line: Arc<Line>,
    digest: Arc<ProxyDigest>,
    place: Place,
    /// Bytes that were read and not yet processed.
    received: BytesMut,
    /// A head that is ready for the caller.
    ready: BytesMut,
    /// The beginning of a request that is still to be sent.
    unsent: BytesMut,
    persistent: bool,
    /// Whether the sending side is closed.
    closed: bool,
}

/// The maximum size of a response head.
const MAX_HEAD: usize = 256 * 1024;

/// The number of bytes read at a time while waiting for a head.
const ROOM: usize = 4096;

impl Connection {
    pub(super) fn new(stream: Stream) -> pingora::Result<Self> {
        let line = Arc::new(Line {
            expected: Mutex::new(None),
            retarget: Mutex::new(None),
            client_ended: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            reused: AtomicBool::new(false),
            owner: AtomicU64::new(0),
            reader: AtomicWaker::new(),
        });
        Ok(Self {
            stream,
            digest: Arc::new(line.digest()?),
            line,
            place: Place::Idle,
            received: BytesMut::new(),
            ready: BytesMut::new(),
            unsent: BytesMut::new(),
            persistent: true,
            closed: false,
        })
    }

    /// Returns whether no exchange is in progress and another request may be sent.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.place, Place::Idle)
            && self.persistent
            && !self.closed
            && !self.line.half_closed.load(Ordering::Acquire)
            && self.received.is_empty()
            && self.unsent.is_empty()
            && self.line.expected.lock().is_none()
    }

    /// Searches the received bytes for a complete head, and prepares it for the caller.
    fn take_head(&mut self) -> io::Result<bool> {
        let Place::Head { expected, searched, interim } = &mut self.place else { return Ok(false) };
        if *searched == 0 {
            // Empty lines before a response are a mistake of the previous response and are skipped (RFC 9112 section
            // 2.2).
            let blank = self.received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.received.advance(blank);
        }
        let Some(end) = find_end(&self.received, *searched) else {
            *searched = self.received.len().saturating_sub(3);
            return if self.received.len() > MAX_HEAD {
                Err(invalid("the head of the answer is too large"))
            } else {
                Ok(false)
            };
        };
        let head = ResponseHead::read(&self.received[..end], &expected.exchange).map_err(invalid)?;
        self.received.advance(end);
        *searched = 0;
        if head.is_interim() {
            *interim += 1;
            if *interim > MAX_INTERIM {
                return Err(invalid("only interim responses"));
            }
            if expected.interim {
                self.ready = head.text;
            }
            return Ok(true);
        }
        // After a client signs in a connection, the connection is not used for other clients.
        self.persistent =
            head.persistent && (self.line.owner().is_some() || !fields::head_binds_connection(&head.text));
        self.ready = head.text;
        let mut body = Body::new(head.framing);
        // Body bytes received with the head are passed on with it.
        let taken = if expected.exchange.upgrade { 0 } else { body.take(&self.received)? };
        let rest = self.received.split_off(taken);
        self.ready.extend_from_slice(&std::mem::replace(&mut self.received, rest));
        self.place = if body.is_over() { self.behind() } else { Place::Body(body) };
        Ok(true)
    }

    /// Returns the state after a response.
    fn behind(&self) -> Place {
        if self.persistent { Place::Idle } else { Place::Over }
    }

    /// Reads the available part of the body into `buffer`.
    fn poll_body(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Place::Body(body) = &mut self.place else { return Poll::Ready(Ok(())) };
        let before = buffer.filled().len();
        if self.received.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            let count = self.received.len().min(buffer.remaining());
            buffer.put_slice(&self.received.split_to(count));
        }
        let read = &buffer.filled()[before..];
        if read.is_empty() {
            self.place = Place::Over;
            return Poll::Ready(Ok(()));
        }
        match body.take(read) {
            Ok(taken) => {
                self.received.extend_from_slice(&read[taken..]);
                buffer.set_filled(before + taken);
                if body.is_over() {
                    self.place = self.behind();
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                buffer.set_filled(before);
                self.place = Place::Over;
                Poll::Ready(Err(error))
            }
        }
    }

    /// Forwards the half-close of the client.
    fn poll_half_close(&mut self, context: &mut Context<'_>) {
        self.line.reader.register(context.waker());
        if !self.closed && self.line.half_closed.load(Ordering::Acquire) {
            self.closed = Pin::new(&mut self.stream).poll_shutdown(context).is_ready();
        }
    }

    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Returns the head of a request with another target.
fn retargeted(head: &[u8], target: &[u8]) -> Option<BytesMut> {
    let begin = head.iter().position(|byte| *byte == b' ')? + 1;
    let end = begin + head[begin..].iter().position(|byte| *byte == b' ')?;
    Some(BytesMut::from(&[&head[..begin], target, &head[end..]].concat()[..]))
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_half_close(context);
        loop {
            if !this.ready.is_empty() {
                let count = this.ready.len().min(buffer.remaining());
                buffer.put_slice(&this.ready.split_to(count));
                return Poll::Ready(Ok(()));
            }
            match &this.place {
                Place::Over => return Poll::Ready(Ok(())),
                Place::Body(_) => return this.poll_body(context, buffer),
                Place::Head { .. } => {
                    match this.take_head() {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) => {
                            this.place = Place::Over;
                            return Poll::Ready(Err(error));
                        }
                    }
                    this.received.reserve(ROOM);
                    let reading =
                        std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut this.stream, &mut this.received));
                    if ready!(reading.poll(context))? == 0 {
                        this.place = Place::Over;
                    }
                }
                Place::Idle => {
                    let expected = this.line.expected.lock().take();
                    if let Some(expected) = expected {
                        this.place = Place::Head { expected, searched: 0, interim: 0 };
                        continue;
                    }
                    let before = buffer.filled().len();
                    if this.received.is_empty() {
                        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
                        this.place = Place::Over;
                        if buffer.filled().len() == before {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    buffer.set_filled(before);
                    return Poll::Ready(Err(invalid("the backend sent what nobody had asked for")));
                }
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        let target = this.line.retarget.lock().take();
        if let Some(head) = target.and_then(|target| retargeted(bytes, &target)) {
            this.unsent = head;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.closed = true;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        self.closed = true;
        Shutdown::shutdown(&mut *self.stream).await;
    }
}

#[async_trait]
impl Peek for Connection {}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Connection {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}
