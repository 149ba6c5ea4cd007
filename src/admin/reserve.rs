//! Connections that are answered when all others are taken: for those who ask whether the process is well.

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

/// So many at a time; the next takes the place of the oldest. A probe is over before so many others have come.
const MAX_ENTRIES: usize = 16;

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections that are left.
#[derive(Debug, Default)]
pub(super) struct Reserve(Mutex<VecDeque<CancellationToken>>);

impl Reserve {
    /// A place for one more, which ends when what is returned is cancelled.
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

    /// Ends all of them.
    pub(super) fn clear(&self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.drain(..).for_each(|place| place.cancel());
    }
}

/// Answers one request on `stream`, if it asks for health, until `place` is another's.
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
        // Whether it hears of it is its own affair.
        _ = connection => {}
        () = place.cancelled() => {}
    }
}
