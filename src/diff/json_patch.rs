//! JSON Patch (RFC 6902).

use super::tree::{Edit, Edits, Step};
use super::{Budget, Differ, Exhausted, NoDelta, edits, room};
use crate::json::{Document, Value, minified};
use crate::model::DeltaKind;

/// Copies values out of the target exactly as they are written there, so numbers stay exact.
#[derive(Debug)]
pub(super) struct JsonPatch;

impl Differ for JsonPatch {
    fn kind(&self) -> DeltaKind {
        DeltaKind::JsonPatch
    }

    fn diff(&self, base: &str, target: &str, budget: &mut Budget) -> Result<Vec<u8>, NoDelta> {
        budget.read(base.len() + target.len())?;
        let base = Document::parse(base).map_err(|_| NoDelta::Inexpressible)?;
        let document = Document::parse(target).map_err(|_| NoDelta::Inexpressible)?;
        let mut patch = Patch { out: vec![b'['], most: room(target), full: false };
        let walked = edits(base.root(), document.root(), &mut patch, budget);
        if patch.full {
            return Err(NoDelta::Size);
        }
        walked?;
        patch.out.push(b']');
        Ok(patch.out)
    }
}

/// A patch document under construction.
struct Patch {
    out: Vec<u8>,
    /// The length at which the patch becomes useless.
    most: usize,
    full: bool,
}

/// The bytes that a replace operation takes besides its path and its value.
const REPLACE_OVERHEAD: usize = r#"{"op":"replace","path":"","value":},"#.len();

impl<'d> Edits<'d> for Patch {
    fn edit(&mut self, path: &[Step<'d>], edit: Edit<'d>) -> Result<(), Exhausted> {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        match edit {
            Edit::Add(value) => self.operation("add", path, Some(value)),
            Edit::Remove(_) => self.operation("remove", path, None),
            Edit::Replace(_, value) => self.operation("replace", path, Some(value)),
            Edit::Move(from, _) => {
                self.out.extend_from_slice(br#"{"op":"move","from":""#);
                let parent = path.split_last().map_or(path, |(_, parent)| parent);
                pointer(parent, &mut self.out);
                pointer(&[Step::Item(from)], &mut self.out);
                self.out.extend_from_slice(br#"","path":""#);
                pointer(path, &mut self.out);
                self.out.extend_from_slice(b"\"}");
            }
        }
        self.full = self.out.len() >= self.most;
        if self.full { Err(Exhausted) } else { Ok(()) }
    }

    fn mark(&self) -> usize {
        self.out.len()
    }

    fn settle(&mut self, mark: usize, path: &[Step<'d>], old: Value<'d>, new: Value<'d>) {
        let spent = self.out.len() - mark;
        // A cheap upper bound: escaped keys and white space make both terms a little larger than the real size.
        let path_length: usize = path.iter().map(Step::width).sum();
        if spent > REPLACE_OVERHEAD + path_length + new.raw().len() {
            self.out.truncate(mark);
            // The patch only became shorter, so there is room.
            let _ = self.edit(path, Edit::Replace(old, new));
        }
    }
}

impl Patch {
    fn operation(&mut self, name: &str, path: &[Step<'_>], value: Option<Value<'_>>) {
        self.out.extend_from_slice(br#"{"op":""#);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(br#"","path":""#);
        pointer(path, &mut self.out);
        self.out.push(b'"');
        if let Some(value) = value {
            self.out.extend_from_slice(br#","value":"#);
            minified(value, &mut self.out);
        }
        self.out.push(b'}');
    }
}

impl Step<'_> {
    /// Returns the approximate number of bytes that this step takes in a pointer.
    fn width(&self) -> usize {
        match self {
            Self::Key(key) => key.raw().len(),
            Self::Item(_) => 6,
        }
    }
}

/// Writes a JSON Pointer (RFC 6901), escaped for use inside a JSON string.
fn pointer(path: &[Step<'_>], out: &mut Vec<u8>) {
    for step in path {
        out.push(b'/');
        match step {
            Step::Item(at) => out.extend_from_slice(at.to_string().as_bytes()),
            Step::Key(key) => {
                for byte in key.content().bytes() {
                    match byte {
                        b'~' => out.extend_from_slice(b"~0"),
                        b'/' => out.extend_from_slice(b"~1"),
                        byte => out.push(byte),
                    }
                }
            }
        }
    }
}
