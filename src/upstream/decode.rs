//! Undoes the content coding of a body, never holding more of it than is allowed.

use std::io::{self, Write};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::model::fields;
use crate::resource::Decline;

/// A body being read.
pub struct Decoder {
    coding: Coding,
    limit: u64,
}

enum Coding {
    Identity(Limited),
    Gzip(Box<flate2::write::MultiGzDecoder<Limited>>),
    /// `deflate` means the zlib format (RFC 9110 section 8.4.1.2), but some servers send it raw: the first two bytes tell.
    Deflate(Vec<u8>, Limited),
    Zlib(Box<flate2::write::ZlibDecoder<Limited>>),
    RawDeflate(Box<flate2::write::DeflateDecoder<Limited>>),
    Brotli {
        decoder: Box<brotli::DecompressorWriter<Limited>>,
        begun: bool,
    },
    Zstd(Box<zstd::stream::write::Decoder<'static, Limited>>),
}

/// Collects up to a limit, then refuses: a small body that unfolds into a huge one costs the limit and no more.
struct Limited {
    body: Vec<u8>,
    limit: u64,
}

impl Write for Limited {
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

impl Decoder {
    /// A decoder for a body with these headers, of which at most `limit` decoded bytes are kept.
    ///
    /// # Errors
    /// If there is no way to undo the coding.
    pub fn new(headers: &HeaderMap, limit: u64) -> Result<Self, Decline> {
        let out = Limited { body: Vec::new(), limit };
        let mut codings =
            fields::list(headers, &CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        let coding = match (codings.next().map(str::to_ascii_lowercase).as_deref(), codings.next()) {
            (None, _) => Coding::Identity(out),
            (Some("gzip" | "x-gzip"), None) => Coding::Gzip(Box::new(flate2::write::MultiGzDecoder::new(out))),
            (Some("deflate"), None) => Coding::Deflate(Vec::with_capacity(2), out),
            (Some("br"), None) => {
                Coding::Brotli { decoder: Box::new(brotli::DecompressorWriter::new(out, BROTLI_BUFFER)), begun: false }
            }
            (Some("zstd"), None) => match zstd(out) {
                Ok(decoder) => Coding::Zstd(Box::new(decoder)),
                Err(error) => return Err(Decline::Undecodable(error.to_string())),
            },
            (Some(other), None) => return Err(Decline::Undecodable(format!("unknown content coding {other:?}"))),
            (Some(_), Some(_)) => return Err(Decline::Undecodable("more than one content coding".to_owned())),
        };
        Ok(Self { coding, limit })
    }

    /// Takes in a piece as it was received.
    ///
    /// # Errors
    /// If it is damaged, or more than the limit.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Decline> {
        let result = match &mut self.coding {
            Coding::Identity(out) => out.write_all(piece),
            Coding::Gzip(decoder) => decoder.write_all(piece),
            Coding::Zlib(decoder) => decoder.write_all(piece),
            Coding::RawDeflate(decoder) => decoder.write_all(piece),
            Coding::Brotli { decoder, begun } => {
                if let (false, Some(first)) = (*begun, piece.first()) {
                    if first & 0x7f == BROTLI_LARGE {
                        return Err(Decline::Undecodable("brotli with a larger window than HTTP has".to_owned()));
                    }
                    *begun = true;
                }
                decoder.write_all(piece)
            }
            Coding::Zstd(decoder) => decoder.write_all(piece),
            Coding::Deflate(first, out) => {
                first.extend_from_slice(piece);
                if first.len() < 2 {
                    return Ok(());
                }
                let (first, out) =
                    (std::mem::take(first), Limited { body: std::mem::take(&mut out.body), limit: out.limit });
                let zlib = first[0] & 0x0f == 8 && u16::from_be_bytes([first[0], first[1]]) % 31 == 0;
                self.coding = if zlib {
                    Coding::Zlib(Box::new(flate2::write::ZlibDecoder::new(out)))
                } else {
                    Coding::RawDeflate(Box::new(flate2::write::DeflateDecoder::new(out)))
                };
                return self.push(&first);
            }
        };
        result.map_err(|error| self.refuse(&error))
    }

    /// What has been decoded so far and not been taken. It does not count against the limit any more.
    ///
    /// # Errors
    /// If what was received last is damaged.
    pub fn take(&mut self) -> Result<Vec<u8>, Decline> {
        let limit = self.limit;
        let taken = |out: &mut Limited| Ok(std::mem::take(&mut out.body));
        let refuse = |error: io::Error| refuse(&error, limit);
        match &mut self.coding {
            Coding::Identity(out) | Coding::Deflate(_, out) => taken(out),
            Coding::Gzip(decoder) => decoder.flush().map_err(refuse).and_then(|()| taken(decoder.get_mut())),
            Coding::Zlib(decoder) => decoder.flush().map_err(refuse).and_then(|()| taken(decoder.get_mut())),
            Coding::RawDeflate(decoder) => decoder.flush().map_err(refuse).and_then(|()| taken(decoder.get_mut())),
            Coding::Brotli { decoder, .. } => taken(decoder.get_mut()),
            Coding::Zstd(decoder) => decoder.flush().map_err(refuse).and_then(|()| taken(decoder.get_mut())),
        }
    }

