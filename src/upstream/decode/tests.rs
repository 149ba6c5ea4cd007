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
    assert!(matches!(decode("zstd", &zstd(27), 100), Err(Undecoded::Declined(Decline::Undecodable(_)))));
    let large = [BROTLI_LARGE | 0x80, 0x1e, 0, 0, 0, 0, 0];
    let refused = Decline::Undecodable("brotli with a larger window than HTTP has".to_owned());
    assert_eq!(decode("br", &large, 100), Err(Undecoded::Declined(refused)));
}

fn decode_by(size: usize, coding: &'static str, encoded: &[u8], limit: u64) -> Result<Bytes, Undecoded> {
    let mut decoder = Decoder::new(&headers(coding), limit).map_err(Undecoded::Declined)?;
    for piece in encoded.chunks(size) {
        decoder.push(piece).map_err(Undecoded::Declined)?;
    }
    decoder.finish()
}

fn decode(coding: &'static str, encoded: &[u8], limit: u64) -> Result<Bytes, Undecoded> {
    let pieces = decode_by(7, coding, encoded, limit);
    assert_eq!(pieces, decode_by(encoded.len().max(1), coding, encoded, limit), "{coding}");
    pieces
}

/// Pairs of the name of a coding and the coding that is applied.
const CODINGS: [(&str, &str); 5] =
    [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd")];

#[test]
fn nothing_is_whole_in_every_coding() {
    for coding in ["gzip", "deflate", "br", "zstd", "utf-8"] {
        assert_eq!(decode(coding, b"", 100).as_deref(), Ok(&b""[..]), "{coding}");
    }
    for (named, made) in CODINGS {
        assert_eq!(decode(named, &encoded(made, b""), 100).as_deref(), Ok(&b""[..]), "{made}");
    }
}

#[test]
fn what_follows_the_end_is_none_of_it() {
    for (named, made) in CODINGS {
        for junk in [&b"\0"[..], &[0; 600], b"\r\n", b"<!-- 12 ms -->"] {
            let body = [&encoded(made, b"hello hello hello"), junk].concat();
            assert_eq!(decode(named, &body, 100).as_deref(), Ok(&b"hello hello hello"[..]), "{made} {junk:?}");
        }
    }
    let members = [encoded("gzip", b"one "), encoded("gzip", b"two"), b"\0\0\0".to_vec()].concat();
    assert_eq!(decode("gzip", &members, 100).as_deref(), Ok(&b"one two"[..]));
    let frames = [encoded("zstd", b"one "), encoded("zstd", b"two"), b"\0\0\0".to_vec()].concat();
    assert_eq!(decode("zstd", &frames, 100).as_deref(), Ok(&b"one two"[..]));
}

#[test]
fn what_ends_too_soon_may_be_whole_the_next_time() {
    for (named, made) in CODINGS {
        let body = encoded(made, b"hello, this is what there is to say");
        for cut in 1..body.len() {
            assert_eq!(decode(named, &body[..cut], 100), Err(Undecoded::Truncated), "{made} cut at {cut}");
        }
    }
    let mut damaged = encoded("gzip", b"hello");
    let crc = damaged.len() - 8;
    damaged[crc] ^= 1;
    assert_eq!(decode("gzip", &damaged, 100), Err(Undecoded::Truncated));
}

#[test]
fn names_that_are_no_coding_mean_nothing() {
    for name in ["utf-8", "UTF-8", "none", "binary", "8bit", "7bit", "text", "chunked", "iso-8859-1"] {
        assert_eq!(decode(name, b"{\"a\": 1}", 100).as_deref(), Ok(&b"{\"a\": 1}"[..]), "{name}");
        assert_eq!(decode(name, b"a", 100).as_deref(), Ok(&b"a"[..]), "{name}");
        for made in ["gzip", "zstd"] {
            let refused = decode(name, &encoded(made, b"hello"), 100);
            assert!(matches!(refused, Err(Undecoded::Declined(Decline::Undecodable(_)))), "{name} {made}");
        }
    }
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
    for (named, made) in [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd")]
    {
        // The limit applies to data not taken yet, not to the whole body.
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
            Err(Undecoded::Declined(Decline::TooLarge { limit: 1 << 20 })),
            "{coding}"
        );
    }
}

#[test]
fn says_what_it_cannot_read() {
    assert!(matches!(decode("compress", b"x", 100), Err(Undecoded::Declined(Decline::Undecodable(_)))));
    assert!(matches!(decode("gzip, br", b"x", 100), Err(Undecoded::Declined(Decline::Undecodable(_)))));
    assert!(matches!(
        decode("gzip", b"this is no gzip at all", 100),
        Err(Undecoded::Declined(Decline::Undecodable(_)))
    ));
}
