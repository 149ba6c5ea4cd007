//! `sungrazer.v1` over a WebSocket (RFC 6455): many resources on one socket, and requests from the client to the
//! backend.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use pingora::protocols::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::format::{StreamFormat, Url, encode_once};
use super::record::{json_string, record};
use super::session::StreamDeadline;
use super::subscriptions::{
    Disconnect, PostedBody, SubscribeError, SubscribeRequest, SubscriptionService, UrlSubscriptions,
};
use super::{H1Connection, Options, StreamPermit};
use crate::clock;
use crate::model::{BodyForm, DeltaKind, EndReason, Frame, Representation, ResumeFrom, Update};
use crate::resource::{ClientFence, TaskNotify};

/// The subprotocol's name.
pub const SUBPROTOCOL: &str = "sungrazer.v1";

/// The largest message that a client may send, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The maximum number of URLs that one client may subscribe to.
pub const MAX_URLS: usize = 64;

/// The maximum number of concurrent requests of one client. No further message is read until one of them is answered.
const MAX_REQUESTS: usize = 16;

/// A client counts as gone after this many silent heartbeats, but not before `SILENT_AT_LEAST`.
const SILENT_HEARTBEATS: f64 = 2.5;

/// How long to wait for a client that was told to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The minimum time that any client has to answer a ping.
const SILENT_AT_LEAST: Duration = Duration::from_secs(10);

/// Returns the server's handshake value for a client's key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key)
}

/// Records as text messages.
#[derive(Debug)]
pub(super) struct Records;

impl StreamFormat for Records {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn accept(&self) -> &'static str {
        ""
    }

    fn content_type(&self) -> &'static str {
        ""
    }

    fn supports(&self, _representation: &Representation) -> bool {
        true
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let encode = || Frame::new(record(update, url).as_bytes());
        Some(if url.canonical { encode_once(self.name(), update, encode) } else { encode() })
    }

    fn body_form(&self) -> Option<BodyForm> {
        Some(BodyForm::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        None
    }
}

/// A request that a client sends over the socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestMessage {
    /// Returned with the response: a number or a string.
    #[serde(default)]
    pub id: Value,
    /// The method; `GET` if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// A path on this site.
    pub url: String,
    /// Headers in addition to those of the handshake.
    #[serde(default)]
    pub headers: serde_json::Map<String, Value>,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// `"base64"` if the body has that encoding.
    #[serde(default)]
    pub encoding: Option<String>,
}

/// The response to a request.
#[derive(Clone, Debug, Serialize)]
pub struct ResponseMessage {
    /// The id of the request.
    pub id: Value,
    /// The status of the backend's response.
    pub status: u16,
    /// The headers; repeated headers are joined by commas.
    pub headers: serde_json::Map<String, Value>,
    /// The body.
    pub body: String,
    /// `"base64"` if the body is binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
}

/// A guard that is dropped after the response has been written.
pub type Kept = Box<dyn Any + Send>;

/// Forwards requests of a client to the backend.
#[async_trait]
pub trait RequestService: Send + Sync + 'static {
    /// Sends a request as if the client had sent it over HTTP. The second value is kept until the response has been
    /// written: it is the response's share of the memory for responses.
    async fn reply(&self, request: RequestMessage) -> (ResponseMessage, Kept);
}

/// A message from the client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, such as {\"subscribe\": \"/a\"}")]
struct ClientMessage {
    subscribe: Option<String>,
    delta: Option<String>,
    since: Option<String>,
    #[serde(default)]
    tick: bool,
    unsubscribe: Option<String>,
    request: Option<RequestMessage>,
    /// The method and body of the client's request, if it is not a GET.
    method: Option<String>,
    body: Option<String>,
}

/// One client on a WebSocket.
pub struct Socket {
    /// Creates its subscriptions.
    pub desk: Arc<dyn SubscriptionService>,
    /// Answers its requests.
    pub replier: Arc<dyn RequestService>,
    /// Wakes it.
    pub notify: Arc<TaskNotify>,
    /// The time of its last write.
    pub writes: Arc<ClientFence>,
    /// Its permit among all held clients.
    pub place: StreamPermit,
    /// Its timing.
    pub options: Options,
    /// The seed for its individual jitter.
    pub seed: u64,
}

type WsStream = WebSocketStream<Stream>;

