//! How a poller asks the upstream.

use async_trait::async_trait;

use super::WatchRequest;
use crate::resource::Outcome;

/// Somebody who can make a look: the real upstream, or a scripted one.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// Makes the look. Every way in which it can go wrong is an [`Outcome`].
    async fn fetch(&self, request: &WatchRequest<'_>) -> Outcome;
}
