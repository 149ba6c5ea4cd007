//! A client's connection, and just enough HTTP/1.1 to ask and to know where answers end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;

use rcgen::CertifiedKey;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

thread_local! {
    /// What arrives is looked at here; a client that waits has no buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
}

pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

pub type Socket = Box<dyn Duplex>;

/// How clients come: from which of several addresses, so that ports do not run out, and whether through TLS.
pub async fn connect(to: SocketAddr, number: usize, tls: Option<&Tls>) -> io::Result<Socket> {
    let stream = connect_tcp(to, number).await?;
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => {
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            Ok(Box::new(tls.connector.connect(name, stream).await?))
        }
    }
}

pub async fn connect_tcp(to: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 2)) + (number % 16) as u32);
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A certificate for `localhost`, and clients that trust it.
#[derive(Clone)]
pub struct Tls {
    pub cert: String,
    pub key: String,
    connector: TlsConnector,
}

impl Tls {
    pub fn new() -> Self {
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { cert: cert.pem(), key: signing_key.serialize_pem(), connector: Arc::new(config).into() }
    }
}

/// Waits for bytes and hands them to `take`.
pub async fn read<R>(socket: &mut Socket, mut take: impl FnMut(&[u8]) -> R) -> io::Result<R> {
    poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer))?;
            match buffer.filled() {
                [] => Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => Ok(take(bytes)),
            }
            .into()
        })
    })
    .await
}

/// The text of a GET.
pub fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// The text of a POST.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// What a response's head says, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub status: u16,
    pub length: usize,
    body: Option<usize>,
    pub closes: bool,
}

impl Head {
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or(0);
        let value = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        let body = if status == 304 { Some(0) } else { value("content-length").and_then(|text| text.parse().ok()) };
        let closes = value("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
        Ok(Some(Self { status, length, body, closes }))
    }
}

/// Asks, and reads the whole answer, which must say how long it is. `seen` gets the body's bytes. Returns the head, and
/// how many bytes came.
pub async fn ask(socket: &mut Socket, request: &str, mut seen: impl FnMut(&[u8])) -> io::Result<(Head, usize)> {
    socket.write_all(request.as_bytes()).await?;
    let mut early = Vec::new();
    let mut head: Option<Head> = None;
    let mut got = 0;
    loop {
        read(socket, |bytes| -> io::Result<()> {
            got += bytes.len();
            if head.is_some() {
                seen(bytes);
                return Ok(());
            }
            // Nearly always the head is whole in what comes first.
            let whole = if early.is_empty() {
                bytes
            } else {
                early.extend_from_slice(bytes);
                &early[..]
            };
            head = Head::parse(whole)?;
            match &head {
                Some(head) => seen(&whole[head.length..]),
                None if early.is_empty() => early.extend_from_slice(bytes),
                None => {}
            }
            Ok(())
        })
        .await??;
        if let Some(head) = head {
            let body = head.body.ok_or_else(|| io::Error::other("an answer of unknown length"))?;
            if got >= head.length + body {
                return Ok((head, got));
            }
        }
    }
}
