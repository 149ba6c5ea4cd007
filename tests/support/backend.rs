//! A legacy application under a test's control: it knows HTTP/1.1 and nothing of push.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{eventually, within};

/// One answer, with its faults.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Before the head.
    pub delay: Duration,
    /// Break off after so many bytes of body.
    pub truncate: Option<usize>,
    /// Close instead of answering.
    pub drop: bool,
    /// Answer conditional requests with 304, by an ETag made of the body.
    pub etag: bool,
    /// Send the body in chunks of this size.
    pub chunked: Option<usize>,
    /// Write these pieces, with pauses, and then end.
    pub pieces: Vec<(Duration, Vec<u8>)>,
    /// Keep the connection open behind the pieces until the client leaves.
    pub linger: bool,
    /// Wait for this before answering.
    pub gate: Option<Arc<Notify>>,
}

impl Page {
    pub fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".into(), content_type.into())],
            body: body.into(),
            delay: Duration::ZERO,
            truncate: None,
            drop: false,
            etag: false,
            chunked: None,
            pieces: Vec::new(),
            linger: false,
            gate: None,
        }
    }

    pub fn json(body: &str) -> Self {
        Self::new("application/json", body)
    }

    pub fn text(body: &str) -> Self {
        Self::new("text/plain; charset=utf-8", body)
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn etag(mut self) -> Self {
        self.etag = true;
        self
    }

    pub fn truncate(mut self, bytes: usize) -> Self {
        self.truncate = Some(bytes);
        self
    }

    pub fn dropped() -> Self {
        Self { drop: true, ..Self::text("") }
    }

    pub fn chunked(mut self, size: usize) -> Self {
        self.chunked = Some(size);
        self
    }

    pub fn piece(mut self, pause: Duration, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push((pause, bytes.into()));
        self
    }

    pub fn linger(mut self) -> Self {
        self.linger = true;
        self
    }

    pub fn gate(mut self, gate: &Arc<Notify>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }
}

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether this is one of Sungrazer's own: no client of these tests asks for these codings.
    pub fn is_fetch(&self) -> bool {
        self.header("accept-encoding") == Some("gzip, br;q=0.5, zstd;q=0.4")
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Page + Send + Sync>;

#[derive(Default)]
struct State {
    pages: HashMap<String, Handler>,
    seen: Vec<Seen>,
    open: usize,
}

/// The application.
pub struct Backend {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Backend {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let connections = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let accepting = tokio::spawn({
            let (state, connections) = (Arc::clone(&state), Arc::clone(&connections));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let state = Arc::clone(&state);
                    connections.lock().unwrap().push(tokio::spawn(serve(stream, state)));
                }
            }
        });
        Self { address, state, accepting, connections }
    }

    /// The same application on a Unix socket.
    pub fn also_at(&self, path: &std::path::Path) {
        let listener = UnixListener::bind(path).unwrap();
        let state = Arc::clone(&self.state);
        let connections = Arc::clone(&self.connections);
        let accepting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let state = Arc::clone(&state);
                    connections.lock().unwrap().push(tokio::spawn(serve(stream, state)));
                }
            }
        });
        connections.lock().unwrap().push(accepting);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers `path` with `page` from now on.
    pub fn set(&self, path: &str, page: Page) {
        self.handle(path, move |_| page.clone());
    }

    /// Answers `path` by `handler` from now on.
    pub fn handle(&self, path: &str, handler: impl Fn(&Seen) -> Page + Send + Sync + 'static) {
        self.state.lock().unwrap().pages.insert(path.to_owned(), Arc::new(handler));
    }

    /// Requests for `path` so far.
    pub fn hits(&self, path: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|seen| seen.path() == path).count()
    }

    /// Waits until `path` has not been asked for for a while: what must not be taken for the effect of what comes next.
    pub async fn settles(&self, path: &str) {
        within("the fetches to settle", async {
            loop {
                let before = self.hits(path);
                tokio::time::sleep(Duration::from_millis(150)).await;
                if self.hits(path) == before {
                    return;
                }
            }
        })
        .await;
    }

    /// Requests for `path` so far, as they arrived.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.state.lock().unwrap().seen.iter().filter(|seen| seen.path() == path).cloned().collect()
    }

    /// Waits until `path` has been asked for.
    pub async fn is_asked_for(&self, path: &str) {
        eventually(&format!("a request for {path}"), || self.hits(path) > 0).await;
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().open
    }

    /// Stops accepting and breaks all connections.
    pub async fn stop(self) -> SocketAddr {
        let address = self.address;
        self.accepting.abort();
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
        let state = Arc::clone(&self.state);
        eventually("the backend's connections to end", || state.lock().unwrap().open == 0).await;
        address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

struct Open(Arc<Mutex<State>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    state.lock().unwrap().open += 1;
    let _open = Open(Arc::clone(&state));
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream).await {
        let handler = {
            let mut state = state.lock().unwrap();
            state.seen.push(seen.clone());
            state.pages.get(seen.path()).cloned()
        };
        let page = handler.map_or_else(|| Page::text("no such page").status(404), |handler| handler(&seen));
        if !answer(&mut stream, &seen, page).await {
            return;
        }
    }
}

