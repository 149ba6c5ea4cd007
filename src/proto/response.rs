//! Parses the head of a response and determines the framing of its body, for every path that responses take.
//!
//! The parser is strict where two parsers could split a message differently, so that one of them sees a second response
//! in it (RFC 9112 sections 6.1 and 6.3), and lenient where a server is merely careless. The forwarded head is
//! unambiguous: HTTP/1.1, one line per field, one framing.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

/// The facts besides the head that determine the framing of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The request was a HEAD, so there is no body, whatever the head says.
    pub is_head: bool,
    /// The request asked for another protocol.
    pub upgrade: bool,
    /// The connection closes after this response, whatever the response says.
    pub last: bool,
}

/// How the end of a response body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// At the end of the connection.
    UntilClose,
    /// Another protocol follows.
    Switched,
}

/// A parsed response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The framing of the body.
    pub framing: Framing,
    /// Whether the connection can be reused after the response.
    pub persistent: bool,
    /// The head to forward, including the empty line, in unambiguous form.
    pub text: BytesMut,
}

/// The reason why a response cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with a status line.
    #[error("the answer is not HTTP")]
    StatusLine,
    /// A line that may determine the framing cannot be parsed.
    #[error("a line of the answer's head tells of its length and is malformed")]
    Field,
    /// Its `Content-Length` values differ or are invalid.
    #[error("the answer gives no single Content-Length")]
    Length,
    /// It has a transfer coding that was not requested or whose end is unknown.
    #[error("the answer is in a transfer coding that nobody asked for")]
    Coding,
    /// It switches protocols without a request to do so.
    #[error("the answer switches protocols, which was not asked for")]
    Switched,
}

/// A field: its name as written, and its unfolded value.
type Field<'a> = (&'a [u8], Cow<'a, [u8]>);

impl ResponseHead {
    /// Parses `head`, which ends where [`super::find_end`] says.
    ///
    /// # Errors
    /// Returns [`Malformed`] if the head is ambiguous.
    pub fn read(head: &[u8], exchange: &Exchange) -> Result<Self, Malformed> {
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let (minor, status, reason) = status_line(lines.next().unwrap_or_default()).ok_or(Malformed::StatusLine)?;
        let fields = fields(lines)?;
        let lines =
            |name: &'static str| fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name.as_bytes()));
        let (coded, clean_coding) = coding(lines("transfer-encoding").map(|field| &*field.1))?;
        let interim = (100..200).contains(&status);
        if status == 101 && !exchange.upgrade {
            return Err(Malformed::Switched);
        }
        // RFC 9112 section 6.3: responses without a body by definition come first, then the transfer coding, then the
        // length.
        let bodiless = exchange.is_head || interim || matches!(status, 204 | 304);
        let length = match length(lines("content-length").map(|field| &*field.1)) {
            Ok(length) => length,
            Err(_) if bodiless || coded => None,
            Err(malformed) => return Err(malformed),
        };
        let framing = match length {
            _ if status == 101 => Framing::Switched,
            _ if bodiless => Framing::Empty,
            _ if coded => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        let named = |token: &str| {
            let lines = lines("connection").flat_map(|field| field.1.split(|byte| *byte == b','));
            lines.map(<[u8]>::trim_ascii).any(|named| named.eq_ignore_ascii_case(token.as_bytes()))
        };
        let lengths = lines("content-length").count();
        // RFC 9112 section 6.1: a server that sends both, or chunks in HTTP/1.0, may mean something else than we
        // understand.
        let dubious = coded && !bodiless && (lengths > 0 || minor == 0 || !clean_coding)
            || lengths > 0 && length.is_none() && !coded
            || status == 204 && (coded || lengths > 0);
        let persistent = !exchange.last
            && !dubious
            && !matches!(framing, Framing::UntilClose | Framing::Switched)
            && !named("close")
            && (minor > 0 || named("keep-alive"));
        let length = length.filter(|_| !interim && status != 204 && !coded);
        let text = written(status, &reason, &fields, length, framing, persistent || interim);
        Ok(Self { status, framing, persistent, text })
    }

    /// Returns whether another head follows (RFC 9110 section 15.2).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.framing != Framing::Switched
    }
}

/// Parses a status line (RFC 9112 section 4) into minor version, status and reason.
fn status_line(line: &[u8]) -> Option<(u8, u16, Cow<'_, [u8]>)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first().filter(|(minor, _)| minor.is_ascii_digit())?;
    let rest = rest.strip_prefix(b" ")?.trim_ascii_start();
    let (status, reason) = rest.split_at_checked(3)?;
    let status = std::str::from_utf8(status).ok().filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))?;
    let status = status.parse().ok().filter(|status| *status >= 100)?;
    let named = reason.is_empty() || reason.starts_with(b" ");
    named.then(|| (minor - b'0', status, plain(reason.trim_ascii())))
}

