//! The connection of a held client.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Crc;
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, StatusCode, Version};
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::http::v2::server::HttpSession as H2Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::response::CachedResponse;
use crate::model::{Chunk, Frame};

/// An HTTP/1.x connection: the bare stream, and bytes that were read from it but not yet used.
#[derive(Debug)]
pub struct H1Connection {
    /// The connection.
    pub stream: Stream,
    /// Bytes of the next request.
    pub buffer: BytesMut,
    /// Whether the client speaks HTTP/1.1, so that a body of unknown length can be sent in chunks.
    pub chunks: bool,
    /// The number of stream bytes sent, including framing.
    pub sent: u64,
}

/// The state of a client that sends nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnected {
    /// The client closed its sending side but may still be waiting for a response.
    HalfClosed,
    /// The connection is closed.
    Gone,
}

/// The maximum amount of unread data that a held client may send, in bytes. A client that sends more is not waiting for
/// a response.
const MAX_UNREAD: usize = 64 * 1024;

impl H1Connection {
    /// Completes when the client has gone. Bytes that it sends meanwhile are kept.
    pub async fn closed(&mut self) {
        loop {
            if self.buffer.len() >= MAX_UNREAD {
                return;
            }
            // A one-byte buffer is enough, and keeps the future small for the lifetime of the stream.
            let mut byte = [0; 1];
            match self.stream.read(&mut byte).await {
                Ok(1..) => self.buffer.put_slice(&byte),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Completes when the client sends nothing more. Pipelined requests are kept, however many they are, and handled
    /// later.
    pub async fn disconnected(&mut self) -> Disconnected {
        while self.buffer.len() < MAX_UNREAD {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) => return Disconnected::HalfClosed,
                Err(_) => return Disconnected::Gone,
            }
        }
        std::future::pending().await
    }

    /// Writes all of `pieces` and flushes, with as few writes as possible. The timeout `patience` restarts whenever the
    /// client accepts some bytes, so it depends on the client's reading and not on the size of the data.
    ///
    /// # Errors
    /// Returns `TimedOut` if the client does not read; otherwise the connection's error.
    pub async fn write(&mut self, pieces: &[&[u8]], patience: Duration) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        self.write_slices(&mut slices, patience).await
    }

    async fn write_slices(&mut self, mut rest: &mut [IoSlice<'_>], patience: Duration) -> io::Result<()> {
        // Skips leading empty slices.
        IoSlice::advance_slices(&mut rest, 0);
        // Usually the connection accepts everything at once. The timer is only created if it does not, so that the
        // future of a held client has no room for it.
        while !rest.is_empty() {
            let written = match self.write_some(rest).now_or_never() {
                Some(written) => written?,
                None => Box::pin(patiently(patience, self.write_some(rest))).await?,
            };
            IoSlice::advance_slices(&mut rest, written);
        }
        match self.stream.flush().now_or_never() {
            Some(flushed) => flushed,
            None => Box::pin(patiently(patience, self.stream.flush())).await,
        }
    }

    /// Writes as much as the connection accepts at once. Cancel-safe: nothing has been written if the future is
    /// dropped.
    async fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match slices {
            [one] => self.stream.write(one).await?,
            many => self.stream.write_vectored(many).await?,
        };
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }
}

async fn patiently<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, what).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// The content coding of a response body: identity or gzip. It belongs to the sender of the response, since the
/// connection may serve another response afterwards.
#[derive(Debug)]
pub struct Coding(Option<Crc>);

/// The header of a gzip stream (RFC 1952 section 2.3): deflate, no name, no time, any system.
const GZIP_HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block (RFC 1951 section 3.2.6).
const DEFLATE_END: &[u8] = &[3, 0];

impl Coding {
    /// Creates the state of a body that has not begun.
    pub fn new(gzip: bool) -> Self {
        Self(gzip.then(Crc::new))
    }

    /// Returns the beginning of the body.
    fn begin(&self) -> Option<Chunk> {
        self.0.as_ref().map(|_| Chunk::new(GZIP_HEADER))
    }

    /// Returns the encoded form of a frame.
    fn code<'a>(&mut self, frame: &'a Frame) -> &'a Chunk {
        match &mut self.0 {
            None => frame.chunk(),
            Some(crc) => {
                let packed = frame.packed();
                crc.combine(&packed.crc);
                &packed.frame
            }
        }
    }

    /// Returns the end of the body.
    fn end(&self) -> Option<Chunk> {
        let crc = self.0.as_ref()?;
        Some(Chunk::new(&[DEFLATE_END, &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat()))
    }
}

/// An HTTP/1.x connection or an HTTP/2 stream.
pub enum Downstream {
    /// HTTP/1.0 or 1.1.
    H1(H1Connection),
    /// One stream of an HTTP/2 connection.
    H2(Box<H2Session>),
}

