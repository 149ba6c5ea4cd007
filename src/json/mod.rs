//! JSON texts (RFC 8259), read where they stand.
//!
//! ```text
//! &str ─ Document::parse ─▶ Document: one flat node a value, each a stretch of the text ─▶ members, items, canonical form
//! ```
//!
//! No tree is built and nothing is converted: a number is the digits that were sent, a string the bytes between its
//! quotes. What is copied out of a document is therefore exact, however large its integers and however long its decimals.

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
