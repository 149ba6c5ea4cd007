//! Looking at the upstream: when, how, and what the answer means.
//!
//! ```text
//! Schedule, Trigger ──▶ Poller (one task a resource) ──▶ Budget ──▶ Fetch ──▶ classify ──▶ Look
//!                                                                                  │
//!                                   Resource ◀── Head ── State::observe ◀──────────┘
//! ```

mod budget;
mod classify;
mod eagerness;
mod fetch;
mod poller;
mod queue;
mod request;
mod schedule;
mod taking;
mod trigger;

pub use budget::{Budget, Options as BudgetOptions, Permit, Spending};
pub use classify::{Answer, judge_body, judge_head};
pub use fetch::Fetch;
pub use poller::{Plan, Poller};
pub use queue::Urgency;
pub use request::WatchRequest;
pub use schedule::{Options as ScheduleOptions, Schedule};
pub use trigger::{Bearings, FileWatch, Repetitions, Watched};