async fn read_request(
    stream: &mut BufReader<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("expect")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
    }
    let mut seen =
        Seen { method: first.next()?, target: first.next()?, version: first.next()?, headers, body: Vec::new() };
    if let Some(length) = seen.header("content-length").map(|length| length.parse().unwrap()) {
        seen.body = vec![0; length];
        stream.read_exact(&mut seen.body).await.ok()?;
    } else if seen.header("transfer-encoding").is_some() {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await.ok()?);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let start = seen.body.len();
            seen.body.resize(start + size, 0);
            stream.read_exact(&mut seen.body[start..]).await.ok()?;
            stream.read_u16().await.ok()?;
            if size == 0 {
                break;
            }
        }
    }
    Some(seen)
}

/// Returns whether the connection can be used again.
async fn answer(
    stream: &mut BufReader<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
    seen: &Seen,
    mut page: Page,
) -> bool {
    if let Some(gate) = &page.gate {
        within("a test to open the gate", gate.notified()).await;
    }
    if !page.delay.is_zero() {
        tokio::time::sleep(page.delay).await;
    }
    if page.drop {
        return false;
    }
    if page.etag {
        let etag = format!(
            "\"{:x}\"",
            page.body.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        );
        if seen.header("if-none-match") == Some(&etag) {
            page.status = 304;
            page.body.clear();
        }
        page.headers.push(("ETag".into(), etag));
    }
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", page.status);
    for (name, value) in &page.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let until_close = !page.pieces.is_empty() || page.linger;
    let bodiless = page.status == 304 || page.status == 204 || (100..200).contains(&page.status);
    if until_close {
        head.push_str(if page.status == 101 { "\r\n" } else { "Connection: close\r\n\r\n" });
    } else if page.chunked.is_some() {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    } else if bodiless {
        head.push_str("\r\n");
    } else {
        head.push_str(&format!("Content-Length: {}\r\n\r\n", page.body.len()));
    }
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    if page.status == 101 && seen.method != "HEAD" {
        return echo(stream).await;
    }
    if seen.method == "HEAD" || bodiless {
        return stream.flush().await.is_ok();
    }
    if let Some(bytes) = page.truncate {
        let _ = stream.write_all(&page.body[..bytes]).await;
        let _ = stream.flush().await;
        return false;
    }
    let written = match page.chunked {
        Some(size) => {
            let mut framed = Vec::new();
            for chunk in page.body.chunks(size) {
                framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                framed.extend_from_slice(chunk);
                framed.extend_from_slice(b"\r\n");
            }
            framed.extend_from_slice(b"0\r\n\r\n");
            stream.write_all(&framed).await
        }
        None => stream.write_all(&page.body).await,
    };
    if written.is_err() || stream.flush().await.is_err() {
        return false;
    }
    for (pause, bytes) in &page.pieces {
        tokio::time::sleep(*pause).await;
        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
            return false;
        }
    }
    if page.linger {
        let _ = stream.read_u8().await;
    }
    !until_close
}

/// After a 101: sends back what it receives.
async fn echo(stream: &mut BufReader<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>) -> bool {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    false
}

/// A port on which nobody listens.
pub async fn dead_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
