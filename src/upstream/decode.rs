//! Undoes the content coding of a body, never holding more of it than is allowed.
//!
//! What browsers shrug at is no fault here either: a coding that there is not, a coding of nothing, and what follows the end of
//! a coded body. A body that ends too soon has not been read, and may be whole the next time.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use crate::model::fields;
use crate::resource::Decline;

/// Why a body cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecoded {
    /// It is no coded body of this kind, or larger than is allowed; nor will it be the next time.
    #[error("{0}")]
    Declined(Decline),
    /// Its coding is damaged at the end, or ends too soon.
    #[error("the body ends inside its content coding")]
    Truncated,
}

/// A body being read.
pub struct Decoder {
    coding: Coding,
    limit: u64,
    /// Whether anything of it has come.
    begun: bool,
    /// Whether its end has come: what follows is none of it.
    ended: bool,
}

enum Coding {
    Identity(BoundedBuffer),
    /// A name that is no coding: most who say that mean nothing by it. The first bytes may tell otherwise.
    Unknown(String, Vec<u8>, BoundedBuffer),
    Gzip(Box<GzDecoder<BoundedBuffer>>),
    /// `deflate` means the zlib format (RFC 9110 section 8.4.1.2), but some servers send it raw: the first two bytes tell.
    Deflate(Vec<u8>, BoundedBuffer),
    Zlib(Box<ZlibDecoder<BoundedBuffer>>),
    RawDeflate(Box<DeflateDecoder<BoundedBuffer>>),
    Brotli(Box<brotli::DecompressorWriter<BoundedBuffer>>),
    Zstd(Box<Zstd>, BoundedBuffer),
}

/// Collects up to a limit, then refuses: a small body that unfolds into a huge one costs the limit and no more.
struct BoundedBuffer {
    body: Vec<u8>,
    limit: u64,
}

impl BoundedBuffer {
    fn new(limit: u64) -> Self {
        Self { body: Vec::new(), limit }
    }

    /// What was collected, for a decoder that goes on collecting.
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

/// The largest window of Zstandard in HTTP, as a power of two (RFC 9659): what a decoder has to keep, whatever comes of it.
const ZSTD_WINDOW: u32 = 23;

/// How a brotli stream begins whose window is larger than any in HTTP (RFC 7932 section 9.1 has no such; others may ask for a
/// gibibyte).
const BROTLI_LARGE: u8 = 0b001_0001;

/// How a gzip member begins (RFC 1952 section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Codings that there are (the registry of HTTP content codings), and that cannot be undone here.
const OTHERS: [&str; 9] =
    ["compress", "x-compress", "exi", "pack200-gzip", "aes128gcm", "dcb", "dcz", "bzip2", "x-bzip2"];

/// How packed bytes begin, whatever they are called: gzip, two kinds of compress, Zstandard, bzip2, xz, lz4.
const PACKED: [&[u8]; 7] = [
    GZIP,
    &[0x1f, 0x9d],
    &[0x1f, 0xa0],
    &[0x28, 0xb5, 0x2f, 0xfd],
    b"BZh",
    &[0xfd, b'7', b'z', b'X'],
    &[0x04, 0x22, 0x4d, 0x18],
];

/// As much of a body as tells whether it is packed.
const TELLING: usize = 4;

impl Decoder {
    /// A decoder for a body with these headers, of which at most `limit` decoded bytes are kept.
    ///
    /// # Errors
    /// If there is no way to undo the coding.
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

    /// Takes in a piece as it was received.
    ///
    /// # Errors
    /// If it is damaged, or more than the limit.
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

    /// Chooses a decoder by the first bytes of the body, where they tell. Returns how much it was given; `None` if it had been
    /// chosen.
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

    /// Chooses by the bytes that are there, and gives them to the decoder.
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

    /// Gives `piece` to the decoder. Returns how much of it was taken: nothing behind the end.
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

    /// The decoder takes no more, and `rest` follows: another member of a gzip body (RFC 1952 section 2.2), or nothing that
    /// counts.
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

    /// What has been decoded so far and not been taken. It does not count against the limit any more.
    ///
    /// # Errors
    /// If what was received last is damaged.
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

    /// What was decoded before it was found to be damaged, and has not been taken.
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

    /// The decoded body, or what is left of it after [`Decoder::take`]. Nothing is whole in every coding.
    ///
    /// # Errors
    /// If the body is not complete.
    pub fn finish(mut self) -> Result<Bytes, Undecoded> {
        if self.begun {
            self.chosen().map_err(Undecoded::Declined)?;
            let whole = match &mut self.coding {
                Coding::Identity(_) | Coding::Unknown(..) => Ok(true),
                Coding::Deflate(..) => Ok(false),
                // Behind its end a decoder takes nothing.
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

/// Zstandard (RFC 8878), frame after frame.
struct Zstd {
    decoder: ZstdDecoder<'static>,
    /// Whether it stands behind a frame.
    whole: bool,
}

/// How a frame of Zstandard begins.
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
