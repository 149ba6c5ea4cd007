//! Decodes the content coding of a body with bounded memory.
//!
//! Errors that browsers tolerate are tolerated here too: an unknown coding, a coding of an empty body, and data after
//! the end of the coded body. A truncated body counts as not read, because it may be complete the next time.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use crate::model::fields;
use crate::resource::Decline;

/// The reason why a body cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecoded {
    /// The coding is unknown or damaged, or the body is too large. A retry would not help.
    #[error("{0}")]
    Declined(Decline),
    /// The coded data is damaged at its end, or ends too early.
    #[error("the body ends inside its content coding")]
    Truncated,
}

/// A streaming decoder.
pub struct Decoder {
    coding: Coding,
    limit: u64,
    /// Whether any data has arrived.
    begun: bool,
    /// Whether the end of the coded data has arrived. Data after it is ignored.
    ended: bool,
}

enum Coding {
    Identity(BoundedBuffer),
    /// An unregistered name. Most servers that send one apply no coding, but the first bytes may show otherwise.
    Unknown(String, Vec<u8>, BoundedBuffer),
    Gzip(Box<GzDecoder<BoundedBuffer>>),
    /// `deflate` means the zlib format (RFC 9110 section 8.4.1.2), but some servers send raw deflate data; the first
    /// two bytes tell which.
    Deflate(Vec<u8>, BoundedBuffer),
    Zlib(Box<ZlibDecoder<BoundedBuffer>>),
    RawDeflate(Box<DeflateDecoder<BoundedBuffer>>),
    Brotli(Box<brotli::DecompressorWriter<BoundedBuffer>>),
    Zstd(Box<Zstd>, BoundedBuffer),
}

/// Collects output up to a limit and then fails, so that a decompression bomb costs no more memory than the limit.
struct BoundedBuffer {
    body: Vec<u8>,
    limit: u64,
}

impl BoundedBuffer {
    fn new(limit: u64) -> Self {
        Self { body: Vec::new(), limit }
    }

    /// Moves the collected output to a decoder that continues collecting.
    fn moved(&mut self) -> Self {
        Self { body: std::mem::take(&mut self.body), limit: self.limit }
    }
}

impl Write for BoundedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.body.len() as u64 + bytes.len() as u64 > self.limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const BROTLI_BUFFER: usize = 4096;

/// The maximum window of Zstandard in HTTP, as a power of two (RFC 9659). It bounds the decoder's memory.
const ZSTD_WINDOW: u32 = 23;

/// The first byte of a brotli stream with a large window, which HTTP does not allow (RFC 7932 section 9.1 has no such
/// windows; others may take a gibibyte).
const BROTLI_LARGE: u8 = 0b001_0001;

/// The first bytes of a gzip member (RFC 1952 section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Registered content codings that are not supported here.
const OTHERS: [&str; 9] =
    ["compress", "x-compress", "exi", "pack200-gzip", "aes128gcm", "dcb", "dcz", "bzip2", "x-bzip2"];

/// Magic numbers of compressed data: gzip, two kinds of compress, Zstandard, bzip2, xz, lz4.
const PACKED: [&[u8]; 7] = [
    GZIP,
    &[0x1f, 0x9d],
    &[0x1f, 0xa0],
    &[0x28, 0xb5, 0x2f, 0xfd],
    b"BZh",
    &[0xfd, b'7', b'z', b'X'],
    &[0x04, 0x22, 0x4d, 0x18],
];

/// The number of bytes that show whether a body is compressed.
const TELLING: usize = 4;

