//! A backend that answers with bytes of a test's own choice, whatever they are.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What follows the bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    Goes,
    /// The end of the connection.
    Ends,
}

/// The backend.
#[derive(Clone)]
pub struct Raw {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Raw {
    /// One that answers the request with this number, counted from 0, by `answer`.
    pub async fn start(answer: impl Fn(usize) -> (Vec<u8>, Then) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let raw = Self { address, heads: Arc::default(), accepted: Arc::default(), open: Arc::default() };
        let accepting = raw.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.accepted.fetch_add(1, Ordering::SeqCst);
                accepting.open.fetch_add(1, Ordering::SeqCst);
                let (raw, answer) = (accepting.clone(), answer.clone());
                tokio::spawn(async move {
                    raw.serve(stream, answer).await;
                    raw.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        raw
    }

    /// One that answers every request with these bytes.
    pub async fn always(answer: &str, then: Then) -> Self {
        let answer = answer.as_bytes().to_vec();
        Self::start(move |_| (answer.clone(), then)).await
    }

    async fn serve(&self, stream: TcpStream, answer: impl Fn(usize) -> (Vec<u8>, Then)) {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            head.push(byte);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let number = {
                let mut heads = self.heads.lock().unwrap();
                heads.push(String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned());
                heads.len() - 1
            };
            let (bytes, then) = answer(number);
            if stream.write_all(&bytes).await.is_err() || then == Then::Ends {
                return;
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}
