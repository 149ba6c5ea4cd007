//! The source of news: a stream, or fetches.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::events::{Event, Parser};
use crate::cli::request::{RequestArgs, refuse};
use crate::clock;
use crate::json::{Document, Kind, Value};
use crate::model::{MediaType, Representation, Validators, Version};
use crate::normalise::text_of;
use crate::upstream::{Incoming, Upstream};

/// A news item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The current state of the resource.
    Body(Body),
    /// The source cannot be read; the last state may be old.
    Stale { url: Option<String>, status: Option<u16>, why: String },
    /// The source can be read again.
    Live { url: Option<String> },
    /// Something happened to a URL that only its own client may request.
    Tick { url: Option<String> },
    /// The stream ends. If `last`, reconnecting is useless.
    End { url: Option<String>, reason: String, last: bool },
    /// An event of a stream that is not Sungrazer's.
    Foreign { name: String, data: String },
}

/// A state of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// The resource, if there are several.
    pub(super) url: Option<String>,
    pub(super) version: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) media_type: Option<String>,
    /// The text, or the size of a binary body.
    pub(super) text: Result<String, usize>,
}

impl News {
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::End { last: true, .. })
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::End { reason, .. } => reason,
            _ => "",
        }
    }
}

/// The timeout for the beginning of a response, and for a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum silence of a stream, including heartbeats; the longest usual heartbeat is 15 s.
const MAX_SILENCE: Duration = Duration::from_secs(90);

/// The first and the maximum delay before reconnecting.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(30);

const MAX_BYTES: u64 = 256 << 20;

/// Subscribes to one URL.
pub(super) struct Source {
    request: RequestArgs,
    upstream: Upstream,
    every: Duration,
    mode: Mode,
    ready: VecDeque<News>,
    last_id: Option<String>,
    /// The result of the last fetch, for validators and comparison.
    held: Option<Representation>,
    wait: Duration,
    retry: Option<Duration>,
    stale: bool,
    /// Whether anything was ever received.
    begun: bool,
    rng: fastrand::Rng,
}

enum Mode {
    /// A stream may exist.
    Open,
    Stream(Box<(Incoming, Parser)>),
    /// There is no stream; the next fetch is due at this time.
    Fetch(Instant),
}

impl Source {
    pub(super) fn new(request: RequestArgs, every: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            upstream: request.upstream(FETCH_TIMEOUT)?,
            request,
            every,
            mode: Mode::Open,
            ready: VecDeque::new(),
            last_id: None,
            held: None,
            wait: FIRST_WAIT,
            retry: None,
            stale: false,
            begun: false,
            rng: fastrand::Rng::with_seed(clock::seed()),
        })
    }

    /// Returns the next news item.
    ///
    /// # Errors
    /// Returns an error if there is nothing to subscribe to.
    pub(super) async fn next(&mut self) -> anyhow::Result<News> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(news);
            }
            match &mut self.mode {
                Mode::Open => self.open().await?,
                Mode::Stream(_) => self.read().await?,
                Mode::Fetch(due) => {
                    sleep_until(*due).await;
                    self.fetch().await?;
                }
            }
        }
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        let mut ours = vec![(ACCEPT, HeaderValue::from_static("text/event-stream, */*;q=0.1"))];
        if let Some(id) = self.last_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            ours.push((HeaderName::from_static("last-event-id"), id));
        }
        let incoming = match self.upstream.open(self.request.head(&ours, true)?, self.request.body()).await {
            Ok(incoming) => incoming,
            Err(error) => return self.lost(None, error.to_string()).await,
        };
        let status = incoming.status;
        if MediaType::of(&incoming.headers).is_event_stream() && status == StatusCode::OK {
            self.answered();
            let parser = Parser::after(self.last_id.clone());
            self.mode = Mode::Stream(Box::new((incoming, parser)));
        } else if status == StatusCode::NOT_ACCEPTABLE {
            self.mode = Mode::Fetch(clock::now());
        } else {
            self.mode = Mode::Fetch(clock::now() + self.every);
            self.judge(incoming).await?;
        }
        Ok(())
    }

    async fn fetch(&mut self) -> anyhow::Result<()> {
        self.mode = Mode::Fetch(clock::now() + self.every);
        let mut ours = Vec::new();
        // A condition on a method other than GET is a condition on performing it.
        if let Some(held) = self.held.as_ref().filter(|_| self.request.method() == Method::GET) {
            let with = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)];
            ours.extend(with.into_iter().filter_map(|(held_as, ask)| Some((ask, held.headers.get(held_as)?.clone()))));
        }
        match self.upstream.open(self.request.head(&ours, true)?, self.request.body()).await {
            Ok(incoming) => self.judge(incoming).await,
            Err(error) => self.lost(None, error.to_string()).await,
        }
    }

    /// Handles a response that is not a stream.
    async fn judge(&mut self, incoming: Incoming) -> anyhow::Result<()> {
        let status = incoming.status;
        if status == StatusCode::NOT_MODIFIED && self.held.is_some() {
            self.answered();
            return Ok(());
        }
        let temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        if self.begun && temporary {
            return self.lost(Some(status.as_u16()), format!("the application answers {status}")).await;
        }
        refuse(status, &incoming.headers)?;
        let headers = incoming.headers.clone();
        let body = match timeout(FETCH_TIMEOUT, incoming.collect(MAX_BYTES)).await {
            Ok(Ok(exchanged)) => exchanged.body,
            Ok(Err(error)) => return self.lost(None, error.to_string()).await,
            Err(_) => return self.lost(None, "the answer did not end in time".to_owned()).await,
        };
        self.answered();
        let representation = Representation {
            status,
            headers,
            body,
            coded: None,
            validators: Validators::default(),
            sets_cookie: false,
            ahead: 0,
        };
        if self.held.as_ref().is_none_or(|held| !held.same(&representation)) {
            self.ready.push_back(News::Body(Body::of(&representation)));
        }
        self.held = Some(representation);
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let Mode::Stream(stream) = &mut self.mode else { return Ok(()) };
        let (incoming, parser) = &mut **stream;
        let lost = match timeout(MAX_SILENCE, incoming.chunk()).await {
            Ok(Ok(Some(piece))) => {
                let mut events = Vec::new();
                parser.push(&piece, &mut events)?;
                self.last_id.clone_from(&parser.last_id);
                self.retry = parser.retry.or(self.retry);
                for event in events {
                    let news = read_event(event);
                    match &news {
                        News::Stale { .. } => self.stale = true,
                        News::Live { .. } | News::Body(_) => self.stale = false,
                        _ => {}
                    }
                    self.ready.push_back(news);
                }
                return Ok(());
            }
            Ok(Ok(None)) => "the stream has ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing was heard for {} s", MAX_SILENCE.as_secs()),
        };
        self.mode = Mode::Open;
        // A stream that ended with a reason is opened again; so is one that broke, but that is reported.
        if self.ready.is_empty() {
            self.lost(None, lost).await?;
        }
        Ok(())
    }

    fn answered(&mut self) {
        self.begun = true;
        self.wait = FIRST_WAIT;
        if std::mem::take(&mut self.stale) {
            self.ready.push_back(News::Live { url: None });
        }
    }

    /// Reports once that the source was lost, and waits before the next attempt.
    async fn lost(&mut self, status: Option<u16>, why: String) -> anyhow::Result<()> {
        if !self.begun {
            bail!("{why}");
        }
        if !std::mem::replace(&mut self.stale, true) {
            self.ready.push_back(News::Stale { url: None, status, why });
            return Ok(());
        }
        let least = self.retry.unwrap_or(FIRST_WAIT).min(MAX_WAIT);
        let wait = self.wait.max(least);
        self.wait = (self.wait * 2).min(MAX_WAIT);
        sleep(wait.mul_f64(0.75 + self.rng.f64() / 2.0)).await;
        if let Mode::Fetch(due) = &mut self.mode {
            *due = clock::now();
        }
        Ok(())
    }
}

