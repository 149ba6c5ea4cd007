//! Where a message is, while its body passes.

use std::io;

use super::{ChunkedValidator, Framing};

/// What of a body is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; none if it is over.
    Length(u64),
    /// Chunks.
    Chunked(ChunkedValidator),
    /// Whatever comes until the connection ends.
    UntilClose,
}

impl Body {
    /// A body that has not begun.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkedValidator::default()),
            Framing::UntilClose | Framing::Switched => Self::UntilClose,
        }
    }

    /// Takes in what comes next. Returns how much of it belongs to the body.
    ///
    /// # Errors
    /// `InvalidData` if its chunks are malformed.
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

    /// Whether nothing of it is to come.
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
