//! Builds an outline from a text in one pass.

use memchr::{memchr, memmem};

use super::Dialect;
use super::html::{self, Tag};
use super::outline::{Attribute, NONE, Node, Outline};

/// The maximum number of open elements. Deeper elements count as empty; browsers flatten them similarly.
const MAX_OPEN: usize = 256;

impl<'t> Outline<'t> {
    /// Reads `text`. Returns `None` only if it is longer than 4 GiB.
    pub fn read(text: &'t str, dialect: Dialect) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let outline = Outline { text, dialect, nodes: Vec::new(), attributes: Vec::new() };
        let mut scanner =
            Scanner { bytes: text.as_bytes(), at: 0, outline, open: Vec::new(), too_deep: 0, last_root: NONE };
        scanner.run();
        Some(scanner.outline)
    }
}

/// An element that is open.
struct Open {
    node: u32,
    tag: Tag,
    last_child: u32,
    children: u32,
}

struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
    outline: Outline<'t>,
    open: Vec<Open>,
    /// The number of open elements beyond the limit.
    too_deep: usize,
    last_root: u32,
}

impl<'t> Scanner<'t> {
    fn run(&mut self) {
        while let Some(found) = self.bytes.get(self.at..).and_then(|rest| memchr(b'<', rest)) {
            self.at += found;
            match self.bytes.get(self.at + 1) {
                Some(b'!') => self.declaration(),
                Some(b'?') => {
                    let end: &[u8] = if self.outline.dialect == Dialect::Xml { b"?>" } else { b">" };
                    self.skip_past(2, end);
                }
                Some(b'/') => self.end_tag(),
                Some(byte) if is_name_start(*byte, self.outline.dialect) => self.start_tag(),
                _ => self.at += 1,
            }
        }
        let end = self.bytes.len();
        self.close(0, end, end);
    }

    /// Moves behind the next occurrence of `end` at least `from` bytes ahead, or to the end of the text if there is
    /// none.
    fn skip_past(&mut self, from: usize, end: &[u8]) {
        let start = (self.at + from).min(self.bytes.len());
        self.at = match memmem::find(&self.bytes[start..], end) {
            Some(found) => start + found + end.len(),
            None => self.bytes.len(),
        };
    }