impl Decoder {
    /// Creates a decoder for a body with these headers that holds at most `limit` decoded bytes.
    ///
    /// # Errors
    /// Returns [`Decline`] if the coding is not supported.
    pub fn new(headers: &HeaderMap, limit: u64) -> Result<Self, Decline> {
        let out = BoundedBuffer::new(limit);
        let mut codings =
            fields::list(headers, &CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        let coding = match (codings.next().map(str::to_ascii_lowercase).as_deref(), codings.next()) {
            (None, _) => Coding::Identity(out),
            (Some("gzip" | "x-gzip"), None) => Coding::Gzip(Box::new(GzDecoder::new(out))),
            (Some("deflate"), None) => Coding::Deflate(Vec::with_capacity(2), out),
            (Some("br"), None) => Coding::Brotli(Box::new(brotli::DecompressorWriter::new(out, BROTLI_BUFFER))),
            (Some("zstd"), None) => match zstd() {
                Ok(decoder) => Coding::Zstd(Box::new(Zstd { decoder, whole: false }), out),
                Err(error) => return Err(Decline::Undecodable(error.to_string())),
            },
            (Some(other), None) if OTHERS.contains(&other) => return Err(unknown(other)),
            (Some(other), None) => Coding::Unknown(other.to_owned(), Vec::with_capacity(TELLING), out),
            (Some(_), Some(_)) => return Err(Decline::Undecodable("more than one content coding".to_owned())),
        };
        Ok(Self { coding, limit, begun: false, ended: false })
    }

    /// Processes a piece of the coded body.
    ///
    /// # Errors
    /// Returns [`Decline`] if the data is damaged or exceeds the limit.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), Decline> {
        while !piece.is_empty() && !self.ended {
            if !self.begun && matches!(self.coding, Coding::Brotli(_)) && piece[0] & 0x7f == BROTLI_LARGE {
                return Err(Decline::Undecodable("brotli with a larger window than HTTP has".to_owned()));
            }
            self.begun = true;
            let taken = match self.choose(piece)? {
                Some(taken) => taken,
                None => self.write(piece).map_err(|error| refuse(&error, self.limit))?,
            };
            if taken == 0 {
                self.end(piece)?;
            }
            piece = &piece[taken..];
        }
        Ok(())
    }

    /// Chooses a decoder by the first bytes of the body, where they matter. Returns how many bytes it consumed; `None`
    /// if the decoder was already chosen.
    fn choose(&mut self, piece: &[u8]) -> Result<Option<usize>, Decline> {
        let (first, most) = match &mut self.coding {
            Coding::Unknown(_, first, _) => (first, TELLING),
            Coding::Deflate(first, _) => (first, 2),
            _ => return Ok(None),
        };
        let taken = piece.len().min(most - first.len());
        first.extend_from_slice(&piece[..taken]);
        if first.len() == most {
            self.chosen()?;
        }
        Ok(Some(taken))
    }

    /// Chooses a decoder by the bytes received so far, and passes them to it.
    fn chosen(&mut self) -> Result<(), Decline> {
        let (first, coding) = match &mut self.coding {
            Coding::Unknown(name, first, out) => {
                if PACKED.iter().any(|magic| first.starts_with(magic)) {
                    return Err(unknown(name));
                }
                (std::mem::take(first), Coding::Identity(out.moved()))
            }
            Coding::Deflate(first, out) => {
                let zlib =
                    first.len() == 2 && first[0] & 0x0f == 8 && u16::from_be_bytes([first[0], first[1]]) % 31 == 0;
                let coding = if zlib {
                    Coding::Zlib(Box::new(ZlibDecoder::new(out.moved())))
                } else {
                    Coding::RawDeflate(Box::new(DeflateDecoder::new(out.moved())))
                };
                (std::mem::take(first), coding)
            }
            _ => return Ok(()),
        };
        self.coding = coding;
        self.push(&first)
    }

