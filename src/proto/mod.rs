//! HTTP/1.x parsing without policy: message framing, and heads that all parsers read in the same way.
//!
//! ```text
//! the bytes of a response ─ find_end ─▶ its head ─ ResponseHead::read ─▶ the head that we go on with, and its Framing
//!                                                                             its body ─ Body::take ─▶ where it ends
//! ```

mod body;
mod chunks;
mod response;

pub use body::Body;
pub use chunks::ChunkedValidator;
pub use response::{Exchange, Framing, Malformed, ResponseHead};

/// Returns the end of a head: behind its first empty line, with either line ending. The first `from` bytes were
/// searched before.
pub fn find_end(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memchr::memchr(b'\n', &buffer[at..]) {
        at += found + 1;
        match &buffer[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::find_end;

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest", 0), Some(27));
        assert_eq!(find_end(b"GET / HTTP/1.1\nHost: x\n\nrest", 0), Some(24));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: x\r\n\r", 0), None);
    }
}
