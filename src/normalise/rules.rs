//! The compiled ignore rules of a route.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use http::header::REFRESH;

use super::pointer_trie::{IgnoreFilter, PointerTrie};
use super::{BodyKind, DecodedBody, Fallback, IgnoredRanges, Pointer, Selector, TextPattern};
use crate::json::{Document, canonical};
use crate::markup::Outline;
use crate::model::{Digest, Representation};

/// A rule that cannot be compiled, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseRuleError(String);

impl ParseRuleError {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The compiled rules of one route.
#[derive(Clone, Debug)]
pub struct Rules {
    json: Vec<Pointer>,
    places: PointerTrie,
    css: Vec<Selector>,
    regex: Vec<TextPattern>,
    /// Whether a warning that the route needs other rules has been given.
    advised: Arc<AtomicBool>,
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new(), Vec::new())
    }
}

/// The meaning of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The fingerprint of the compared part.
    pub digest: Digest,
    /// The reason why the body was not compared as its type suggests.
    pub fallback: Option<Fallback>,
}

impl Rules {
    /// Compiles rules for places in JSON documents, elements and attributes of markup, and stretches of text.
    pub fn new(json: Vec<Pointer>, css: Vec<Selector>, regex: Vec<TextPattern>) -> Self {
        Self { places: PointerTrie::new(&json), json, css, regex, advised: Arc::default() }
    }

    /// Returns these rules with additional ones.
    #[must_use]
    pub fn and(&self, json: &[Pointer], css: &[Selector], regex: &[TextPattern]) -> Self {
        Self::new([&self.json[..], json].concat(), [&self.css[..], css].concat(), [&self.regex[..], regex].concat())
    }

    /// Returns whether nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.json.is_empty() && self.css.is_empty() && self.regex.is_empty()
    }

    pub(super) fn has_json(&self) -> bool {
        !self.json.is_empty()
    }

    pub(super) fn has_css(&self) -> bool {
        !self.css.is_empty()
    }

    /// Returns the fingerprint of the relevant part of `representation`, whose exact content has the fingerprint
    /// `content`.
    ///
    /// If no rule applies and the type needs no normalisation, this is `content` itself.
    pub fn meaning(&self, representation: &Representation, content: Digest) -> Meaning {
        let mut reading = self.read(representation);
        if reading.form == BodyKind::Json {
            match Document::parse(&reading.text) {
                Ok(document) => {
                    let cuts = self.cuts(&reading.text, None);
                    let rest = IgnoreFilter { places: &self.places, cuts: &cuts, text: &reading.text };
                    let mut compared = Vec::with_capacity(reading.text.len());
                    canonical(document.root(), &rest, &self.places.root(), &mut compared);
                    return reading.meaning(representation, [&compared[..]]);
                }
                Err(invalid) => {
                    reading.form = BodyKind::Text;
                    reading.fallback = Some(Fallback::Json(invalid));
                }
            }
        }
        let outline = match reading.form {
            BodyKind::Markup(dialect) if self.has_css() => Outline::read(&reading.text, dialect),
            _ => None,
        };
        if outline.is_none() && (self.regex.is_empty() || reading.form == BodyKind::Bytes) {
            return Meaning { digest: content, fallback: reading.fallback };
        }
        let cuts = self.cuts(&reading.text, outline.as_ref());
        let kept = cuts.remaining(0..reading.text.len()).map(|kept| reading.text[kept].as_bytes());
        reading.meaning(representation, kept)
    }

    /// Returns the ranges of `text`, with its outline, that take no part in a comparison. The locations of
    /// `ignore.json` are not included.
    pub fn cuts(&self, text: &str, outline: Option<&Outline<'_>>) -> IgnoredRanges {
        if self.regex.is_empty() && (outline.is_none() || self.css.is_empty()) {
            return IgnoredRanges::default();
        }
        let mut found = Vec::new();
        if let Some(outline) = outline {
            self.css.iter().for_each(|selector| selector.find(outline, &mut found));
        }
        self.regex.iter().for_each(|pattern| pattern.find(text, &mut found));
        IgnoredRanges::new(found)
    }

    /// Returns whether `ignore.json` matches `path` or one of its ancestors. Keys are in canonical spelling.
    pub fn ignores<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> bool {
        self.places.hold(path)
    }

    /// Returns `true` on the first call only, so that a warning about the route's rules is given once.
    pub fn warn_once(&self) -> bool {
        !self.advised.swap(true, Ordering::Relaxed)
    }
}

impl DecodedBody<'_> {
    fn meaning<'c>(&self, representation: &Representation, compared: impl IntoIterator<Item = &'c [u8]>) -> Meaning {
        let compared = Digest::of_stream(compared).to_bytes();
        let (status, essence) = (representation.status, representation.media_type().essence);
        let parts = [status.as_str().as_bytes(), essence.as_bytes(), &compared];
        // The target of a `Refresh` header is never ignored.
        let refresh = representation.headers.get(REFRESH).map(HeaderValue::as_bytes);
        let digest = Digest::of_parts(parts.into_iter().chain(refresh));
        Meaning { digest, fallback: self.fallback.clone() }
    }
}
