//! The demo's legacy application: a wiki whose page polls. It knows HTTP/1.1 and nothing of push.
//!
//! It serves the page of `examples/wiki`, as it is. What it does beyond that is count who asked it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, VIA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::clock;

/// How long the page waits between two polls; said in the page itself.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

const PAGE: &str = include_str!("../../../examples/wiki/page.html");

const START: &str = include_str!("../../../examples/wiki/start.txt");

const TEXT: &str = "text/plain; charset=utf-8";

/// The longest text that can be saved, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// When the process has no file descriptor left, accepting is tried again after this.
const BREATH: Duration = Duration::from_millis(200);

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight from a browser.
    Polled,
    /// Through the sidecar.
    Pushed,
}

impl Way {
    /// What the board calls it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Polled => "polled",
            Self::Pushed => "pushed",
        }
    }
}

/// The text as it is now.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The text.
    pub(super) content: Bytes,
    /// When it became that.
    pub(super) since: Instant,
}

/// The wiki.
#[derive(Debug)]
pub(super) struct Wiki {
    text: Mutex<Text>,
    polled: AtomicU64,
    pushed: AtomicU64,
}

impl Wiki {
    /// A wiki that nobody has edited.
    pub(super) fn new(now: Instant) -> Self {
        let text = Text { content: Bytes::from_static(START.as_bytes()), since: now };
        Self { text: Mutex::new(text), polled: AtomicU64::new(0), pushed: AtomicU64::new(0) }
    }

    /// What it says now.
    pub(super) fn text(&self) -> Text {
        self.text.lock().clone()
    }

    /// Puts a line of the demo's own in place of its last one.
    pub(super) fn edit(&self, line: &str, now: Instant) {
        let mut text = self.text.lock();
        let mut kept: Vec<String> = String::from_utf8_lossy(&text.content)
            .lines()
            .filter(|known| !known.starts_with(OWN_LINE))
            .map(str::to_owned)
            .collect();
        kept.push(format!("{OWN_LINE}{line}"));
        *text = Text { content: Bytes::from(kept.join("\n") + "\n"), since: now };
    }

    /// How many requests have come by `way`.
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
        self.counter(way_of(request.headers())).fetch_add(1, Ordering::Relaxed);
        match (request.uri().path(), request.method()) {
            ("/", &Method::GET) => {
                answer(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()))
            }
            ("/wiki/text", &Method::GET) => answer(StatusCode::OK, TEXT, self.text().content),
            ("/wiki/text", &Method::POST) => match Limited::new(request.into_body(), MOST_BYTES).collect().await {
                Ok(body) => {
                    *self.text.lock() = Text { content: body.to_bytes(), since: clock::now() };
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

/// Marks the line that the demo itself edits.
const OWN_LINE: &str = "The demo: ";

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A proxy says in `Via` that it was there (RFC 9110 section 7.6.3).
fn way_of(headers: &HeaderMap) -> Way {
    if headers.contains_key(VIA) { Way::Pushed } else { Way::Polled }
}

/// Serves `wiki` on `listener`, for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, wiki: Arc<Wiki>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let wiki = Arc::clone(&wiki);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let wiki = Arc::clone(&wiki);
                        async move { Ok::<_, Infallible>(wiki.answer(request).await) }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(stream), service);
                    // A browser that leaves in the middle of a request is no concern of a wiki's.
                    let _ = connection.await;
                });
            }
            // Without a descriptor the error would come again at once, and nothing tells when there is one.
            Err(_) => sleep(BREATH).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_own_line_is_replaced_and_the_rest_is_kept() {
        let now = clock::now();
        let wiki = Wiki::new(now);
        wiki.edit("1", now);
        wiki.edit("2", now);
        let text = String::from_utf8(wiki.text().content.to_vec()).expect("text");
        assert_eq!(text, format!("{START}{OWN_LINE}2\n"));
    }

    #[test]
    fn the_page_polls_at_the_interval_that_the_demo_tells_of() {
        assert!(PAGE.contains(&format!("var INTERVAL = {};", INTERVAL.as_millis())));
    }
}