/// Parses the fields of a head. Folded lines are joined. An invalid line is skipped, as browsers do, unless it may have
/// been meant to determine the framing.
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Field<'a>>, Malformed> {
    let mut fields: Vec<Field<'a>> = Vec::with_capacity(24);
    for line in lines.take_while(|line| !line.is_empty()) {
        if matches!(line[0], b' ' | b'\t')
            && let Some((_, value)) = fields.last_mut()
        {
            let value = value.to_mut();
            value.push(b' ');
            value.extend_from_slice(&plain(line.trim_ascii()));
            continue;
        }
        let colon = memchr::memchr(b':', line);
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let name = name.trim_ascii_end();
        if colon.is_some() && !name.is_empty() && name.iter().copied().all(is_of_token) {
            fields.push((name, plain(value[1..].trim_ascii())));
        } else if tells_length(line) {
            return Err(Malformed::Field);
        }
    }
    for (_, value) in &mut fields {
        if let Cow::Owned(folded) = value {
            *folded = folded.trim_ascii().to_vec();
        }
    }
    Ok(fields)
}

/// Returns the value with each control character replaced by a space (RFC 9110 section 5.5).
fn plain(value: &[u8]) -> Cow<'_, [u8]> {
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    if !value.iter().copied().any(is_control) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.iter().map(|byte| if is_control(*byte) { b' ' } else { *byte }).collect())
}

/// Returns whether `byte` is allowed in a field name (RFC 9110 section 5.6.2).
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn tells_length(line: &[u8]) -> bool {
    let line = line.to_ascii_lowercase();
    ["content-length", "transfer-encoding"].iter().any(|name| memchr::memmem::find(&line, name.as_bytes()).is_some())
}

/// Returns whether the body is chunked, and whether the header says so cleanly. `identity` and an empty value are no
/// coding. Some servers send `chunked` in two lines and apply it once; twice in one line would mean that it was applied
/// twice.
fn coding<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<(bool, bool), Malformed> {
    let mut said = 0;
    let mut clean = true;
    for line in lines {
        let codings = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
        let mut chunked = false;
        for coding in codings {
            match coding {
                // No coding may follow `chunked`, whatever its name.
                _ if chunked => return Err(Malformed::Coding),
                _ if coding.eq_ignore_ascii_case(b"chunked") => chunked = true,
                _ if coding.eq_ignore_ascii_case(b"identity") && said == 0 => clean = false,
                _ => return Err(Malformed::Coding),
            }
        }
        if !chunked && said > 0 && !line.is_empty() {
            return Err(Malformed::Coding);
        }
        said += usize::from(chunked);
    }
    Ok((said > 0, clean && said < 2))
}

/// Returns the length on which all lines agree. An empty line does not count.
fn length<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for line in lines.filter(|line| !line.is_empty()) {
        for given in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = std::str::from_utf8(given).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let given = digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(Malformed::Length)?;
            if length.is_some_and(|length| length != given) {
                return Err(Malformed::Length);
            }
            length = Some(given);
        }
    }
    Ok(length)
}

