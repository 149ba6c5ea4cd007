//! What a resource tells its subscribers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::Snapshot;

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
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonPatch => "json-patch",
            Self::MergePatch => "merge-patch",
            Self::Splice => "splice",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::JsonPatch, Self::MergePatch, Self::Splice].into_iter().find(|kind| kind.as_str() == name)
    }
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
    /// Nothing will follow.
    End(EndReason),
}
