//! The backend that is configured now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::Replicas;
use crate::poll::{FetchRequest, Fetcher};
use crate::resource::FetchOutcome;

/// Holds the backend, and lets another take its place. What has begun with one is finished with it.
#[derive(Debug)]
pub struct UpstreamHandle(ArcSwap<Replicas>);

impl UpstreamHandle {
    /// Begins with `replicas`.
    pub fn new(replicas: Replicas) -> Self {
        Self(ArcSwap::from_pointee(replicas))
    }

    /// The backend of this moment.
    pub fn load(&self) -> Arc<Replicas> {
        self.0.load_full()
    }

    /// Puts another in its place.
    pub fn replace(&self, replicas: Replicas) {
        self.0.store(Arc::new(replicas));
    }
}

#[async_trait]
impl Fetcher for UpstreamHandle {
    async fn fetch(&self, request: &FetchRequest<'_>) -> FetchOutcome {
        self.load().fetch_pinned(request).await
    }
}
