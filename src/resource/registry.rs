//! The interface between pollers and the registry of all resources.

use std::sync::Arc;

use tokio::time::Instant;

use super::Resource;
use crate::model::Representation;

/// Observed responses to one client's own requests for one URL.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The number of responses.
    pub count: usize,
    /// The time of the last one.
    pub at: Instant,
    /// The last response.
    pub last: Representation,
    /// The response before that.
    pub before: Option<Representation>,
}

/// The hub as seen by pollers.
pub trait ResourceRegistry: Send + Sync + 'static {
    /// Removes `resource` if it has no clients. Returns `false` if a client has just joined, so that the resource lives
    /// on.
    fn remove_if_idle(&self, resource: &Arc<Resource>) -> bool;

    /// Removes `resource` even if it has clients; they have been told that it ended.
    fn remove(&self, resource: &Arc<Resource>);

    /// Stores responses that fetches of `resource` consumed, for the next requests of its clients.
    fn store_consumed(&self, resource: &Resource, answers: Vec<Representation>, now: Instant);

    /// Returns the observed responses to clients' own requests for `resource`.
    fn evidence(&self, resource: &Resource, now: Instant) -> Option<Evidence>;
}
