//! Deltas: the smallest way to say a change, if there is one that is smaller than saying everything again.
//!
//! ```text
//!                    ┌─ json_patch  ─┐   common: what two sequences share
//! (base, target) ────┼─ merge_patch ─┼── tree:   where two JSON values differ
//!                    └─ splice      ─┘   hunks:  where two texts differ
//!                            └──▶ a patch document, or none: then the snapshot goes out
//! ```
//!
//! A differ is pure and counts its work in steps, so that it gives up at the same place on every machine: no pair of
//! documents, however unlike, holds up the clients that wait for it.

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

/// A kind of delta: how it is made.
pub trait Differ: Send + Sync {
    /// Which it is.
    fn kind(&self) -> DeltaKind;

    /// A patch document that makes `target` of `base`, or that of which a client can make it without knowing white space
    /// and key order. It need not be small.
    ///
    /// # Errors
    /// [`NoDelta`] if there is none of this kind, or it is not to be had for so little work.
    fn diff(&self, base: &str, target: &str, budget: &mut Budget) -> Result<Vec<u8>, NoDelta>;
}

/// All kinds of deltas.
pub static ALL: &[&dyn Differ] = &[&json_patch::JsonPatch, &merge_patch::MergePatch, &splice::Splice];

/// Why there is no delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDelta {
    /// It takes more work than it is worth.
    #[error("finding it takes more than the steps that are allowed")]
    Budget,
    /// It would be no smaller than the target.
    #[error("it is not smaller than the whole")]
    Size,
    /// This kind of delta cannot say this change.
    #[error("this kind of delta cannot express it")]
    Inexpressible,
}

impl From<Exhausted> for NoDelta {
    fn from(Exhausted: Exhausted) -> Self {
        Self::Budget
    }
}

/// The delta of `kind` from `base` to `target`.
///
/// # Errors
/// [`NoDelta`] if the whole target is the better thing to send.
pub fn delta(kind: DeltaKind, base: &str, target: &str) -> Result<Vec<u8>, NoDelta> {
    let differ = ALL.iter().find(|differ| differ.kind() == kind).ok_or(NoDelta::Inexpressible)?;
    let patch = differ.diff(base, target, &mut Budget::default())?;
    if patch.len() < target.len() { Ok(patch) } else { Err(NoDelta::Size) }
}

/// How long a patch may become while it is made: more than `target`, since its parts may yet be said in a shorter way, but
/// not without bound.
fn room(target: &str) -> usize {
    2 * target.len() + 1024
}

#[cfg(test)]
mod tests;
