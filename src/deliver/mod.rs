//! Every way to hold a client.
//!
//! ```text
//! Subscription ─ Cursor::next ─▶ Update ─ Delivery::frame ─▶ Frame (encoded once, shared) ─▶ Wire (HTTP/1.1 or HTTP/2)
//!                                └────────────── session: the held loop ──────────────────┘
//! ```

mod frame;
mod plain;
mod poll;
mod session;
mod sse;
mod streams;
mod wire;

pub use frame::Frame;
pub use plain::{Answer, from_memory};
pub use poll::{Habits, HeldPoll, Hold, Outcome as PollOutcome};
pub use session::{Ready, Session, await_ready};
pub use streams::{Overload, Place, Streams, StreamsOptions};
pub use wire::{H1, Wire};

use std::time::Duration;

use crate::model::{Shape, Update};

/// How a route's streams are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The longest silence on a stream.
    pub heartbeat: Duration,
    /// About how long a stream lives.
    pub max_age: Duration,
    /// When a client is asked to come back; each stream is told its own moment near it.
    pub retry: Duration,
    /// How long a client may take to accept what is written to it.
    pub write_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            max_age: Duration::from_secs(600),
            retry: Duration::from_secs(2),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// A way to hold a client: how updates look on the wire. Encoding is pure; the held loop does the rest.
pub trait Delivery: Send + Sync + 'static {
    /// Its name in `transports`, in metrics and in the admin API.
    fn name(&self) -> &'static str;

    /// What a client asks for it with in `Accept`.
    fn accept(&self) -> &'static str;

    /// The `Content-Type` of the stream.
    fn content_type(&self) -> &'static str;

    /// What every stream begins with.
    fn preamble(&self, retry: Duration) -> Frame;

    /// One update. What depends on the snapshot alone is encoded once and shared.
    fn frame(&self, update: &Update) -> Frame;

    /// What clients hold of a body that was sent in this form: what their deltas are made for.
    fn shape(&self) -> Shape {
        Shape::Record
    }

    /// How this delivery looks to a client that takes deltas, if that is different.
    fn with_deltas(&self) -> Option<&'static dyn Delivery> {
        None
    }

    /// What breaks a long silence.
    fn heartbeat(&self) -> Frame;
}

/// All deliveries that are asked for by `Accept` on the resource's own URL.
pub static ALL: &[&dyn Delivery] = &[&sse::PLAIN];
