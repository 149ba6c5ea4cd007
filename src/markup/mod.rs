//! Outlines of HTML and XML texts: the position of each element and attribute, and selectors that match them.
//!
//! ```text
//! &str ─ Outline::read ─▶ Outline: one entry an element, each a stretch of the text ◀─ Selectors::select
//! ```
//!
//! Polled pages are often old: cells, items and paragraphs without end tags, upper-case names, attributes without
//! quotes. The outline closes the same elements as a browser, so a selector for the third cell matches the third cell.
//! Parsing never fails: any text has an outline, and reading it takes time linear in its length.

mod html;
mod outline;
mod scan;
mod select;
mod selector;

pub use outline::{Attribute, Element, Outline};
pub use selector::{ParseSelectorError, Selectors};

/// The grammar of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// HTML: void elements, raw text elements, optional end tags.
    Html,
    /// XML: every element has an end tag or is self-closing.
    Xml,
}

#[cfg(test)]
mod tests;
