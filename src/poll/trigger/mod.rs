//! Reasons to look before the interval is over.

mod bearing;
mod file;
mod repetition;
mod tally;

pub use bearing::Bearings;
pub use file::{FileWatch, Watched};
pub use repetition::Repetitions;
