//! Stream formats and the loops that hold clients.
//!
//! ```text
//! UrlSubscriptions ─ Cursor::next ─▶ Update ─ StreamFormat::frame ─▶ Frame (encoded once, shared) ─▶ Downstream (HTTP/1.1 or HTTP/2)
//!     │                       └──────────────── Session: the held loop ────────────────┘
//!     └── one for the resource's own URL; many for a multiplexed stream or a WebSocket, which asks its SubscriptionService for more
//! ```

mod downstream;
mod format;
mod iframe;
mod json_seq;
mod multipart;
mod multiplex;
mod ndjson;
mod noise;
mod poll;
mod record;
mod response;
mod resume;
mod rhythm;
mod session;
mod sse;
mod streams;
mod subscriptions;
mod url_subscription;
mod websocket;

pub use downstream::{Coding, Disconnected, Downstream, H1Connection, response_head};
pub use format::{FormatRef, StreamFormat, Url};
pub use iframe::Iframe;
pub use multiplex::{MULTIPLEX, MULTIPLEX_EXACT, MULTIPLEX_WITH_HEADERS, resume as resume_multiplexed};
pub use poll::{Hold, Holding, Poll, PollClients, PollOutcome};
pub use record::headers_object;
pub use response::{CACHE_STATUS, CachedResponse, LocalResponse, from_memory};
pub use resume::holds_unknown;
pub use rhythm::Treatment;
pub use session::{FirstState, STREAM_FIRST_STATE_TIMEOUT, Session, await_ready};
pub use streams::{AdmissionError, AdmissionRequest, StreamLimiter, StreamPermit, StreamsOptions};
pub use subscriptions::{SubscribeError, SubscribeRequest, SubscriptionService, UrlSubscriptions};
pub use url_subscription::{Source, UrlSubscription};
pub use websocket::{
    Kept, MAX_MESSAGE, MAX_URLS, RequestMessage, RequestService, ResponseMessage, SUBPROTOCOL, Socket, accept_key,
};

use std::time::Duration;

/// The timing of a route's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The maximum silence on a stream.
    pub heartbeat: Duration,
    /// The approximate maximum age of a stream.
    pub max_age: Duration,
    /// The reconnection delay for clients; each stream gets a jittered value.
    pub retry: Duration,
    /// The time that a client may take to accept a write.
    pub write_timeout: Duration,
}

impl Options {
    /// Returns options that satisfy both.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
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

/// All stream formats that clients request by `Accept` on the resource's own URL, the most capable first.
pub static ALL: &[&dyn StreamFormat] = &[&sse::PLAIN, &json_seq::JsonSeq, &ndjson::Ndjson, &multipart::Multipart];
