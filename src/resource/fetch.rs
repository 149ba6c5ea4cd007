//! The result of a fetch.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use std::time::{Duration, SystemTime};

use crate::model::{EndReason, Representation};

/// A completed fetch.
#[derive(Debug)]
pub struct CompletedFetch {
    /// When the request was sent: the response reflects everything that the upstream had done by then.
    pub started: Instant,
    /// When the response was complete.
    pub finished: Instant,
    /// The same moment in wall-clock time.
    pub at: SystemTime,
    /// The outcome.
    pub outcome: FetchOutcome,
}

/// The outcome of a fetch.
#[derive(Debug)]
pub enum FetchOutcome {
    /// A representation, changed or not.
    Fresh(Representation),
    /// 304: the stored version is current. The headers update the stored ones (RFC 9111 section 4.3.4).
    NotModified(HeaderMap),
    /// The upstream could not be read.
    Failed(Failure),
    /// The upstream refused these credentials or has no such resource.
    Refused(Refusal),
    /// The response may not be watched.
    Declined(Decline),
}

impl FetchOutcome {
    /// Returns the status of the response, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Fresh(representation) => Some(representation.status.as_u16()),
            Self::NotModified(_) => Some(304),
            Self::Failed(failure) => failure.status,
            Self::Refused(refusal) => Some(refusal.status.as_u16()),
            Self::Declined(_) => None,
        }
    }

    /// Returns the size of the decoded body, if one was read.
    pub fn bytes(&self) -> Option<usize> {
        match self {
            Self::Fresh(representation) => Some(representation.body.len()),
            Self::Refused(refusal) => Some(refusal.body.len()),
            _ => None,
        }
    }
}

/// The reason why the upstream could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The status of the response, if there was one: 5xx, 408, 425 or 429.
    pub status: Option<u16>,
    /// The delay that the upstream requested.
    pub retry_after: Option<Duration>,
    /// A description for logs and the admin API.
    pub text: String,
}

/// A response that ends the watch: 401, 403, 404, another 4xx, or a redirect. It is forwarded unchanged.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// 3xx or 4xx.
    pub status: StatusCode,
    /// End-to-end headers, without `Set-Cookie`.
    pub headers: HeaderMap,
    /// The decoded body.
    pub body: Bytes,
}

impl Refusal {
    /// Whether other credentials might have been answered otherwise: 401, 403, 407, or a redirect, as to a login.
    pub fn asks_for_credentials(&self) -> bool {
        matches!(self.status.as_u16(), 300..=399 | 401 | 403 | 407)
    }

    /// Returns whether the response was made for one request and must not be sent to other clients: a redirect, which
    /// may contain a session, or a challenge, which may be valid only once.
    pub fn is_for_one_request(&self) -> bool {
        matches!(self.status.as_u16(), 300..=399 | 401 | 407)
    }

    /// Returns the reason that open streams receive.
    pub fn reason(&self) -> EndReason {
        if self.asks_for_credentials() { EndReason::Auth } else { EndReason::Gone }
    }
}

/// The reason why a resource may not be watched as requested. Its requests are proxied, or watched under another key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Decline {
    /// The body is larger than `max_body`.
    #[error("the response is larger than max_body ({limit} bytes)")]
    TooLarge {
        /// The limit that it passed.
        limit: u64,
    },
    /// The body cannot be decoded, and a retry would not help.
    #[error("the body cannot be decoded: {0}")]
    Undecodable(String),
    /// The response changes with each fetch although nothing else happened, or changes so often that this cannot be
    /// excluded.
    #[error(
        "the answer is another one for each fetch, as if fetching took something away: only clients may ask for it. A route of \
         its own, with ignore or without shim = \"learn\", says otherwise"
    )]
    UnsafeToFetch,
    /// Each response replaces a cookie of the request: a fetch would consume a token that only the client may use.
    #[error(
        "answers here replace the cookie {cookie:?} each time, as tokens are renewed that are good for one request: a fetch would \
         use it up, so only the page itself asks"
    )]
    Rotates {
        /// The cookie's name.
        cookie: String,
    },
    /// Fetches receive different responses than clients do.
    #[error(
        "fetches are answered otherwise than the page's own polls: only clients may ask for it. A route of its own, without \
         shim = \"learn\", says otherwise"
    )]
    Unlike,
    /// The response is for one client alone.
    #[error("the answer to this body is for one client alone: it bears {header}")]
    ForOne {
        /// The header that shows it.
        header: &'static str,
    },
    /// The backend streams events itself.
    #[error("the backend answers text/event-stream itself")]
    OwnStream,
    /// The response depends on request headers that the key does not hold.
    #[error("the response varies by {}, which is not in the key yet", names.join(", "))]
    Vary {
        /// The header names, in lower case.
        names: Vec<String>,
    },
    /// A response for one client arrived without credentials on a `public` route.
    #[error("the response is somebody's own ({reason}), although the route shares it")]
    Private {
        /// The evidence.
        reason: &'static str,
    },
}

impl Decline {
    /// Returns whether a fetch under a key that takes the reason into account can succeed at once.
    pub fn is_rekey(&self) -> bool {
        matches!(self, Self::Vary { .. } | Self::Private { .. })
    }

    /// Returns the reason that open streams receive.
    pub fn reason(&self) -> EndReason {
        match self {
            Self::TooLarge { .. } | Self::UnsafeToFetch | Self::Unlike | Self::Rotates { .. } | Self::ForOne { .. } => {
                EndReason::Overload
            }
            Self::OwnStream | Self::Undecodable(_) | Self::Vary { .. } | Self::Private { .. } => EndReason::Reload,
        }
    }
}
