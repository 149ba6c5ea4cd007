//! Decodes a body for comparison.

use std::borrow::Cow;

use super::charset::{self, CharsetError};
use super::rules::Rules;
use crate::json;
use crate::markup::Dialect;
use crate::model::{Kind, Representation};

/// The grammar that a body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// No grammar: its bytes are compared.
    Bytes,
    /// Text without a grammar.
    Text,
    /// JSON.
    Json,
    /// HTML or XML.
    Markup(Dialect),
}

/// The reason why a body is not compared in the way that its type suggests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fallback {
    /// It cannot be decoded to text.
    #[error("{0}: compared as bytes")]
    Charset(String),
    /// It is labelled as JSON but cannot be parsed.
    #[error("{0}: compared as text")]
    Json(json::ParseError),
}

/// A body, ready to be compared.
#[derive(Clone, Debug)]
pub struct DecodedBody<'r> {
    /// The text; empty if the bytes are compared.
    pub text: Cow<'r, str>,
    /// The grammar that the body follows.
    pub form: BodyKind,
    /// The reason why the grammar differs from the one that the type suggests.
    pub fallback: Option<Fallback>,
}

impl Rules {
    /// Decodes `representation` as far as its type and these rules require. A route with rules for JSON treats bodies
    /// that look like JSON as JSON, whatever the backend calls them. The same applies to markup.
    pub fn read<'r>(&self, representation: &'r Representation) -> DecodedBody<'r> {
        let media_type = representation.media_type();
        let kind = media_type.kind();
        let bytes = |fallback| DecodedBody { text: Cow::Borrowed(""), form: BodyKind::Bytes, fallback };
        if kind == Kind::Binary && self.is_empty() {
            return bytes(None);
        }
        let text = match charset::exact_text(&media_type, &representation.body) {
            Ok(text) => text,
            Err(CharsetError::Malformed(_)) if kind == Kind::Binary => return bytes(None),
            Err(error) => return bytes(Some(Fallback::Charset(error.to_string()))),
        };
        let start = text.trim_start();
        let form = match kind {
            Kind::Json => BodyKind::Json,
            _ if self.has_json() && start.starts_with(['{', '[']) => BodyKind::Json,
            Kind::Html if media_type.essence == "application/xhtml+xml" => BodyKind::Markup(Dialect::Xml),
            Kind::Html => BodyKind::Markup(Dialect::Html),
            Kind::Xml => BodyKind::Markup(Dialect::Xml),
            _ if self.has_css() && start.starts_with('<') => {
                BodyKind::Markup(if start.starts_with("<?xml") { Dialect::Xml } else { Dialect::Html })
            }
            Kind::Text | Kind::Binary => BodyKind::Text,
        };
        DecodedBody { text, form, fallback: None }
    }
}
