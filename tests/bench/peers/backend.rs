//! The application behind it all: a small program that answers with what it was told to, and counts who asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bed::now;
use crate::peers::WATCHED;

pub struct Backend {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whole responses, by path.
    responses: Mutex<HashMap<String, Arc<Response>>>,
    gets: AtomicU64,
    posts: AtomicU64,
    /// When the answer with a number was first complete, by number.
    told: Mutex<HashMap<u32, u64>>,
    /// When the state with a number came to be.
    changed: Mutex<HashMap<u32, u64>>,
}

struct Response {
    n: u32,
    bytes: Vec<u8>,
}

impl Backend {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            });
        });
        Self { address, state }
    }

    /// From now on `path` is answered with this, the state with number `n`.
    pub fn put(&self, path: &str, n: u32, content_type: &str, headers: &str, body: &str) {
        self.state.put(path, n, content_type, headers, body);
    }

    /// Takes everything back.
    pub fn clear(&self) {
        self.state.responses.lock().unwrap().clear();
        self.state.told.lock().unwrap().clear();
        self.state.changed.lock().unwrap().clear();
    }

    /// How often it was asked for something that is watched.
    pub fn gets(&self) -> u64 {
        self.state.gets.load(Ordering::Relaxed)
    }

    /// How often something was written.
    pub fn posts(&self) -> u64 {
        self.state.posts.load(Ordering::Relaxed)
    }

    /// When it had first answered with each number.
    pub fn told(&self) -> HashMap<u32, u64> {
        self.state.told.lock().unwrap().clone()
    }

    /// When each state came to be.
    pub fn changed(&self) -> HashMap<u32, u64> {
        self.state.changed.lock().unwrap().clone()
    }
}

impl State {
    fn put(&self, path: &str, n: u32, content_type: &str, headers: &str, body: &str) {
        let bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).entry(n).or_insert_with(now);
        self.responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), Arc::new(Response { n, bytes }));
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = BytesMut::new();
    loop {
        let (is_post, path, head, length) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&buffer) {
                Ok(httparse::Status::Complete(head)) => {
                    let length =
                        request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
                    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
                    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
                    break (request.method == Some("POST"), path.to_owned(), head, length.unwrap_or(0));
                }
                Ok(httparse::Status::Partial) => {}
                Err(_) => return,
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        buffer.advance(head);
        while buffer.len() < length {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        let body = buffer.split_to(length);
        let written = if is_post {
            state.posts.fetch_add(1, Ordering::Relaxed);
            // What bears a number is the new state of that path; anything else changes nothing.
            if let Some((n, text)) = std::str::from_utf8(&body).ok().and_then(numbered) {
                state.put(&path, n, "application/json", "", text);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await
        } else {
            if path.starts_with(WATCHED) {
                state.gets.fetch_add(1, Ordering::Relaxed);
            }
            let response = state.responses.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
            match response {
                Some(response) => {
                    let written = stream.write_all(&response.bytes).await;
                    state.told.lock().unwrap_or_else(PoisonError::into_inner).entry(response.n).or_insert_with(now);
                    written
                }
                None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await,
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// The number that a document bears.
fn numbered(text: &str) -> Option<(u32, &str)> {
    let n = text.split('@').nth(1)?.parse().ok()?;
    Some((n, text))
}
