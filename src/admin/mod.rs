//! The admin listener: health, metrics, and watched resources.
//!
//! ```text
//! hyper ─▶ Api::answer ─┬▶ a whole answer
//!                       └▶ /api/state, to be held: StatePush ─▶ what the dashboard is pushed
//! ```

mod api;
mod auth;
mod dashboard;
mod guard;
mod reload;
mod reserve;
mod reserve_fd;
mod state;
mod state_push;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use self::api::Api;
pub use self::auth::Token;
pub use self::reload::{ConfigStatus, Reload, Reloaded};
use self::reserve::{Reserve, probe};
use self::reserve_fd::ReserveFd;
use self::state_push::StatePush;
use crate::proxy::serve_gracefully;

/// The timeout for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay before accepting again when the process has no free file descriptor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Serves the admin API on `listener` to at most `connections` connections until `stopped`, and finishes those that
/// exist then. Connections beyond the limit only receive health responses.
pub async fn serve(listener: TcpListener, api: Arc<Api>, connections: usize, stopped: CancellationToken) {
    let live = Arc::new(StatePush::new(Arc::clone(&api)));
    let places = Arc::new(Semaphore::new(connections));
    let reserve = Reserve::default();
    let mut spare = ReserveFd::default();
    spare.keep();
    let mut complained = false;
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                complained = false;
                spare.keep();
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    api.gateway.metrics.limit_hit("admin_connections");
                    tasks.spawn(probe(stream, Arc::clone(&api), reserve.enter()));
                    continue;
                };
                let (api, live, stopped) = (Arc::clone(&api), Arc::clone(&live), stopped.clone());
                tasks.spawn(async move {
                    if let Err(error) = connection(stream, api, live, stopped).await {
                        debug!(%peer, "admin connection: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    warn!("admin listener: {error}");
                }
                // Without a free descriptor the error would return at once, and no event signals when there is one.
                if !spare.give_up() {
                    reserve.clear();
                    sleep(ACCEPT_RETRY_DELAY).await;
                    spare.keep();
                }
            }
        }
    }
    drop(listener);
    live.leave();
    reserve.clear();
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    api: Arc<Api>,
    live: Arc<StatePush>,
    stopped: CancellationToken,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, live) = (Arc::clone(&api), Arc::clone(&live));
        async move { Ok::<_, Infallible>(answer(&api, &live, &request).await) }
    });
    // Updates are small and must not be delayed.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    serve_gracefully(connection, stopped).await
}

type Body = Either<Full<Bytes>, state_push::PushBody>;

/// Answers a request; a request for the state may be held and receive updates instead.
async fn answer<B>(api: &Api, live: &Arc<StatePush>, request: &Request<B>) -> Response<Body> {
    let distrusted = api.token.token_changed();
    let answer = api.answer(request).await;
    if let Some(delivery) = StatePush::delivery(request).filter(|_| answer.status() == StatusCode::OK)
        && let Some(held) = live.hold(request, delivery, distrusted).await
    {
        return held.map(Either::Right);
    }
    answer.map(Either::Left)
}
