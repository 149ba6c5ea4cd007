//! The elements of a text, and views of them.

use std::ops::Range;

use super::Dialect;

/// No element.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Where its start tag begins.
    pub(super) start: u32,
    pub(super) name_end: u32,
    /// Behind its start tag.
    pub(super) inner: u32,
    /// Where its content ends.
    pub(super) inner_end: u32,
    /// Behind its end tag, or where it ends without one.
    pub(super) end: u32,
    pub(super) parent: u32,
    /// The sibling element before it.
    pub(super) previous: u32,
    /// Its place among its sibling elements, from 1.
    pub(super) nth: u32,
    /// Its attributes.
    pub(super) attributes: (u32, u32),
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// All of it, the white space before it included.
    pub(super) span: Range<u32>,
    pub(super) name: Range<u32>,
    /// Without quotes; empty if it has none.
    pub(super) value: Range<u32>,
}

/// A text, and where its elements stand.
#[derive(Clone, Debug)]
pub struct Outline<'t> {
    pub(super) text: &'t str,
    pub(super) dialect: Dialect,
    /// In the order of their start tags.
    pub(super) nodes: Vec<Node>,
    pub(super) attributes: Vec<Attribute>,
}

impl<'t> Outline<'t> {
    /// The text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// All elements, in the order of their start tags.
    pub fn elements(&self) -> impl DoubleEndedIterator<Item = Element<'_>> + ExactSizeIterator {
        (0..self.nodes.len()).map(|at| self.element(at as u32))
    }

    /// The innermost element that holds all of `range`, be it in its tags or in its content.
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

/// An element. As cheap to copy as a reference.
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

    /// Its number in the order of start tags.
    pub fn index(&self) -> usize {
        self.at as usize
    }

    /// Its name as it is written, prefix included.
    pub fn name(&self) -> &'o str {
        let node = self.node();
        self.slice(node.start + 1..node.name_end)
    }

    /// All of it, tags included.
    pub fn span(&self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// Its start tag.
    pub fn tag(&self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.inner as usize
    }

    /// What stands between its tags.
    pub fn inner(&self) -> Range<usize> {
        let node = self.node();
        node.inner as usize..node.inner_end as usize
    }

    /// The element around it.
    pub fn parent(&self) -> Option<Self> {
        self.link(self.node().parent)
    }

    /// The sibling element before it.
    pub fn previous(&self) -> Option<Self> {
        self.link(self.node().previous)
    }

    fn link(&self, at: u32) -> Option<Self> {
        (at != NONE).then_some(Self { outline: self.outline, at })
    }

    /// Its place among its sibling elements, from 1.
    pub fn nth(&self) -> usize {
        self.node().nth as usize
    }

    /// Its attributes, in the order of the text.
    pub fn attributes(&self) -> &'o [Attribute] {
        let (first, end) = self.node().attributes;
        &self.outline.attributes[first as usize..end as usize]
    }

    /// The first attribute with this name, compared without regard to case.
    pub fn attribute(&self, name: &str) -> Option<&'o Attribute> {
        self.attributes().iter().find(|attribute| self.slice(attribute.name.clone()).eq_ignore_ascii_case(name))
    }

    /// The value of that attribute, as it is written.
    pub fn value(&self, name: &str) -> Option<&'o str> {
        self.attribute(name).map(|attribute| self.slice(attribute.value.clone()))
    }

    /// Its classes.
    pub fn classes(&self) -> impl Iterator<Item = &'o str> {
        self.value("class").unwrap_or_default().split_ascii_whitespace()
    }
}

impl Attribute {
    /// All of it, the white space before it included.
    pub fn span(&self) -> Range<usize> {
        self.span.start as usize..self.span.end as usize
    }

    /// Its name, as it is written in the text of `outline`.
    pub fn name<'t>(&self, outline: &Outline<'t>) -> &'t str {
        &outline.text[self.name.start as usize..self.name.end as usize]
    }

    /// Its value, as it is written there.
    pub fn value<'t>(&self, outline: &Outline<'t>) -> &'t str {
        &outline.text[self.value.start as usize..self.value.end as usize]
    }
}
