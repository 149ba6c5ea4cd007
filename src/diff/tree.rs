//! Walks two JSON values and reports their differences.
//!
//! Parts with equal bytes are skipped; where the bytes differ, the walk goes one level deeper. Objects are compared by
//! key, arrays as `lists` describes. A path cannot name the members of an object with duplicate keys, so such an object
//! is only replaced as a whole.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Budget, Exhausted, lists};
use crate::json::{self, Kind, Value};

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub enum Step<'d> {
    /// The member with this key.
    Key(Value<'d>),
    /// The item at this index of the array in its state when the edit is made.
    Item(usize),
}

/// One change. Its path refers to the document after all previous edits.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'d> {
    /// Adds a member, or an item before the item at this index.
    Add(Value<'d>),
    /// Removes a member or an item.
    Remove(Value<'d>),
    /// Replaces a value by another one.
    Replace(Value<'d>, Value<'d>),
    /// Moves the item from that index of the same array to here. The target index does not count the item itself.
    Move(usize, Value<'d>),
}

/// Receives edits as they are found.
pub trait Edits<'d> {
    /// Receives one edit.
    ///
    /// # Errors
    /// Returns [`Exhausted`] when it accepts no more edits, which ends the walk.
    fn edit(&mut self, path: &[Step<'d>], edit: Edit<'d>) -> Result<(), Exhausted>;

    /// Returns the amount of output so far, as a mark for `settle`.
    fn mark(&self) -> usize {
        0
    }

    /// Called when all edits since `mark` together turned `old` into `new`, both at `path`. The receiver may express
    /// them in another way.
    fn settle(&mut self, _mark: usize, _path: &[Step<'d>], _old: Value<'d>, _new: Value<'d>) {}
}

/// Finds the edits that turn `old` into `new`.
///
/// # Errors
/// Returns [`Exhausted`] if the walk takes more steps than `budget` has, or if `edits` accepts no more.
pub fn edits<'d>(
    old: Value<'d>,
    new: Value<'d>,
    edits: &mut dyn Edits<'d>,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    Walk { edits, budget, path: Vec::new() }.pair(old, new)
}

pub(super) struct Walk<'w, 'd> {
    pub(super) edits: &'w mut dyn Edits<'d>,
    pub(super) budget: &'w mut Budget,
    path: Vec<Step<'d>>,
}

impl<'d> Walk<'_, 'd> {
    fn pair(&mut self, old: Value<'d>, new: Value<'d>) -> Result<(), Exhausted> {
        self.budget.read(old.raw().len().min(new.raw().len()))?;
        if old.raw() == new.raw() {
            return Ok(());
        }
        let mark = self.edits.mark();
        match (old.kind(), new.kind()) {
            (Kind::Object, Kind::Object) => self.objects(old, new)?,
            (Kind::Array, Kind::Array) => self.lists(old, new)?,
            (Kind::String, Kind::String) if old.content() == new.content() => return Ok(()),
            _ => return self.edits.edit(&self.path, Edit::Replace(old, new)),
        }
        self.edits.settle(mark, &self.path, old, new);
        Ok(())
    }

    /// Emits an edit at `step` below the current path.
    pub(super) fn edit(&mut self, step: Step<'d>, edit: Edit<'d>) -> Result<(), Exhausted> {
        self.path.push(step);
        self.edits.edit(&self.path, edit)?;
        self.path.pop();
        Ok(())
    }

    /// Compares a pair of values at `step` below the current path.
    pub(super) fn below(&mut self, step: Step<'d>, old: Value<'d>, new: Value<'d>) -> Result<(), Exhausted> {
        self.path.push(step);
        self.pair(old, new)?;
        self.path.pop();
        Ok(())
    }

    /// Returns whether two values mean the same.
    pub(super) fn same(&mut self, old: Value<'d>, new: Value<'d>) -> Result<bool, Exhausted> {
        if old.raw() == new.raw() {
            self.budget.read(old.raw().len())?;
            return Ok(true);
        }
        if old.kind() != new.kind() || old.nodes() != new.nodes() {
            self.budget.spend(1)?;
            return Ok(false);
        }
        self.budget.spend(old.nodes())?;
        Ok(json::same(old, new))
    }

    fn objects(&mut self, old: Value<'d>, new: Value<'d>) -> Result<(), Exhausted> {
        let lockstep = old.members().map(|(key, _)| key.raw()).eq(new.members().map(|(key, _)| key.raw()));
        let distinct = is_distinct(old, self.budget)? && (lockstep || is_distinct(new, self.budget)?);
        if !distinct {
            return if self.same(old, new)? { Ok(()) } else { self.edits.edit(&self.path, Edit::Replace(old, new)) };
        }
        if lockstep {
            for ((key, old), (_, new)) in old.members().zip(new.members()) {
                self.below(Step::Key(key), old, new)?;
            }
            return Ok(());
        }
        let mut left: HashMap<Cow<'d, str>, (Value<'d>, Value<'d>)> =
            old.members().map(|(key, value)| (key.content(), (key, value))).collect();
        let mut found: Vec<(Value<'d>, Option<Value<'d>>, Value<'d>)> = Vec::new();
        for (key, value) in new.members() {
            found.push((key, left.remove(&key.content()).map(|(_, old)| old), value));
        }
        self.budget.spend(4 * found.len() + left.len())?;
        // Removed members come first, in the order of the text.
        for (key, value) in old.members().filter(|(key, _)| !left.is_empty() && left.contains_key(&key.content())) {
            self.edit(Step::Key(key), Edit::Remove(value))?;
        }
        for (key, old, new) in found {
            match old {
                Some(old) => self.below(Step::Key(key), old, new)?,
                None => self.edit(Step::Key(key), Edit::Add(new))?,
            }
        }
        Ok(())
    }

    fn lists(&mut self, old: Value<'d>, new: Value<'d>) -> Result<(), Exhausted> {
        let (old, new): (Vec<_>, Vec<_>) = (old.items().collect(), new.items().collect());
        self.budget.spend(old.len() + new.len())?;
        lists::compare(self, &old, &new)
    }
}

/// Returns whether all keys of `object` are distinct.
pub(super) fn is_distinct(object: Value<'_>, budget: &mut Budget) -> Result<bool, Exhausted> {
    // A collision of 64-bit hashes is negligible, and would cost a larger patch, not a wrong one.
    let mut keys: Vec<u64> =
        object.members().map(|(key, _)| xxhash_rust::xxh3::xxh3_64(key.content().as_bytes())).collect();
    budget.spend(2 * keys.len())?;
    keys.sort_unstable();
    Ok(keys.windows(2).all(|pair| pair[0] != pair[1]))
}
