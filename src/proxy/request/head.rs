//! Reads the head of an HTTP/1.x request under one deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;

use crate::clock::{self, LazyTimer};
use crate::model::share::OF_NETWORK;
use crate::model::{AddressBucket, Owner, Ration, Taken};
use crate::proto::find_end;
use crate::proxy::passthrough::buffered_stream::Handed;

/// The result of reading a head.
pub(in crate::proxy) enum ReadHead {
    /// The client closed the connection, or was idle for too long.
    Closed,
    /// The head was not complete in time.
    TimedOut,
    /// The head is large, and the memory for large heads is used up.
    Crowded,
    /// A parsed request. Its head is the first `length` bytes of the buffer.
    Parsed {
        /// The parsed head.
        request: Box<RequestHeader>,
        /// The length of the head in bytes.
        length: usize,
    },
    /// Any other request: pingora parses it, and refuses malformed ones.
    Deferred,
}

/// The number of header lines that fit without a second allocation; nearly all requests have fewer.
const MANY_HEADERS: usize = 128;

/// The maximum number of header lines.
const MAX_HEADERS: usize = 1000;

/// The maximum size of a head: pingora's own limit.
const MAX_BYTES: usize = 1 << 20;

/// The size up to which a head does not count as large: the limit of most servers.
const FREE: usize = 16 << 10;

/// The step in which the accounted memory grows.
const STEP: usize = 64 << 10;

/// The maximum memory for all large heads, in bytes.
const MAX_OF_ALL: u64 = 64 << 20;

/// The memory for large heads of requests that are being read or answered.
#[derive(Debug)]
pub struct Heads(Arc<Ration>);

impl Default for Heads {
    fn default() -> Self {
        Self(Arc::new(Ration::new(MAX_OF_ALL, (OF_NETWORK, OF_NETWORK))))
    }
}

impl Heads {
    /// Returns an empty part of the memory for requests of `network`.
    pub(in crate::proxy) fn of(&self, network: Option<AddressBucket>) -> Taken {
        Taken::nothing(Arc::clone(&self.0), Owner { network, client: 0 })
    }
}

/// Reads into `buffer` until it contains a complete head. `idle` is the timeout for the first byte, `patience` for the
/// rest. A large head takes its memory from `taken`.
pub(in crate::proxy) async fn read_head(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    taken: &mut Taken,
    alarm: &mut LazyTimer,
    idle: Duration,
    patience: Duration,
) -> ReadHead {
    if buffer.is_empty() {
        buffer.reserve(1024);
        let idle = clock::now() + idle;
        let read = tokio::select! {
            biased;
            read = stream.read_buf(buffer) => read,
            () = alarm.at(idle) => return ReadHead::Closed,
        };
        if !matches!(read, Ok(1..)) {
            return ReadHead::Closed;
        }
    }
    let late = clock::now() + patience;
    let mut searched = 0;
    let length = loop {
        if let Some(end) = find_end(buffer, searched) {
            break end;
        }
        if buffer.len() > MAX_BYTES {
            return ReadHead::Deferred;
        }
        if buffer.len() as u64 > FREE as u64 + taken.amount() && !taken.grow(STEP as u64) {
            return ReadHead::Crowded;
        }
        searched = buffer.len().saturating_sub(3);
        let read = tokio::select! {
            biased;
            read = stream.read_buf(buffer) => read,
            () = alarm.at(late) => return ReadHead::TimedOut,
        };
        if !matches!(read, Ok(1..)) {
            return ReadHead::Closed;
        }
    };
    parse(&buffer[..length], Names::Lower).map_or(ReadHead::Deferred, |request| ReadHead::Parsed { request, length })
}

/// Which form of header names is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The canonical form.
    Lower,
    /// Also the original spelling, in a separate table, for forwarding.
    AsWritten,
}

/// The target as the client wrote it, if it contains bytes that [`http::Uri`] does not accept. Inside this server these
/// bytes are percent-encoded; the backend receives the original target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct RawTarget(pub(in crate::proxy) Bytes);

