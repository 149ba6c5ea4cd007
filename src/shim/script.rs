//! Assembles the script from the parts in `js`, and serves it as one file.

use std::io::Write;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::model::Digest;

/// The parts in order of dependency. Each is an ES module, for editors and checkers; served are all of them in one function.
const PARTS: &[&str] = &[
    include_str!("js/native.js"),
    include_str!("js/url.js"),
    include_str!("js/stream.js"),
    include_str!("js/hub.js"),
    include_str!("js/link.js"),
    include_str!("js/sites.js"),
    include_str!("js/timers.js"),
    include_str!("js/polls.js"),
    include_str!("js/identity.js"),
    include_str!("js/answers.js"),
    include_str!("js/xhr.js"),
    include_str!("js/fetch.js"),
    include_str!("js/bus.js"),
    include_str!("js/morph.js"),
    include_str!("js/page.js"),
    include_str!("js/start.js"),
];

/// The assembled script.
#[derive(Debug)]
pub struct Script {
    text: Bytes,
    hash: String,
    gzip: OnceLock<Bytes>,
    brotli: OnceLock<Bytes>,
}

/// The content coding of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not compressed.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
}

impl Coding {
    /// Returns the name in `Content-Encoding`; `None` for identity.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }
}

/// The compression level: higher levels take seconds and save some ten bytes.
const BROTLI_QUALITY: u32 = 9;

const BROTLI_WINDOW: u32 = 18;

const BUFFER: usize = 4096;

impl Script {
    /// Assembles the script.
    pub fn new() -> Self {
        let mut text = String::from("(() => {\n'use strict';\n");
        for part in PARTS {
            text.extend(code(part).flat_map(|line| [line, "\n"]));
        }
        text.push_str("})();\n");
        let hash = Digest::of(text.as_bytes()).short();
        Self { text: text.into(), hash, gzip: OnceLock::new(), brotli: OnceLock::new() }
    }

    /// Returns the hash of the script, as 11 characters of base64url.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns the digest with which a browser verifies the script (Subresource Integrity).
    pub fn integrity(&self) -> String {
        let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() else { return String::new() };
        let digest = suite.common.hash_provider.hash(&self.text);
        format!("sha256-{}", STANDARD.encode(digest.as_ref()))
    }

    /// Returns the script in this coding. It is compressed on first use.
    pub fn coded(&self, coding: Coding) -> Bytes {
        let packed = |slot: &OnceLock<Bytes>, pack: &dyn Fn(&[u8]) -> std::io::Result<Vec<u8>>| {
            slot.get_or_init(|| pack(&self.text).map_or_else(|_| self.text.clone(), Bytes::from)).clone()
        };
        match coding {
            Coding::Identity => self.text.clone(),
            Coding::Gzip => packed(&self.gzip, &gzip),
            Coding::Brotli => packed(&self.brotli, &brotli),
        }
    }
}

/// Returns the lines of a part as they are served: without comments, indentation, imports and the word `export`. No string and
/// no expression in the parts has a line that looks like one of these.
fn code(part: &str) -> impl Iterator<Item = &str> {
    let mut imports = false;
    part.lines().filter_map(move |line| {
        imports |= line.starts_with("import ");
        if imports {
            imports = !line.ends_with(';');
            return None;
        }
        let line = line.trim_start();
        let is_comment = ["//", "/*", "*"].iter().any(|comment| line.starts_with(comment));
        (!line.is_empty() && !is_comment).then(|| line.strip_prefix("export ").unwrap_or(line))
    })
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

fn gzip(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text)?;
    encoder.finish()
}

fn brotli(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut packed, BUFFER, BROTLI_QUALITY, BROTLI_WINDOW);
    encoder.write_all(text)?;
    drop(encoder);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_coding_is_the_same_script_and_small() {
        let script = Script::new();
        let text = script.coded(Coding::Identity);
        let mut unpacked = Vec::new();
        let gzip = script.coded(Coding::Gzip);
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut unpacked).expect("gzip");
        assert!(unpacked == text);
        unpacked.clear();
        let brotli = script.coded(Coding::Brotli);
        brotli::Decompressor::new(&brotli[..], BUFFER).read_to_end(&mut unpacked).expect("brotli");
        assert!(unpacked == text);
        assert!(gzip.len() < 21 * 1024 && brotli.len() < gzip.len(), "{} {}", gzip.len(), brotli.len());
        assert_eq!(script.hash().len(), 11);
    }

    #[test]
    fn no_two_parts_declare_the_same_name() {
        // A script with duplicate declarations does not run at all.
        let declares = |line: &'static str| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let rest = ["const ", "let ", "function ", "async function ", "class "]
                .iter()
                .find_map(|word| line.strip_prefix(word))?;
            rest.split(|c: char| !c.is_alphanumeric() && c != '_').find(|name| !name.is_empty())
        };
        let mut names = HashSet::new();
        for name in PARTS.iter().flat_map(|part| part.lines()).filter_map(declares) {
            assert!(names.insert(name), "{name}");
        }
        assert!(names.len() > 100);
    }

    #[test]
    fn no_part_ends_the_element_that_loads_it() {
        // An operator may put the script into a page by hand.
        assert!(PARTS.iter().all(|part| !part.contains("</script")));
    }
}
