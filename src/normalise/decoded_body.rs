//! How a body is read before it is compared.

use std::borrow::Cow;

use super::charset::{self, CharsetError};
use super::rules::Rules;
use crate::json;
use crate::markup::Dialect;
use crate::model::{Kind, Representation};

/// Whose grammar a body is taken to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// None: its bytes are compared.
    Bytes,
    /// None, but it is text.
    Text,
    /// JSON's.
    Json,
    /// HTML's or XML's.
    Markup(Dialect),
}

/// Why a body is not compared in the way that its type suggests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fallback {
    /// It is no text.
    #[error("{0}: compared as bytes")]
    Charset(String),
    /// It is called JSON, but cannot be read as that.
    #[error("{0}: compared as text")]
    Json(json::ParseError),
}

/// A body, ready to be compared.
#[derive(Clone, Debug)]
pub struct DecodedBody<'r> {
    /// As text; empty if its bytes are compared.
    pub text: Cow<'r, str>,
    /// Whose grammar it is taken to follow.
    pub form: BodyKind,
    /// Why that is not what its type suggests.
    pub fallback: Option<Fallback>,
}

impl Rules {
    /// Reads `representation` as far as its type and these rules ask for. A route with rules for JSON says that its bodies
    /// are JSON where they look like it, whatever the backend calls them, and the same goes for markup.
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
