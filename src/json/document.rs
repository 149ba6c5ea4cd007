//! A parsed text, and views of the values in it.

use std::borrow::Cow;
use std::ops::Range;

use super::text;

/// What a value is.
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

/// A value, or the key of a member, which stands before its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Where its text begins.
    pub(super) start: u32,
    /// Where its text ends.
    pub(super) end: u32,
    /// The node behind all that it contains.
    pub(super) next: u32,
    pub(super) kind: Kind,
    /// Whether this is a string without escapes.
    pub(super) plain: bool,
}

/// A valid JSON text and where each of its values stands.
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

    /// The text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The one value of the text.
    pub fn root(&self) -> Value<'_> {
        Value { text: self.text, nodes: &self.nodes, at: 0 }
    }

    /// How many values and keys there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none, which no valid text can be.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// A value of a document. As cheap to copy as a reference.
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

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the text.
    pub fn span(&self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// Its text, as it was written.
    pub fn raw(&self) -> &'d str {
        &self.text[self.span()]
    }

    /// Its text, as bytes.
    pub(super) fn bytes(&self) -> &'d [u8] {
        let node = self.node();
        &self.text.as_bytes()[node.start as usize..node.end as usize]
    }

    /// What stands between the quotes of a string.
    pub(super) fn inside(&self) -> &'d [u8] {
        let bytes = self.bytes();
        bytes.get(1..bytes.len() - 1).unwrap_or_default()
    }

    /// Whether its text is its canonical spelling, if it is no container.
    pub(super) fn is_plain(&self) -> bool {
        self.node().plain
    }

    /// The value of the member whose key this is.
    pub(super) fn member(&self) -> Self {
        self.sibling(self.at + 1)
    }

    /// How many values and keys it consists of, itself among them.
    pub fn nodes(&self) -> usize {
        (self.node().next - self.at) as usize
    }

    /// Whether it is an array or an object.
    pub fn is_container(&self) -> bool {
        matches!(self.kind(), Kind::Array | Kind::Object)
    }

    /// The content of a string, in its canonical spelling; for anything else, its text.
    pub fn content(&self) -> Cow<'d, str> {
        let node = self.node();
        if node.kind != Kind::String {
            return Cow::Borrowed(self.raw());
        }
        let inside = &self.text[node.start as usize + 1..node.end as usize - 1];
        if node.plain { Cow::Borrowed(inside) } else { text::content(inside) }
    }

    /// What a string says; `None` for anything else.
    pub fn as_str(&self) -> Option<Cow<'d, str>> {
        let node = self.node();
        (node.kind == Kind::String).then(|| text::unescape(&self.text[node.start as usize + 1..node.end as usize - 1]))
    }

    /// The members of an object, as keys (which are strings) and values, in the order of the text.
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

    /// The items of an array.
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
