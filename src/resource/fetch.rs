//! What one fetch of the upstream brought.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use std::time::{Duration, SystemTime};

use crate::model::{EndReason, Representation};

/// One finished fetch.
#[derive(Debug)]
pub struct CompletedFetch {
    /// When the request was sent: everything that the upstream had done by then is in the answer.
    pub started: Instant,
    /// When the answer was complete.
    pub finished: Instant,
    /// The same moment on the calendar.
    pub at: SystemTime,
    /// What came.
    pub outcome: FetchOutcome,
}

/// What a fetch can bring.
#[derive(Debug)]
pub enum FetchOutcome {
    /// A representation, changed or not.
    Fresh(Representation),
    /// 304: what we hold is current. The headers refresh the stored ones (RFC 9111 section 4.3.4).
    NotModified(HeaderMap),
    /// The upstream could not be read this time.
    Failed(Failure),
    /// The upstream answered that there is nothing here for these credentials.
    Refused(Refusal),
    /// The answer is not one that may be watched.
    Declined(Decline),
}

impl FetchOutcome {
    /// The status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Fresh(representation) => Some(representation.status.as_u16()),
            Self::NotModified(_) => Some(304),
            Self::Failed(failure) => failure.status,
            Self::Refused(refusal) => Some(refusal.status.as_u16()),
            Self::Declined(_) => None,
        }
    }

    /// The size of the decoded body, if one was read.
    pub fn bytes(&self) -> Option<usize> {
        match self {
            Self::Fresh(representation) => Some(representation.body.len()),
            Self::Refused(refusal) => Some(refusal.body.len()),
            _ => None,
        }
    }
}

/// Why the upstream could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What it answered, if it answered: 5xx, 408, 425 or 429.
    pub status: Option<u16>,
    /// How long it asked to be left alone.
    pub retry_after: Option<Duration>,
    /// What happened, for logs and for the admin API.
    pub text: String,
}

/// An answer that ends the watch: 401, 403, 404, another 4xx, or a redirect. It is passed on as it came.
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

    /// Whether it was made for the one who asked, and says nothing to others: a redirect, which may name a session, or a
    /// challenge, which may be good once.
    pub fn is_for_one_request(&self) -> bool {
        matches!(self.status.as_u16(), 300..=399 | 401 | 407)
    }

    /// What streams that were open are told.
    pub fn reason(&self) -> EndReason {
        if self.asks_for_credentials() { EndReason::Auth } else { EndReason::Gone }
    }
}

/// Why a resource may not be watched as it was asked for. Requests for it are proxied, or asked for again by another key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Decline {
    /// The body is larger than `max_body`.
    #[error("the response is larger than max_body ({limit} bytes)")]
    TooLarge {
        /// The limit that it passed.
        limit: u64,
    },
    /// The body cannot be read, and will not be readable next time either.
    #[error("the body cannot be decoded: {0}")]
    Undecodable(String),
    /// Nothing changed but that it was fetched, or so often that it cannot be told from that.
    #[error(
        "the answer is another one for each fetch, as if fetching took something away: only clients may ask for it. A route of \
         its own, with ignore or without shim = \"learn\", says otherwise"
    )]
    UnsafeToFetch,
    /// Each answer replaces a cookie that the request bore: a fetch would use up what only the client may use.
    #[error(
        "answers here replace the cookie {cookie:?} each time, as tokens are renewed that are good for one request: a fetch would \
         use it up, so only the page itself asks"
    )]
    Rotates {
        /// The cookie's name.
        cookie: String,
    },
    /// What fetches bring is not what clients are answered.
    #[error(
        "fetches are answered otherwise than the page's own polls: only clients may ask for it. A route of its own, without \
         shim = \"learn\", says otherwise"
    )]
    Unlike,
    /// The answer was made for the one who asked.
    #[error("the answer to this body is for one client alone: it bears {header}")]
    ForOne {
        /// What says so.
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
    /// A response that is somebody's own came without credentials on a `public` route.
    #[error("the response is somebody's own ({reason}), although the route shares it")]
    Private {
        /// What says so.
        reason: &'static str,
    },
}

impl Decline {
    /// Whether asking again under a key that heeds the reason can succeed at once.
    pub fn is_rekey(&self) -> bool {
        matches!(self, Self::Vary { .. } | Self::Private { .. })
    }

    /// What streams that were open are told.
    pub fn reason(&self) -> EndReason {
        match self {
            Self::TooLarge { .. } | Self::UnsafeToFetch | Self::Unlike | Self::Rotates { .. } | Self::ForOne { .. } => {
                EndReason::Overload
            }
            Self::OwnStream | Self::Undecodable(_) | Self::Vary { .. } | Self::Private { .. } => EndReason::Reload,
        }
    }
}
