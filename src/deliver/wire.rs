//! The connection that a client is held on.

use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v2::server::HttpSession as H2Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Frame;

/// An HTTP/1.x connection: the bare stream, and what was read from it but not yet used.
#[derive(Debug)]
pub struct H1 {
    /// The connection.
    pub stream: Stream,
    /// Bytes of the next request.
    pub buffer: BytesMut,
    /// Whether the client speaks HTTP/1.1, so that a body of unknown length can be sent in chunks.
    pub chunks: bool,
}

/// A client that sends this much while it is held is not waiting for us.
const MOST_UNREAD: usize = 64 * 1024;

/// How much of a body is written before the client's progress is looked at again, so that a slow client is given up for
/// not accepting anything, never for the size of what it is sent.
const WRITE_SLICE: usize = 256 * 1024;

impl H1 {
    /// Completes when the client has gone. What it sends instead of going is kept.
    pub async fn gone(&mut self) {
        loop {
            if self.buffer.len() >= MOST_UNREAD {
                return;
            }
            // No more room than is needed: this buffer lives as long as the stream does.
            let mut byte = [0; 1];
            match self.stream.read(&mut byte).await {
                Ok(1..) => self.buffer.put_slice(&byte),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Writes all of `pieces` and flushes, giving the client `patience` for each stretch of it.
    ///
    /// # Errors
    /// `TimedOut` if the client does not read; otherwise what the connection says.
    pub async fn write(&mut self, pieces: &[&[u8]], patience: Duration) -> io::Result<()> {
        for piece in pieces {
            for slice in piece.chunks(WRITE_SLICE) {
                timeout(patience, self.stream.write_all(slice)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            }
        }
        timeout(patience, self.stream.flush()).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

/// A connection, or a stream of one.
pub enum Wire {
    /// HTTP/1.0 or 1.1.
    H1(H1),
    /// One stream of an HTTP/2 connection.
    H2(Box<H2Session>),
}

impl Wire {
    /// Completes when the client has gone.
    pub async fn gone(&mut self) {
        match self {
            Self::H1(h1) => h1.gone().await,
            Self::H2(h2) => drop(h2.idle().await),
        }
    }

    /// Begins a response of unknown length with `frames`.
    ///
    /// # Errors
    /// As [`H1::write`].
    pub async fn open(&mut self, headers: &HeaderMap, frames: &[Frame], patience: Duration) -> io::Result<()> {
        match self {
            Self::H1(h1) => {
                let mut head = BytesMut::with_capacity(512);
                put_head(&mut head, StatusCode::OK, headers);
                head.put_slice(if h1.chunks {
                    b"transfer-encoding: chunked\r\n\r\n"
                } else {
                    b"connection: close\r\n\r\n"
                });
                // Small frames travel with the head, in one packet.
                let bodies: Vec<_> =
                    frames.iter().map(|frame| if h1.chunks { frame.chunk() } else { frame.payload() }).collect();
                let pieces: Vec<&[u8]> =
                    std::iter::once(&head[..]).chain(bodies.iter().map(|body| &body[..])).collect();
                h1.write(&pieces, patience).await
            }
            Self::H2(h2) => {
                h2.set_write_timeout(Some(patience));
                h2.write_response_header(response_header(StatusCode::OK, headers)?, false).map_err(io::Error::other)?;
                self.send(frames, patience).await
            }
        }
    }

    /// Continues the response with `frames`, in one go.
    ///
    /// # Errors
    /// As [`H1::write`].
    pub async fn send(&mut self, frames: &[Frame], patience: Duration) -> io::Result<()> {
        match self {
            Self::H1(h1) => {
                let bodies: Vec<_> =
                    frames.iter().map(|frame| if h1.chunks { frame.chunk() } else { frame.payload() }).collect();
                let pieces: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
                h1.write(&pieces, patience).await
            }
            Self::H2(h2) => {
                for frame in frames {
                    if let Err(error) = h2.write_body(frame.payload(), false).await {
                        h2.shutdown_with_reason(h2::Reason::CANCEL);
                        return Err(io::Error::other(error));
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends the response.
    pub async fn finish(&mut self, patience: Duration) {
        // Whether the client hears of the end is its own affair.
        match self {
            Self::H1(h1) => {
                if h1.chunks {
                    let _ = h1.write(&[b"0\r\n\r\n"], patience).await;
                }
                let _ = timeout(patience, h1.stream.shutdown()).await;
            }
            Self::H2(h2) => drop(h2.finish()),
        }
    }

    /// Sends a whole response.
    ///
    /// # Errors
    /// As [`H1::write`].
    pub async fn answer(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &bytes::Bytes,
        close: bool,
        patience: Duration,
    ) -> io::Result<()> {
        match self {
            Self::H1(h1) => {
                let mut head = BytesMut::with_capacity(512);
                put_head(&mut head, status, headers);
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
                    head.insert_header(http::header::CONTENT_LENGTH, body.len()).map_err(io::Error::other)?;
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

fn has_body(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
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

fn response_header(status: StatusCode, headers: &HeaderMap) -> io::Result<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build(status, Some(headers.len() + 1)).map_err(io::Error::other)?;
    head.set_version(Version::HTTP_2);
    for (name, value) in headers {
        head.append_header(name.clone(), value.clone()).map_err(io::Error::other)?;
    }
    Ok(Box::new(head))
}
