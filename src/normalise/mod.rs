//! From a representation to what is compared.
//!
//! ```text
//! Representation ─ read ─▶ Reading (text, and whose grammar it follows)
//!      ├─ JSON:      canonical form, without the places of `ignore.json` ─┐
//!      ├─ HTML, XML: without the elements and attributes of `ignore.css` ─┼─ without what `ignore.regex` matches ─▶ Digest
//!      ├─ text ───────────────────────────────────────────────────────────┘
//!      └─ bytes: as they are, where there is no rule, no charset that is known, or no grammar that is kept
//! ```
//!
//! Two representations with one meaning are the same news: the difference is never a reason to wake a client. Nothing
//! here is asked about a body that came again byte for byte.

mod charset;
mod cuts;
mod markup;
mod pattern;
mod places;
mod pointer;
mod reading;
mod rules;

pub use charset::{plain_utf8, text_of};
pub use cuts::Cuts;
pub use markup::Selector;
pub use pattern::TextPattern;
pub use pointer::{ParsePointerError, Pointer, Token};
pub use reading::{Fallback, Form, Reading};
pub use rules::{Meaning, ParseRuleError, Rules};

#[cfg(test)]
mod tests;