/// The reason why the loop ends.
enum CloseCause {
    /// The connection is lost.
    Lost(Disconnect),
    /// The client is told the reason.
    Close(CloseCode, &'static str),
}

impl Socket {
    /// Serves the client until it leaves or its time is over. The handshake has already been answered on `connection`.
    pub async fn run(self, connection: H1Connection) {
        let config = WebSocketConfig::default()
            .read_buffer_size(2048)
            .write_buffer_size(0)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let early = connection.buffer.to_vec();
        let mut socket =
            WebSocketStream::from_partially_read(connection.stream, early, Role::Server, Some(config)).await;
        let patience = self.options.write_timeout;
        let mut followers = UrlSubscriptions::default().of_client(self.writes.listen(Arc::clone(&self.notify), false));
        match self.converse(&mut socket, &mut followers).await {
            CloseCause::Close(code, reason) => {
                let close = CloseFrame { code, reason: reason.into() };
                // Errors are ignored. A connection that is closed while the client still sends is reset, and unread
                // data, including the close reason, is lost. The close therefore waits for the client's close frame.
                let farewell = async {
                    if socket.close(Some(close)).await.is_ok() {
                        while let Some(Ok(_)) = socket.next().await {}
                    }
                };
                let _ = timeout(patience.min(CLOSE_TIMEOUT), farewell).await;
                followers.disconnect(Disconnect::Closed);
            }
            CloseCause::Lost(loss) => followers.disconnect(loss),
        }
    }

    async fn converse(&self, socket: &mut WsStream, followers: &mut UrlSubscriptions) -> CloseCause {
        let mut replies: JoinSet<(ResponseMessage, Kept)> = JoinSet::new();
        let mut ending = StreamDeadline::new(&self.options, self.seed, clock::now());
        ending.apply_drain(&self.place);
        let mut number = 0;
        let mut heard = clock::now();
        let mut pinged = heard;
        loop {
            let mut out: Vec<Message> = Vec::new();
            // Holds the memory of the previous response until that has been written.
            let mut _kept = None;
            let mut frames = Vec::new();
            let silent = heard + self.options.heartbeat.mul_f64(SILENT_HEARTBEATS).max(SILENT_AT_LEAST);
            let ping = pinged + self.options.heartbeat;
            // Requests in progress are still answered, even the one that signs the client out, but no further message
            // is handled.
            let is_leaving = ending.reason == EndReason::Reload && clock::now() >= ending.at;
            let leaves = if is_leaving && !replies.is_empty() { ending.at + CLOSE_TIMEOUT } else { ending.at };
            let deadline = leaves.min(silent).min(ping).min(followers.due().unwrap_or(ping));
            tokio::select! {
                biased;
                () = self.notify.notified() => followers.collect(&Records, Some(&*self.desk), &self.notify, clock::now(), &mut frames),
                Some(reply) = replies.join_next(), if !replies.is_empty() => {
                    if let Ok((reply, kept)) = reply {
                        out.extend(response(&reply).map(text));
                        _kept = Some(kept);
                    }
                }
                message = socket.next(), if replies.len() < MAX_REQUESTS && !is_leaving => {
                    heard = clock::now();
                    match message {
                        Some(Ok(Message::Text(said))) => {
                            let answer = self.handle_message(&said, followers, &mut number, &mut replies);
                            out.extend(answer.map(text));
                            followers.collect(&Records, Some(&*self.desk), &self.notify, heard, &mut frames);
                        }
                        Some(Ok(Message::Binary(_))) => return CloseCause::Close(CloseCode::Unsupported, "messages are text"),
                        Some(Ok(_)) => {}
                        Some(Err(Error::Capacity(_))) => return CloseCause::Close(CloseCode::Size, "the message is too large"),
                        Some(Err(Error::Utf8(_))) => return CloseCause::Close(CloseCode::Invalid, "the message is not UTF-8"),
                        Some(Err(Error::Protocol(_))) => return CloseCause::Close(CloseCode::Protocol, "this is not the WebSocket protocol"),
                        Some(Err(_)) | None => return CloseCause::Lost(Disconnect::Closed),
                    }
                }
                () = sleep_until(deadline) => {
                    let now = clock::now();
                    if now >= silent {
                        return CloseCause::Lost(Disconnect::Closed);
                    }
                    if now < leaves {
                        followers.collect(&Records, Some(&*self.desk), &self.notify, now, &mut frames);
                        if now >= ping {
                            pinged = now;
                            out.push(Message::Ping(bytes::Bytes::new()));
                        }
                    }
                }
            }
            let over = clock::now() >= if replies.is_empty() { ending.at } else { leaves };
            if over {
                followers.end(&Records, ending.reason, &mut frames);
            }
            ending.apply_drain(&self.place);
            out.extend(frames.iter().filter_map(|frame| Utf8Bytes::try_from(frame.payload()).ok().map(Message::Text)));
            for message in out {
                match timeout(self.options.write_timeout, socket.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return CloseCause::Lost(Disconnect::Closed),
                    Err(_) => return CloseCause::Lost(Disconnect::TooSlow),
                }
            }
            if over {
                let comes_back = matches!(ending.reason, EndReason::Drain | EndReason::Reload);
                let code = if comes_back { CloseCode::Restart } else { CloseCode::Away };
                return CloseCause::Close(code, ending.reason.as_str());
            }
        }
    }

