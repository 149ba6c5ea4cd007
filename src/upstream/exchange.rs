//! Requests that are made as they are, over connections of their own: what clients ask for through a socket, and what the
//! command line asks for.

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

/// A whole answer, decoded.
#[derive(Clone, Debug)]
pub struct FullResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// An answer of which the body is still to be read.
pub struct Incoming {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    session: HttpSessionV1,
    /// What has been read ahead of the body.
    begun: VecDeque<Bytes>,
}

impl Incoming {
    /// The next piece of the body, as it was received; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks before.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        if let Some(piece) = self.begun.pop_front() {
            return Ok(Some(piece));
        }
        Ok(self.session.read_body_bytes().await?)
    }

    /// Reads the body until it ends or more than `most` bytes of it are here, as they were received. Returns whether it has ended.
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

    /// The whole body, of which all has been [read](Incoming::begin), decoded; `None` if it is larger than `limit`, or cannot be
    /// decoded.
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

    /// All of it, decoded.
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

    /// The connection, if both sides are willing to go on with it.
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
    /// Sends one request of a client's, whatever its method, and reads the whole answer, if that is no larger than `limit`.
    /// Over a connection of its own: what was sent once is not sent again.
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

    /// Sends a request without a body, over a connection of its own, and returns when the head of the answer is there.
    ///
    /// # Errors
    /// If there is no connection, if it breaks, or if the response is not complete within `fetch_timeout`.
    pub async fn open(&self, head: RequestHeader) -> Result<Incoming, ExchangeError> {
        self.in_time(self.send(head, Bytes::new())).await
    }

    /// Sends one request, as [`exchange_once`](Upstream::exchange_once) does, and returns when the head of the answer is there and
    /// its body has ended, or begun with more than `most` bytes; also whether it has ended.
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

    /// The result of `exchanging`, if that takes no longer than the application has.
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

    /// Sends a request without a body and reads the whole answer, over the connection in `kept` if there is one, which is
    /// left there for the next: as fetches are made.
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
                // It may have been closed in the meantime, which is no failure.
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
