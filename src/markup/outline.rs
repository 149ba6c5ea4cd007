//! The elements of a text, and views of them.

use std::ops::Range;

use super::Dialect;

/// The index that stands for "no element".
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The start of its start tag.
    pub(super) start: u32,
    pub(super) name_end: u32,
    /// The end of its start tag.
    pub(super) inner: u32,
    /// The end of its content.
    pub(super) inner_end: u32,
    /// The end of its end tag, or of the element if it has none.
    pub(super) end: u32,
    pub(super) parent: u32,
    /// The sibling element before it.
    pub(super) previous: u32,
    /// Its position among its sibling elements, from 1.
    pub(super) nth: u32,
    /// The range of its attributes.
    pub(super) attributes: (u32, u32),
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The whole attribute, including the white space before it.
    pub(super) span: Range<u32>,
    pub(super) name: Range<u32>,
    /// The value without quotes; empty if there is none.
    pub(super) value: Range<u32>,
}

/// A text and the positions of its elements.
#[derive(Clone, Debug)]
pub struct Outline<'t> {
    pub(super) text: &'t str,
    pub(super) dialect: Dialect,
    /// Ordered by start tag.
    pub(super) nodes: Vec<Node>,
    pub(super) attributes: Vec<Attribute>,
}

impl<'t> Outline<'t> {
    /// Returns the text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Returns all elements, ordered by start tag.
    pub fn elements(&self) -> impl DoubleEndedIterator<Item = Element<'_>> + ExactSizeIterator {
        (0..self.nodes.len()).map(|at| self.element(at as u32))
    }

    /// Returns the innermost element that contains all of `range` in its tags or its content.
    pub fn innermost(&self, range: &Range<usize>) -> Option<Element<'_>> {
        let after = self.nodes.partition_point(|node| node.start as usize <= range.start);
        let mut found = self.element(after.checked_sub(1)? as u32);
        while found.span().end < range.end {
            found = found.parent()?;
        }
        Some(found)
    }

    pub(super) fn element(&self, at: u32) -> Element<'_> {
        Element { outline: self, at }
    }
}

/// An element. Copying it is as cheap as copying a reference.
#[derive(Clone, Copy, Debug)]
pub struct Element<'o> {
    pub(super) outline: &'o Outline<'o>,
    pub(super) at: u32,
}

impl<'o> Element<'o> {
    pub(super) fn node(&self) -> &'o Node {
        &self.outline.nodes[self.at as usize]
    }

    fn slice(&self, range: Range<u32>) -> &'o str {
        &self.outline.text[range.start as usize..range.end as usize]
    }

    /// Returns the element's index in the order of start tags.
    pub fn index(&self) -> usize {
        self.at as usize
    }

    /// Returns the element's name as written, including any prefix.
    pub fn name(&self) -> &'o str {
        let node = self.node();
        self.slice(node.start + 1..node.name_end)
    }

    /// Returns the span of the element, including its tags.
    pub fn span(&self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// Returns the span of the start tag.
    pub fn tag(&self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.inner as usize
    }

    /// Returns the span between the tags.
    pub fn inner(&self) -> Range<usize> {
        let node = self.node();
        node.inner as usize..node.inner_end as usize
    }

    /// Returns the parent element.
    pub fn parent(&self) -> Option<Self> {
        self.link(self.node().parent)
    }

    /// Returns the previous sibling element.
    pub fn previous(&self) -> Option<Self> {
        self.link(self.node().previous)
    }

    fn link(&self, at: u32) -> Option<Self> {
        (at != NONE).then_some(Self { outline: self.outline, at })
    }

    /// Returns the position among sibling elements, from 1.
    pub fn nth(&self) -> usize {
        self.node().nth as usize
    }

    /// Returns the attributes in document order.
    pub fn attributes(&self) -> &'o [Attribute] {
        let (first, end) = self.node().attributes;
        &self.outline.attributes[first as usize..end as usize]
    }

    /// Returns the first attribute with this name, compared case-insensitively.
    pub fn attribute(&self, name: &str) -> Option<&'o Attribute> {
        self.attributes().iter().find(|attribute| self.slice(attribute.name.clone()).eq_ignore_ascii_case(name))
    }

    /// Returns the value of that attribute, as written.
    pub fn value(&self, name: &str) -> Option<&'o str> {
        self.attribute(name).map(|attribute| self.slice(attribute.value.clone()))
    }

    /// Returns the classes of the element.
    pub fn classes(&self) -> impl Iterator<Item = &'o str> {
        self.value("class").unwrap_or_default().split_ascii_whitespace()
    }
}

impl Attribute {
    /// Returns the span of the attribute, including the white space before it.
    pub fn span(&self) -> Range<usize> {
        self.span.start as usize..self.span.end as usize
    }

    /// Returns the name as written in the text of `outline`.
    pub fn name<'t>(&self, outline: &Outline<'t>) -> &'t str {
        &outline.text[self.name.start as usize..self.name.end as usize]
    }

    /// Returns the value as written in the text of `outline`.
    pub fn value<'t>(&self, outline: &Outline<'t>) -> &'t str {
        &outline.text[self.value.start as usize..self.value.end as usize]
    }
}
