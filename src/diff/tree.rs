//! Where two JSON values differ.
//!
//! Unchanged parts are compared as bytes and never looked into; where bytes differ, the walk goes one level deeper. Objects
//! are compared by key, arrays as `lists` says. An object that holds a key twice has no members that a path could name, so
//! it is only ever replaced as a whole.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Budget, Exhausted, lists};
use crate::json::{self, Kind, Value};

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub enum Step<'d> {
    /// The member with this key.
    Key(Value<'d>),
    /// The item at this place, of the array as it is when the edit is made.
    Item(usize),
}

/// One change, made at a path after all those before it.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'d> {
    /// There is something new: a member, or an item before the one that is there now.
    Add(Value<'d>),
    /// Something is gone.
    Remove(Value<'d>),
    /// Something else takes its place.
    Replace(Value<'d>, Value<'d>),
    /// The item from that place of the same array is here now, where places are counted without it.
    Move(usize, Value<'d>),
}

/// Takes edits as they are found.
pub trait Edits<'d> {
    /// Takes one.
    ///
    /// # Errors
    /// When it will take no more; the walk ends there.
    fn edit(&mut self, path: &[Step<'d>], edit: Edit<'d>) -> Result<(), Exhausted>;

    /// How much was taken so far.
    fn mark(&self) -> usize {
        0
    }

    /// All that was taken since `mark` turned `old` into `new`, both at `path`: the chance to say so in another way.
    fn settle(&mut self, _mark: usize, _path: &[Step<'d>], _old: Value<'d>, _new: Value<'d>) {}
}

/// Finds what turns `old` into `new`.
///
/// # Errors
/// If it takes more steps than `budget` has, or `edits` takes no more.
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

    /// Takes an edit at `step` below the path.
    pub(super) fn edit(&mut self, step: Step<'d>, edit: Edit<'d>) -> Result<(), Exhausted> {
        self.path.push(step);
        self.edits.edit(&self.path, edit)?;
        self.path.pop();
        Ok(())
    }

    /// Compares a pair at `step` below the path.
    pub(super) fn below(&mut self, step: Step<'d>, old: Value<'d>, new: Value<'d>) -> Result<(), Exhausted> {
        self.path.push(step);
        self.pair(old, new)?;
        self.path.pop();
        Ok(())
    }

    /// Whether two values mean the same.
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
        // What is gone goes first, in the order of the text.
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

/// Whether no key of `object` occurs twice.
pub(super) fn is_distinct(object: Value<'_>, budget: &mut Budget) -> Result<bool, Exhausted> {
    // Equal fingerprints of keys that differ are as good as never; they would cost a larger patch, not a wrong one.
    let mut keys: Vec<u64> =
        object.members().map(|(key, _)| xxhash_rust::xxh3::xxh3_64(key.content().as_bytes())).collect();
    budget.spend(2 * keys.len())?;
    keys.sort_unstable();
    Ok(keys.windows(2).all(|pair| pair[0] != pair[1]))
}
