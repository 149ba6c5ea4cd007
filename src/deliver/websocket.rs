//! `sungrazer.v1` over a WebSocket (RFC 6455): many resources on one socket, and requests in the other direction.

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

use super::delivery::{Delivery, Url, shared};
use super::follow::{Asked, Desk, Followers, Loss, Unfollowed};
use super::record::{json_string, record};
use super::session::Ending;
use super::{H1, Options, Place};
use crate::clock;
use crate::model::{Claim, DeltaKind, EndReason, Frame, Representation, Shape, Update};
use crate::resource::Bell;

/// The subprotocol's name.
pub const SUBPROTOCOL: &str = "sungrazer.v1";

/// The largest message that a client may send, in bytes.
pub const MOST_MESSAGE: usize = 1 << 20;

/// URLs that one client may follow.
pub const MOST_URLS: usize = 64;

/// Requests of one client that may be under way; until one is answered no further message is read.
const MOST_REQUESTS: usize = 16;

/// A client from which nothing has been heard for so many heartbeats is gone, unless they are very short ones.
const SILENT_HEARTBEATS: f64 = 2.5;

/// How long a client is waited for that was told to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// What any client may take to answer a ping.
const SILENT_AT_LEAST: Duration = Duration::from_secs(10);

/// What the server's handshake answers to a client's key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key)
}

/// Records as text messages.
#[derive(Debug)]
pub(super) struct Records;

impl Delivery for Records {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn accept(&self) -> &'static str {
        ""
    }

    fn content_type(&self) -> &'static str {
        ""
    }

    fn carries(&self, _representation: &Representation) -> bool {
        true
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let encode = || Frame::new(record(update, url).as_bytes());
        Some(if url.canonical { shared(self.name(), update, encode) } else { encode() })
    }

    fn shape(&self) -> Option<Shape> {
        Some(Shape::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        None
    }
}

/// A request that a client sends over the socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// Comes back with the answer: a number or a string.
    #[serde(default)]
    pub id: Value,
    /// `GET` if it is not named.
    #[serde(default)]
    pub method: Option<String>,
    /// A path on this site.
    pub url: String,
    /// Besides those of the handshake.
    #[serde(default)]
    pub headers: serde_json::Map<String, Value>,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// `"base64"` if the body is that.
    #[serde(default)]
    pub encoding: Option<String>,
}

/// The answer to one.
#[derive(Clone, Debug, Serialize)]
pub struct Replied {
    /// The request's.
    pub id: Value,
    /// The status of the backend's answer.
    pub status: u16,
    /// Its headers; of those that are repeated, all values, separated by commas.
    pub headers: serde_json::Map<String, Value>,
    /// Its body.
    pub body: String,
    /// `"base64"` if the body is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
}

/// Whatever is to be given back later.
pub type Kept = Box<dyn Any + Send>;

/// Sends requests of a client to the backend.
#[async_trait]
pub trait Replier: Send + Sync + 'static {
    /// Sends one, as if the client had sent it as any other. What is returned beside the answer is kept until the client has that:
    /// it is what the answer takes of the memory for answers.
    async fn reply(&self, request: Requested) -> (Replied, Kept);
}

/// What a client can say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, such as {\"subscribe\": \"/a\"}")]
struct Said {
    subscribe: Option<String>,
    delta: Option<String>,
    since: Option<String>,
    #[serde(default)]
    tick: bool,
    unsubscribe: Option<String>,
    request: Option<Requested>,
}

/// One client on a WebSocket.
pub struct Socket {
    /// Where it finds what it asks for.
    pub desk: Arc<dyn Desk>,
    /// Who answers its requests.
    pub replier: Arc<dyn Replier>,
    /// What wakes it.
    pub bell: Arc<Bell>,
    /// Its place among all held clients.
    pub place: Place,
    /// How patiently it is held.
    pub options: Options,
    /// Of its own moments within the common ones.
    pub seed: u64,
}

