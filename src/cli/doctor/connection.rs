//! Requests like a browser's, with responses observed as they arrive: over HTTP/1.1, HTTP/2 and WebSocket.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{CONNECTION, COOKIE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pingora::protocols::ALPN;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::cli::request::RequestArgs;
use crate::upstream::Upstream;

/// The timeout for a connection, and for an immediate response.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    H1,
    H2,
}

/// The remote end.
pub(super) struct Far<'a> {
    pub(super) args: &'a RequestArgs,
    pub(super) upstream: Upstream,
}

/// A response with an unread body.
pub(super) struct Opened {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Body,
    /// The task that drives the connection while the body is read.
    _driver: Driver,
}

enum Body {
    H1(Incoming),
    H2(h2::RecvStream),
}

/// The task of a connection, aborted on drop.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A WebSocket, or the response that refused it.
pub(super) enum Socket {
    Open(Box<WebSocketStream<TokioIo<Upgraded>>>, HeaderMap),
    Refused(StatusCode, HeaderMap),
}

/// The connection broke before the end of the body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("{}", chain(.0))]
    H1(hyper::Error),
    #[error("{}", chain(.0))]
    H2(h2::Error),
}

impl Opened {
    /// Returns the next piece of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, BodyError>> {
        match &mut self.body {
            Body::H1(body) => loop {
                match body.frame().await? {
                    Ok(frame) => {
                        if let Ok(data) = frame.into_data() {
                            return Some(Ok(data));
                        }
                    }
                    Err(error) => return Some(Err(BodyError::H1(error))),
                }
            },
            Body::H2(body) => {
                let piece = body.data().await?;
                if let Ok(piece) = &piece {
                    // If the window cannot be enlarged, the connection is broken, and the next piece returns the error.
                    let _ = body.flow_control().release_capacity(piece.len());
                }
                Some(piece.map_err(BodyError::H2))
            }
        }
    }
}

/// Formats an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Far<'_> {
    /// Requests `target`. The caller sets the timeout for the head of the response.
    pub(super) async fn open(
        &self,
        over: Over,
        target: &str,
        ours: &[(HeaderName, HeaderValue)],
    ) -> anyhow::Result<Opened> {
        match over {
            Over::H1 => {
                let (response, driver) = self.ask(target, ours).await?;
                let (head, body) = response.into_parts();
                let (status, headers) = (head.status, head.headers);
                Ok(Opened { status, headers, body: Body::H1(body), _driver: driver })
            }
            Over::H2 => self.open_h2(target, ours).await,
        }
    }

    /// Returns the headers to send. Headers of the user take precedence, but the cookie is joined to the user's.
    fn headers(&self, ours: &[(HeaderName, HeaderValue)]) -> anyhow::Result<HeaderMap> {
        let mut headers = self.args.headers(ours, true)?;
        if let Some((_, cookies)) = ours.iter().find(|(name, _)| *name == COOKIE) {
            headers.insert(COOKIE, cookies.clone());
        }
        Ok(headers)
    }

    async fn ask(
        &self,
        target: &str,
        ours: &[(HeaderName, HeaderValue)],
    ) -> anyhow::Result<(Response<Incoming>, Driver)> {
        let stream =
            timeout(PATIENCE, self.upstream.connect_raw(ALPN::H1)).await.context("no connection in time")??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = Driver(tokio::spawn(async move {
            // An error is reported by the response.
            let _ = connection.with_upgrades().await;
        }));
        let mut request = Request::get(target.parse::<Uri>()?).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = self.headers(ours)?;
        let response = sender.send_request(request).await.map_err(|error| anyhow::Error::msg(chain(&error)))?;
        Ok((response, driver))
    }

    async fn open_h2(&self, target: &str, ours: &[(HeaderName, HeaderValue)]) -> anyhow::Result<Opened> {
        let stream =
            timeout(PATIENCE, self.upstream.connect_raw(ALPN::H2H1)).await.context("no connection in time")??;
        if self.args.url.address.is_tls() && stream.selected_alpn_proto() != Some(ALPN::H2) {
            bail!("not offered in the TLS handshake");
        }
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let (sender, connection) =
            timeout(PATIENCE, builder.handshake::<_, Bytes>(stream)).await.context("no answer in time")??;
        let driver = Driver(tokio::spawn(async move {
            // An error is reported by the response.
            let _ = connection.await;
        }));
        let mut request = Request::get(format!("{}{target}", self.args.url.origin()).parse::<Uri>()?).body(())?;
        *request.version_mut() = Version::HTTP_2;
        let mut headers = self.headers(ours)?;
        headers.remove(HOST);
        *request.headers_mut() = headers;
        let (response, _) =
            timeout(PATIENCE, sender.ready()).await.context("no answer in time")??.send_request(request, true)?;
        let (head, body) = response.await?.into_parts();
        Ok(Opened { status: head.status, headers: head.headers, body: Body::H2(body), _driver: driver })
    }

    /// Opens a WebSocket.
    pub(super) async fn socket(&self, target: &str) -> anyhow::Result<Socket> {
        let ours = [
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            // Any 16 bytes in base64 are valid; the key's purpose is fulfilled by the server's response.
            (SEC_WEBSOCKET_KEY, HeaderValue::from_static("c3VuZ3JhemVyLWRvY3Rvcg==")),
        ];
        let (response, _driver) = timeout(PATIENCE, self.ask(target, &ours)).await.context("no answer in time")??;
        let (status, headers) = (response.status(), response.headers().clone());
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Socket::Refused(status, headers));
        }
        let upgraded = timeout(PATIENCE, hyper::upgrade::on(response)).await.context("no upgrade in time")??;
        let config = WebSocketConfig::default();
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        Ok(Socket::Open(Box::new(stream), headers))
    }
}
