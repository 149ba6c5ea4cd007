//! Computes deltas: the smallest description of a change, if it is smaller than the snapshot.
//!
//! ```text
//!                    ┌─ json_patch  ─┐   common: what two sequences share
//! (base, target) ────┼─ merge_patch ─┼── tree:   where two JSON values differ
//!                    └─ splice      ─┘   hunks:  where two texts differ
//!                            └──▶ a patch document, or none: then the snapshot goes out
//! ```
//!
//! A differ is pure and counts its work in steps, so it gives up at the same point on every machine. No pair of
//! documents can delay waiting clients for long.

mod budget;
mod common;
mod hunks;
mod json_patch;
mod lists;
mod merge_patch;
mod splice;
mod tree;

pub use budget::{Budget, Exhausted};
pub use hunks::{Hunk, hunks};
pub use tree::{Edit, Edits, Step, edits};

use crate::model::DeltaKind;

/// Computes one kind of delta.
pub trait Differ: Send + Sync {
    /// Returns the kind of delta that this differ computes.
    fn kind(&self) -> DeltaKind;

    /// Returns a patch document that turns `base` into `target`, up to white space and key order that a client cannot
    /// know. The patch may be larger than the target.
    ///
    /// # Errors
    /// Returns [`NoDelta`] if no patch of this kind exists, or if `budget` is too small to compute it.
    fn diff(&self, base: &str, target: &str, budget: &mut Budget) -> Result<Vec<u8>, NoDelta>;
}

/// All kinds of deltas.
pub static ALL: &[&dyn Differ] = &[&json_patch::JsonPatch, &merge_patch::MergePatch, &splice::Splice];

/// The reason why there is no delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDelta {
    /// Computing it exceeds the step budget.
    #[error("finding it takes more than the steps that are allowed")]
    Budget,
    /// It would not be smaller than the target.
    #[error("it is not smaller than the whole")]
    Size,
    /// This kind of delta cannot express the change.
    #[error("this kind of delta cannot express it")]
    Inexpressible,
}

impl From<Exhausted> for NoDelta {
    fn from(Exhausted: Exhausted) -> Self {
        Self::Budget
    }
}

/// Returns the delta of `kind` from `base` to `target`.
///
/// # Errors
/// Returns [`NoDelta`] if sending the whole target is better.
pub fn delta(kind: DeltaKind, base: &str, target: &str) -> Result<Vec<u8>, NoDelta> {
    let differ = ALL.iter().find(|differ| differ.kind() == kind).ok_or(NoDelta::Inexpressible)?;
    let patch = differ.diff(base, target, &mut Budget::default())?;
    if patch.len() < target.len() { Ok(patch) } else { Err(NoDelta::Size) }
}

/// Returns the maximum length of a patch under construction. It exceeds the length of `target` because parts of the
/// patch may still be shortened.
fn room(target: &str) -> usize {
    2 * target.len() + 1024
}

#[cfg(test)]
mod tests;
