//! The access-log entry of a request.

use std::sync::Arc;
use std::time::Duration;

use http::Version;
use http::header::USER_AGENT;
use pingora::http::RequestHeader;
use tokio::time::Instant;

use crate::clock;
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::{Peer, RequestView};
use crate::telemetry::{AccessGuard, Record, Trace};

/// The maximum length of a logged `User-Agent`.
const MAX_AGENT: usize = 256;

impl Gateway {
    /// Returns the guard that logs a request that arrived at `began` and is answered by `how`; `None` if the request
    /// cannot be parsed.
    pub(in crate::proxy) fn access_guard(
        &self,
        head: &RequestHeader,
        peer: Peer,
        began: Instant,
        how: &'static str,
    ) -> Option<Box<AccessGuard>> {
        let visit = |record| Some(Box::new(AccessGuard::new(&self.access, &self.metrics, began, how, record)));
        if !self.access.is_on() {
            return visit(None);
        }
        let options = self.options();
        let asked = RequestView::new(head, peer, &options.trusted)?;
        let text = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let mut agent = text(USER_AGENT).map(str::to_owned);
        if let Some(agent) = &mut agent {
            agent.truncate(MAX_AGENT);
        }
        let routes = self.routes.load();
        let took = clock::now().saturating_duration_since(began);
        let record = Record {
            at: clock::wall().checked_sub(took).unwrap_or_else(clock::wall),
            took: Duration::ZERO,
            client: asked.client.address,
            method: head.method.to_string(),
            host: asked.client.origin.public.to_string(),
            path: asked.target.path.to_owned(),
            protocol: protocol(head.version),
            agent,
            route: routes.find(&head.method, asked.target.path).map(|route| Arc::clone(&route.watch.route)),
            status: None,
            bytes: None,
            how,
            trace: head.headers.get("traceparent").and_then(|value| Trace::parse(value.to_str().ok()?)),
        };
        visit(Some(Box::new(record)))
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
