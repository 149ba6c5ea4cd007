//! Triggers of fetches before the interval has elapsed.

mod debounced_counter;
mod file;
mod post_polls;
mod write_relevance;

pub use file::{FileWatch, WatchedFiles};
pub use post_polls::PostPollDetector;
pub use write_relevance::WriteRelevance;
