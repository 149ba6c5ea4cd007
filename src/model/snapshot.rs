//! A representation that became a version.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Memo, Representation, Version};

/// One state of a resource, with the forms in which clients are given it.
#[derive(Debug)]
pub struct Snapshot {
    /// Its place and fingerprints.
    pub version: Version,
    /// What the upstream sent.
    pub representation: Representation,
    /// When the fetch that brought it was complete; deliveries measure their delay from here.
    pub arrived: Instant,
    /// The same moment on the calendar.
    pub at: SystemTime,
    /// Its encoded forms; they depend on the body, so a look that only refreshes headers keeps them.
    pub memo: Arc<Memo>,
    /// How a plain HTTP/1.1 response with it begins, made once for all who poll.
    pub head: OnceLock<Bytes>,
}

impl Snapshot {
    /// What it costs to keep, in bytes of body.
    pub fn weight(&self) -> usize {
        self.representation.body.len()
    }
}
