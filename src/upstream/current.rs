//! The backend that is configured now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::Upstream;
use crate::poll::{Fetch, WatchRequest};
use crate::resource::Outcome;

/// Holds the backend, and lets another take its place. What has begun with one is finished with it.
#[derive(Debug)]
pub struct Current(ArcSwap<Upstream>);

impl Current {
    /// Begins with `upstream`.
    pub fn new(upstream: Upstream) -> Self {
        Self(ArcSwap::from_pointee(upstream))
    }

    /// The backend of this moment.
    pub fn load(&self) -> Arc<Upstream> {
        self.0.load_full()
    }

    /// Puts another in its place.
    pub fn replace(&self, upstream: Upstream) {
        self.0.store(Arc::new(upstream));
    }
}

#[async_trait]
impl Fetch for Current {
    async fn fetch(&self, request: &WatchRequest<'_>) -> Outcome {
        self.load().fetch(request).await
    }
}
