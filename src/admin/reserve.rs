//! Reserve connections for health checks when all other connections are taken.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::api::text;

/// The maximum number of reserve connections. A new connection replaces the oldest; a health check ends before that
/// many others have arrived.
const MAX_ENTRIES: usize = 16;

/// The timeout for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The reserve connections.
#[derive(Debug, Default)]
pub(super) struct Reserve(Mutex<VecDeque<CancellationToken>>);

impl Reserve {
    /// Adds a connection, which must end when the returned token is cancelled.
    pub(super) fn enter(&self) -> CancellationToken {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_ENTRIES
            && let Some(oldest) = places.pop_front()
        {
            oldest.cancel();
        }
        let place = CancellationToken::new();
        places.push_back(place.clone());
        place
    }

    /// Ends all reserve connections.
    pub(super) fn clear(&self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.drain(..).for_each(|place| place.cancel());
    }
}

/// Answers one request on `stream`, if it is for health, until `place` is cancelled.
pub(super) async fn probe(stream: TcpStream, api: Arc<Api>, place: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                "/healthz" | "/readyz" => api.answer(&request).await,
                _ => text(StatusCode::SERVICE_UNAVAILABLE, "There are too many connections to this listener."),
            })
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Errors are ignored: the connection ends either way.
        _ = connection => {}
        () = place.cancelled() => {}
    }
}
