//! Graceful shutdown: a new connection may still send its first request; idle connections close at once.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Connection;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::clock;

/// How long a new connection may take to send its first request during shutdown. No other server would answer it.
pub const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Completes when an idle connection must close because the server is stopping, but not before `expected`.
pub(in crate::proxy) async fn closing(stopping: Pin<&mut WaitForCancellationFutureOwned>, expected: Option<Instant>) {
    stopping.await;
    if let Some(expected) = expected {
        sleep_until(expected).await;
    }
}

/// Serves a newly accepted connection of hyper until it ends, or until the server is `stopping` and the connection is
/// idle.
///
/// # Errors
/// Returns the error of the connection.
pub async fn serve_gracefully<S, B>(
    connection: Connection<TokioIo<TcpStream>, S>,
    stopping: CancellationToken,
) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let expected = clock::now() + FIRST_REQUEST_GRACE;
    let mut stopping = pin!(stopping.cancelled_owned());
    tokio::select! {
        ended = &mut connection => return ended,
        // hyper would close a connection on which nothing has arrived yet.
        () = closing(stopping.as_mut(), Some(expected)) => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(FIRST_REQUEST_GRACE, connection).await.unwrap_or(Ok(()))
}
