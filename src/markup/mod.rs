//! HTML and XML as they are written: where each element and each attribute stands, and which of them a selector means.
//!
//! ```text
//! &str ─ Outline::read ─▶ Outline: one entry an element, each a stretch of the text ◀─ Selectors::select
//! ```
//!
//! The pages that are polled are old ones: cells, items and paragraphs without end tags, upper-case names, attributes
//! without quotes. The outline closes what a browser would close, so a selector for the third cell means the third cell.
//! Nothing is ever refused: any text has an outline, and reading it takes time linear in its length.

mod html;
mod outline;
mod scan;
mod select;
mod selector;

pub use outline::{Attribute, Element, Outline};
pub use selector::{ParseSelectorError, Selectors};

/// Whose rules a text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// HTML: elements that have no content, text that is not markup, end tags that may be left out.
    Html,
    /// XML: every element is closed, or closes itself.
    Xml,
}

#[cfg(test)]
mod tests;
