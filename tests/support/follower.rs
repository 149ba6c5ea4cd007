//! A client that follows by any delivery, over any wire, and hears the same things.

use std::io::Write;
use std::net::SocketAddr;

use base64::Engine;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{self, Connection};
use super::within;

/// A way to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Sse,
    Ndjson,
    JsonSeq,
    Multipart,
    Multiplex,
    Iframe,
    WebSocket,
}

impl Form {
    pub const ALL: [Self; 7] =
        [Self::Sse, Self::Ndjson, Self::JsonSeq, Self::Multipart, Self::Multiplex, Self::Iframe, Self::WebSocket];

    /// Whether it can say `stale`, `live` and `end`.
    pub fn has_words(self) -> bool {
        self != Self::Multipart
    }

    /// Whether it can carry deltas.
    pub fn has_deltas(self) -> bool {
        self != Self::Multipart
    }

    /// Whether it can be told what the client holds.
    pub fn resumes(self) -> bool {
        true
    }

    fn request(self, target: &str, since: Option<&str>, delta: Option<&str>) -> (String, Vec<(&'static str, String)>) {
        let encoded = target.replace('?', "%3F").replace('&', "%26").replace('=', "%3D");
        let parameter =
            |name: &str, value: Option<&str>| value.map(|value| format!("&{name}={value}")).unwrap_or_default();
        let claim = parameter("since", since) + &parameter("delta", delta);
        match self {
            Self::Multiplex => (format!("/.sungrazer/stream?url={encoded}{claim}"), vec![]),
            Self::Iframe => (format!("/.sungrazer/iframe?url={encoded}&callback=parent.f{claim}"), vec![]),
            own => {
                let accept = match own {
                    Self::Ndjson => "application/x-ndjson",
                    Self::JsonSeq => "application/json-seq",
                    Self::Multipart => "multipart/x-mixed-replace",
                    _ => "text/event-stream",
                };
                let mut headers = vec![("Accept", accept.to_owned())];
                headers.extend(since.map(|since| ("Last-Event-ID", since.to_owned())));
                headers.extend(delta.map(|delta| ("Prefer", format!("delta={delta}"))));
                (target.to_owned(), headers)
            }
        }
    }
}

/// A wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    H1,
    H1Gzip,
    H2,
}

impl Over {
    pub const ALL: [Self; 3] = [Self::H1, Self::H1Gzip, Self::H2];
}

/// Something heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Snapshot { url: Option<String>, version: Option<String>, body: Vec<u8> },
    Patch { base: Option<String>, version: String, patch: String },
    Stale(Value),
    Live,
    Tick(String),
    End(String),
}

impl Heard {
    pub fn body(&self) -> &str {
        match self {
            Self::Snapshot { body, .. } => std::str::from_utf8(body).unwrap(),
            other => panic!("{other:?} instead of a snapshot"),
        }
    }

    pub fn version(&self) -> String {
        match self {
            Self::Snapshot { version, .. } => version.clone().expect("a version"),
            other => panic!("{other:?} instead of a snapshot"),
        }
    }
}

enum Source {
    H1(Connection),
    H2(h2::RecvStream, tokio::task::JoinHandle<()>),
    Socket(Box<WebSocketStream<TcpStream>>),
}

