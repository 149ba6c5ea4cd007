//! Every way in which a backend may say where its answer ends, on every way that an answer takes, to clients of every version.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::client::Events;
use crate::support::raw::{Raw, Then};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const BODY: &str = "<p>body</p>";

/// What a client that takes every word of RFC 9112 seriously was given.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: Vec<(String, String)>,
    interim: usize,
    body: String,
}

impl Got {
    fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// Sends `request` and reads one answer. `Err` says what is wrong with that.
async fn ask(address: SocketAddr, request: &[u8], half_close: bool) -> Result<Got, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.write_all(request).await.map_err(|error| error.to_string())?;
    if half_close {
        stream.shutdown().await.map_err(|error| error.to_string())?;
    }
    let line = String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
    let (is_old, is_head) = (line.ends_with("HTTP/1.0"), line.starts_with("HEAD "));
    let mut received = Vec::new();
    let mut interim = 0;
    let (status, headers) = loop {
        let end = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !more(&mut stream, &mut received).await? {
                return Err(format!("no whole head: {:?}", String::from_utf8_lossy(&received)));
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        received.drain(..end);
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").ok_or(format!("not in our version: {first}"))?;
        let status: u16 = status[..3].parse().map_err(|_| first.to_owned())?;
        let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if status >= 200 {
            break (status, headers);
        }
        interim += 1;
        if is_old {
            return Err(format!("an interim answer to HTTP/1.0: {first}"));
        }
    };
    let mut got = Got { status, headers, interim, body: String::new() };
    let (codings, lengths) = (got.all("transfer-encoding"), got.all("content-length"));
    if codings.len() + lengths.len() > 1 {
        return Err(format!("framed twice: {got:?}"));
    }
    let body = match (codings.first(), lengths.first()) {
        _ if is_head || matches!(status, 204 | 304) => Vec::new(),
        (Some(_), _) if is_old => return Err("chunks to HTTP/1.0".to_owned()),
        (Some(&"chunked"), _) => chunks(&mut stream, &mut received).await?,
        (Some(other), _) => return Err(format!("coded: {other}")),
        (None, Some(length)) => {
            let length: usize = length.parse().map_err(|_| format!("a length of {length}"))?;
            while received.len() < length {
                if !more(&mut stream, &mut received).await? {
                    return Err("cut off".to_owned());
                }
            }
            received.drain(..length).collect()
        }
        (None, None) => {
            while more(&mut stream, &mut received).await? {}
            std::mem::take(&mut received)
        }
    };
    if !received.is_empty() {
        return Err(format!("behind the end: {:?}", String::from_utf8_lossy(&received)));
    }
    got.body = String::from_utf8_lossy(&body).into_owned();
    Ok(got)
}

async fn more(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<bool, String> {
    let read = timeout(Duration::from_secs(10), stream.read_buf(received)).await;
    read.map_err(|_| format!("it hangs behind {:?}", String::from_utf8_lossy(received)))?
        .map(|count| count > 0)
        .map_err(|error| error.to_string())
}

async fn chunks(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = received.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            if !more(stream, received).await? {
                return Err("cut off".to_owned());
            }
        };
        let line = String::from_utf8_lossy(&received[..end]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("a chunk of {size:?}"))?;
        while received.len() < end + 2 + size + 2 {
            if !more(stream, received).await? {
                return Err("cut off".to_owned());
            }
        }
        body.extend_from_slice(&received[end + 2..end + 2 + size]);
        received.drain(..end + 2 + size + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Every way through the proxy.
const WAYS: &[(&str, &str)] = &[
    ("relayed", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("proxied and closed", "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    ("an upload", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
    ("HTTP/1.0", "GET /x HTTP/1.0\r\nHost: x\r\n\r\n"),
    ("HTTP/1.0 that stays", "GET /x HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"),
    ("an upload in HTTP/1.0", "POST /x HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
    ("a stream", "GET /x HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"),
    ("a stream in HTTP/1.0", "GET /x HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"),
    ("a refused upgrade", "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
    (
        "a page",
        "GET /page HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n",
    ),
    (
        "a page in HTTP/1.0",
        "GET /page HTTP/1.0\r\nHost: x\r\nAccept: text/html\r\nUpgrade-Insecure-Requests: 1\r\nConnection: keep-alive\r\n\r\n",
    ),
];

fn in_front_of(backend: &Raw) -> Sidecar {
    Sidecar::with(&format!(
        "[server]\nh2c = true\n[upstream]\nurl = \"{}\"\n\
         [[route]]\npath = \"/watched\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n\
         [[route]]\npath = \"/page\"\nshim = true\n",
        backend.url()
    ))
}

async fn over_h2(address: SocketAddr) -> Result<(u16, String), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (send, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://x/x").body(()).map_err(|error| error.to_string())?;
    let mut send = send.ready().await.map_err(|error| error.to_string())?;
    let (answer, _) = send.send_request(request, true).map_err(|error| error.to_string())?;
    let answer = answer.await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    if answer.headers().contains_key("transfer-encoding") || answer.headers().contains_key("connection") {
        return Err(format!("fields of a connection: {:?}", answer.headers()));
    }
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece: Bytes = piece.map_err(|error| error.to_string())?;
        let _ = body.flow_control().release_capacity(piece.len());
        text.extend_from_slice(&piece);
    }
    connection.abort();
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

/// An answer of `BODY`: its status line and fields, what is behind the head, and what follows that.
fn answer(line: &str, fields: &str, body: &str) -> String {
    format!("{line}\r\nContent-Type: text/html\r\n{fields}\r\n{body}")
}

/// On all ways the same is made of `sent`: the body, or nothing but a 502.
async fn everywhere(sent: &str, then: Then, whole: bool) {
    let backend = Raw::always(sent, then).await;
    let sidecar = in_front_of(&backend);
    for (way, request) in WAYS {
        let got =
            ask(sidecar.address, request.as_bytes(), false).await.map_err(|error| format!("{way}: {error}\n{sent}"));
        let got = got.unwrap();
        if whole {
            assert_eq!(got.status, 200, "{way}: {sent}");
            let is_page = way.starts_with("a page");
            assert!(got.body == BODY || (is_page && got.body.contains(BODY)), "{way}: {:?}\n{sent}", got.body);
            assert!(got.all("connection").len() <= 1, "{way}: {got:?}");
            assert!(!is_page || got.body.contains("/.sungrazer/shim.js"), "{way}: no script\n{sent}");
        } else {
            assert_eq!(got.status, 502, "{way}: {sent}");
        }
    }
    let (status, body) = within("an answer over HTTP/2", over_h2(sidecar.address)).await.unwrap();
    assert_eq!((status, body == BODY), (if whole { 200 } else { 502 }, whole), "HTTP/2: {sent}");
    let mut events = Events::try_open(sidecar.address, "/watched", &[]).await;
    let first = within("the first event", events.next()).await.unwrap();
    if whole {
        assert_eq!((first.event.as_deref(), first.data.as_str()), (None, BODY), "a fetch: {sent}");
    } else {
        assert_eq!(first.event.as_deref(), Some("stale"), "a fetch: {sent}");
    }
}

const OK: &str = "HTTP/1.1 200 OK";
const OLD: &str = "HTTP/1.0 200 OK";
const CHUNKS: &str = "5\r\n<p>bo\r\n6\r\ndy</p>\r\n0\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn careless_answers_arrive_whole_on_every_way() {
    for (line, fields, body, then) in [
        (OK, "Content-Length: 11\r\n", BODY, Then::Goes),
        (OK, "Content-Length: 11\r\nContent-Length: 11\r\n", BODY, Then::Goes),
        (OK, "Content-Length: 11, 11\r\n", BODY, Then::Goes),
        (OK, "", BODY, Then::Ends),
        (OK, "Transfer-Encoding: identity\r\nContent-Length: 11\r\n", BODY, Then::Goes),
        (OK, "Transfer-Encoding: identity\r\n", BODY, Then::Ends),
        (OK, "Transfer-Encoding:\r\nContent-Length: 11\r\n", BODY, Then::Goes),
        (OK, "Transfer-Encoding: chunked\r\n", CHUNKS, Then::Goes),
        (OK, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS, Then::Goes),
        (OK, "Transfer-Encoding: identity, chunked\r\n", CHUNKS, Then::Goes),
        (OK, "Transfer-Encoding: chunked\r\nContent-Length: 11\r\n", CHUNKS, Then::Goes),
        (OK, "X-Folded: a\r\n\tb\r\nContent-Length:\r\n 11\r\n", BODY, Then::Goes),
        (OK, "Content-Length : 11\r\n", BODY, Then::Goes),
        (OK, "X-Control: a\x01b\r\nno field\r\nX Y: z\r\nContent-Length: 11\r\n", BODY, Then::Goes),
        (OK, "Content-Length: 11\r\nContent-Encoding: utf-8\r\n", BODY, Then::Goes),
        (OLD, "Content-Length: 11\r\n", BODY, Then::Ends),
        (OLD, "Content-Length: 11\r\nConnection: keep-alive\r\n", BODY, Then::Goes),
        (OLD, "", BODY, Then::Ends),
        (OLD, "Transfer-Encoding: chunked\r\n", CHUNKS, Then::Ends),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK", "Content-Length: 11\r\n", BODY, Then::Goes),
        ("HTTP/1.1 200", "Content-Length: 11\r\n", BODY, Then::Goes),
    ] {
        everywhere(&answer(line, fields, body), then, true).await;
    }
    let many: String = (0..150).map(|at| format!("X-{at}: {at}\r\n")).collect();
    everywhere(&answer(OK, &format!("{many}Content-Length: 11\r\n"), BODY), Then::Goes, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_end_in_two_places_are_refused_on_every_way() {
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";
    for (fields, body) in [
        ("Content-Length: 11\r\nContent-Length: 12\r\n", BODY),
        ("Content-Length: 11, 12\r\n", BODY),
        ("Content-Length: +11\r\n", BODY),
        ("Content-Length: 0x0b\r\n", BODY),
        ("Content-Length 11\r\n", BODY),
        ("Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
        ("Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
        ("Transfer-Encoding: chunked, identity\r\n", CHUNKS),
        ("Transfer-Encoding: chunked, gzip\r\nContent-Length: 11\r\n", BODY),
        ("Transfer-Encoding: gzip\r\n", BODY),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 11\r\n", BODY),
        ("Transfer-Encoding\x0b: chunked\r\n", CHUNKS),
    ] {
        everywhere(&answer(OK, fields, &format!("{body}{hidden}")), Then::Goes, false).await;
    }
}

/// Whatever follows an answer, nobody is given it for one of his own.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_an_answer_is_an_answer() {
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";
    for (status, fields, body) in [
        ("200 OK", "Content-Length: 11\r\n", BODY),
        ("200 OK", "Transfer-Encoding: chunked\r\n", CHUNKS),
        ("200 OK", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKS),
        ("204 No Content", "Content-Length: 11\r\n", BODY),
        ("204 No Content", "", BODY),
        ("304 Not Modified", "Content-Length: 11\r\n", BODY),
        ("304 Not Modified", "Transfer-Encoding: chunked\r\n", CHUNKS),
    ] {
        let sent = format!("HTTP/1.1 {status}\r\n{fields}\r\n{body}{hidden}");
        let backend = Raw::always(&sent, Then::Goes).await;
        let sidecar = in_front_of(&backend);
        for _ in 0..3 {
            for (way, request) in WAYS {
                if let Ok(got) = ask(sidecar.address, request.as_bytes(), false).await {
                    assert!(!got.body.contains("hidden"), "{way}: {sent}");
                    assert!(got.status != 200 || status.starts_with("200"), "{way}: {sent}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_behind_an_answer_harms_nobody() {
    // The rest of a body that a 204 must not have, a moment after it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                    if !request.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let first = request.starts_with(b"GET /first");
                    request.clear();
                    let (answer, rest): (&[u8], &[u8]) = if first {
                        (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden")
                    } else {
                        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"")
                    };
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                    if first {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        let _ = stream.write_all(rest).await;
                    }
                }
            });
        }
    });
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{url}\"\n"));
    for close in ["", "Connection: close\r\n"] {
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n");
        assert_eq!(ask(sidecar.address, request("/first").as_bytes(), false).await.unwrap().status, 204);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let got = ask(sidecar.address, request("/second").as_bytes(), false).await.unwrap();
        assert_eq!((got.status, got.body.as_str()), (200, "ok"), "{close}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_for_those_who_know_them() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let backend = Raw::always(&format!("{hint}{}", answer(OK, "Content-Length: 11\r\n", BODY)), Then::Goes).await;
    let sidecar = in_front_of(&backend);
    for (way, request) in WAYS {
        let got = ask(sidecar.address, request.as_bytes(), false).await.unwrap();
        if way == &"relayed" || way == &"an upload" || way == &"proxied and closed" {
            assert_eq!(got.interim, 1, "{way}");
        }
    }
}

/// A backend that answers each request with `answer` after a while, and tells how many there were and whether its connection
/// has been closed for it before.
async fn slow(answer: &'static [u8]) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<(String, bool)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n")
                    || request.ends_with(b"Content-Length: 2\r\n\r\n")
                {
                    if !stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                        return;
                    }
                }
                let to_the_end = async { while stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {} };
                let ended = timeout(Duration::from_secs(2), to_the_end).await.is_ok();
                let _ = tell.send((String::from_utf8_lossy(&request).into_owned(), ended));
                let _ = stream.write_all(answer).await;
            });
        }
    });
    (address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_side_is_answered() {
    let (backend, mut told) = slow(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let sidecar = Sidecar::with(&format!(
        "[upstream]\nurl = \"http://{backend}\"\n[[route]]\npath = \"/routed\"\nevery = \"1s\"\n"
    ));
    for request in [
        "GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.0\r\nHost: x\r\n\r\n",
        "GET /routed HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "POST /x HTTP/1.0\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
        "DELETE /x HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let got =
            ask(sidecar.address, request.as_bytes(), true).await.unwrap_or_else(|error| panic!("{error}: {request}"));
        assert_eq!((got.status, got.body.as_str()), (200, "ok"), "{request}");
        let (seen, ended) = within("the request", told.recv()).await.unwrap();
        assert!(ended, "the backend was not told of the end: {request}");
        assert_eq!(seen.split(' ').next(), request.split(' ').next());
        assert!(told.try_recv().is_err(), "it was asked again: {request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_whole_is_not_answered() {
    let (backend, mut told) = slow(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"http://{backend}\"\n"));
    for request in [
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab",
    ] {
        let got = ask(sidecar.address, request.as_bytes(), true).await;
        assert!(got.as_ref().is_ok_and(|got| got.status >= 400) || got.is_err(), "{got:?}");
    }
    while told.try_recv().is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_old_clients_send_is_passed_on_as_it_is() {
    let backend = Raw::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Goes).await;
    let sidecar = in_front_of(&backend);
    let targets: [&[u8]; 6] =
        [b"/x?q=\"a\"", b"/x?<b>", b"/<x>/`y`?{a}|b", b"/x?q=\xfc", "/\u{fc}?q=\u{20ac}".as_bytes(), b"/x?a^b\\c[1]"];
    for target in targets {
        for (method, rest) in [
            ("GET", "HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("GET", "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            ("GET", "HTTP/1.0\r\nHost: x\r\n\r\n"),
            ("GET", "HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"),
            ("POST", "HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let request = [method.as_bytes(), b" ", target, b" ", rest.as_bytes()].concat();
            let got = ask(sidecar.address, &request, false).await.unwrap();
            assert_eq!(got.status, 200, "{method} {} {rest}", target.escape_ascii());
            let seen = backend.heads().pop().unwrap();
            let expected = format!("{method} {} HTTP/1.1", String::from_utf8_lossy(target));
            assert_eq!(seen.lines().next(), Some(expected.as_str()), "{rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lines_are_passed_on_and_too_many_refused() {
    let backend = Raw::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Goes).await;
    let sidecar = in_front_of(&backend);
    for (count, status) in [(200, 200), (300, 200), (900, 200), (1100, 400)] {
        let lines: String = (0..count).map(|at| format!("X-Line-{at}: {at}\r\n")).collect();
        for (first, rest) in [
            ("GET /x HTTP/1.1", ""),
            ("GET /x HTTP/1.1", "Connection: close\r\n"),
            ("GET /x HTTP/1.0", ""),
            ("POST /x HTTP/1.1", "Content-Length: 0\r\n"),
        ] {
            let request = format!("{first}\r\nHost: x\r\n{lines}{rest}\r\n");
            let got = ask(sidecar.address, request.as_bytes(), false).await.unwrap();
            assert_eq!(got.status, status, "{count} {first} {rest}");
            if status == 200 {
                let seen = backend.heads().pop().unwrap();
                let arrived = seen.lines().filter(|line| line.starts_with("X-Line-")).count();
                assert_eq!(arrived, count, "{first} {rest}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_protocol_may_be_switched_to_but_not_in_http_1_0() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    if !stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                        return;
                    }
                }
                let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                let Some((_, rest)) = text.split_once("\r\nupgrade: ") else {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain")
                        .await;
                    return;
                };
                let name = rest.lines().next().unwrap_or_default();
                let head = format!("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {name}\r\n\r\nhello ");
                let _ = stream.write_all(head.as_bytes()).await;
                let mut byte = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut byte).await {
                    if stream.write_all(&byte[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{url}\"\n[[route]]\npath = \"/**\"\n"));
    for (method, protocol, length) in [
        ("GET", "tcp", ""),
        ("POST", "SPDY/3.1", ""),
        ("POST", "tcp", "Content-Length: 0\r\n"),
        ("GET", "websocket", ""),
    ] {
        let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
        let head =
            format!("{method} /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{length}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"there").await.unwrap();
        let mut received = Vec::new();
        within("both words", async {
            while !received.ends_with(b"\r\n\r\nhello there") {
                assert!(stream.read_buf(&mut received).await.unwrap() > 0, "{}", String::from_utf8_lossy(&received));
            }
        })
        .await;
        let text = String::from_utf8_lossy(&received).to_ascii_lowercase();
        assert!(
            text.starts_with("http/1.1 101 ")
                && text.contains(&format!("upgrade: {}\r\n", protocol.to_ascii_lowercase())),
            "{text}"
        );
    }
    let old = "GET /x HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    assert_eq!(ask(sidecar.address, old.as_bytes(), false).await.unwrap().body, "plain");
    let body = "POST /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 1\r\n\r\na";
    assert!(ask(sidecar.address, body.as_bytes(), false).await.is_ok_and(|got| got.status == 200));
}

/// A coding of nothing is nothing, and one that is cut off is no state: the stream stays.
#[tokio::test(flavor = "multi_thread")]
async fn codings_that_browsers_shrug_at_do_not_end_a_stream() {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let answered = |status: &str, coding: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let state = std::sync::Arc::new(std::sync::Mutex::new(answered("200 OK", "gzip", &gzip("one"))));
    let backend = Raw::start({
        let state = std::sync::Arc::clone(&state);
        move |_| (state.lock().unwrap().clone(), Then::Goes)
    })
    .await;
    let sidecar = in_front_of(&backend);
    let mut events = Events::open(sidecar.address, "/watched", &[]).await;
    assert_eq!(events.snapshot().await.data, "one");
    let packed = gzip("a text that is long enough to be cut off somewhere");
    for (answer, expected) in [
        (answered("204 No Content", "gzip", b""), None),
        (answered("200 OK", "br", b""), Some("")),
        (answered("200 OK", "utf-8", b"two"), Some("two")),
        (answered("200 OK", "gzip", &[&gzip("three")[..], &[0; 512]].concat()), Some("three")),
        (answered("200 OK", "gzip", &packed[..20]), None),
        (answered("200 OK", "none", b"four"), Some("four")),
    ] {
        *state.lock().unwrap() = answer;
        if let Some(expected) = expected {
            let data = within("the news", async {
                loop {
                    let event = events.next().await.expect("the stream goes on");
                    assert_ne!(event.event.as_deref(), Some("end"), "{event:?}");
                    if event.event.is_none() && event.data == expected {
                        return event.data;
                    }
                }
            });
            assert_eq!(data.await, expected);
        } else {
            let before = backend.heads().len();
            eventually("fetches it", || backend.heads().len() > before + 3).await;
        }
    }
}

/// A request with a count of its own is made once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_digest_credentials_is_asked_for_once() {
    let backend =
        Raw::always("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\na", Then::Goes).await;
    let sidecar = Sidecar::with(&format!(
        "[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/d\"\nevery = \"1h\"\nevery_max = \"1h\"\n",
        backend.url()
    ));
    let digest = "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"/d\", qop=auth, nc=00000001, cnonce=\"c\", response=\"x\"";
    let mut events = Events::open(sidecar.address, "/d", &[("Authorization", digest)]).await;
    assert_eq!(events.snapshot().await.data, "a");
    assert_eq!(backend.heads().len(), 1);
}