/// Returns the original target of `request`, if it differs from the normalised one.
pub(in crate::proxy) fn raw_target(request: &RequestHeader) -> Option<Bytes> {
    request.extensions.get::<RawTarget>().map(|raw| raw.0.clone())
}

/// Returns whether the client should have percent-encoded `byte` (RFC 3986 section 2), which old clients do not do.
fn is_careless(byte: u8) -> bool {
    byte >= 0x80 || b"\"<>`".contains(&byte)
}

/// Returns the head with a percent-encoded target, and the original target; `None` if the target needs no encoding.
pub(in crate::proxy) fn with_clean_target(head: &[u8]) -> Option<(Vec<u8>, Bytes)> {
    let line = &head[..memchr::memchr(b'\n', head)?];
    let begin = memchr::memchr(b' ', line)? + 1;
    let end = memchr::memrchr(b' ', line).filter(|end| *end > begin)?;
    let target = &head[begin..end];
    if !target.iter().copied().any(is_careless) {
        return None;
    }
    let mut clean = Vec::with_capacity(head.len() + 64);
    clean.extend_from_slice(&head[..begin]);
    for byte in target {
        if is_careless(*byte) {
            clean.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            clean.push(*byte);
        }
    }
    clean.extend_from_slice(&head[end..]);
    Some((clean, Bytes::copy_from_slice(target)))
}

/// Parses a head that [`read_head`] accepted, preserving the spelling of field names.
pub(in crate::proxy) fn parse_preserving_case(head: &[u8]) -> Option<Box<RequestHeader>> {
    parse(head, Names::AsWritten)
}

/// The maximum number of fields that pingora accepts.
const MAX_FOR_PINGORA: usize = 256;

/// The fields that pingora needs to interpret a request.
const FOR_PINGORA: [HeaderName; 6] = [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE];

/// Returns a head of `request`, written as `raw`, that pingora accepts, and the parts that it does not contain.
pub(in crate::proxy) fn head_for_pingora(request: &RequestHeader, raw: BytesMut) -> (BytesMut, Handed) {
    let mut handed = Handed::new(raw_target(request));
    let many = request.headers.len() > MAX_FOR_PINGORA;
    if !many && handed.target.is_none() {
        return (raw, handed);
    }
    let Some(written) = parse_preserving_case(&raw) else { return (raw, handed) };
    let mut head = BytesMut::with_capacity(raw.len());
    let version = if request.version == Version::HTTP_10 { " HTTP/1.0\r\n" } else { " HTTP/1.1\r\n" };
    for piece in [request.method.as_str().as_bytes(), b" ", request.raw_path(), version.as_bytes()] {
        head.put_slice(piece);
    }
    let fields = handed.fields.get_mut();
    for (name, value) in written.case_header_iter() {
        if many && !FOR_PINGORA.iter().any(|known| name.as_slice().eq_ignore_ascii_case(known.as_str().as_bytes())) {
            fields.push((String::from_utf8_lossy(name.as_slice()).into_owned(), value.clone()));
            continue;
        }
        for piece in [name.as_slice(), b": ", value.as_bytes(), b"\r\n"] {
            head.put_slice(piece);
        }
    }
    head.put_slice(b"\r\n");
    (head, handed)
}

/// Returns the head of a response for a client, including the final empty line.
pub(in crate::proxy) fn answer_head(answer: &ResponseHeader) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    for piece in ["HTTP/1.1 ", answer.status.as_str(), " ", answer.get_reason_phrase().unwrap_or_default(), "\r\n"] {
        head.put_slice(piece.as_bytes());
    }
    answer.header_to_h1_wire(&mut head);
    head.put_slice(b"\r\n");
    head
}

