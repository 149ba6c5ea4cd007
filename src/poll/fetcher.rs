//! How a poller asks the upstream.

use async_trait::async_trait;

use super::FetchRequest;
use crate::resource::FetchOutcome;

/// Somebody who can make a fetch: the real upstream, or a scripted one.
#[async_trait]
pub trait Fetcher: Send + Sync + 'static {
    /// Makes the fetch. Every way in which it can go wrong is an [`FetchOutcome`].
    async fn fetch(&self, request: &FetchRequest<'_>) -> FetchOutcome;
}
