//! The least that could do the job.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::header::HOST;
use pingora::http::RequestHeader;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A proxy that is nothing but pingora, on two threads.
struct Nothing {
    upstream: SocketAddr,
    /// Whether it tells the application from whom a request comes, as proxies in front of applications do.
    tells: bool,
}

#[async_trait]
impl ProxyHttp for Nothing {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _ctx: &mut (),
    ) -> Result<()> {
        if !self.tells {
            return Ok(());
        }
        let client = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip);
        let client = client.map_or_else(String::new, |client| client.to_string());
        if let Some(host) = request.headers.get(HOST).cloned() {
            let host_text = host.to_str().unwrap_or_default();
            request.insert_header("forwarded", format!("for={client};proto=http;host=\"{host_text}\""))?;
            request.insert_header("x-forwarded-host", host)?;
        }
        request.insert_header("x-forwarded-for", client)?;
        request.insert_header("x-forwarded-proto", "http")?;
        request.insert_header("cdn-loop", "bare")
    }
}

/// A proxy that is nothing but pingora; with `tells`, one that says of whom a request comes.
pub fn pingora(listen: SocketAddr, upstream: SocketAddr, tells: bool) -> ExitCode {
    let conf = ServerConf { threads: 2, grace_period_seconds: Some(0), ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Nothing { upstream, tells });
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run_forever()
}

/// Whoever asks, whatever it is, is answered so many bytes in one write, on two threads.
pub fn answers(listen: SocketAddr, bytes: usize) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n");
    let (head, body): (Arc<[u8]>, Arc<[u8]>) = (head.into_bytes().into(), vec![b'a'; bytes].into());
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(answer(stream, Arc::clone(&head), Arc::clone(&body)));
        }
    })
}

/// Answers one client, whose requests come one by one.
async fn answer(mut stream: tokio::net::TcpStream, head: Arc<[u8]>, body: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut asked = [0; 4096];
    while stream.read(&mut asked).await? > 0 {
        let mut slices = [IoSlice::new(&head), IoSlice::new(&body)];
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = stream.write_vectored(rest).await?;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

/// Whoever asks is given the head of an event stream; whatever is posted is written to all of them, one after the other.
pub fn writes(listen: SocketAddr) -> ExitCode {
    let listener = TcpListener::bind(listen).unwrap();
    let held: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let mut buffer = vec![0; 64 * 1024];
        let Ok(read @ 1..) = stream.read(&mut buffer) else { continue };
        buffer.truncate(read);
        if buffer.starts_with(b"GET") {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            held.lock().unwrap().push(stream);
        } else {
            let held = Arc::clone(&held);
            std::thread::spawn(move || take(stream, buffer, &held));
        }
    }
    ExitCode::SUCCESS
}

/// Takes what is posted.
fn take(mut stream: TcpStream, mut buffer: Vec<u8>, held: &Mutex<Vec<TcpStream>>) {
    let mut more = vec![0; 64 * 1024];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(&buffer) {
            let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok()).unwrap_or(0);
            if buffer.len() >= head + length {
                let body = &buffer[head..head + length];
                let mut chunk = format!("{:x}\r\ndata: ", length + 8).into_bytes();
                chunk.extend_from_slice(body);
                chunk.extend_from_slice(b"\n\n\r\n");
                for client in &mut *held.lock().unwrap() {
                    let _ = client.write_all(&chunk);
                }
                buffer.drain(..head + length);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
        }
        match stream.read(&mut more) {
            Ok(read @ 1..) => buffer.extend_from_slice(&more[..read]),
            _ => return,
        }
    }
}
