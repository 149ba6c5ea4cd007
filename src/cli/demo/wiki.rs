//! The demo's legacy application: a wiki with a polling page. It speaks HTTP/1.1 and has no push.
//!
//! It serves the page of `examples/wiki` with an added stopwatch, which reports the displayed text to the surrounding
//! page. It also counts requests by the path through which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::host;
use crate::clock;
use crate::model::fields;

/// The page's polling interval, which is also written in the page itself.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

const PAGE: &str = include_str!("../../../examples/wiki/page.html");

/// Measures in the browser, in the same way on both sides.
const STOPWATCH: &str = include_str!("wiki/stopwatch.html");

const START: &str = include_str!("../../../examples/wiki/start.txt");

const TEXT: &str = "text/plain; charset=utf-8";

/// The maximum size of a saved text, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The maximum number of remembered texts.
const MAX_HISTORY: usize = 64;

/// The path through which a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// Directly from a client.
    Polled,
    /// Through the sidecar.
    Pushed,
}

impl Way {
    /// Returns its name on the board.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Polled => "polled",
            Self::Pushed => "pushed",
        }
    }
}

/// The current text.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The text.
    pub(super) content: Bytes,
    /// When it was saved.
    pub(super) since: Instant,
    /// The number of edits so far.
    pub(super) edits: u64,
    /// The path of the last edit.
    pub(super) way: Way,
}

/// The wiki.
#[derive(Debug)]
pub(super) struct Wiki {
    page: Bytes,
    text: watch::Sender<Text>,
    /// The last texts, the newest at the end.
    history: Mutex<VecDeque<Text>>,
    polled: AtomicU64,
    pushed: AtomicU64,
}

impl Wiki {
    /// Creates a wiki without edits.
    pub(super) fn new(now: Instant) -> Self {
        let text = Text { content: Bytes::from_static(START.as_bytes()), since: now, edits: 0, way: Way::Polled };
        Self {
            page: PAGE.replace("</body>", &format!("{STOPWATCH}</body>")).into(),
            history: Mutex::new(VecDeque::from([text.clone()])),
            text: watch::Sender::new(text),
            polled: AtomicU64::new(0),
            pushed: AtomicU64::new(0),
        }
    }

    /// Returns the current text.
    pub(super) fn text(&self) -> Text {
        self.text.borrow().clone()
    }

    /// Subscribes to edits. Of several edits in quick succession, only the last may be seen.
    pub(super) fn edits(&self) -> watch::Receiver<Text> {
        self.text.subscribe()
    }

    /// Returns the text with `note` added at the top. Only the newest earlier notes are kept.
    pub(super) fn with_note(&self, note: &str) -> String {
        let text = self.text();
        let known = String::from_utf8_lossy(&text.content).into_owned();
        let (notes, rest): (Vec<&str>, Vec<&str>) = known.lines().partition(|line| line.starts_with(NOTE));
        let mut lines = vec![format!("{NOTE}{}. {note}", text.edits + 1)];
        lines.extend(notes.into_iter().take(MAX_NOTES - 1).map(str::to_owned));
        lines.extend(rest.into_iter().map(str::to_owned));
        lines.join("\n") + "\n"
    }

    /// Replaces the text by `content`, which came by `way`.
    pub(super) fn save(&self, content: Bytes, way: Way, now: Instant) {
        self.text.send_modify(|text| {
            *text = Text { content, since: now, edits: text.edits + 1, way };
            let mut history = self.history.lock();
            history.push_back(text.clone());
            if history.len() > MAX_HISTORY {
                history.pop_front();
            }
        });
    }

    /// Returns the number of the newest edit that made the text equal to `content`, if known.
    pub(super) fn number_of(&self, content: &Bytes) -> Option<u64> {
        self.history.lock().iter().rev().find(|text| text.content == *content).map(|text| text.edits)
    }

    /// Returns when the edits after number `from`, up to number `to`, were made.
    pub(super) fn made_between(&self, from: u64, to: u64) -> Vec<Instant> {
        let history = self.history.lock();
        history.iter().filter(|text| text.edits > from && text.edits <= to).map(|text| text.since).collect()
    }

    /// Returns the number of requests by `way`, not counting saved texts.
    pub(super) fn asked(&self, way: Way) -> u64 {
        self.counter(way).load(Ordering::Relaxed)
    }

    fn counter(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Polled => &self.polled,
            Way::Pushed => &self.pushed,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let way = way_of(request.headers());
        if request.method() != Method::POST {
            self.counter(way).fetch_add(1, Ordering::Relaxed);
        }
        match (request.uri().path(), request.method()) {
            ("/", &Method::GET) => answer(StatusCode::OK, "text/html; charset=utf-8", self.page.clone()),
            ("/wiki/text", &Method::GET) => answer(StatusCode::OK, TEXT, self.text().content),
            ("/wiki/text", &Method::POST) => match Limited::new(request.into_body(), MAX_BYTES).collect().await {
                Ok(body) => {
                    self.save(body.to_bytes(), way, clock::now());
                    let mut saved = Response::new(Full::default());
                    *saved.status_mut() = StatusCode::NO_CONTENT;
                    saved
                }
                Err(_) => answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, Bytes::from_static(b"too long\n")),
            },
            ("/wiki/text", _) => {
                let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, Bytes::from_static(b"GET or POST\n"));
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                refused
            }
            _ => answer(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"no such page\n")),
        }
    }
}

/// The prefix of a line written by the demo.
const NOTE: &str = "\u{bb} ";

/// The maximum number of the demo's own lines.
const MAX_NOTES: usize = 4;

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Returns the path of a request. Sungrazer adds itself to `CDN-Loop`.
fn way_of(headers: &HeaderMap) -> Way {
    if headers.contains_key(&fields::CDN_LOOP) { Way::Pushed } else { Way::Polled }
}

/// Serves `wiki` on `listener` until dropped.
pub(super) async fn serve(listener: TcpListener, wiki: Arc<Wiki>) {
    host::serve(listener, move |request| {
        let wiki = Arc::clone(&wiki);
        async move { wiki.answer(request).await }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_notes_are_kept_above_what_others_wrote() {
        let wiki = Wiki::new(clock::now());
        for _ in 0..6 {
            let text = wiki.with_note("tea");
            wiki.save(text.into(), Way::Polled, clock::now());
        }
        let text = String::from_utf8(wiki.text().content.to_vec()).expect("text");
        assert_eq!(text, format!("\u{bb} 6. tea\n\u{bb} 5. tea\n\u{bb} 4. tea\n\u{bb} 3. tea\n{}\n", START.trim_end()));
    }

    #[test]
    fn the_stopwatch_is_in_the_page() {
        assert!(
            String::from_utf8_lossy(&Wiki::new(clock::now()).page).ends_with(&format!("{STOPWATCH}</body>\n</html>\n"))
        );
    }

    #[test]
    fn the_page_polls_at_the_interval_that_the_demo_tells_of() {
        assert!(PAGE.contains(&format!("var INTERVAL = {};", INTERVAL.as_millis())));
    }
}
