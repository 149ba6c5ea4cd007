//! The currently configured backend.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::Replicas;
use crate::poll::{FetchRequest, Fetcher};
use crate::resource::FetchOutcome;

/// Holds the backend and allows replacing it. Requests that began with the previous one finish with it.
#[derive(Debug)]
pub struct UpstreamHandle(ArcSwap<Replicas>);

impl UpstreamHandle {
    /// Creates a handle to `replicas`.
    pub fn new(replicas: Replicas) -> Self {
        Self(ArcSwap::from_pointee(replicas))
    }

    /// Returns the current backend.
    pub fn load(&self) -> Arc<Replicas> {
        self.0.load_full()
    }

    /// Replaces the backend.
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
