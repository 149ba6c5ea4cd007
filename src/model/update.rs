//! What a resource tells its subscribers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::{Snapshot, Version};

/// A way to say a change without saying the whole body again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeltaKind {
    /// JSON Patch, RFC 6902.
    JsonPatch,
    /// JSON Merge Patch, RFC 7396.
    MergePatch,
    /// `[start, delete, "insert"]` in UTF-16 code units, applied in order.
    Splice,
}

impl DeltaKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::JsonPatch, Self::MergePatch, Self::Splice];

    /// The kind's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonPatch => "json-patch",
            Self::MergePatch => "merge-patch",
            Self::Splice => "splice",
        }
    }
}

impl fmt::Display for DeltaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind of delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("delta is json-patch, merge-patch or splice")]
pub struct ParseDeltaKindError;

impl FromStr for DeltaKind {
    type Err = ParseDeltaKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ParseDeltaKindError)
    }
}

/// What a client holds of a body, to which a delta is then applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyForm {
    /// Text, as the `data:` lines of an event give it back: every line end is a line feed.
    Data,
    /// What a record says: JSON as a value, other text exactly.
    Record,
    /// All text exactly, JSON too.
    Exact,
}

/// A client's wish for deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeltaRequest {
    /// Of which kind.
    pub kind: DeltaKind,
    /// Of what it holds.
    pub form: BodyForm,
}

/// Why a stream is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The server is stopping; another, or the next, will take the client.
    Drain,
    /// The upstream no longer accepts these credentials.
    Auth,
    /// The stream has lived its time.
    MaxAge,
    /// The resource does not exist any more.
    Gone,
    /// The route changed, or what is shared with whom did.
    Reload,
    /// A limit was reached.
    Overload,
}

impl EndReason {
    /// The reason's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Auth => "auth",
            Self::MaxAge => "max-age",
            Self::Gone => "gone",
            Self::Reload => "reload",
            Self::Overload => "overload",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing to tell a subscriber.
#[derive(Clone, Debug)]
pub enum Update {
    /// The resource's current state, whole.
    Snapshot(Arc<Snapshot>),
    /// The way from what the client holds to a newer state. Only a client that asked for deltas is told so, and only if it
    /// holds exactly `base`.
    Patch {
        /// What it holds.
        base: Version,
        /// What it calls that: another process may have given it its version.
        client_base: Version,
        /// What it holds then.
        snapshot: Arc<Snapshot>,
        /// Of which kind the patch is.
        delta: DeltaKind,
        /// The patch document: JSON on one line.
        patch: Bytes,
    },
    /// The upstream cannot be read; what the client holds may be old.
    Stale {
        /// Since when.
        since: SystemTime,
        /// What the upstream answers, if it answers.
        status: Option<u16>,
    },
    /// The upstream can be read again.
    Live,
    /// Something happened that may concern what only the client itself may ask for.
    Tick,
    /// The client has written: what it holds may be old until it is told something else.
    Down,
    /// Nothing will follow.
    End(EndReason),
}