type Stream1 = WebSocketStream<Stream>;

/// Why the conversation is over.
enum Over {
    /// Nothing can be told it any more.
    Lost(Loss),
    /// It is to be told why.
    Close(CloseCode, &'static str),
}

impl Socket {
    /// Holds the client until it leaves or its time is over. The handshake has been answered on `connection`.
    pub async fn run(self, connection: H1) {
        let config = WebSocketConfig::default()
            .read_buffer_size(2048)
            .write_buffer_size(0)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(MOST_MESSAGE))
            .max_frame_size(Some(MOST_MESSAGE));
        let early = connection.buffer.to_vec();
        let mut socket =
            WebSocketStream::from_partially_read(connection.stream, early, Role::Server, Some(config)).await;
        let patience = self.options.write_timeout;
        let mut followers = Followers::default();
        match self.converse(&mut socket, &mut followers).await {
            Over::Close(code, reason) => {
                let close = CloseFrame { code, reason: reason.into() };
                // Whether the client hears of it is its own affair. But a connection that is closed while the client still
                // sends is reset, and what it had not read yet, the reasons among it, is lost: its farewell is waited for.
                let farewell = async {
                    if socket.close(Some(close)).await.is_ok() {
                        while let Some(Ok(_)) = socket.next().await {}
                    }
                };
                let _ = timeout(patience.min(FAREWELL), farewell).await;
                followers.lose(Loss::Left);
            }
            Over::Lost(loss) => followers.lose(loss),
        }
    }

