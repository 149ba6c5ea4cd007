//! A parsed text and views of its values.

use std::borrow::Cow;
use std::ops::Range;

use super::text;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number, as it is spelled.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A value, or the key of a member. A key precedes its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Where its text begins.
    pub(super) start: u32,
    /// Where its text ends.
    pub(super) end: u32,
    /// The index of the node behind everything that this one contains.
    pub(super) next: u32,
    pub(super) kind: Kind,
    /// Whether this is a string without escapes.
    pub(super) plain: bool,
}

/// A valid JSON text and the position of each of its values.
#[derive(Clone, Debug)]
pub struct Document<'t> {
    text: &'t str,
    /// In the order of the text; never empty.
    nodes: Vec<Node>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str, nodes: Vec<Node>) -> Self {
        Self { text, nodes }
    }

    /// Returns the text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Returns the root value.
    pub fn root(&self) -> Value<'_> {
        Value { text: self.text, nodes: &self.nodes, at: 0 }
    }

    /// Returns the number of values and keys.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether there are no nodes. Always false for a valid text.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// A value of a document. Copying it is as cheap as copying a reference.
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    text: &'d str,
    nodes: &'d [Node],
    at: u32,
}

impl<'d> Value<'d> {
    fn node(&self) -> Node {
        self.nodes[self.at as usize]
    }

    fn sibling(&self, at: u32) -> Self {
        Self { at, ..*self }
    }

    /// Returns the type of the value.
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// Returns the span of the value in the text.
    pub fn span(&self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// Returns the text of the value, as it was written.
    pub fn raw(&self) -> &'d str {
        &self.text[self.span()]
    }

    /// Returns the text of the value as bytes.
    pub(super) fn bytes(&self) -> &'d [u8] {
        let node = self.node();
        &self.text.as_bytes()[node.start as usize..node.end as usize]
    }

    /// Returns the bytes between the quotes of a string.
    pub(super) fn inside(&self) -> &'d [u8] {
        let bytes = self.bytes();
        bytes.get(1..bytes.len() - 1).unwrap_or_default()
    }

    /// Returns whether a scalar's text is its canonical spelling.
    pub(super) fn is_plain(&self) -> bool {
        self.node().plain
    }

    /// Returns the value of the member with this key.
    pub(super) fn member(&self) -> Self {
        self.sibling(self.at + 1)
    }

    /// Returns the number of values and keys that it consists of, including itself.
    pub fn nodes(&self) -> usize {
        (self.node().next - self.at) as usize
    }

    /// Returns whether it is an array or an object.
    pub fn is_container(&self) -> bool {
        matches!(self.kind(), Kind::Array | Kind::Object)
    }

    /// Returns the content of a string in its canonical spelling, or the text of any other value.
    pub fn content(&self) -> Cow<'d, str> {
        let node = self.node();
        if node.kind != Kind::String {
            return Cow::Borrowed(self.raw());
        }
        let inside = &self.text[node.start as usize + 1..node.end as usize - 1];
        if node.plain { Cow::Borrowed(inside) } else { text::content(inside) }
    }

    /// Returns the decoded string; `None` for any other type.
    pub fn as_str(&self) -> Option<Cow<'d, str>> {
        let node = self.node();
        (node.kind == Kind::String).then(|| text::unescape(&self.text[node.start as usize + 1..node.end as usize - 1]))
    }

    /// Returns the members of an object, as keys (which are strings) and values, in the order of the text.
    pub fn members(&self) -> impl Iterator<Item = (Self, Self)> + Clone + use<'d> {
        let whole = *self;
        let node = self.node();
        let mut at = if node.kind == Kind::Object { self.at + 1 } else { node.next };
        std::iter::from_fn(move || {
            if at >= node.next {
                return None;
            }
            let member = (whole.sibling(at), whole.sibling(at + 1));
            at = member.1.node().next;
            Some(member)
        })
    }

    /// Returns the items of an array.
    pub fn items(&self) -> impl Iterator<Item = Self> + Clone + use<'d> {
        let whole = *self;
        let node = self.node();
        let mut at = if node.kind == Kind::Array { self.at + 1 } else { node.next };
        std::iter::from_fn(move || {
            if at >= node.next {
                return None;
            }
            let item = whole.sibling(at);
            at = item.node().next;
            Some(item)
        })
    }
}
