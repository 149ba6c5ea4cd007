//! Reasons to look before the interval is over.

mod file;
mod repetition;

pub use file::{FileWatch, Watched};
pub use repetition::Repetitions;
