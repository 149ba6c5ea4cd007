//! Strict validation of chunked bodies (RFC 9112 section 7.1).

use std::io;

/// Follows a chunked body as it arrives.
///
/// Servers differ in what they accept between the size of a chunk and its line end. A server that ends the line at a
/// bare line feed sees a different body than one that does not, so data for one is a request for the other. pingora
/// ignores the contents of an extension. This validator accepts only CRLF as a line end and rejects every byte that
/// could be mistaken for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkedValidator(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size of a chunk, after `digits` digits.
    Size { digits: u8, size: u64 },
    /// After the size.
    Extension { size: u64 },
    /// After the carriage return of a size line.
    SizeEnd { size: u64 },
    /// In a chunk with `left` bytes to come.
    Data { left: u64 },
    /// After a chunk; `returned` is set after its carriage return.
    DataEnd { returned: bool },
    /// At the beginning of a line after the last chunk.
    TrailerStart,
    /// In a trailer line; `returned` is set after its carriage return.
    Trailer { returned: bool },
    /// After the carriage return of the empty line.
    LastEnd,
    /// After the body.
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

/// The maximum number of hexadecimal digits in a size: as many as 64 bits need.
const MAX_DIGITS: u8 = 16;

impl ChunkedValidator {
    /// Processes the next bytes. Returns how many of them belong to the body.
    ///
    /// # Errors
    /// Returns `InvalidData` if this is not a chunked body, or if servers could read it in different ways.
    pub fn feed(&mut self, all: &[u8]) -> io::Result<usize> {
        let mut bytes = all;
        while let Some((byte, rest)) = bytes.split_first() {
            if let State::Data { left } = self.0 {
                let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                bytes = &bytes[taken..];
                self.0 = match left - taken as u64 {
                    0 => State::DataEnd { returned: false },
                    left => State::Data { left },
                };
                continue;
            }
            if self.0 == State::Done {
                break;
            }
            self.0 = self.0.after(*byte).ok_or(io::ErrorKind::InvalidData)?;
            bytes = rest;
        }
        Ok(all.len() - bytes.len())
    }

    /// Returns whether the whole body has been seen.
    pub fn is_over(&self) -> bool {
        self.0 == State::Done
    }
}

impl State {
    /// Returns the state after `byte`; `None` if the byte is not allowed here.
    fn after(self, byte: u8) -> Option<Self> {
        let visible = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        Some(match (self, byte) {
            (Self::Size { digits: 1.., size }, b'\r') => Self::SizeEnd { size },
            (Self::Size { digits: 1.., size }, b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Size { digits, size }, _) if digits < MAX_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
            }
            (Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size }, _) if visible => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataEnd { returned: false }, b'\r') => Self::DataEnd { returned: true },
            (Self::DataEnd { returned: true }, b'\n') => Self::default(),
            (Self::TrailerStart, b'\r') => Self::LastEnd,
            (Self::TrailerStart | Self::Trailer { returned: false }, _) if visible => Self::Trailer { returned: false },
            (Self::Trailer { returned: false }, b'\r') => Self::Trailer { returned: true },
            (Self::Trailer { returned: true }, b'\n') => Self::TrailerStart,
            (Self::LastEnd, b'\n') => Self::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether `body` is accepted and whether it ends, when fed at once; checks that feeding it byte by byte
    /// gives the same.
    fn followed(body: &str) -> (bool, bool) {
        let mut whole = ChunkedValidator::default();
        let good = whole.feed(body.as_bytes()).is_ok();
        let mut pieces = ChunkedValidator::default();
        let same = body.as_bytes().chunks(1).try_for_each(|byte| pieces.feed(byte).map(drop)).is_ok();
        assert_eq!((good, whole), (same, pieces), "{body:?}");
        (good, whole.0 == State::Done)
    }

    #[test]
    fn bodies_that_are_well_formed_end_where_they_do() {
        for body in [
            "0\r\n\r\n",
            "5\r\nab\ncd\r\n0\r\n\r\n",
            "5;a=b;c=\"d e\"\r\nabcde\r\n0;x\r\n\r\n",
            "a \r\n0123456789\r\n00\r\nX: y\r\nZ:\r\n\r\n",
            "0\r\n\r\nGET / HTTP/1.1\nwhatever follows",
        ] {
            assert_eq!(followed(body), (true, true), "{body:?}");
        }
        for unfinished in ["", "5", "5\r\nab", "5\r\nabcde\r\n", "0\r\n", "0\r\nX: y\r\n"] {
            assert_eq!(followed(unfinished), (true, false), "{unfinished:?}");
        }
    }

    #[test]
    fn nothing_but_a_line_end_ends_a_line() {
        for body in [
            "5;a\nabcde\r\n0\r\n\r\n",
            "5;\nX\r\nabcde\r\n",
            "5\nabcde\r\n",
            "5;a\rb\r\n",
            "5;\0\r\n",
            "5\r\nabcde\n0\r\n\r\n",
            "5\r\nabcdeXX0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "00000000000000001\r\n",
        ] {
            assert!(!followed(body).0, "{body:?}");
        }
    }
}
