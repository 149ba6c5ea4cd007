//! Identity tags for the browser script: a response for one client must not answer another client's poll.
//!
//! ```text
//! stream ─▶ records of a URL, each with the tag of its key ─▶ replica ─┐
//! poll, marked ─▶ its own key ─▶ the tag, in its response ──────────────▶ the same? then the replica may answer
//! ```

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock;
use crate::model::fields;
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::route::Route;

/// The header that carries the identity tag in the response to a marked poll.
pub(in crate::proxy) const IDENTITY: HeaderName = HeaderName::from_static("sungrazer-identity");

/// The tag of a client whose identity changes with this response.
const CHANGING: &str = "-";

impl Gateway {
    /// Returns the identity tag of `request` as in streams, if it is a poll that asks for it.
    pub(in crate::proxy) fn identity_header(&self, route: &Route, request: &RequestView<'_>) -> Option<HeaderValue> {
        let target = request.poll_target()?;
        self.hints.note(&request.client, request.headers());
        let facts = route.facts(&request.client, target, request.headers(), clock::now());
        let key = route.key(&request.client, target, request.headers(), &facts, true);
        with_nonce(&self.hub.identity_tag(&key), request)
    }

    /// The same for a request that the backend has answered with these headers.
    pub(in crate::proxy) fn identity_of(
        &self,
        route: &Route,
        request: &RequestView<'_>,
        answer: &HeaderMap,
    ) -> Option<HeaderValue> {
        if changes_cookies(request.headers(), answer) {
            request.poll_target()?;
            return with_nonce(CHANGING, request);
        }
        self.identity_header(route, request)
    }
}

/// Appends the nonce that distinguishes this response from one in a cache.
fn with_nonce(mark: &str, request: &RequestView<'_>) -> Option<HeaderValue> {
    let (_, nonce) = request.poll_marker()?;
    HeaderValue::from_str(&format!("{mark}#{nonce}")).ok()
}

/// Returns whether a client that sent these cookies will send others after this response.
fn changes_cookies(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let mut set = answer
        .get_all(SET_COOKIE)
        .iter()
        .map(|line| line.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii());
    set.any(|pair| !fields::cookies(request).any(|sent| sent == pair))
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    #[test]
    fn a_cookie_that_is_renewed_makes_nobody_another() {
        let request = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("sid=1; lang=en"))]);
        for (line, changes) in
            [("sid=1; Max-Age=60; HttpOnly", false), ("sid=2", true), ("lang=; Max-Age=0", true), ("new=1", true)]
        {
            let answer = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static(line))]);
            assert_eq!(changes_cookies(&request, &answer), changes, "{line}");
        }
        assert!(!changes_cookies(&request, &HeaderMap::new()));
    }
}
