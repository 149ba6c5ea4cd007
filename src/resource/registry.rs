//! What a resource needs of the place where all resources are kept.

use std::sync::Arc;

use tokio::time::Instant;

use super::Resource;
use crate::model::Representation;

/// What passed by of one URL for one client.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// How often.
    pub count: usize,
    /// When last.
    pub at: Instant,
    /// The last answer.
    pub last: Representation,
    /// The one before.
    pub before: Option<Representation>,
}

/// Takes a resource out of the hub.
pub trait ResourceRegistry: Send + Sync + 'static {
    /// Removes `resource` if nobody needs it: `false` means that somebody just joined, so it lives on.
    fn remove_if_idle(&self, resource: &Arc<Resource>) -> bool;

    /// Removes it whoever still holds it; they have been told that it ended.
    fn remove(&self, resource: &Arc<Resource>);

    /// Fetching `resource` took these answers away. They are given to the next who ask for it themselves.
    fn store_consumed(&self, resource: &Resource, answers: Vec<Representation>, now: Instant);

    /// What the application has answered those who would fetch `resource` themselves, as far as that passed by.
    fn evidence(&self, resource: &Resource, now: Instant) -> Option<Evidence>;
}
