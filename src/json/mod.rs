//! Zero-copy parsing of JSON texts (RFC 8259).
//!
//! ```text
//! &str ─ Document::parse ─▶ Document: one flat node a value, each a stretch of the text ─▶ members, items, canonical form
//! ```
//!
//! The parser builds no tree and converts nothing: a number is its digits, a string the bytes between its quotes.
//! Values copied out of a document are therefore exact, however large the integers and however long the decimals.

mod canonical;
mod document;
mod parse;
mod text;

pub use canonical::{Filter, KeepAll, canonical, minified, same, write_scalar};
pub use document::{Document, Kind, Value};
pub use parse::{MAX_DEPTH, ParseError};
pub use text::{content, escape, unescape};

#[cfg(test)]
mod tests;
