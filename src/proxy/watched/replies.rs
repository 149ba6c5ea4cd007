//! The memory for responses to requests over WebSockets.
//!
//! ```text
//! request ─▶ a small place ─▶ sent ─▶ its answer begins ─┬▶ it is small ──────────────────▶ told ─▶ places given back
//!                                                        └▶ a large place ─▶ read to its end ─▶ told
//! ```
//!
//! A response is one message, so it must be complete in memory, and it stays there until its client has read it. The
//! number of places is limited, in total and per [network and client](crate::model::share), and a request without a
//! place waits: it is not sent, or the rest of its response is not read. A request with a large place can always
//! finish, so there is no deadlock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::http::RequestHeader;
use tokio::time::timeout;

use crate::clock;
use crate::deliver::Kept;
use crate::model::Owner;
use crate::poll::{BudgetOptions, FetchLimiter, Permit, Priority};
use crate::proxy::watched::client_context::RequestError;
use crate::upstream::{ExchangeError, FullResponse, ReplicaGuard};

/// The maximum number of requests in progress or with unread responses.
const MAX_SMALL: usize = 512;

/// The maximum size of a small response as sent, in bytes.
const SMALL: usize = 32 << 10;

/// The maximum size of a small response after decoding.
const SMALL_DECODED: u64 = 128 << 10;

/// The maximum number of larger responses in memory.
const MAX_LARGE: usize = 4;

/// The maximum size of a response over a WebSocket. Larger ones are refused.
const MAX_REPLY: u64 = 8 << 20;

/// How long a request waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// The places for responses.
#[derive(Debug)]
pub struct Replies {
    small: Arc<FetchLimiter>,
    large: Arc<FetchLimiter>,
}

impl Default for Replies {
    fn default() -> Self {
        let places = |max_fetches| FetchLimiter::new(BudgetOptions { max_fetches, max_fetch_rate: usize::MAX });
        Self { small: places(MAX_SMALL), large: places(MAX_LARGE) }
    }
}

impl Replies {
    /// Sends `head` with `body` for `owner` and reads the response. The returned guard must be kept as long as the
    /// response.
    pub(in crate::proxy) async fn exchange(
        &self,
        upstream: &ReplicaGuard,
        owner: Owner,
        head: RequestHeader,
        body: Bytes,
    ) -> (Result<FullResponse, RequestError>, Kept) {
        let mut places = Vec::new();
        let answer = self.exchange_in(&mut places, upstream, owner, head, body).await;
        (answer, Box::new(places))
    }

    async fn exchange_in(
        &self,
        places: &mut Vec<Permit>,
        upstream: &ReplicaGuard,
        owner: Owner,
        head: RequestHeader,
        body: Bytes,
    ) -> Result<FullResponse, RequestError> {
        let failed = |error: ExchangeError| (StatusCode::BAD_GATEWAY, error.to_string());
        places.push(place(&self.small, owner).await?);
        let (mut incoming, ended) = upstream.begin_once(head, body, SMALL).await.map_err(failed)?;
        if ended && let Some(body) = incoming.decoded(SMALL_DECODED) {
            return Ok(FullResponse { status: incoming.status, headers: incoming.headers, body });
        }
        places.push(place(&self.large, owner).await?);
        upstream.in_time(incoming.collect(MAX_REPLY)).await.map_err(failed)
    }
}

async fn place(places: &Arc<FetchLimiter>, owner: Owner) -> Result<Permit, RequestError> {
    let admitted = timeout(PATIENCE, places.admit(owner, Priority::Triggered, clock::now())).await;
    admitted.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "too many answers have not been read yet".to_owned()))
}