    /// What was decoded before it was found to be damaged, and has not been taken.
    pub fn salvage(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.coding {
            Coding::Identity(out) | Coding::Deflate(_, out) => &mut out.body,
            Coding::Gzip(decoder) => &mut decoder.get_mut().body,
            Coding::Zlib(decoder) => &mut decoder.get_mut().body,
            Coding::RawDeflate(decoder) => &mut decoder.get_mut().body,
            Coding::Brotli { decoder, .. } => &mut decoder.get_mut().body,
            Coding::Zstd(decoder) => &mut decoder.get_mut().body,
        })
    }

    /// The decoded body, or what is left of it after [`Decoder::take`].
    ///
    /// # Errors
    /// If the body is not complete.
    pub fn finish(self) -> Result<Bytes, Decline> {
        let limit = self.limit;
        let refuse = |error: &io::Error| refuse(error, limit);
        let out = match self.coding {
            Coding::Identity(out) | Coding::Deflate(_, out) => out,
            Coding::Gzip(decoder) => decoder.finish().map_err(|error| refuse(&error))?,
            Coding::Zlib(decoder) => decoder.finish().map_err(|error| refuse(&error))?,
            Coding::RawDeflate(decoder) => decoder.finish().map_err(|error| refuse(&error))?,
            Coding::Brotli { mut decoder, .. } => {
                decoder.close().map_err(|error| refuse(&error))?;
                decoder.into_inner().map_err(|_| Decline::Undecodable("the brotli stream is damaged".to_owned()))?
            }
            Coding::Zstd(mut decoder) => {
                decoder.flush().map_err(|error| refuse(&error))?;
                decoder.into_inner()
            }
        };
        Ok(out.body.into())
    }

    fn refuse(&self, error: &io::Error) -> Decline {
        refuse(error, self.limit)
    }
}

fn zstd(out: Limited) -> io::Result<zstd::stream::write::Decoder<'static, Limited>> {
    let mut decoder = zstd::stream::write::Decoder::new(out)?;
    decoder.window_log_max(ZSTD_WINDOW)?;
    Ok(decoder)
}

fn refuse(error: &io::Error, limit: u64) -> Decline {
    if error.kind() == io::ErrorKind::FileTooLarge {
        Decline::TooLarge { limit }
    } else {
        Decline::Undecodable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::HeaderValue;

    use super::*;

    fn headers(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))])
    }

    #[test]
    fn windows_larger_than_those_of_http_are_not_made_room_for() {
        let zstd = |window: u32| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window).unwrap();
            encoder.write_all(b"hello").unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(decode("zstd", &zstd(ZSTD_WINDOW), 100).unwrap(), "hello");
        assert!(matches!(decode("zstd", &zstd(27), 100), Err(Decline::Undecodable(_))));
        let large = [BROTLI_LARGE | 0x80, 0x1e, 0, 0, 0, 0, 0];
        let refused = decode("br", &large, 100).unwrap_err();
        assert_eq!(refused, Decline::Undecodable("brotli with a larger window than HTTP has".to_owned()));
    }

    fn decode(coding: &'static str, encoded: &[u8], limit: u64) -> Result<Bytes, Decline> {
        let mut decoder = Decoder::new(&headers(coding), limit)?;
        for piece in encoded.chunks(7) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let level = flate2::Compression::default();
        match coding {
            "gzip" => flate2::read::GzEncoder::new(body, level).read_to_end(&mut out).map(drop),
            "zlib" => flate2::read::ZlibEncoder::new(body, level).read_to_end(&mut out).map(drop),
            "deflate" => flate2::read::DeflateEncoder::new(body, level).read_to_end(&mut out).map(drop),
            "br" => brotli::CompressorReader::new(body, 4096, 5, 22).read_to_end(&mut out).map(drop),
            "zstd" => zstd::stream::copy_encode(body, &mut out, 3),
            _ => unreachable!(),
        }
        .expect("encodes");
        out
    }

    #[test]
    fn gives_out_what_it_has_piece_by_piece() {
        let body: Vec<u8> = (0..100_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (named, made) in
            [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd")]
        {
            // The limit holds for what is not taken, not for the whole.
            let mut decoder = Decoder::new(&headers(named), 200_000).expect(named);
            let mut out = Vec::new();
            for piece in encoded(made, &body).chunks(500) {
                decoder.push(piece).expect(made);
                out.extend(decoder.take().expect(made));
            }
            out.extend_from_slice(&decoder.finish().expect(made));
            assert!(out == body, "{named} made by {made}");
        }
    }

    #[test]
    fn undoes_every_coding() {
        let body: Vec<u8> = (0..100_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
        for (named, made) in [
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", "zlib"),
            ("deflate", "deflate"),
            ("br", "br"),
            ("zstd", "zstd"),
        ] {
            assert_eq!(decode(named, &encoded(made, &body), 1 << 20).expect(made), body, "{named} made by {made}");
        }
        assert_eq!(decode("identity", b"as it is", 100).expect("identity"), "as it is");
    }

    #[test]
    fn a_bomb_costs_the_limit() {
        let body = vec![0; 10 << 20];
        for coding in ["gzip", "br", "zstd"] {
            assert_eq!(
                decode(coding, &encoded(coding, &body), 1 << 20),
                Err(Decline::TooLarge { limit: 1 << 20 }),
                "{coding}"
            );
        }
    }

    #[test]
    fn says_what_it_cannot_read() {
        assert!(matches!(decode("compress", b"x", 100), Err(Decline::Undecodable(_))));
        assert!(matches!(decode("gzip, br", b"x", 100), Err(Decline::Undecodable(_))));
        assert!(matches!(decode("gzip", b"this is no gzip at all", 100), Err(Decline::Undecodable(_))));
    }
}