    async fn converse(&self, socket: &mut Stream1, followers: &mut Followers) -> Over {
        let mut replies: JoinSet<(Replied, Kept)> = JoinSet::new();
        let mut ending = Ending::new(&self.options, self.seed, clock::now());
        ending.heed(&self.place);
        let mut number = 0;
        let mut heard = clock::now();
        let mut pinged = heard;
        loop {
            let mut out: Vec<Message> = Vec::new();
            // Until what was written of it is gone, no other answer takes its place.
            let mut _kept = None;
            let mut frames = Vec::new();
            let silent = heard + self.options.heartbeat.mul_f64(SILENT_HEARTBEATS).max(SILENT_AT_LEAST);
            let ping = pinged + self.options.heartbeat;
            // What it has asked for is answered, even that which signs it out; but nothing further is heard.
            let is_leaving = ending.reason == EndReason::Reload && clock::now() >= ending.at;
            let leaves = if is_leaving && !replies.is_empty() { ending.at + FAREWELL } else { ending.at };
            let deadline = leaves.min(silent).min(ping).min(followers.due().unwrap_or(ping));
            tokio::select! {
                biased;
                () = self.bell.rung() => followers.collect(&Records, Some(&*self.desk), &self.bell, clock::now(), &mut frames),
                Some(reply) = replies.join_next(), if !replies.is_empty() => {
                    if let Ok((reply, kept)) = reply {
                        out.extend(response(&reply).map(text));
                        _kept = Some(kept);
                    }
                }
                message = socket.next(), if replies.len() < MOST_REQUESTS && !is_leaving => {
                    heard = clock::now();
                    match message {
                        Some(Ok(Message::Text(said))) => {
                            let answer = self.hear(&said, followers, &mut number, &mut replies);
                            out.extend(answer.map(text));
                            followers.collect(&Records, Some(&*self.desk), &self.bell, heard, &mut frames);
                        }
                        Some(Ok(Message::Binary(_))) => return Over::Close(CloseCode::Unsupported, "messages are text"),
                        Some(Ok(_)) => {}
                        Some(Err(Error::Capacity(_))) => return Over::Close(CloseCode::Size, "the message is too large"),
                        Some(Err(Error::Utf8(_))) => return Over::Close(CloseCode::Invalid, "the message is not UTF-8"),
                        Some(Err(Error::Protocol(_))) => return Over::Close(CloseCode::Protocol, "this is not the WebSocket protocol"),
                        Some(Err(_)) | None => return Over::Lost(Loss::Left),
                    }
                }
                () = sleep_until(deadline) => {
                    let now = clock::now();
                    if now >= silent {
                        return Over::Lost(Loss::Left);
                    }
                    if now < leaves {
                        followers.collect(&Records, Some(&*self.desk), &self.bell, now, &mut frames);
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
            ending.heed(&self.place);
            out.extend(frames.iter().filter_map(|frame| Utf8Bytes::try_from(frame.payload()).ok().map(Message::Text)));
            for message in out {
                match timeout(self.options.write_timeout, socket.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Over::Lost(Loss::Left),
                    Err(_) => return Over::Lost(Loss::Slow),
                }
            }
            if over {
                let comes_back = matches!(ending.reason, EndReason::Drain | EndReason::Reload);
                let code = if comes_back { CloseCode::Restart } else { CloseCode::Away };
                return Over::Close(code, ending.reason.as_str());
            }
        }
    }

    /// Does what the client said. Returns what is wrong with it, if something is.
    fn hear(
        &self,
        said: &str,
        followers: &mut Followers,
        number: &mut usize,
        replies: &mut JoinSet<(Replied, Kept)>,
    ) -> Option<String> {
        let said: Said = match serde_json::from_str(said) {
            Ok(said) => said,
            Err(error) => return Some(complaint(&format!("cannot be read: {error}"), None)),
        };
        match said {
            Said { subscribe: Some(url), delta, since, tick, unsubscribe: None, request: None } => {
                let claim = since.as_deref().and_then(Claim::parse).map(Box::new);
                let asked = Asked { url: url.into(), number: *number, claim, tick, ..Asked::default() };
                self.subscribe(asked, delta.as_deref(), followers, number)
            }
            Said { unsubscribe: Some(url), subscribe: None, request: None, .. } => {
                (!followers.remove(&url)).then(|| complaint("is not subscribed to", Some(&url)))
            }
            Said { request: Some(request), subscribe: None, unsubscribe: None, .. } => {
                let replier = Arc::clone(&self.replier);
                replies.spawn(async move { replier.reply(request).await });
                None
            }
            _ => Some(complaint("say one of subscribe, unsubscribe and request", None)),
        }
    }

    fn subscribe(
        &self,
        asked: Asked,
        delta: Option<&str>,
        followers: &mut Followers,
        number: &mut usize,
    ) -> Option<String> {
        let url = Url { text: Arc::clone(&asked.url), canonical: false, identity: None };
        if followers.has(&url.text) {
            return Some(complaint("is subscribed to already", Some(&url.text)));
        }
        if followers.len() >= MOST_URLS {
            return Some(record(&Update::End(EndReason::Overload), &url));
        }
        let delta = match delta.map(str::parse::<DeltaKind>).transpose() {
            Ok(delta) => delta,
            Err(error) => return Some(complaint(&error.to_string(), Some(&url.text))),
        };
        match self.desk.follow(&Asked { delta, ..asked }, "websocket", &self.bell) {
            Ok(found) => {
                *number += 1;
                followers.add(found);
                None
            }
            Err(Unfollowed::Malformed(text)) => Some(complaint(text, Some(&url.text))),
            Err(Unfollowed::Ended(reason)) => Some(record(&Update::End(reason), &url)),
        }
    }
}

/// The message that a reply is, written without a copy of its body.
fn response(reply: &Replied) -> Option<String> {
    #[derive(Serialize)]
    struct Response<'a> {
        response: &'a Replied,
    }
    serde_json::to_string(&Response { response: reply }).ok()
}

fn text(text: String) -> Message {
    Message::Text(text.into())
}

/// `{"error":…}`: the client said something that cannot be done.
fn complaint(what: &str, url: Option<&str>) -> String {
    match url {
        Some(url) => format!("{{\"error\":{},\"url\":{}}}", json_string(what), json_string(url)),
        None => format!("{{\"error\":{}}}", json_string(what)),
    }
}
