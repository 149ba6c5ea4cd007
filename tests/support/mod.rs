//! What all tests stand on: a scriptable legacy backend, raw clients, and the server in this process or as a program.

pub mod backend;
pub mod client;
pub mod follower;
pub mod frames;
pub mod oracle;
pub mod peers;
pub mod program;
pub mod raw;
pub mod sidecar;

use std::future::Future;
use std::time::Duration;

/// How long anything that is expected may take before the test gives up. Machines that run tests are busy ones.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for `future`, and says what it was that did not happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

/// Waits until `condition` holds. For conditions that nothing announces.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
