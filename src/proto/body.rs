//! Tracks the end of a message body as its bytes pass.

use std::io;

use super::{ChunkedValidator, Framing};

/// The part of a body that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes; zero at the end of the body.
    Length(u64),
    /// Chunks, validated as they arrive.
    Chunked(ChunkedValidator),
    /// Everything until the connection closes.
    UntilClose,
}

impl Body {
    /// Creates the state of a body that has not begun.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkedValidator::default()),
            Framing::UntilClose | Framing::Switched => Self::UntilClose,
        }
    }

    /// Processes the next bytes. Returns how many of them belong to the body.
    ///
    /// # Errors
    /// Returns `InvalidData` if the chunks are malformed.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.feed(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    /// Returns whether the body is complete.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::UntilClose => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_its_framing_says() {
        for (framing, bytes, taken, over) in [
            (Framing::Empty, "HTTP", 0, true),
            (Framing::Length(2), "abc", 2, true),
            (Framing::Length(4), "abc", 3, false),
            (Framing::Chunked, "1\r\na\r\n0\r\n\r\nHTTP", 11, true),
            (Framing::Chunked, "1\r\na\r\n0\r\n", 9, false),
            (Framing::UntilClose, "abc", 3, false),
        ] {
            let mut body = Body::new(framing);
            assert_eq!(body.take(bytes.as_bytes()).ok(), Some(taken), "{framing:?}");
            assert_eq!(body.is_over(), over, "{framing:?}");
        }
    }
}
