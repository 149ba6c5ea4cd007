//! Reduces a representation to the part that is compared.
//!
//! ```text
//! Representation ─ read ─▶ DecodedBody (text, and whose grammar it follows)
//!      ├─ JSON:      canonical form, without the places of `ignore.json` ─┐
//!      ├─ HTML, XML: without the elements and attributes of `ignore.css` ─┼─ without what `ignore.regex` matches ─▶ Digest
//!      ├─ text ───────────────────────────────────────────────────────────┘
//!      └─ bytes: as they are, where there is no rule, no charset that is known, or no grammar that is kept
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
