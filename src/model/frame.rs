//! Encoded bytes, ready to be written to any connection.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// A piece of a stream's body, wrapped once in HTTP/1.1 chunk framing (RFC 9112 section 7.1). Protocols with other
/// framing use the payload inside; neither way copies it.
///
/// The first caller that needs the compressed form creates it, and all share it.
#[derive(Clone)]
pub struct Frame(Arc<Inner>);

struct Inner {
    chunk: Chunk,
    packed: OnceLock<CompressedFrame>,
}

/// A frame as a segment of a gzip stream (RFC 1952) that depends on no earlier data: it is compressed by itself and
/// flushed to a byte boundary. Segments can be concatenated in any order, so all streams share them, and a stream needs
/// only a running checksum instead of a compressor.
#[derive(Debug)]
pub struct CompressedFrame {
    /// The segment in chunk framing.
    pub frame: Chunk,
    /// The checksum and length of the uncompressed data.
    pub crc: Crc,
}

/// Bytes in chunk framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk(Bytes);

/// Below this size in bytes compression saves nothing; such pieces are stored uncompressed.
const WORTH_PACKING: usize = 256;

/// The compression level. Each piece is compressed once for all streams.
const LEVEL: Compression = Compression::new(6);

/// The maximum size of one stored block.
const STORED: usize = u16::MAX as usize;

impl Chunk {
    /// Wraps `payload`, which must not be empty: an empty chunk would end the body.
    pub fn new(payload: &[u8]) -> Self {
        debug_assert!(!payload.is_empty(), "an empty chunk ends the body");
        let mut bytes = BytesMut::with_capacity(payload.len() + 20);
        bytes.put_slice(format!("{:x}\r\n", payload.len()).as_bytes());
        bytes.put_slice(payload);
        bytes.put_slice(b"\r\n");
        Self(bytes.freeze())
    }

    /// Returns the bytes with chunk framing.
    pub fn framed(&self) -> &Bytes {
        &self.0
    }

    /// Returns the bytes without chunk framing.
    pub fn payload(&self) -> Bytes {
        let start = self.0.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.0.slice(start..self.0.len().saturating_sub(2).max(start))
    }
}

impl Frame {
    /// Wraps `payload`, which must not be empty.
    pub fn new(payload: &[u8]) -> Self {
        Self(Arc::new(Inner { chunk: Chunk::new(payload), packed: OnceLock::new() }))
    }

    /// Returns the frame uncompressed.
    pub fn chunk(&self) -> &Chunk {
        &self.0.chunk
    }

    /// Returns the payload of the frame.
    pub fn payload(&self) -> Bytes {
        self.chunk().payload()
    }

    /// Returns the compressed frame.
    pub fn packed(&self) -> &CompressedFrame {
        self.0.packed.get_or_init(|| {
            let payload = self.payload();
            let mut crc = Crc::new();
            crc.update(&payload);
            let packed = if payload.len() < WORTH_PACKING {
                store(&payload)
            } else {
                deflate(&payload).unwrap_or_else(|| store(&payload))
            };
            CompressedFrame { frame: Chunk::new(&packed), crc }
        })
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.chunk.0.len())
    }
}

/// Encodes `payload` as stored blocks (RFC 1951 section 3.2.4).
fn store(payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(payload.len() + 5);
    for block in payload.chunks(STORED) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        packed.push(0);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&(!length).to_le_bytes());
        packed.extend_from_slice(block);
    }
    packed
}

/// Compresses `payload` into blocks that an empty stored block ends on a byte boundary.
fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    let mut compress = Compress::new(LEVEL, false);
    let mut packed = Vec::with_capacity(payload.len() / 2 + 64);
    loop {
        let read = usize::try_from(compress.total_in()).ok()?;
        let room = packed.capacity() - packed.len();
        match compress.compress_vec(&payload[read..], &mut packed, FlushCompress::Sync) {
            Ok(Status::Ok | Status::BufError) => {}
            _ => return None,
        }
        // The output is complete once the compressor leaves room in the buffer.
        let all_in = compress.total_in() == payload.len() as u64;
        if all_in && packed.len() < packed.capacity() && room > 0 {
            return Some(packed);
        }
        packed.reserve(payload.len() / 2 + 64);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn wraps_and_unwraps() {
        let frame = Frame::new(b"data: \r\n\n");
        assert_eq!(frame.chunk().framed(), "9\r\ndata: \r\n\n\r\n");
        assert_eq!(frame.payload(), "data: \r\n\n");
    }

    #[test]
    fn packed_frames_can_be_strung_together() {
        let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let pieces: Vec<Vec<u8>> =
            vec![b"a".to_vec(), b"abc ".repeat(1000), noise, vec![b'x'; 70_000], vec![b'y'; WORTH_PACKING - 1]];
        let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let mut crc = Crc::new();
        let mut whole = Vec::new();
        for piece in pieces.iter().chain(pieces.iter().rev()) {
            let frame = Frame::new(piece);
            stream.extend_from_slice(&frame.packed().frame.payload());
            crc.combine(&frame.packed().crc);
            whole.extend_from_slice(piece);
        }
        stream.extend_from_slice(&[3, 0]);
        stream.extend_from_slice(&crc.sum().to_le_bytes());
        stream.extend_from_slice(&crc.amount().to_le_bytes());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&stream[..]).read_to_end(&mut unpacked).expect("a gzip stream");
        assert!(unpacked == whole);
        assert!(Frame::new(&b"abc ".repeat(1000)).packed().frame.payload().len() < 100);
    }
}
