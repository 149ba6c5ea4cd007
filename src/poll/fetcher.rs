//! The interface through which a poller fetches.

use async_trait::async_trait;

use super::FetchRequest;
use crate::resource::FetchOutcome;

/// Makes fetches: the real upstream, or a scripted one in tests.
#[async_trait]
pub trait Fetcher: Send + Sync + 'static {
    /// Makes the fetch. Every failure is a [`FetchOutcome`].
    async fn fetch(&self, request: &FetchRequest<'_>) -> FetchOutcome;
}