/// Writes the head to forward: our version (RFC 9112 section 2.3) and exactly one framing.
fn written(
    status: u16,
    reason: &[u8],
    fields: &[Field<'_>],
    mut length: Option<u64>,
    framing: Framing,
    persistent: bool,
) -> BytesMut {
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut text = BytesMut::with_capacity(size + reason.len() + 80);
    text.put_slice(format!("HTTP/1.1 {status} ").as_bytes());
    text.put_slice(reason);
    text.put_slice(b"\r\n");
    if !persistent && framing != Framing::Switched {
        // This line comes first, because some clients read only the first `Connection` header.
        text.put_slice(b"Connection: close\r\n");
    }
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            continue;
        }
        text.put_slice(if name.eq_ignore_ascii_case(b"content-length") {
            let Some(length) = length.take() else { continue };
            text.put_slice(name);
            text.put_slice(format!(": {length}\r\n").as_bytes());
            continue;
        } else {
            name
        });
        text.put_slice(b": ");
        text.put_slice(value);
        text.put_slice(b"\r\n");
    }
    if framing == Framing::Chunked {
        text.put_slice(b"Transfer-Encoding: chunked\r\n");
    }
    text.put_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<ResponseHead, Malformed> {
        ResponseHead::read(head.as_bytes(), &Exchange::default())
    }

    fn framed(version: &str, fields: &str) -> Result<(Framing, bool), Malformed> {
        read(&format!("{version} 200 OK\r\n{fields}\r\n")).map(|head| (head.framing, head.persistent))
    }

    /// Tests the known responses of real servers, and responses that hide another one.
    #[test]
    fn an_answer_ends_in_one_place_or_is_refused() {
        let (chunked, until_close) = (Framing::Chunked, Framing::UntilClose);
        let five = Framing::Length(5);
        for (fields, expected) in [
            ("Content-Length: 5\r\n", Ok((five, true))),
            ("Content-Length : 5\r\n", Ok((five, true))),
            ("Content-Length:\r\n 5\r\n", Ok((five, true))),
            ("Content-Length: 5\r\ncontent-length: 5\r\n", Ok((five, true))),
            ("Content-Length: 5, 5\r\n", Ok((five, true))),
            ("Content-Length: 005\r\n", Ok((five, true))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Malformed::Length)),
            ("Content-Length: 5, 6\r\n", Err(Malformed::Length)),
            ("Content-Length: +5\r\n", Err(Malformed::Length)),
            ("Content-Length: -5\r\n", Err(Malformed::Length)),
            ("Content-Length: 0x5\r\n", Err(Malformed::Length)),
            ("Content-Length: 5 5\r\n", Err(Malformed::Length)),
            ("Content-Length: 5,\r\n", Err(Malformed::Length)),
            ("Content-Length: 18446744073709551616\r\n", Err(Malformed::Length)),
            ("Content-Length 5\r\n", Err(Malformed::Field)),
            ("Content\x0bLength: 5\r\n", Ok((until_close, false))),
            ("X: y\x0bContent-Length: 5\r\n", Ok((until_close, false))),
            ("Transfer-Encoding\x0b: chunked\r\n", Err(Malformed::Field)),
            (" Transfer-Encoding: chunked\r\n", Err(Malformed::Field)),
            ("Content-Length:\r\n", Ok((until_close, false))),
            ("", Ok((until_close, false))),
            ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", Ok((five, true))),
            ("Transfer-Encoding:\r\nContent-Length: 5\r\n", Ok((five, true))),
            ("Transfer-Encoding: identity\r\n", Ok((until_close, false))),
            ("Transfer-Encoding: chunked\r\n", Ok((chunked, true))),
            ("Transfer-Encoding: Chunked \r\n", Ok((chunked, true))),
            ("Transfer-Encoding:\r\n chunked\r\n", Ok((chunked, true))),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Ok((chunked, false))),
            ("Transfer-Encoding: identity, chunked\r\n", Ok((chunked, false))),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Ok((chunked, false))),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n", Ok((chunked, false))),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: chunked, identity\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: gzip\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: xchunked\r\n", Err(Malformed::Coding)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(Malformed::Coding)),
            ("Connection: close\r\nContent-Length: 5\r\n", Ok((five, false))),
            ("Connection: X-Hop\r\nConnection: Close\r\nContent-Length: 5\r\n", Ok((five, false))),
        ] {
            assert_eq!(framed("HTTP/1.1", fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_version_decides_about_the_connection_alone() {
        let five = Framing::Length(5);
        for (fields, expected) in [
            ("Content-Length: 5\r\n", (five, false)),
            ("Connection: keep-alive\r\nContent-Length: 5\r\n", (five, true)),
            ("Connection: keep-alive\r\n", (Framing::UntilClose, false)),
            ("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", (Framing::Chunked, false)),
        ] {
            assert_eq!(framed("HTTP/1.0", fields), Ok(expected), "{fields:?}");
        }
        assert!(read("HTTP/1.0 200 OK\r\n\r\n").expect("a head").text.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn what_has_no_body_by_definition_has_none() {
        let head = Exchange { is_head: true, ..Exchange::default() };
        for (status, exchange, length) in
            [(200, head, true), (304, Exchange::default(), true), (204, Exchange::default(), false)]
        {
            for (fields, kept, again) in [
                ("Content-Length: 5\r\n", length, status != 204),
                ("Content-Length: 5\r\nContent-Length: 6\r\n", false, false),
                ("Transfer-Encoding: chunked\r\n", false, status != 204),
                ("Content-Encoding: gzip\r\n", false, true),
            ] {
                let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
                let read = ResponseHead::read(text.as_bytes(), &exchange).expect("a head");
                assert_eq!((read.framing, read.persistent), (Framing::Empty, again), "{text}");
                let told = String::from_utf8_lossy(&read.text).contains("Content-Length: 5\r\n");
                assert_eq!(told, kept, "{text}");
                assert!(!String::from_utf8_lossy(&read.text).contains("Transfer-Encoding"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_careless_becomes_what_is_meant() {
        let head = read(
            "HTTP/1.1  200  Very\x01well\r\n ignored\r\nX-Folded: a\r\n\tb\nX-Bare : c\x01d\x7f\r\nno field\r\nX Y: z\r\nX-Empty:\r\n\
             X-Byte: \u{fc}\r\n\r\n",
        );
        let text = "HTTP/1.1 200 Very well\r\nConnection: close\r\nX-Folded: a b\r\nX-Bare: c d\r\nX-Empty: \r\n\
                    X-Byte: \u{fc}\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&head.expect("a head").text), text);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for line in
            ["", "SSH-2.0-OpenSSH", "HTTP/2 200 OK", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000 OK", "HTTP/1.1 099 X"]
        {
            assert_eq!(read(&format!("{line}\r\n\r\n")), Err(Malformed::StatusLine), "{line}");
        }
        let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        assert_eq!(read(switched), Err(Malformed::Switched));
        let upgrade = Exchange { upgrade: true, ..Exchange::default() };
        let head = ResponseHead::read(switched.as_bytes(), &upgrade).expect("a head");
        assert_eq!((head.framing, head.persistent, head.is_interim()), (Framing::Switched, false, false));
        assert_eq!(&head.text[..], switched.as_bytes());
        assert!(read("HTTP/1.1 103 Early Hints\r\n\r\n").expect("a head").is_interim());
    }
}