    fn declaration(&mut self) {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"<!-->") {
            self.at += 5;
        } else if rest.starts_with(b"<!--") {
            self.skip_past(4, b"-->");
        } else if self.outline.dialect == Dialect::Xml && rest.starts_with(b"<![CDATA[") {
            self.skip_past(9, b"]]>");
        } else {
            self.skip_past(2, b">");
        }
    }

    fn name(&mut self) -> &'t str {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|byte| !byte.is_ascii_whitespace() && !b"/>".contains(byte)) {
            self.at += 1;
        }
        &self.outline.text[start..self.at]
    }

    fn end_tag(&mut self) {
        let start = self.at;
        self.at += 2;
        let name = self.name();
        self.skip_past(0, b">");
        if self.too_deep > 0 {
            self.too_deep -= 1;
            return;
        }
        let html = self.outline.dialect == Dialect::Html;
        let tag = if html { html::tag(name) } else { 0 };
        for (depth, open) in self.open.iter().enumerate().rev() {
            let known = self.outline.element(open.node).name();
            if if html { known.eq_ignore_ascii_case(name) } else { known == name } {
                self.close(depth + 1, start, start);
                self.close(depth, start, self.at);
                return;
            }
            if html && !html::end_tag_may_close(tag, open.tag) {
                return;
            }
        }
    }

    /// Closes all open elements from `depth` on. Their content ends at `inner_end`, the elements themselves at `end`.
    fn close(&mut self, depth: usize, inner_end: usize, end: usize) {
        for open in self.open.drain(depth.min(self.open.len())..) {
            let node = &mut self.outline.nodes[open.node as usize];
            node.inner_end = inner_end as u32;
            node.end = end as u32;
        }
    }

    fn start_tag(&mut self) {
        let start = self.at;
        self.at += 1;
        let name = self.name();
        let html = self.outline.dialect == Dialect::Html;
        let tag = if html { html::tag(name) } else { 0 };
        self.close_implied(tag, start);
        let name_end = self.at;
        let attributes = self.outline.attributes.len() as u32;
        let closed = self.attributes();
        let at = self.outline.nodes.len() as u32;
        let (parent, previous, nth) = match self.open.last_mut() {
            Some(open) => {
                open.children += 1;
                (open.node, std::mem::replace(&mut open.last_child, at), open.children)
            }
            None => {
                let previous = std::mem::replace(&mut self.last_root, at);
                let before = if previous == NONE { 0 } else { self.outline.nodes[previous as usize].nth };
                (NONE, previous, before + 1)
            }
        };
        let inner = self.at as u32;
        self.outline.nodes.push(Node {
            start: start as u32,
            name_end: name_end as u32,
            inner,
            inner_end: inner,
            end: inner,
            parent,
            previous,
            nth,
            attributes: (attributes, self.outline.attributes.len() as u32),
        });
        if html::is_void(tag) || !html && closed {
            return;
        }
        if self.open.len() == MAX_OPEN {
            self.too_deep += 1;
        } else {
            self.open.push(Open { node: at, tag, last_child: NONE, children: 0 });
        }
        if html::is_raw(tag) {
            self.raw_text(name);
        }
    }

    /// Moves to the end tag of a raw text element.
    fn raw_text(&mut self, name: &str) {
        let mut from = self.at;
        while let Some(found) = memmem::find(&self.bytes[from..], b"</") {
            let start = from + found;
            let behind = &self.bytes[start + 2..];
            let named = behind.get(..name.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(name.as_bytes()));
            let ends = behind.get(name.len()).is_none_or(|byte| byte.is_ascii_whitespace() || b"/>".contains(byte));
            if named && ends {
                self.at = start;
                return;
            }
            from = start + 2;
        }
        self.at = self.bytes.len();
    }

    /// Closes the open elements that a `tag` implicitly closes.
    fn close_implied(&mut self, tag: Tag, start: usize) {
        let (ended, barriers) = html::ended_by(tag);
        if ended == 0 {
            return;
        }
        let mut from = None;
        for (depth, open) in self.open.iter().enumerate().rev() {
            if open.tag & ended != 0 {
                from = Some(depth);
            } else if open.tag & barriers != 0 {
                break;
            }
        }
        if let Some(depth) = from {
            self.close(depth, start, start);
        }
    }

    /// Reads attributes up to the end of the tag. Returns whether it ends in `/>`.
    fn attributes(&mut self) -> bool {
        loop {
            let span = self.at;
            self.space();
            match self.bytes.get(self.at) {
                None => return false,
                Some(b'>') => {
                    self.at += 1;
                    return false;
                }
                Some(b'/') => {
                    self.at += 1;
                    if self.bytes.get(self.at) == Some(&b'>') {
                        self.at += 1;
                        return true;
                    }
                }
                Some(_) => self.attribute(span),
            }
        }
    }

    fn attribute(&mut self, span: usize) {
        let name = self.at;
        // A leading equals sign belongs to the name.
        self.at += 1;
        while self.bytes.get(self.at).is_some_and(|byte| !byte.is_ascii_whitespace() && !b"/>=".contains(byte)) {
            self.at += 1;
        }
        let name = name..self.at;
        let end = self.at;
        self.space();
        if self.bytes.get(self.at) != Some(&b'=') {
            self.at = end;
            return self.push_attribute(span, name, end..end);
        }
        self.at += 1;
        self.space();
        let value = match self.bytes.get(self.at) {
            Some(&quote @ (b'"' | b'\'')) => {
                let start = self.at + 1;
                self.skip_past(1, &[quote]);
                let closed = self.at > start && self.bytes.get(self.at - 1) == Some(&quote);
                start..if closed { self.at - 1 } else { self.at }
            }
            _ => {
                let start = self.at;
                while self.bytes.get(self.at).is_some_and(|byte| !byte.is_ascii_whitespace() && *byte != b'>') {
                    self.at += 1;
                }
                start..self.at
            }
        };
        self.push_attribute(span, name, value);
    }

    fn push_attribute(&mut self, span: usize, name: std::ops::Range<usize>, value: std::ops::Range<usize>) {
        self.outline.attributes.push(Attribute {
            span: span as u32..self.at as u32,
            name: name.start as u32..name.end as u32,
            value: value.start as u32..value.end as u32,
        });
    }

    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

fn is_name_start(byte: u8, dialect: Dialect) -> bool {
    byte.is_ascii_alphabetic() || dialect == Dialect::Xml && (byte == b'_' || byte == b':' || byte >= 0x80)
}
