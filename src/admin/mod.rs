//! The operators' listener: health, metrics, and what is being watched.

mod api;
mod auth;
mod guard;
mod reload;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use self::api::Api;
pub use self::reload::{Reload, Reloaded};

/// How long an operator's client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// When the process has no file descriptor left, accepting is tried again after this.
const BREATH: Duration = Duration::from_millis(200);

/// Serves the admin API on `listener` until `stopped`.
pub async fn serve(listener: TcpListener, api: Arc<Api>, stopped: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (api, stopped) = (Arc::clone(&api), stopped.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        result = connection(stream, api) => if let Err(error) = result {
                            debug!(%peer, "admin connection: {error}");
                        },
                        () = stopped.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                warn!("admin listener: {error}");
                // Without a descriptor the error would come again at once, and nothing tells when there is one.
                sleep(BREATH).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, api: Arc<Api>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { Ok::<Response<Full<Bytes>>, Infallible>(api.answer(&request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
