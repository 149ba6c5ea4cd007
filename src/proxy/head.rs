//! Reads the head of an HTTP/1.x request, under one deadline for all of it.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::header::HOST;
use http::{Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;

use crate::clock::{self, Alarm};

/// What was read.
pub(super) enum Head {
    /// The client closed the connection, or was silent for too long.
    Closed,
    /// It began a request and did not finish it in time.
    Late,
    /// A request that we may judge ourselves; its head is the first `length` bytes of the buffer.
    Ours {
        /// What it says.
        request: Box<RequestHeader>,
        /// Where its head ends.
        length: usize,
    },
    /// Anything else: pingora judges it, and refuses what is malformed.
    Foreign,
}

/// More header lines than any request that we answer ourselves has; pingora allows up to 256.
const MOST_HEADERS: usize = 128;

/// pingora's own limit.
const MOST_BYTES: usize = 1 << 20;

/// Reads into `buffer` until it holds a whole head. `idle` is how long the first byte may take, `patience` the rest.
pub(super) async fn read_head(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    alarm: &mut Alarm,
    idle: Duration,
    patience: Duration,
) -> Head {
    if buffer.is_empty() {
        buffer.reserve(1024);
        let idle = clock::now() + idle;
        let read = tokio::select! {
            biased;
            read = stream.read_buf(buffer) => read,
            () = alarm.at(idle) => return Head::Closed,
        };
        if !matches!(read, Ok(1..)) {
            return Head::Closed;
        }
    }
    let late = clock::now() + patience;
    let mut searched = 0;
    let length = loop {
        if let Some(end) = find_end(buffer, searched) {
            break end;
        }
        if buffer.len() > MOST_BYTES {
            return Head::Foreign;
        }
        searched = buffer.len().saturating_sub(3);
        let read = tokio::select! {
            biased;
            read = stream.read_buf(buffer) => read,
            () = alarm.at(late) => return Head::Late,
        };
        if !matches!(read, Ok(1..)) {
            return Head::Closed;
        }
    };
    parse(&buffer[..length], Names::Lower).map_or(Head::Foreign, |request| Head::Ours { request, length })
}

/// What is kept of the names of header fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// What they mean.
    Lower,
    /// How they were written, too, in a table of its own: only of interest to whoever sends them on.
    AsWritten,
}

/// The request of a head that [`read_head`] found to be ours, with the names of its fields as they were written.
pub(super) fn as_written(head: &[u8]) -> Option<Box<RequestHeader>> {
    parse(head, Names::AsWritten)
}

/// The head of an answer as it is sent to a client, the empty line behind it included.
pub(super) fn answer_head(answer: &ResponseHeader) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    for piece in ["HTTP/1.1 ", answer.status.as_str(), " ", answer.get_reason_phrase().unwrap_or_default(), "\r\n"] {
        head.put_slice(piece.as_bytes());
    }
    answer.header_to_h1_wire(&mut head);
    head.put_slice(b"\r\n");
    head
}

/// Where the head ends: behind its first empty line, however that line ends.
pub(super) fn find_end(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = buffer[at..].iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match &buffer[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Parses a head that is well formed beyond doubt: CRLF line ends, one `Host`, a target in origin form. Values may hold bytes
/// beyond ASCII, as cookies of old applications do.
fn parse(head: &[u8], names: Names) -> Option<Box<RequestHeader>> {
    let bare_line_feed = head.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'));
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if bare_line_feed || !line.is_ascii() {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    if !parsed.parse(head).ok()?.is_complete() {
        return None;
    }
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
            "GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
        ] {
            assert!(!accepted(head), "{head:?}");
        }
    }

    #[test]
    fn names_are_kept_as_they_were_written_for_whoever_sends_them_on() {
        let head = b"GET / HTTP/1.1\r\nhOsT: x\r\nX-Two: 2\r\n\r\n";
        let mut wire = Vec::new();
        as_written(head).expect("a head").header_to_h1_wire(&mut wire);
        assert_eq!(wire, b"hOsT: x\r\nX-Two: 2\r\n");
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest", 0), Some(27));
        assert_eq!(find_end(b"GET / HTTP/1.1\nHost: x\n\nrest", 0), Some(24));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: x\r\n\r", 0), None);
    }
}
