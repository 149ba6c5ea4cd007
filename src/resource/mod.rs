//! One watched resource: its pure state machine, and the handle by which poller and clients share it.
//!
//! ```text
//! CompletedFetch ──▶ StateMachine::observe ──▶ ResourceState (history, condition) ──ArcSwap──▶ Cursor::next ──▶ Update (a snapshot, or a patch)
//!          (poller's task)          └── notifications ───────────────▶ (each client's task)
//! ```
//!
//! A subscriber is a cursor into the shared history and a wake-up, never a queue: a slow client finds the newest state
//! when it comes back, and missed versions cost nothing.

mod askers;
mod cookies;
mod cursor;
mod fence;
mod fetch;
mod fetch_log;
mod handle;
mod history;
mod noise;
mod page;
mod patch;
mod registry;
mod replica_affinity;
mod route_events;
mod siblings;
mod state;
mod state_machine;
mod subscribers;
mod task_notify;
mod trigger;
mod volatility;
mod waiting;

pub use askers::Asking;
pub use cookies::{CookieIndex, Registered, Revocable};
pub use cursor::Cursor;
pub use fence::{ClientFence, FenceListener, Writing};
pub use fetch::{CompletedFetch, Decline, Failure, FetchOutcome, Refusal};
pub use fetch_log::FetchLogEntry;
pub use handle::{MIN_AGE_FOR_ROTATION, Resource};
pub use history::{History, Options as HistoryOptions};
pub use noise::{NOISE_LASTS, noise_lasts};
pub use page::{Fetching, Page};
pub use registry::{Evidence, ResourceRegistry};
pub use replica_affinity::ReplicaAffinity;
pub use route_events::{EventListener, EventsSince, RouteEvents, UNKNOWN_WRITE};
pub use siblings::Siblings;
pub use state::{Ended, FetchTimes, ResourceState, ResourceStatus};
pub use state_machine::{StateMachine, Verdict};
pub use subscribers::{ClientInterval, Subscription};
pub use task_notify::TaskNotify;
pub use trigger::Trigger;
pub use volatility::{route_of_rules, route_to_paste};
pub use waiting::WaitLimit;