/// A client that follows.
pub struct Follower {
    form: Form,
    source: Source,
    gunzip: Option<flate2::write::GzDecoder<Vec<u8>>>,
    text: Vec<u8>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Follower {
    /// Begins to follow `target`, and expects that it may.
    pub async fn open(form: Form, over: Over, address: SocketAddr, target: &str, since: Option<&str>) -> Self {
        Self::open_for(form, over, address, target, since, None).await
    }

    /// The same, with a wish for deltas.
    pub async fn open_for(
        form: Form,
        over: Over,
        address: SocketAddr,
        target: &str,
        since: Option<&str>,
        delta: Option<&str>,
    ) -> Self {
        let follower = Self::open_as(form, over, address, target, since, delta, None).await;
        assert!(matches!(follower.status, 200 | 101), "{form:?} over {over:?}: {}", follower.status);
        follower
    }

    /// The same with a cookie, whatever the answer is.
    pub async fn open_as(
        form: Form,
        over: Over,
        address: SocketAddr,
        target: &str,
        since: Option<&str>,
        delta: Option<&str>,
        cookie: Option<&str>,
    ) -> Self {
        let cookie = cookie.map(|cookie| ("Cookie", cookie));
        if form == Form::WebSocket {
            let mut follower = Self::socket(address, "/.sungrazer/ws", &Vec::from_iter(cookie)).await;
            let mut message = serde_json::json!({ "subscribe": target });
            if let Some(since) = since {
                message["since"] = since.into();
            }
            if let Some(delta) = delta {
                message["delta"] = delta.into();
            }
            follower.say(&message).await;
            return follower;
        }
        let (path, mut headers) = form.request(target, since, delta);
        headers.extend(cookie.map(|(name, value)| (name, value.to_owned())));
        match over {
            Over::H2 => Self::over_h2(form, address, &path, &headers).await,
            over => {
                if over == Over::H1Gzip {
                    headers.push(("Accept-Encoding", "gzip, deflate, br".to_owned()));
                }
                let mut connection = Connection::open(address).await;
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                connection.send(client::head("GET", &path, &headers, b"")).await;
                let head = connection.head().await;
                let gzip = head.header("content-encoding") == Some("gzip");
                assert_eq!(gzip, over == Over::H1Gzip && head.status == 200, "{form:?}: {head:?}");
                let gunzip = gzip.then(|| flate2::write::GzDecoder::new(Vec::new()));
                Self {
                    form,
                    source: Source::H1(connection),
                    gunzip,
                    text: Vec::new(),
                    status: head.status,
                    headers: head.headers,
                }
            }
        }
    }

    async fn over_h2(form: Form, address: SocketAddr, path: &str, headers: &[(&'static str, String)]) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = http::Request::builder().uri(format!("http://site.example{path}"));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
        let response = within("a response", response).await.unwrap();
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Self {
            form,
            source: Source::H2(response.into_body(), connection),
            gunzip: None,
            text: Vec::new(),
            status,
            headers,
        }
    }

    /// Opens a WebSocket.
    pub async fn socket(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Self {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://site.example{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "sungrazer.v1".parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, response) = within("the handshake", tokio_tungstenite::client_async(request, tcp)).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "sungrazer.v1");
        Self {
            form: Form::WebSocket,
            source: Source::Socket(Box::new(socket)),
            gunzip: None,
            text: Vec::new(),
            status: 101,
            headers: Vec::new(),
        }
    }

    /// Sends a message over the WebSocket.
    pub async fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        assert!(self.try_say(text).await, "the WebSocket is closed");
    }

    /// Sends a message that the server may not want to hear to its end.
    pub async fn try_say(&mut self, text: &str) -> bool {
        let Source::Socket(socket) = &mut self.source else { panic!("not a WebSocket") };
        within("the message to be sent", socket.send(Message::text(text))).await.is_ok()
    }

    /// The next message over the WebSocket, whatever it is; `None` when it is closed.
    pub async fn message(&mut self) -> Option<Value> {
        let Source::Socket(socket) = &mut self.source else { panic!("not a WebSocket") };
        loop {
            match within("a message", socket.next()).await? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next thing heard; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        if self.form == Form::WebSocket {
            let message = self.message().await?;
            return Some(heard(&message));
        }
        loop {
            if let Some(heard) = self.parse() {
                return Some(heard);
            }
            let piece = match &mut self.source {
                Source::H1(connection) => connection.chunk().await?,
                Source::H2(body, _) => {
                    let piece: Bytes = within("data", body.data()).await?.ok()?;
                    let _ = body.flow_control().release_capacity(piece.len());
                    piece.to_vec()
                }
                Source::Socket(_) => unreachable!(),
            };
            match &mut self.gunzip {
                Some(gunzip) => {
                    gunzip.write_all(&piece).unwrap();
                    gunzip.flush().unwrap();
                    self.text.append(gunzip.get_mut());
                }
                None => self.text.extend(piece),
            }
        }
    }

    fn take(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let at = self.text.windows(end.len()).position(|window| window == end)?;
        let rest = self.text.split_off(at + end.len());
        Some(std::mem::replace(&mut self.text, rest))
    }

    fn parse(&mut self) -> Option<Heard> {
        loop {
            let block = match self.form {
                Form::Sse | Form::Multiplex => self.take(b"\n\n")?,
                Form::Multipart => {
                    let head = b"\r\n\r\n";
                    let at = self.text.windows(head.len()).position(|window| window == head)? + head.len();
                    let head = String::from_utf8(self.text[..at].to_vec()).unwrap();
                    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                    let length: usize = field("Content-Length: ").unwrap().parse().unwrap();
                    let content_type = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
                    let boundary = content_type.unwrap().1.split_once("; boundary=").unwrap().1;
                    let boundary = format!("--{boundary}\r\n");
                    let whole = at + length + 2 + boundary.len();
                    if self.text.len() < whole {
                        return None;
                    }
                    let part: Vec<u8> = self.text.drain(..whole).collect();
                    assert!(
                        part.ends_with(format!("\r\n{boundary}").as_bytes()),
                        "the next boundary was not sent at once"
                    );
                    let version = field("ETag: ").map(|etag| etag.trim_matches('"').to_owned());
                    return Some(Heard::Snapshot { url: None, version, body: part[at..at + length].to_vec() });
                }
                Form::Ndjson | Form::JsonSeq | Form::Iframe => self.take(b"\n")?,
                Form::WebSocket => unreachable!(),
            };
            let block = String::from_utf8(block).unwrap();
            let heard = match self.form {
                Form::Sse => parse_sse(&block),
                Form::Multiplex => block
                    .lines()
                    .find_map(|line| line.strip_prefix("data: "))
                    .map(|data| heard(&serde_json::from_str(data).unwrap())),
                Form::Ndjson => (block != "\n").then(|| heard(&serde_json::from_str(&block).unwrap())),
                Form::JsonSeq => {
                    let record = block.trim_start_matches('\u{1e}');
                    assert!(record.len() < block.len(), "{block:?} does not begin with a record separator");
                    Some(heard(&serde_json::from_str(record).unwrap()))
                }
                Form::Iframe => block.strip_prefix("<script>parent.f(").map(|rest| {
                    let record = rest.strip_suffix(")</script>\n").unwrap();
                    assert!(!record.contains(['<', '>', '&']), "{record}");
                    heard(&serde_json::from_str(record).unwrap())
                }),
                Form::Multipart | Form::WebSocket => unreachable!(),
            };
            if heard.is_some() {
                return heard;
            }
        }
    }
}

fn parse_sse(block: &str) -> Option<Heard> {
    let field = |name: &str| block.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
    let data = field("data: ");
    if data.is_empty() {
        return None;
    }
    let data = data.join("\n");
    Some(match field("event: ").first().copied() {
        None => Heard::Snapshot {
            url: None,
            version: field("id: ").first().map(|id| (*id).to_owned()),
            body: data.into_bytes(),
        },
        Some("snapshot") => parse_sse(&block.replacen("event: snapshot\n", "", 1))?,
        Some("patch") => Heard::Patch { base: None, version: field("id: ")[0].to_owned(), patch: data },
        Some("stale") => Heard::Stale(serde_json::from_str(&data).unwrap()),
        Some("live") => Heard::Live,
        Some("end") => Heard::End(serde_json::from_str::<Value>(&data).unwrap()["reason"].as_str().unwrap().to_owned()),
        Some(other) => panic!("an event called {other:?}"),
    })
}

fn heard(record: &Value) -> Heard {
    let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("{record}")).to_owned();
    match text("event").as_str() {
        "snapshot" => {
            let body = if record["encoding"] == "base64" {
                base64::engine::general_purpose::STANDARD.decode(text("body")).unwrap()
            } else if record["type"].as_str().unwrap().starts_with("application/json") {
                record["body"].to_string().into_bytes()
            } else {
                text("body").into_bytes()
            };
            assert!(record["status"].is_u64() && record["type"].is_string(), "{record}");
            Heard::Snapshot { url: Some(text("url")), version: Some(text("version")), body }
        }
        "patch" => {
            Heard::Patch { base: Some(text("base")), version: text("version"), patch: record["patch"].to_string() }
        }
        "stale" => Heard::Stale(record.clone()),
        "live" => Heard::Live,
        "tick" => Heard::Tick(text("url")),
        "end" => Heard::End(text("reason")),
        other => panic!("an event called {other:?}"),
    }
}
