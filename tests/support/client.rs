//! Clients that send exactly what a test says and see exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::within;

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn is_from_memory(&self) -> bool {
        self.header("cache-status").is_some_and(|status| status.starts_with("sungrazer; hit"))
    }
}

/// A connection.
pub struct Connection {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a GET with these extra header lines.
    pub async fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", target, headers, b"").await
    }

    pub async fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send(head(method, target, headers, body)).await;
        self.send(body).await;
        self.response(method).await
    }

    /// Reads more; `false` at the end.
    pub async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = within("bytes", self.stream.read(&mut piece)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// Whether the server closes the connection without sending anything more.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }

    /// Whether nothing arrives for a while. A guess by nature: only for what must *not* happen.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        self.buffer.is_empty() && timeout(time, self.fill()).await.is_err()
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill().await, "the connection ended {} bytes early", length - self.buffer.len());
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Reads the head of a response.
    pub async fn head(&mut self) -> Response {
        let head = self.until(b"\r\n\r\n").await.expect("a response");
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Response { status, headers, body: Vec::new() }
    }

    /// Reads a whole response to a request with `method`.
    pub async fn response(&mut self, method: &str) -> Response {
        let mut response = self.head().await;
        if method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304) {
            return response;
        }
        if response.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk().await {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            response.body = self.exactly(length.parse().unwrap()).await;
        } else {
            while self.fill().await {}
            response.body = std::mem::take(&mut self.buffer);
        }
        response
    }

    /// Reads one chunk; `None` at the last.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.until(b"\r\n").await?;
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut chunk = self.exactly(size + 2).await;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// Takes all that was read and not yet used, after reading at least `least` bytes.
    pub async fn raw(&mut self, least: usize) -> Vec<u8> {
        while self.buffer.len() < least && self.fill().await {}
        std::mem::take(&mut self.buffer)
    }
}

pub fn head(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str("Host: site.example\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    Connection::open(address).await.get(target, headers).await
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
}

/// An open event stream.
pub struct Events {
    pub head: Response,
    pub connection: Connection,
    text: String,
    /// Comments and `retry` lines that have gone by.
    pub asides: Vec<String>,
}

impl Events {
    /// Opens a stream and expects it to begin.
    pub async fn open(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        let events = Self::try_open(address, target, headers).await;
        assert_eq!(events.head.status, 200, "{:?}", events.head);
        assert_eq!(events.head.header("content-type"), Some("text/event-stream"));
        events
    }

    /// Opens a stream by posting `body`, and expects it to begin.
    pub async fn post(address: SocketAddr, target: &str, body: &str) -> Self {
        Self::post_as(address, target, body, &[]).await
    }

    pub async fn post_as(address: SocketAddr, target: &str, body: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = Connection::open(address).await;
        connection.send(head("POST", target, headers, body.as_bytes())).await;
        connection.send(body).await;
        let head = connection.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        Self { head, connection, text: String::new(), asides: Vec::new() }
    }

    pub async fn try_open(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = Connection::open(address).await;
        let headers: Vec<_> = [("Accept", "text/event-stream")].into_iter().chain(headers.iter().copied()).collect();
        connection.send(head("GET", target, &headers, b"")).await;
        Self::on(connection).await
    }

    /// The stream that was asked for on `connection`.
    pub async fn on(mut connection: Connection) -> Self {
        let head = connection.head().await;
        Self::behind(head, connection)
    }

    /// The stream behind `head` on `connection`.
    pub fn behind(head: Response, connection: Connection) -> Self {
        Self { head, connection, text: String::new(), asides: Vec::new() }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(at) = self.text.find("\n\n") {
                let block: String = self.text.drain(..at + 2).collect();
                if let Some(event) = self.parse(&block) {
                    return Some(event);
                }
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads more of the stream; `false` at its end.
    pub async fn fill(&mut self) -> bool {
        match self.connection.chunk().await {
            Some(chunk) => {
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
                true
            }
            None => false,
        }
    }

    /// The next event, which must come and must be a snapshot.
    pub async fn snapshot(&mut self) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.event, None, "{event:?}");
        event
    }

    fn parse(&mut self, block: &str) -> Option<Event> {
        let mut event = Event::default();
        let mut data: Vec<&str> = Vec::new();
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(':').map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value))) {
                Some(("id", value)) => event.id = Some(value.to_owned()),
                Some(("event", value)) => event.event = Some(value.to_owned()),
                Some(("data", value)) => data.push(value),
                _ => self.asides.push(line.to_owned()),
            }
        }
        event.data = data.join("\n");
        (!data.is_empty() || event.event.is_some()).then_some(event)
    }
}