impl Downstream {
    /// Returns the number of stream bytes sent on it.
    pub fn bytes_sent(&self) -> u64 {
        match self {
            Self::H1(h1) => h1.sent,
            Self::H2(h2) => h2.body_bytes_sent() as u64,
        }
    }

    /// Completes when the client has gone.
    pub async fn closed(&mut self) {
        match self {
            Self::H1(h1) => h1.closed().await,
            Self::H2(h2) => drop(h2.idle().await),
        }
    }

    /// Sends `100 Continue` to a client that withholds the body (RFC 9110 section 10.1.1). pingora cannot send it over
    /// HTTP/2, where clients continue by themselves after a while.
    ///
    /// # Errors
    /// As [`H1Connection::write`].
    pub async fn send_continue(&mut self, patience: Duration) -> io::Result<()> {
        match self {
            Self::H1(h1) if h1.chunks => h1.write(&[b"HTTP/1.1 100 Continue\r\n\r\n"], patience).await,
            _ => Ok(()),
        }
    }

    /// Reads the request's body of `length` bytes.
    ///
    /// # Errors
    /// Returns `TimedOut` if the body has not arrived completely within `patience`; otherwise the connection's error.
    pub async fn read_body(&mut self, length: u64, patience: Duration) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let reading = async {
            match self {
                Self::H1(h1) => {
                    while h1.buffer.len() < length {
                        if h1.stream.read_buf(&mut h1.buffer).await? == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                    }
                    Ok(h1.buffer.split_to(length).freeze())
                }
                Self::H2(h2) => {
                    let mut body = BytesMut::new();
                    while let Some(piece) = h2.read_body_bytes().await.map_err(io::Error::other)? {
                        if body.len() + piece.len() > length {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                        body.put_slice(&piece);
                    }
                    Ok(body.freeze())
                }
            }
        };
        timeout(patience, reading).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Reads the request body, of `length` bytes, and leaves it in the buffer: the next reader of the connection sees
    /// it too.
    ///
    /// # Errors
    /// As [`Downstream::read_body`]. The bytes received so far stay in the buffer.
    pub async fn peek_body(&mut self, length: u64, patience: Duration) -> io::Result<Bytes> {
        let whole = usize::try_from(length).map_err(io::Error::other)?;
        match self {
            Self::H1(h1) => {
                let reading = async {
                    while h1.buffer.len() < whole {
                        if h1.stream.read_buf(&mut h1.buffer).await? == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                    }
                    Ok(Bytes::copy_from_slice(&h1.buffer[..whole]))
                };
                timeout(patience, reading).await.map_err(|_| io::ErrorKind::TimedOut)?
            }
            Self::H2(h2) => {
                h2.enable_retry_buffering();
                self.read_body(length, patience).await
            }
        }
    }

    /// Removes a peeked body of `length` bytes from the buffer.
    pub fn discard_body(&mut self, length: u64) {
        if let Self::H1(h1) = self {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(h1.buffer.len());
            drop(h1.buffer.split_to(length));
        }
    }

    /// Begins a response of unknown length with `frames`.
    ///
    /// # Errors
    /// As [`H1Connection::write`].
    pub async fn open(
        &mut self,
        headers: HeaderMap,
        frames: &[Frame],
        coding: &mut Coding,
        patience: Duration,
    ) -> io::Result<()> {
        let begin = coding.begin();
        let chunks: Vec<&Chunk> = begin.iter().chain(frames.iter().map(|frame| coding.code(frame))).collect();
        match self {
            Self::H1(h1) => {
                let mut head = BytesMut::with_capacity(512);
                put_head(&mut head, StatusCode::OK, &headers);
                put_date(&mut head);
                head.put_slice(if h1.chunks {
                    b"transfer-encoding: chunked\r\n\r\n"
                } else {
                    b"connection: close\r\n\r\n"
                });
                // A small body travels in the same packet as the head.
                h1.write_chunks(&head, &chunks, patience).await
            }
            Self::H2(h2) => {
                h2.set_write_timeout(Some(patience));
                h2.write_response_header(response_header(StatusCode::OK, &headers)?, false)
                    .map_err(io::Error::other)?;
                write_h2(h2, &chunks).await
            }
        }
    }

    /// Continues the response with `frames`, in a single write.
    ///
    /// # Errors
    /// As [`H1Connection::write`].
    pub async fn send(&mut self, frames: &[Frame], coding: &mut Coding, patience: Duration) -> io::Result<()> {
        // The common case is one frame for thousands of clients, so this path allocates nothing.
        if let (Self::H1(h1), [frame]) = (&mut *self, frames)
            && h1.chunks
        {
            let framed = coding.code(frame).framed();
            h1.sent += framed.len() as u64;
            return h1.write_slices(&mut [IoSlice::new(framed)], patience).await;
        }
        let chunks: Vec<&Chunk> = frames.iter().map(|frame| coding.code(frame)).collect();
        match self {
            Self::H1(h1) => Box::pin(h1.write_chunks(&[], &chunks, patience)).await,
            Self::H2(h2) => Box::pin(write_h2(h2, &chunks)).await,
        }
    }

    /// Ends the response.
    pub async fn finish(&mut self, coding: &mut Coding, patience: Duration) {
        // Errors are ignored: the response is over either way.
        let end = coding.end();
        let end: Vec<&Chunk> = end.iter().collect();
        match self {
            Self::H1(h1) => {
                let _ = h1.write_chunks(&[], &end, patience).await;
                if h1.chunks {
                    let _ = h1.write(&[b"0\r\n\r\n"], patience).await;
                }
                let _ = timeout(patience, h1.stream.shutdown()).await;
            }
            Self::H2(h2) => {
                let _ = write_h2(h2, &end).await;
                let _ = h2.finish();
            }
        }
    }

    /// Sends a complete response.
    ///
    /// # Errors
    /// As [`H1Connection::write`].
    pub async fn answer(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
        close: bool,
        patience: Duration,
    ) -> io::Result<()> {
        match self {
            Self::H1(h1) => {
                let mut head = BytesMut::with_capacity(512);
                put_head(&mut head, status, headers);
                if !headers.contains_key(DATE) {
                    put_date(&mut head);
                }
                if has_body(status) {
                    head.put_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
                }
                head.put_slice(if close { b"connection: close\r\n\r\n" } else { b"\r\n" });
                h1.write(&[&head, if has_body(status) { body } else { &[] }], patience).await
            }
            Self::H2(h2) => {
                h2.set_write_timeout(Some(patience));
                let mut head = response_header(status, headers)?;
                let empty = body.is_empty() || !has_body(status);
                if has_body(status) {
                    head.insert_header(CONTENT_LENGTH, body.len()).map_err(io::Error::other)?;
                }
                h2.write_response_header(head, empty).map_err(io::Error::other)?;
                if !empty {
                    h2.write_body(body.clone(), true).await.map_err(io::Error::other)?;
                }
                Ok(())
            }
        }
    }
}

impl H1Connection {
    /// Sends a complete snapshot in a single write.
    ///
    /// # Errors
    /// As [`H1Connection::write`].
    pub async fn answer(&mut self, whole: &CachedResponse, close: bool, patience: Duration) -> io::Result<()> {
        let end: &[u8] = if close { b"connection: close\r\n\r\n" } else { b"\r\n" };
        let date = whole.date().unwrap_or_else(get_cached_date);
        let pieces: [&[u8]; 6] = [whole.head(), b"date: ", date.as_bytes(), b"\r\n", end, whole.body()];
        let mut slices = pieces.map(IoSlice::new);
        self.write_slices(&mut slices, patience).await
    }

