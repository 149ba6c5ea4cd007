//! The page that displays both sides: the wiki in two frames, each with a stopwatch and a counter, and a box to edit
//! it.
//!
//! ```text
//! GET /         the page
//! GET /events   common data as server-sent events: `setup` once, `edit`, `asked` every second
//! POST /edit    {"note": "…", "way": "polled" | "pushed"}: writes a line into the wiki, straight or through the sidecar
//! ```
//!
//! Each frame reports to the page itself which text it displays and since when.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::interval;

use super::board::{Cast, Links};
use super::host;
use super::wiki::{INTERVAL, Way, Wiki};
use crate::clock;

const PAGE: &str = include_str!("viewer/page.html");
const STYLE: &str = include_str!("viewer/style.css");
const SCRIPT: &str = include_str!("viewer/script.js");
const GUIDE: &str = include_str!("../../../docs/guide/getting-started.md");

/// Allows only resources of this server, and the two frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      frame-src http:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The maximum size of an edit request in bytes, and of its note in characters.
const MAX_BYTES: usize = 4096;
const MAX_NOTE: usize = 200;

/// The interval at which the counters are sent.
const COUNTED: Duration = Duration::from_secs(1);

/// The server of the page.
#[derive(Debug)]
pub(super) struct Viewer {
    /// The wiki that is edited and observed.
    pub(super) wiki: Arc<Wiki>,
    /// The addresses of the demo.
    pub(super) links: Links,
    /// The demo's own activity.
    pub(super) cast: Cast,
    /// The languages of the last browser that opened the page.
    pub(super) languages: watch::Sender<Option<HeaderValue>>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The body of an edit request.
#[derive(Debug, Deserialize)]
struct Edit {
    note: String,
    way: Way,
}

/// Serves `viewer` on `listener` until dropped.
pub(super) async fn serve(listener: TcpListener, viewer: Arc<Viewer>) {
    host::serve(listener, move |request| {
        let viewer = Arc::clone(&viewer);
        async move { viewer.answer(request).await }
    })
    .await;
}

impl Viewer {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => {
                let languages = request.headers().get(ACCEPT_LANGUAGE).cloned();
                self.languages.send_if_modified(|known| {
                    let another = *known != languages;
                    *known = languages;
                    another
                });
                answer(StatusCode::OK, "text/html; charset=utf-8", PAGE)
            }
            (&Method::GET, "/viewer.css") => answer(StatusCode::OK, "text/css; charset=utf-8", STYLE),
            (&Method::GET, "/viewer.js") => answer(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
            (&Method::GET, "/getting-started") => answer(StatusCode::OK, TEXT, GUIDE),
            (&Method::GET, "/events") => self.events(),
            (&Method::POST, "/edit") if is_foreign(request.headers()) => {
                answer(StatusCode::FORBIDDEN, TEXT, "Pages of other sites may not edit this one.\n")
            }
            (&Method::POST, "/edit") => match self.edit(request.into_body()).await {
                Ok(()) => answer(StatusCode::NO_CONTENT, TEXT, ""),
                Err((status, text)) => answer(status, TEXT, text),
            },
            _ => answer(StatusCode::NOT_FOUND, TEXT, "There is nothing here.\n"),
        }
    }

    async fn edit(&self, body: Incoming) -> Result<(), (StatusCode, &'static str)> {
        let malformed = (StatusCode::BAD_REQUEST, "Write {\"note\": \"…\", \"way\": \"polled\" or \"pushed\"}.\n");
        let body = Limited::new(body, MAX_BYTES).collect().await.map_err(|_| malformed)?.to_bytes();
        let edit: Edit = serde_json::from_slice(&body).map_err(|_| malformed)?;
        let note: String = edit.note.chars().filter(|c| !c.is_control()).take(MAX_NOTE).collect();
        let text = Bytes::from(self.wiki.with_note(note.trim()));
        match edit.way {
            Way::Polled => self.wiki.save(text, Way::Polled, clock::now()),
            Way::Pushed => save_through(self.links.pushed, text)
                .await
                .map_err(|_| (StatusCode::BAD_GATEWAY, "The sidecar did not save it.\n"))?,
        }
        Ok(())
    }

    /// Opens an event stream for the page.
    fn events(&self) -> Response<Body> {
        let setup = event("setup", &self.setup());
        let (mut edits, wiki) = (self.wiki.edits(), Arc::clone(&self.wiki));
        edits.mark_unchanged();
        let counted = interval(COUNTED);
        let news = stream::unfold((edits, counted, wiki), |(mut edits, mut counted, wiki)| async move {
            let event = tokio::select! {
                Ok(()) = edits.changed() => {
                    let text = edits.borrow_and_update().clone();
                    let content = String::from_utf8_lossy(&text.content);
                    event("edit", &json!({ "number": text.edits, "text": content, "way": text.way }))
                }
                _ = counted.tick() => {
                    event("asked", &json!({ "polled": wiki.asked(Way::Polled), "pushed": wiki.asked(Way::Pushed) }))
                }
            };
            Some((event, (edits, counted, wiki)))
        });
        let body = stream::once(async { setup }).chain(news).map(|text| Ok(Frame::data(Bytes::from(text))));
        let mut response = Response::new(StreamBody::new(body).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn setup(&self) -> Value {
        let url = |address: SocketAddr| format!("http://{address}/");
        json!({
            "polled": url(self.links.polled),
            "pushed": url(self.links.pushed),
            "admin": self.links.admin.map(url),
            "interval": INTERVAL.as_millis(),
            "edits": self.cast.edits.map(|period| period.as_millis()),
            "readers": self.cast.readers,
        })
    }
}

/// Saves `text` like a client of the sidecar.
async fn save_through(pushed: SocketAddr, text: Bytes) -> anyhow::Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(pushed).await?)).await?;
    let request = Request::post("/wiki/text").header(HOST, pushed.to_string()).body(Full::new(text))?;
    tokio::select! {
        saved = sender.send_request(request) => {
            let status = saved?.status();
            anyhow::ensure!(status == StatusCode::NO_CONTENT, "not saved: {status}");
            Ok(())
        }
        ended = connection => {
            ended?;
            anyhow::bail!("no answer")
        }
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// Returns whether the request comes from a page of another origin.
fn is_foreign(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().strip_prefix(b"http://") != Some(host))
}

const TEXT: &str = "text/plain; charset=utf-8";

fn answer(status: StatusCode, content_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
