//! Who tells a server that there is something new.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::backend::Backend;
use crate::bed::now;
use crate::connection::post;

/// How news is told.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    /// The backend changes, and Sungrazer's hook is told so.
    Hook(&'a Backend),
    /// It is posted as it is.
    Raw,
    /// As pushpin takes it.
    Grip,
}

/// A connection over which news is told, and when what was told.
pub struct Publisher<'a> {
    address: SocketAddr,
    way: Way<'a>,
    writer: OwnedWriteHalf,
    sent: RefCell<HashMap<u32, u64>>,
    answers: tokio::task::JoinHandle<()>,
}

impl<'a> Publisher<'a> {
    pub async fn new(address: SocketAddr, way: Way<'a>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut reader, writer) = stream.into_split();
        let answers = tokio::task::spawn_local(async move {
            let mut buffer = vec![0; 4096];
            while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
        });
        Self { address, way, writer, sent: RefCell::default(), answers }
    }

    /// From now on `path` is `body`, the state with number `n`.
    pub async fn publish(&mut self, path: &str, n: u32, body: &str) {
        self.sent.borrow_mut().insert(n, now());
        let request = match self.way {
            Way::Hook(backend) => {
                backend.put(path, n, "application/json", "", body);
                post(&format!("/api/refresh?url={path}"), "", "")
            }
            Way::Raw => post("/pub", "", body),
            Way::Grip => {
                let content = serde_json::to_string(&format!("data: {body}\n\n")).unwrap();
                let item = format!(
                    "{{\"items\":[{{\"channel\":\"bench\",\"formats\":{{\"http-stream\":{{\"content\":{content}}}}}}}]}}"
                );
                post("/publish/", "Content-Type: application/json\r\n", &item)
            }
        };
        if matches!(self.way, Way::Grip) {
            // pushpin closes the connection behind each answer.
            let sent = self.sent.take();
            *self = Self::new(self.address, self.way).await;
            self.sent.replace(sent);
        }
        self.writer.write_all(request.as_bytes()).await.unwrap();
    }

    /// When each state was told.
    pub fn sent(&self) -> HashMap<u32, u64> {
        self.sent.borrow().clone()
    }
}

impl Drop for Publisher<'_> {
    fn drop(&mut self) {
        self.answers.abort();
    }
}
