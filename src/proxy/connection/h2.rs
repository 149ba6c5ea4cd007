//! One HTTP/2 stream.

use std::sync::Arc;

use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::server::ShutdownWatch;

use crate::clock;
use crate::deliver::{Downstream, LocalResponse};
use crate::proxy::connection::held::{ActivityGuard, spawn_held};
use crate::proxy::connection::inflight::InFlightGuard;
use crate::proxy::connection::service::Proxy;
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::pingora::error_text;
use crate::proxy::passthrough::upload_timeout::UploadProgress;
use crate::proxy::request::framing::rejection;
use crate::proxy::request::view::{Peer, RequestView};
use crate::proxy::watched::dispatch::Dispatch;
use crate::proxy::watched::under_way::{UnderWay, Witness};

/// Serves one request.
pub(in crate::proxy) async fn serve(
    gateway: &Arc<Gateway>,
    proxy: &Arc<Proxy>,
    session: HttpSession,
    shutdown: &ShutdownWatch,
    in_use: InFlightGuard,
) {
    let began = clock::now();
    let peer = Peer::of(session.digest());
    let goes_on = !session.is_body_empty();
    let request = Box::new(session.req_header().clone());
    let mut wire = Downstream::H2(Box::new(session));
    let (mut under_way, mut read) = (UnderWay::default(), None);
    let dispatch = match RequestView::new(&request, peer, &gateway.options().trusted) {
        _ if rejection(&request).is_some() => {
            Dispatch::text(StatusCode::BAD_REQUEST, error_text(StatusCode::BAD_REQUEST))
        }
        Some(mut asked) => {
            asked.goes_on = goes_on;
            let dispatch = Box::pin(gateway.dispatch(&asked, &mut wire)).await;
            under_way = asked.under_way;
            read = asked.read.into_inner();
            dispatch
        }
        None => gateway.unread_exceeds_limits(peer, &request).map_or(Dispatch::Proxy, Dispatch::Answer),
    };
    let how = match &dispatch {
        Dispatch::HoldStream(held) => Some(held.delivery.name()),
        Dispatch::Answer(answer) => Some(answer.from()),
        Dispatch::Cached(_) => Some("memory"),
        Dispatch::ClientGone | Dispatch::Socket(_) => Some("own"),
        Dispatch::Proxy | Dispatch::Tunnel => None,
    };
    let mut visit = how.and_then(|how| gateway.access_guard(&request, peer, began, how));
    drop(request);
    match dispatch {
        Dispatch::HoldStream(held) => {
            drop(gateway.tasks.spawn(spawn_held(wire, held, visit, ActivityGuard::Stream(in_use))));
        }
        Dispatch::Answer(answer) => {
            if let Some(visit) = &mut visit {
                visit.set_response(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            respond(&mut wire, &answer, gateway).await;
        }
        Dispatch::Cached(whole) => {
            let answer = whole.answer();
            if let Some(visit) = &mut visit {
                visit.set_response(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            respond(&mut wire, &answer, gateway).await;
        }
        // HTTP/2 has no WebSockets here (RFC 8441 is not supported), so none is ever opened.
        Dispatch::ClientGone | Dispatch::Socket(_) => {}
        // pingora forwards an event stream of the backend like any other body. HTTP/2 has no upgrades.
        Dispatch::Proxy | Dispatch::Tunnel => {
            let Downstream::H2(mut session) = wire else { return };
            let is_read = read.is_some();
            if let Some(read) = read {
                session.req_header_mut().extensions_mut().insert(read);
            }
            if !goes_on || is_read {
                let witness = under_way.is_watched().then(Witness::default);
                if let Some(witness) = &witness {
                    session.req_header_mut().extensions_mut().insert(witness.clone());
                }
                proxy.process_new_http(ServerSession::H2(*session), shutdown).await;
                if witness.is_some_and(|witness| witness.has_seen()) {
                    under_way.answered();
                }
                return;
            }
            let pace = UploadProgress::new();
            session.req_header_mut().extensions_mut().insert(pace.clone());
            tokio::select! {
                _ = proxy.process_new_http(ServerSession::H2(*session), shutdown) => {}
                // Dropping the request resets the stream.
                () = pace.stalled() => gateway.metrics.limit_hit("upload_pace"),
            }
        }
    }
}

async fn respond(wire: &mut Downstream, answer: &LocalResponse, gateway: &Gateway) {
    let patience = gateway.options().write_timeout;
    // Errors are ignored: the stream ends either way.
    let _ = wire.answer(answer.status, &answer.headers, &answer.body, false, patience).await;
}
