//! Makes looks at the real backend.

use std::time::Duration;

use http::{HeaderMap, Method};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use super::decode::Decoder;
use super::{ConnectError, Upstream};
use crate::clock;
use crate::poll::{Answer, WatchRequest, judge_body, judge_head};
use crate::resource::Outcome;

/// Why a look brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// There was no connection, or it broke. Another replica may do better, and at once.
    #[error("{0}")]
    Broken(String),
    /// The time was over.
    #[error("no complete answer within fetch_timeout ({})", humantime::format_duration(*.0))]
    Late(Duration),
}

impl Upstream {
    /// Makes one look, and takes note of whether anybody is there.
    pub(super) async fn look(&self, request: &WatchRequest<'_>) -> Result<Outcome, Unread> {
        let patience = self.options.fetch_timeout;
        let looked = match timeout(patience, self.exchange(request)).await {
            Ok(looked) => looked.map_err(Unread::Broken),
            Err(_) => Err(Unread::Late(patience)),
        };
        match &looked {
            Ok(_) => self.outage.answered(),
            Err(unread) => self.outage.failed(&unread.to_string()),
        }
        looked
    }

    /// Sends a GET of a client's as it would be proxied and returns only the head of the answer, to see what kind of
    /// thing the backend answers it with. `None` if there is no answer.
    pub async fn peek(&self, target: &str, headers: &HeaderMap) -> Option<Answer> {
        let asking = async {
            let peer = self.peer().await.ok()?;
            let (mut session, _) = self.http.get_http_session(&peer).await.ok()?;
            ask(&mut session, target, headers).await.ok()
        };
        timeout(self.options.fetch_timeout, asking).await.ok()?
    }

    /// One look. An idle connection that turns out to be closed is no failure of the backend: the look is made again.
    async fn exchange(&self, request: &WatchRequest<'_>) -> Result<Outcome, String> {
        let mut headers = request.headers();
        for (name, value) in self.request_rewrites(&headers) {
            headers.insert(name, value);
        }
        let mut attempt = 1;
        loop {
            let peer = self.peer().await.map_err(|error| error.to_string())?;
            let (mut session, reused) = match self.http.get_http_session(&peer).await {
                Ok(connected) => connected,
                Err(error) => {
                    self.unreachable();
                    if attempt < self.attempts() {
                        attempt += 1;
                        continue;
                    }
                    return Err(ConnectError::Connect { address: self.options.address.clone(), error }.to_string());
                }
            };
            match ask(&mut session, &request.key.target, &headers).await {
                Ok(answer) => return self.read(request, answer, session, &peer).await,
                Err(_) if reused => {}
                Err(error) => return Err(brief(&error)),
            }
        }
    }

    async fn read(
        &self,
        request: &WatchRequest<'_>,
        answer: Answer,
        mut session: HttpSession,
        peer: &HttpPeer,
    ) -> Result<Outcome, String> {
        if let Err(outcome) = judge_head(request, &answer, clock::wall()) {
            // A 304 leaves the connection ready for the next look; any other body is not worth waiting for.
            if matches!(*outcome, Outcome::NotModified(_)) && session.response_done() {
                self.http.release_http_session(session, peer, peer.options.idle_timeout).await;
            }
            return Ok(*outcome);
        }
        let mut decoder = match Decoder::new(&answer.headers, request.max_body) {
            Ok(decoder) => decoder,
            Err(decline) => return Ok(Outcome::Declined(decline)),
        };
        while let Some(piece) = session.read_response_body().await.map_err(|error| brief(&error))? {
            if let Err(decline) = decoder.push(&piece) {
                return Ok(Outcome::Declined(decline));
            }
        }
        self.http.release_http_session(session, peer, peer.options.idle_timeout).await;
        Ok(match decoder.finish() {
            Ok(body) => judge_body(&answer, body),
            Err(decline) => Outcome::Declined(decline),
        })
    }
}

/// Sends a GET and reads the head of the answer.
async fn ask(session: &mut HttpSession, target: &str, headers: &HeaderMap) -> pingora::Result<Answer> {
    let mut request = RequestHeader::build(Method::GET, target.as_bytes(), Some(headers.len()))?;
    for (name, value) in headers {
        request.append_header(name.clone(), value.clone())?;
    }
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    for _ in 0..=MOST_INTERIM {
        session.read_response_header().await?;
        match session.response_header() {
            Some(head) if head.status.is_informational() => {}
            Some(head) => return Ok(Answer { status: head.status, headers: head.headers.clone() }),
            None => {
                return pingora::Error::e_explain(pingora::ErrorType::InvalidHTTPHeader, "an answer without a head");
            }
        }
    }
    only_interim()
}

/// Interim answers (RFC 9110 section 15.2) that may come before the final one.
pub(super) const MOST_INTERIM: usize = 16;

pub(super) fn only_interim<T>() -> pingora::Result<T> {
    pingora::Error::e_explain(
        pingora::ErrorType::InvalidHTTPHeader,
        "one interim answer after another, and no final one",
    )
}

/// What went wrong, without the library's own bookkeeping.
pub(super) fn brief(error: &pingora::Error) -> String {
    match &error.cause {
        Some(cause) => format!("{} ({cause})", error.etype.as_str()),
        None => match &error.context {
            Some(context) => format!("{} ({})", error.etype.as_str(), context.as_str()),
            None => error.etype.as_str().to_owned(),
        },
    }
}