    async fn write_chunks(&mut self, head: &[u8], chunks: &[&Chunk], patience: Duration) -> io::Result<()> {
        self.sent += chunks.iter().map(|chunk| chunk.framed().len() as u64).sum::<u64>();
        if self.chunks {
            let framed = chunks.iter().map(|chunk| &chunk.framed()[..]);
            let pieces: Vec<&[u8]> = std::iter::once(head).chain(framed).collect();
            return self.write(&pieces, patience).await;
        }
        let bodies: Vec<Bytes> = chunks.iter().map(|chunk| chunk.payload()).collect();
        let pieces: Vec<&[u8]> = std::iter::once(head).chain(bodies.iter().map(|body| &body[..])).collect();
        self.write(&pieces, patience).await
    }
}

async fn write_h2(h2: &mut H2Session, chunks: &[&Chunk]) -> io::Result<()> {
    for chunk in chunks {
        if let Err(error) = h2.write_body(chunk.payload(), false).await {
            h2.shutdown_with_reason(h2::Reason::CANCEL);
            let slow = *error.etype() == ErrorType::WriteTimedout;
            return Err(if slow { io::ErrorKind::TimedOut.into() } else { io::Error::other(error) });
        }
    }
    Ok(())
}

pub(super) fn has_body(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// Returns the head of an HTTP/1.1 response without its final empty line.
pub fn response_head(status: StatusCode, headers: &HeaderMap) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    put_head(&mut head, status, headers);
    head
}

fn put_head(head: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(status.canonical_reason().unwrap_or("").as_bytes());
    head.put_slice(b"\r\n");
    for (name, value) in headers {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
}

/// Writes the `Date` header (RFC 9110 section 6.6.1). Over HTTP/2 pingora adds it.
fn put_date(head: &mut BytesMut) {
    head.put_slice(b"date: ");
    head.put_slice(get_cached_date().as_bytes());
    head.put_slice(b"\r\n");
}

fn response_header(status: StatusCode, headers: &HeaderMap) -> io::Result<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build(status, Some(headers.len() + 1)).map_err(io::Error::other)?;
    head.set_version(Version::HTTP_2);
    for (name, value) in headers {
        head.append_header(name.clone(), value.clone()).map_err(io::Error::other)?;
    }
    Ok(Box::new(head))
}