    /// Handles a message. Returns the error message, if the message is invalid.
    fn handle_message(
        &self,
        said: &str,
        followers: &mut UrlSubscriptions,
        number: &mut usize,
        replies: &mut JoinSet<(ResponseMessage, Kept)>,
    ) -> Option<String> {
        let said: ClientMessage = match serde_json::from_str(said) {
            Ok(said) => said,
            Err(error) => return Some(error_message(&format!("cannot be read: {error}"), None)),
        };
        match said {
            ClientMessage {
                subscribe: Some(url),
                delta,
                since,
                tick,
                unsubscribe: None,
                request: None,
                method,
                body,
            } => {
                let posted = match PostedBody::of(method.as_deref(), body) {
                    Ok(posted) => posted,
                    Err(text) => return Some(error_message(text, Some(&url))),
                };
                let claim = since.as_deref().and_then(ResumeFrom::parse).map(Box::new);
                let asked = SubscribeRequest {
                    url: url.into(),
                    number: *number,
                    resume_from: claim,
                    tick,
                    posted,
                    ..SubscribeRequest::default()
                };
                self.subscribe(asked, delta.as_deref(), followers, number)
            }
            ClientMessage { unsubscribe: Some(url), subscribe: None, request: None, .. } => {
                (!followers.remove(&url)).then(|| error_message("is not subscribed to", Some(&url)))
            }
            ClientMessage { request: Some(request), subscribe: None, unsubscribe: None, .. } => {
                let replier = Arc::clone(&self.replier);
                replies.spawn(async move { replier.reply(request).await });
                None
            }
            _ => Some(error_message("say one of subscribe, unsubscribe and request", None)),
        }
    }

    fn subscribe(
        &self,
        asked: SubscribeRequest,
        delta: Option<&str>,
        followers: &mut UrlSubscriptions,
        number: &mut usize,
    ) -> Option<String> {
        let url = Url { text: Arc::clone(&asked.url), canonical: false, identity: None };
        if followers.has(&url.text) {
            return Some(error_message("is subscribed to already", Some(&url.text)));
        }
        if followers.len() >= MAX_URLS {
            return Some(record(&Update::End(EndReason::Overload), &url));
        }
        let delta = match delta.map(str::parse::<DeltaKind>).transpose() {
            Ok(delta) => delta,
            Err(error) => return Some(error_message(&error.to_string(), Some(&url.text))),
        };
        match self.desk.subscribe(&SubscribeRequest { delta, ..asked }, "websocket", &self.notify) {
            Ok(found) => {
                *number += 1;
                followers.add(found);
                None
            }
            Err(SubscribeError::Invalid(text)) => Some(error_message(text, Some(&url.text))),
            Err(SubscribeError::Unavailable(reason)) => Some(record(&Update::End(reason), &url)),
        }
    }
}

/// Serialises a response without copying its body.
fn response(reply: &ResponseMessage) -> Option<String> {
    #[derive(Serialize)]
    struct Response<'a> {
        response: &'a ResponseMessage,
    }
    serde_json::to_string(&Response { response: reply }).ok()
}

fn text(text: String) -> Message {
    Message::Text(text.into())
}

/// Returns `{"error":…}` for a message that cannot be handled.
fn error_message(what: &str, url: Option<&str>) -> String {
    match url {
        Some(url) => format!("{{\"error\":{},\"url\":{}}}", json_string(what), json_string(url)),
        None => format!("{{\"error\":{}}}", json_string(what)),
    }
}
