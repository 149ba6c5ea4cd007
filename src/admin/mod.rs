//! The operators' listener: health, metrics, and what is being watched.
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

/// How long an operator's client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// When the process has no file descriptor left, accepting is tried again after this.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Serves the admin API on `listener` to at most so many `connections` until `stopped`, and whoever has come until then. Whoever
/// comes beyond that is told of the health of the process and of nothing else.
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
                // Without a descriptor the error would come again at once, and nothing tells when there is one.
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
    // News is small, and must not wait for more.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    serve_gracefully(connection, stopped).await
}

type Body = Either<Full<Bytes>, state_push::PushBody>;

/// Who is answered with the state may be held instead, and told of it as it changes.
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
