//! JSON Merge Patch (RFC 7396).

use std::borrow::Cow;
use std::collections::HashMap;

use super::tree::is_distinct;
use super::{Budget, Differ, NoDelta, room};
use crate::json::{self, Document, Kind, Value, minified};
use crate::model::DeltaKind;

/// In a merge patch, `null` removes a member. A target in which a changed member *is* `null` is therefore
/// inexpressible. Arrays are replaced as a whole.
#[derive(Debug)]
pub(super) struct MergePatch;

impl Differ for MergePatch {
    fn kind(&self) -> DeltaKind {
        DeltaKind::MergePatch
    }

    fn diff(&self, base: &str, target: &str, budget: &mut Budget) -> Result<Vec<u8>, NoDelta> {
        budget.read(base.len() + target.len())?;
        let base = Document::parse(base).map_err(|_| NoDelta::Inexpressible)?;
        let document = Document::parse(target).map_err(|_| NoDelta::Inexpressible)?;
        let mut writer = Writer { out: Vec::new(), most: room(target), budget };
        match document.root().kind() {
            Kind::Object => writer.change(Some(base.root()), document.root())?,
            _ => minified(document.root(), &mut writer.out),
        }
        Ok(writer.out)
    }
}

struct Writer<'b> {
    out: Vec<u8>,
    /// The length at which the patch becomes useless.
    most: usize,
    budget: &'b mut Budget,
}

impl Writer<'_> {
    /// Writes the patch that, merged into `old`, yields `new`.
    fn change(&mut self, old: Option<Value<'_>>, new: Value<'_>) -> Result<(), NoDelta> {
        self.budget.spend(1)?;
        match new.kind() {
            Kind::Null => return Err(NoDelta::Inexpressible),
            Kind::Object => {
                if !is_distinct(new, self.budget)? {
                    return Err(NoDelta::Inexpressible);
                }
                match old.filter(|old| old.kind() == Kind::Object) {
                    Some(old) => self.members(old, new)?,
                    None => self.whole(new)?,
                }
            }
            _ => minified(new, &mut self.out),
        }
        if self.out.len() < self.most { Ok(()) } else { Err(NoDelta::Size) }
    }

    fn members(&mut self, old: Value<'_>, new: Value<'_>) -> Result<(), NoDelta> {
        if !is_distinct(old, self.budget)? {
            return Err(NoDelta::Inexpressible);
        }
        self.out.push(b'{');
        let empty = self.out.len();
        let mut left: HashMap<Cow<'_, str>, Value<'_>> =
            old.members().map(|(key, value)| (key.content(), value)).collect();
        for (key, value) in new.members() {
            self.budget.read(value.raw().len())?;
            self.budget.spend(4)?;
            let before = left.remove(&key.content());
            if !before.is_some_and(|before| json::same(before, value)) {
                self.key(key, empty);
                self.change(before, value)?;
            }
        }
        for (key, _) in old.members().filter(|(key, _)| !left.is_empty() && left.contains_key(&key.content())) {
            self.budget.spend(1)?;
            self.key(key, empty);
            self.out.extend_from_slice(b"null");
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes an object that has no counterpart in the old document.
    fn whole(&mut self, new: Value<'_>) -> Result<(), NoDelta> {
        self.out.push(b'{');
        let empty = self.out.len();
        for (key, value) in new.members() {
            self.key(key, empty);
            self.change(None, value)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn key(&mut self, key: Value<'_>, empty: usize) {
        if self.out.len() > empty {
            self.out.push(b',');
        }
        self.out.extend_from_slice(key.raw().as_bytes());
        self.out.push(b':');
    }
}
