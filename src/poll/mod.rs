//! Fetches the upstream: schedules, limits, requests, and the classification of responses.
//!
//! ```text
//! Schedule, Trigger ──▶ Poller (one task a resource) ──▶ FetchLimiter ──▶ Fetcher ──▶ classify ──▶ CompletedFetch
//!                                                                                  │
//!                                   Resource ◀── Head ── State::observe ◀──────────┘
//! ```

mod classify;
mod cohort;
mod cohorts;
mod early_fetch;
mod effort;
mod fetch_request;
mod fetcher;
mod fetching;
mod limiter;
mod noise;
mod poller;
mod queue;
mod schedule;
mod side_effects;
mod trial;
mod trigger;

pub use classify::{Answer, classify_body, classify_head};
pub use cohorts::Cohorts;
pub use fetch_request::FetchRequest;
pub use fetcher::Fetcher;
pub use limiter::{FetchLimiter, LimiterStats, Options as BudgetOptions, Permit};
pub use noise::NoiseLog;
pub use poller::{Poller, WatchConfig};
pub use queue::Priority;
pub use schedule::{Effort, Options as ScheduleOptions, Schedule};
pub use trigger::{FileWatch, PostPollDetector, WatchedFiles, WriteRelevance};
