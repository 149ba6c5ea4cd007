//! Encoded bytes, ready for any wire.

use bytes::{BufMut, Bytes, BytesMut};

/// A piece of a stream's body, wrapped in HTTP/1.1 chunk framing (RFC 9112 section 7.1) once, when it is made. The wires
/// that frame otherwise take the middle; either way nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Wraps `payload`, which must not be empty: an empty chunk would end the body.
    pub fn new(payload: &[u8]) -> Self {
        debug_assert!(!payload.is_empty(), "an empty chunk ends the body");
        let mut bytes = BytesMut::with_capacity(payload.len() + 20);
        bytes.put_slice(format!("{:x}\r\n", payload.len()).as_bytes());
        bytes.put_slice(payload);
        bytes.put_slice(b"\r\n");
        Self(bytes.freeze())
    }

    /// Takes back what [`Frame::chunk`] gave.
    pub fn from_chunk(chunk: Bytes) -> Self {
        Self(chunk)
    }

    /// The frame as an HTTP/1.1 chunk.
    pub fn chunk(&self) -> Bytes {
        self.0.clone()
    }

    /// The frame without chunk framing.
    pub fn payload(&self) -> Bytes {
        let start = self.0.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.0.slice(start..self.0.len().saturating_sub(2).max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_and_unwraps() {
        let frame = Frame::new(b"data: \r\n\n");
        assert_eq!(frame.chunk(), "9\r\ndata: \r\n\n\r\n");
        assert_eq!(frame.payload(), "data: \r\n\n");
    }
}