impl Body {
    fn of(representation: &Representation) -> Self {
        let text = text_of(representation).map(std::borrow::Cow::into_owned).ok_or(representation.body.len());
        Self {
            url: None,
            version: None,
            status: Some(representation.status.as_u16()),
            media_type: Some(representation.media_type().essence).filter(|essence| !essence.is_empty()),
            text,
        }
    }
}

/// Parses an event: a state on the resource's own URL, a record of a stream with several URLs, or something else.
fn read_event(event: Event) -> News {
    if let Ok(document) = Document::parse(&event.data)
        && let Some(news) = read_record(&event.name, document.root())
    {
        return news;
    }
    let ours = event.id.as_deref().is_some_and(|id| id.parse::<Version>().is_ok());
    if ours && matches!(event.name.as_str(), "" | "snapshot") {
        return News::Body(Body { url: None, version: event.id, status: None, media_type: None, text: Ok(event.data) });
    }
    News::Foreign { name: event.name, data: event.data }
}

fn member<'d>(value: Value<'d>, name: &str) -> Option<Value<'d>> {
    value.members().find(|(key, _)| key.content() == name).map(|(_, value)| value)
}

fn string(value: Value<'_>, name: &str) -> Option<String> {
    member(value, name)?.as_str().map(std::borrow::Cow::into_owned)
}

fn read_record(name: &str, value: Value<'_>) -> Option<News> {
    let url = string(value, "url");
    let named = string(value, "event").filter(|_| name.is_empty() && url.is_some());
    let status = member(value, "status").and_then(|status| status.raw().parse().ok());
    Some(match named.as_deref().unwrap_or(name) {
        "snapshot" if url.is_some() => News::Body(Body {
            url,
            version: string(value, "version"),
            status,
            media_type: string(value, "type"),
            text: body(value)?,
        }),
        "stale" => News::Stale { url, status, why: "the application cannot be read".to_owned() },
        "live" => News::Live { url },
        "tick" => News::Tick { url },
        "end" => {
            let reason = string(value, "reason")?;
            let last = url.is_none() && matches!(reason.as_str(), "auth" | "gone");
            News::End { url, reason, last }
        }
        _ => return None,
    })
}

/// Returns the body in a record: JSON in its original spelling, text, or binary.
fn body(record: Value<'_>) -> Option<Result<String, usize>> {
    let body = member(record, "body")?;
    if string(record, "encoding").as_deref() == Some("base64") {
        let bytes: Bytes = STANDARD.decode(body.as_str()?.as_bytes()).ok()?.into();
        return Some(Err(bytes.len()));
    }
    let json = string(record, "type").is_some_and(|text| MediaType::parse(&text).kind() == crate::model::Kind::Json);
    Some(Ok(match body.kind() {
        Kind::String if !json => body.as_str()?.into_owned(),
        _ => body.raw().to_owned(),
    }))
}
