//! Every way to hold a client.
//!
//! ```text
//! Followers ─ Cursor::next ─▶ Update ─ Delivery::frame ─▶ Frame (encoded once, shared) ─▶ Wire (HTTP/1.1 or HTTP/2)
//!     │                       └──────────────── Session: the held loop ────────────────┘
//!     └── one for the resource's own URL; many for a multiplexed stream or a WebSocket, which asks its Desk for more
//! ```

mod delivery;
mod follow;
mod iframe;
mod json_seq;
mod multipart;
mod multiplex;
mod ndjson;
mod plain;
mod poll;
mod record;
mod resume;
mod rhythm;
mod session;
mod sse;
mod streams;
mod websocket;
mod wire;

pub use delivery::{Delivery, Form, Url};
pub use follow::{Asked, Desk, Follower, Followers, Source, Unfollowed};
pub use iframe::Iframe;
pub use multiplex::{MULTIPLEX, MULTIPLEX_EXACT, MULTIPLEX_WITH_HEADERS, resume as resume_multiplexed};
pub use plain::{Answer, CACHE_STATUS, Whole, from_memory};
pub use poll::{Habits, Hold, Holding, Outcome as PollOutcome, Poll};
pub use record::headers_object;
pub use resume::holds_unknown;
pub use rhythm::Treatment;
pub use session::{Ready, STREAM_PATIENCE, Session, await_ready};
pub use streams::{Entering, Overload, Place, Streams, StreamsOptions};
pub use websocket::{Kept, MOST_MESSAGE, MOST_URLS, Replied, Replier, Requested, SUBPROTOCOL, Socket, accept_key};
pub use wire::{Coding, H1, Left, Wire, response_head};

use std::time::Duration;

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

impl Options {
    /// What keeps the promises of both.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        Self {
            heartbeat: self.heartbeat.min(other.heartbeat),
            max_age: self.max_age.min(other.max_age),
            retry: self.retry.max(other.retry),
            write_timeout: self.write_timeout.min(other.write_timeout),
        }
    }
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

/// All deliveries that are asked for by `Accept` on the resource's own URL, most telling first.
pub static ALL: &[&dyn Delivery] = &[&sse::PLAIN, &json_seq::JsonSeq, &ndjson::Ndjson, &multipart::Multipart];
