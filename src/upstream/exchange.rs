//! Unmodified requests over connections of their own: requests of WebSocket clients, and requests of the command line.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession as HttpSessionV1;
use tokio::time::timeout;

use super::decode::Decoder;
use super::error::ExchangeError;
use super::{Expected, Upstream, ask_on};
use crate::proto::Exchange;

/// A complete, decoded response.
#[derive(Clone, Debug)]
pub struct FullResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers as received.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A response with an unread body.
pub struct Incoming {
    /// The status.
    pub status: StatusCode,
    /// The headers as received.
    pub headers: HeaderMap,
    session: HttpSessionV1,
    /// Body bytes that were read ahead.
    begun: VecDeque<Bytes>,
}

impl Incoming {
    /// Returns the next piece of the body as received; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks before.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        if let Some(piece) = self.begun.pop_front() {
            return Ok(Some(piece));
        }
        Ok(self.session.read_body_bytes().await?)
    }

    /// Reads the body until it ends or more than `most` bytes of it are buffered, as received. Returns whether it has
    /// ended.
    ///
    /// # Errors
    /// If the connection breaks before.
    pub async fn begin(&mut self, most: usize) -> Result<bool, ExchangeError> {
        while self.begun.iter().map(Bytes::len).sum::<usize>() <= most {
            match self.session.read_body_bytes().await? {
                Some(piece) => self.begun.push_back(piece),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Returns the whole body, decoded, after all of it has been [read](Incoming::begin). Returns `None` if it is
    /// larger than `limit` or cannot be decoded.
    pub fn decoded(&mut self, limit: u64) -> Option<Bytes> {
        let mut decoder = self.decoder(limit).ok()?;
        self.begun.iter().try_for_each(|piece| decoder.push(piece)).ok()?;
        decoder.finish().ok()
    }

    fn decoder(&mut self, limit: u64) -> Result<Decoder, ExchangeError> {
        let none = HeaderMap::new();
        let is_empty = self.begun.is_empty() && self.session.is_body_done();
        Decoder::new(if is_empty { &none } else { &self.headers }, limit).map_err(ExchangeError::Declined)
    }

    /// Reads and decodes the whole body.
    ///
    /// # Errors
    /// If the connection breaks before its end, if it is larger than `limit`, or if it cannot be decoded.
    pub async fn collect(mut self, limit: u64) -> Result<FullResponse, ExchangeError> {
        self.collect_mut(limit).await
    }

    async fn collect_mut(&mut self, limit: u64) -> Result<FullResponse, ExchangeError> {
        let mut decoder = self.decoder(limit)?;
        while let Some(piece) = self.chunk().await? {
            decoder.push(&piece).map_err(ExchangeError::Declined)?;
        }
        let body = decoder.finish()?;
        Ok(FullResponse { status: self.status, headers: self.headers.clone(), body })
    }

    /// Returns the connection, if both sides keep it open.
    async fn connection(mut self) -> Option<Stream> {
        self.session.respect_keepalive();
        self.session.reuse().await
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Sends one request of a client with any method, and reads the whole response, up to `limit` bytes. The connection
    /// is new, so the request is never repeated.
    ///
    /// # Errors
    /// If there is no connection, if it breaks, or if the response is not complete within `fetch_timeout`.
    pub async fn exchange_once(
        &self,
        head: RequestHeader,
        body: Bytes,
        limit: u64,
    ) -> Result<FullResponse, ExchangeError> {
        self.in_time(async { self.send(head, body).await?.collect(limit).await }).await
    }

    /// Sends a request without a body over a new connection, and returns when the head of the response has arrived.
    ///
    /// # Errors
    /// If there is no connection, if it breaks, or if the response is not complete within `fetch_timeout`.
    pub async fn open(&self, head: RequestHeader) -> Result<Incoming, ExchangeError> {
        self.in_time(self.send(head, Bytes::new())).await
    }

    /// Sends one request, as [`exchange_once`](Upstream::exchange_once) does, and returns when the head of the response
    /// has arrived and its body has ended or exceeds `most` bytes. Also returns whether the body has ended.
    ///
    /// # Errors
    /// If there is no connection, if it breaks, or if the response is not complete within `fetch_timeout`.
    pub async fn begin_once(
        &self,
        head: RequestHeader,
        body: Bytes,
        most: usize,
    ) -> Result<(Incoming, bool), ExchangeError> {
        let beginning = async {
            let mut incoming = self.send(head, body).await?;
            let ended = incoming.begin(most).await?;
            Ok((incoming, ended))
        };
        self.in_time(beginning).await
    }

    /// Awaits `exchanging` for at most the fetch timeout.
    ///
    /// # Errors
    /// If there is no connection, if it breaks, or if the response is not complete within `fetch_timeout`.
    pub async fn in_time<T>(
        &self,
        exchanging: impl Future<Output = Result<T, ExchangeError>>,
    ) -> Result<T, ExchangeError> {
        let limit = self.options.fetch_timeout;
        match timeout(limit, exchanging).await {
            Ok(exchanged) => exchanged,
            Err(_) => Err(ExchangeError::Timeout(limit)),
        }
    }

    /// Sends a request without a body and reads the whole response. Uses the connection in `kept` if there is one and
    /// leaves a connection there for the next request, as fetches do.
    ///
    /// # Errors
    /// If there is no connection, if it breaks, or if the response is not complete within `fetch_timeout`.
    pub async fn exchange_keepalive(
        &self,
        kept: &mut Option<Stream>,
        head: RequestHeader,
        limit: u64,
    ) -> Result<FullResponse, ExchangeError> {
        let exchanging = async {
            let again = match kept.take() {
                // The connection may have been closed in the meantime, which is not a failure.
                Some(stream) => send_on(stream, head.clone(), Bytes::new()).await.ok(),
                None => None,
            };
            let mut incoming = match again {
                Some(incoming) => incoming,
                None => self.send(head, Bytes::new()).await?,
            };
            let exchanged = incoming.collect_mut(limit).await?;
            *kept = incoming.connection().await;
            Ok(exchanged)
        };
        self.in_time(exchanging).await
    }

    async fn send(&self, head: RequestHeader, body: Bytes) -> Result<Incoming, ExchangeError> {
        send_on(self.connect().await?, head, body).await
    }
}

async fn send_on(stream: Stream, head: RequestHeader, body: Bytes) -> Result<Incoming, ExchangeError> {
    let exchange = Exchange { is_head: head.method == Method::HEAD, ..Exchange::default() };
    let mut session = ask_on(stream, Expected { exchange, ..Expected::default() });
    let answered = async {
        session.write_request_header(Box::new(head)).await?;
        if !body.is_empty() {
            session.write_body(&body).await?;
        }
        session.finish_body().await?;
        session.read_resp_header_parts().await
    };
    let answer = answered.await?;
    let (status, headers) = (answer.status, answer.headers.clone());
    Ok(Incoming { status, headers, session, begun: VecDeque::new() })
}