    /// Passes `piece` to the decoder. Returns how many bytes were consumed, which excludes bytes after the end.
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match &mut self.coding {
            Coding::Identity(out) | Coding::Unknown(_, _, out) | Coding::Deflate(_, out) => out.write(piece),
            Coding::Gzip(decoder) => decoder.write(piece),
            Coding::Zlib(decoder) => decoder.write(piece),
            Coding::RawDeflate(decoder) => decoder.write(piece),
            Coding::Brotli(decoder) => decoder.write(piece),
            Coding::Zstd(zstd, out) => zstd.write(piece, out),
        }
    }

    /// Handles the end of a coded stream before `rest`: another member of a gzip body (RFC 1952 section 2.2), or data
    /// to ignore.
    fn end(&mut self, rest: &[u8]) -> Result<(), Decline> {
        match &mut self.coding {
            Coding::Gzip(decoder) if rest.starts_with(&GZIP[..rest.len().min(2)]) => {
                decoder.try_finish().map_err(|error| refuse(&error, self.limit))?;
                let out = decoder.get_mut().moved();
                self.coding = Coding::Gzip(Box::new(GzDecoder::new(out)));
            }
            _ => self.ended = true,
        }
        Ok(())
    }

    /// Takes the decoded bytes so far. They no longer count against the limit.
    ///
    /// # Errors
    /// Returns [`Decline`] if the last input is damaged.
    pub fn take(&mut self) -> Result<Vec<u8>, Decline> {
        let flushed = match &mut self.coding {
            _ if !self.begun => Ok(()),
            Coding::Gzip(decoder) => decoder.flush(),
            Coding::Zlib(decoder) => decoder.flush(),
            Coding::RawDeflate(decoder) => decoder.flush(),
            _ => Ok(()),
        };
        flushed.map_err(|error| refuse(&error, self.limit))?;
        Ok(self.partial_output())
    }

    /// Takes the bytes that were decoded before the data turned out to be damaged.
    pub fn partial_output(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.coding {
            Coding::Identity(out) | Coding::Unknown(_, _, out) | Coding::Deflate(_, out) | Coding::Zstd(_, out) => {
                &mut out.body
            }
            Coding::Gzip(decoder) => &mut decoder.get_mut().body,
            Coding::Zlib(decoder) => &mut decoder.get_mut().body,
            Coding::RawDeflate(decoder) => &mut decoder.get_mut().body,
            Coding::Brotli(decoder) => &mut decoder.get_mut().body,
        })
    }

    /// Returns the decoded body, or the rest of it after [`Decoder::take`]. An empty body is valid in every coding.
    ///
    /// # Errors
    /// Returns [`Undecoded`] if the body is not complete.
    pub fn finish(mut self) -> Result<Bytes, Undecoded> {
        if self.begun {
            self.chosen().map_err(Undecoded::Declined)?;
            let whole = match &mut self.coding {
                Coding::Identity(_) | Coding::Unknown(..) => Ok(true),
                Coding::Deflate(..) => Ok(false),
                // A decoder consumes nothing after its end.
                Coding::Gzip(decoder) => {
                    decoder.write(&[0]).and_then(|taken| decoder.try_finish().map(|()| taken == 0))
                }
                Coding::Zlib(decoder) => {
                    decoder.write(&[0]).and_then(|taken| decoder.try_finish().map(|()| taken == 0))
                }
                Coding::RawDeflate(decoder) => {
                    decoder.write(&[0]).and_then(|taken| decoder.try_finish().map(|()| taken == 0))
                }
                Coding::Brotli(decoder) => decoder.close().map(|()| true),
                Coding::Zstd(zstd, _) => Ok(zstd.whole),
            };
            match whole {
                Ok(true) => {}
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(Undecoded::Declined(Decline::TooLarge { limit: self.limit }));
                }
                Ok(false) | Err(_) => return Err(Undecoded::Truncated),
            }
        }
        Ok(self.partial_output().into())
    }
}

/// A decoder for consecutive Zstandard frames (RFC 8878).
struct Zstd {
    decoder: ZstdDecoder<'static>,
    /// Whether the position is between two frames.
    whole: bool,
}

/// The first bytes of a Zstandard frame.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

impl Zstd {
    fn write(&mut self, piece: &[u8], out: &mut BoundedBuffer) -> io::Result<usize> {
        if self.whole && !piece.starts_with(&ZSTD[..piece.len().min(ZSTD.len())]) {
            return Ok(0);
        }
        let mut taken = 0;
        let mut unpacked = [0; 8 * 1024];
        loop {
            let status = self.decoder.run_on_buffers(&piece[taken..], &mut unpacked)?;
            taken += status.bytes_read;
            out.write_all(&unpacked[..status.bytes_written])?;
            self.whole = status.remaining == 0;
            if self.whole || (taken == piece.len() && status.bytes_written < unpacked.len()) {
                return Ok(taken);
            }
        }
    }
}

fn zstd() -> io::Result<ZstdDecoder<'static>> {
    let mut decoder = ZstdDecoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
    Ok(decoder)
}

fn unknown(coding: &str) -> Decline {
    Decline::Undecodable(format!("unknown content coding {coding:?}"))
}

fn refuse(error: &io::Error, limit: u64) -> Decline {
    if error.kind() == io::ErrorKind::FileTooLarge {
        Decline::TooLarge { limit }
    } else {
        Decline::Undecodable(error.to_string())
    }
}

#[cfg(test)]
mod tests;
