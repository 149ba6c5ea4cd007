//! The head of a response of the backend, on its way to a client.

use http::header::VARY;
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::clock;
use crate::model::Origin;
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::proxy::watched::identity::IDENTITY;
use crate::proxy::watched::writes::{BodySignature, is_well};
use crate::route::Route;
use crate::upstream::Upstream;

/// Replaces the backend's name in `response` by the site's.
pub(in crate::proxy) fn name_site(upstream: &Upstream, response: &mut ResponseHeader, gateway: &Origin) -> Result<()> {
    for (name, lines) in upstream.response_rewrites(&response.headers, gateway) {
        response.remove_header(&name);
        for line in lines {
            response.append_header(name.clone(), line)?;
        }
    }
    Ok(())
}

/// Changes the headers of `response` as the configuration says.
pub(in crate::proxy) fn edit(upstream: &Upstream, response: &mut ResponseHeader) -> Result<()> {
    for edit in upstream.options().response_headers.iter() {
        match &edit.value {
            Some(value) => response.insert_header(edit.written.clone(), value.clone())?,
            None => drop(response.remove_header(&edit.name)),
        }
    }
    Ok(())
}

impl Gateway {
    /// Records the backend's response to `request`, an upload with this signature, and prepares the head for the
    /// client.
    pub(in crate::proxy) fn on_response(
        &self,
        request: &RequestView<'_>,
        shape: &BodySignature,
        upstream: &Upstream,
        response: &mut ResponseHeader,
    ) -> Result<()> {
        name_site(upstream, response, &request.client.origin)?;
        self.rotate_credentials(request, &response.headers);
        self.record_write(request, shape, response.status, &response.headers);
        edit(upstream, response)?;
        if !request.is_plain_read() {
            return Ok(());
        }
        if is_well(response.status) {
            self.record_well(request);
        }
        let routes = self.routes.load();
        if let Some(route) = routes.find(&request.head.method, request.target.path)
            && let Some(negotiates) = route.negotiates()
        {
            response.append_header(VARY, negotiates)?;
        }
        if let Some(route) = routes.route_of_read(&request.head.method, request.target.path) {
            self.hints.note(&request.client, request.headers());
            self.fence_direct_response(route, request);
            if let Some(identity) = self.identity_of(route, request, &response.headers) {
                response.insert_header(IDENTITY, identity)?;
            }
        }
        Ok(())
    }

    /// Sets a fence when the backend is about to answer `request` itself: the remembered state may be older, and a
    /// client must never go back to an older state.
    fn fence_direct_response(&self, route: &Route, request: &RequestView<'_>) {
        let now = clock::now();
        let facts = route.facts(&request.asks(), now);
        let key = route.key(&request.asks(), &facts, false);
        self.hub.shown(&key, now);
    }
}
