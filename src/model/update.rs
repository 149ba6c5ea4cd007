//! Updates: the messages from a resource to its subscribers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::{Snapshot, Version};

/// A format for describing a change without repeating the whole body.
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
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::JsonPatch, Self::MergePatch, Self::Splice];

    /// Returns the kind's name on the wire.
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

/// The text is not the name of a delta kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("delta is json-patch, merge-patch or splice")]
pub struct ParseDeltaKindError;

impl FromStr for DeltaKind {
    type Err = ParseDeltaKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ParseDeltaKindError)
    }
}

/// The form in which a client holds a body, and to which a delta is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyForm {
    /// Text as the `data:` lines of an event yield it: every line end is a line feed.
    Data,
    /// The value in a record: JSON as a value, other text exactly.
    Record,
    /// All text exactly, JSON too.
    Exact,
}

/// A client's request for deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeltaRequest {
    /// The requested kind.
    pub kind: DeltaKind,
    /// The form in which the client holds the body.
    pub form: BodyForm,
}

/// The reason why this server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The server is stopping; another or the next server process will take the client.
    Drain,
    /// The upstream no longer accepts these credentials.
    Auth,
    /// The stream has reached its maximum age.
    MaxAge,
    /// The resource no longer exists.
    Gone,
    /// The route changed, or the audience of the resource did.
    Reload,
    /// A limit was reached.
    Overload,
}

impl EndReason {
    /// Returns the reason's name on the wire.
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

/// One message to a subscriber.
#[derive(Clone, Debug)]
pub enum Update {
    /// The complete current state of the resource.
    Snapshot(Arc<Snapshot>),
    /// The difference between the client's state and a newer one. Sent only to a client that asked for deltas and holds
    /// exactly `base`.
    Patch {
        /// The version that the client holds.
        base: Version,
        /// The name under which the client knows it; another process may have assigned it.
        client_base: Version,
        /// The version that the client holds afterwards.
        snapshot: Arc<Snapshot>,
        /// The kind of the patch.
        delta: DeltaKind,
        /// The patch document: JSON on one line.
        patch: Bytes,
    },
    /// The upstream cannot be read; the client's state may be old.
    Stale {
        /// The time since when the upstream could not be read.
        since: SystemTime,
        /// The status of the upstream's response, if it responds.
        status: Option<u16>,
    },
    /// The upstream can be read again.
    Live,
    /// Something happened that may concern a URL that only the client itself may request.
    Tick,
    /// The client has written: its state may be old until it receives another update.
    Down,
    /// No further updates will follow.
    End(EndReason),
}
