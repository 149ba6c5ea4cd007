//! One watched resource: its pure state machine, and the handle by which poller and clients share it.
//!
//! ```text
//! Look ──▶ State::observe ──▶ Head (history, condition) ──ArcSwap──▶ Cursor::next ──▶ Update (a snapshot, or a patch)
//!          (poller's task)          └── bells ring ──────────────────▶ (each client's task)
//! ```
//!
//! A subscriber is a cursor into the shared history and a bell, never a queue: a client that is slow finds the newest
//! head when it comes back, and what it missed has cost nothing.

mod advice;
mod askers;
mod bell;
mod cookies;
mod cursor;
mod head;
mod history;
mod ledger;
mod look;
mod patch;
mod pulse;
mod seat;
mod shared;
mod state;
mod trigger;
mod waiting;

pub use advice::route_to_paste;
pub use askers::Asking;
pub use bell::Bell;
pub use cookies::{CookieIndex, Registered, Revocable};
pub use cursor::Cursor;
pub use head::{Condition, Ended, Head, Looked};
pub use history::{History, Options as HistoryOptions};
pub use ledger::Entry;
pub use look::{Decline, Failure, Look, Outcome, Refusal};
pub use pulse::{Heard, Listening, Pulse, UNKNOWN};
pub use seat::Seat;
pub use shared::{Pace, Resource, Retire, SETTLED, Subscription};
pub use state::{State, Verdict};
pub use trigger::Trigger;
pub use waiting::Patience;
