//! Reduces a representation to the part that is compared.
//!
//! ```text
//! Representation ─ read ─▶ DecodedBody (text and its grammar)
//!      ├─ JSON:      canonical form, without the places of `ignore.json` ─┐
//!      ├─ HTML, XML: without the elements and attributes of `ignore.css` ─┼─ without matches of `ignore.regex` ─▶ Digest
//!      ├─ text ───────────────────────────────────────────────────────────┘
//!      └─ bytes: unchanged, for a binary type without rules, and for an unknown or violated charset
//! ```
//!
//! A difference between two representations with the same meaning never wakes a client. A body that is byte for byte
//! the same as before is not processed here.

mod charset;
mod decoded_body;
mod ignored_ranges;
mod markup;
mod pattern;
mod pointer;
mod pointer_trie;
mod rules;

pub use charset::{plain_utf8, text_of};
pub use decoded_body::{BodyKind, DecodedBody, Fallback};
pub use ignored_ranges::IgnoredRanges;
pub use markup::Selector;
pub use pattern::TextPattern;
pub use pointer::{ParsePointerError, Pointer, Token};
pub use rules::{Meaning, ParseRuleError, Rules};

#[cfg(test)]
mod tests;