/// Parses a head that is certainly well-formed: CRLF line ends, one `Host`, a target in origin form. Values may contain
/// non-ASCII bytes, as in cookies of old applications.
fn parse(head: &[u8], names: Names) -> Option<Box<RequestHeader>> {
    let bare_line_feed = head.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'));
    if bare_line_feed {
        return None;
    }
    if let Some((clean, target)) = with_clean_target(head) {
        let mut request = parse_clean(&clean, names)?;
        request.extensions_mut().insert(RawTarget(target));
        return Some(request);
    }
    parse_clean(head, names)
}

fn parse_clean(head: &[u8], names: Names) -> Option<Box<RequestHeader>> {
    let mut headers = [httparse::EMPTY_HEADER; MANY_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut headers = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Request::new(&mut headers);
            parsed.parse(head).ok().filter(httparse::Status::is_complete)?;
            built(&parsed, names)
        }
        read => read.ok().filter(httparse::Status::is_complete).and_then(|_| built(&parsed, names)),
    }
}

fn built(parsed: &httparse::Request<'_, '_>, names: Names) -> Option<Box<RequestHeader>> {
    let version = match parsed.version? {
        1 => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    let target = parsed.path?;
    if !target.starts_with('/') {
        return None;
    }
    let (target, size) = (target.as_bytes(), Some(parsed.headers.len()));
    let request = match names {
        Names::Lower => RequestHeader::build_no_case(method, target, size),
        Names::AsWritten => RequestHeader::build(method, target, size),
    };
    let mut request = request.ok()?;
    request.set_version(version);
    for header in parsed.headers.iter() {
        request.append_header(header.name.to_owned(), header.value).ok()?;
    }
    (request.headers.get_all(HOST).iter().count() == 1).then(|| Box::new(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(head: &str) -> bool {
        parse(head.as_bytes(), Names::Lower).is_some()
    }

    #[test]
    fn only_what_is_well_formed_beyond_doubt_is_ours() {
        assert!(accepted("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(accepted("GET /a?b HTTP/1.1\r\nHost: x\r\nCookie: n=J\u{fc}\r\n\r\n"));
        for head in [
            "GET /a HTTP/1.1\nHost: x\n\n",
            "GET /a HTTP/1.1\r\nHost: x\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            "GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
            "GET  /a HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
        ] {
            assert!(!accepted(head), "{head:?}");
        }
    }

    #[test]
    fn what_a_target_should_have_encoded_is_known_both_ways() {
        for (target, clean) in [
            ("/a?q=\"b\"", "/a?q=%22b%22"),
            ("/<a>?<b>", "/%3Ca%3E?%3Cb%3E"),
            ("/\u{fc}", "/%C3%BC"),
            ("/`a`", "/%60a%60"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let request = parse(head.as_bytes(), Names::Lower).expect(target);
            assert_eq!(request.raw_path(), clean.as_bytes());
            assert_eq!(request.extensions.get::<RawTarget>().map(|raw| &raw.0[..]), Some(target.as_bytes()));
        }
        let request = parse(b"GET /a?{b}|c%22 HTTP/1.1\r\nHost: x\r\n\r\n", Names::Lower).expect("a head");
        assert_eq!((request.raw_path(), request.extensions.get::<RawTarget>()), (&b"/a?{b}|c%22"[..], None));
    }

    #[test]
    fn many_lines_are_read_and_too_many_are_not() {
        let head = |count: usize| {
            let lines: String = (0..count).map(|at| format!("X-{at}: {at}\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
        };
        for count in [127, 128, 300, 999] {
            let request = parse(head(count).as_bytes(), Names::AsWritten).expect("a head");
            assert_eq!(request.headers.len(), count + 1);
        }
        assert!(!accepted(&head(1000)));
    }

    #[test]
    fn names_are_kept_as_they_were_written_for_whoever_sends_them_on() {
        let head = b"GET / HTTP/1.1\r\nhOsT: x\r\nX-Two: 2\r\n\r\n";
        let mut wire = Vec::new();
        parse_preserving_case(head).expect("a head").header_to_h1_wire(&mut wire);
        assert_eq!(wire, b"hOsT: x\r\nX-Two: 2\r\n");
    }
}
