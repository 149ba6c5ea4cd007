//! One HTTP/2 stream.

use std::sync::Arc;

use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::server::ShutdownWatch;

use super::busy::InUse;
use super::decide::Disposition;
use super::front::Proxy;
use super::hold::{Kept, hold};
use super::pace::Pace;
use super::phases::apology;
use super::request::{Peer, Request};
use super::site::Site;
use super::strict::refusal;
use super::under_way::{UnderWay, Witness};
use crate::clock;
use crate::deliver::{Answer, Wire};

/// Serves one request.
pub(super) async fn serve(
    site: &Arc<Site>,
    proxy: &Arc<Proxy>,
    session: HttpSession,
    shutdown: &ShutdownWatch,
    in_use: InUse,
) {
    let began = clock::now();
    let peer = Peer::of(session.digest());
    let goes_on = !session.is_body_empty();
    let request = Box::new(session.req_header().clone());
    let mut wire = Wire::H2(Box::new(session));
    let mut under_way = UnderWay::default();
    let disposition = match Request::new(&request, peer, &site.options().trusted) {
        _ if refusal(&request).is_some() => {
            Disposition::text(StatusCode::BAD_REQUEST, apology(StatusCode::BAD_REQUEST))
        }
        Some(mut asked) => {
            asked.goes_on = goes_on;
            let disposition = Box::pin(site.dispose(&asked, &mut wire)).await;
            under_way = asked.under_way;
            disposition
        }
        None => Disposition::Proxy,
    };
    let how = match &disposition {
        Disposition::Hold(held) => Some(held.delivery.name()),
        Disposition::Answer(answer) => Some(answer.from()),
        Disposition::Whole(_) => Some("memory"),
        Disposition::Gone | Disposition::Socket(_) => Some("own"),
        Disposition::Proxy | Disposition::Tunnel => None,
    };
    let mut visit = how.and_then(|how| site.visit(&request, peer, began, how));
    drop(request);
    match disposition {
        Disposition::Hold(held) => drop(site.tasks.spawn(hold(wire, held, visit, Kept::Stream(in_use)))),
        Disposition::Answer(answer) => {
            if let Some(visit) = &mut visit {
                visit.answered(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            respond(&mut wire, &answer, site).await;
        }
        Disposition::Whole(whole) => {
            let answer = whole.answer();
            if let Some(visit) = &mut visit {
                visit.answered(answer.status.as_u16(), Some(answer.body.len() as u64));
            }
            respond(&mut wire, &answer, site).await;
        }
        // There are no WebSockets on HTTP/2 here (RFC 8441 is not spoken), so none is ever opened.
        Disposition::Gone | Disposition::Socket(_) => {}
        // An event stream of the backend's own passes through pingora as any other body does; upgrades do not exist here.
        Disposition::Proxy | Disposition::Tunnel => {
            let Wire::H2(mut session) = wire else { return };
            if !goes_on {
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
            let pace = Pace::new();
            session.req_header_mut().extensions_mut().insert(pace.clone());
            tokio::select! {
                _ = proxy.process_new_http(ServerSession::H2(*session), shutdown) => {}
                // What is dropped is reset.
                () = pace.stalled() => site.metrics.limit_hit("upload_pace"),
            }
        }
    }
}

async fn respond(wire: &mut Wire, answer: &Answer, site: &Site) {
    let patience = site.options().write_timeout;
    // Whether the client takes it is its own affair.
    let _ = wire.answer(answer.status, &answer.headers, &answer.body, false, patience).await;
}
