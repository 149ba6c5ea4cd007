//! Makes the requests and records their results.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::beacons::Beacon;
use super::connection::{Far, Opened, Over, PATIENCE, Socket};
use crate::clock;
use crate::upstream::Decoder;

/// The content codings that browsers accept.
const CODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate, br, zstd");

/// The header that carries the mark of the doctor's requests.
const MARK: HeaderName = HeaderName::from_static("x-sungrazer-doctor");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// All beacons except the last are sent within this time.
const BEACONS: Duration = Duration::from_secs(4);

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// A short response.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The remote end's description of the request; `None` if the response is not Sungrazer's.
    pub(super) said: Option<Value>,
    /// Its duration on an existing connection.
    pub(super) took: Duration,
}

/// The result of a stream.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) beacons: Vec<Beacon>,
    pub(super) end: End,
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was complete.
    Whole,
    /// It ended too early, after this much silence.
    Cut { silence: Duration, why: String },
    /// It was not opened: another response arrived.
    Refused,
}

/// The result of a held poll.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// It was answered on time.
    Answered(HeaderMap),
    /// It was answered by an intermediary, or cut off, after this time.
    Cut { after: Duration, headers: HeaderMap, why: String },
}

/// The marked data of a request.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) mark: String,
}

impl Sent {
    /// Creates the data with a unique `mark`, and the user's own `cookies`.
    pub(super) fn new(mark: &str, cookies: Option<&str>) -> anyhow::Result<Self> {
        let cookie = match cookies {
            Some(cookies) => format!("{cookies}; sungrazer-doctor={mark}"),
            None => format!("sungrazer-doctor={mark}"),
        };
        let headers = vec![
            (MARK, HeaderValue::from_str(mark)?),
            (LAST_EVENT_ID, HeaderValue::from_str(mark)?),
            (PREFER, HeaderValue::from_static("wait=5")),
            (ACCEPT, HeaderValue::from_static("application/json")),
            (ACCEPT_ENCODING, CODINGS),
            (CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
            (COOKIE, HeaderValue::from_str(&cookie)?),
        ];
        Ok(Self { headers, mark: mark.to_owned() })
    }
}

impl Far<'_> {
    /// Requests a description of how a request arrives.
    pub(super) async fn mirror(&self, over: Over, base: &str, sent: &Sent) -> anyhow::Result<Mirror> {
        let target = format!("{base}?host={}", self.args.url.authority());
        let began = clock::now();
        let mut opened =
            timeout(PATIENCE, self.open(over, &target, &sent.headers)).await.context("no answer in time")??;
        let body = timeout(PATIENCE, whole(&mut opened)).await.context("the answer did not end in time")??;
        let said: Option<Value> = serde_json::from_slice(&body).ok().filter(|said: &Value| said["doctor"] == 1);
        let took = clock::now().saturating_duration_since(began);
        Ok(Mirror { status: opened.status, headers: opened.headers, said, took })
    }

    /// Receives beacons in the format that `accept` names, with `silence` before the last.
    pub(super) async fn listen(
        &self,
        over: Over,
        base: &str,
        accept: &'static str,
        silence: Duration,
    ) -> anyhow::Result<Heard> {
        let ours = [(ACCEPT, HeaderValue::from_static(accept)), (ACCEPT_ENCODING, CODINGS)];
        let began = clock::now();
        let deadline = began + BEACONS + silence + PATIENCE;
        let target = format!("{base}?for={}ms", silence.as_millis());
        // An intermediary that buffers the whole response delays the head too.
        let opened = timeout_at(deadline, self.open(over, &target, &ours)).await;
        let mut opened = opened.context("no answer, not even after the stream should have ended")??;
        let mut heard =
            Heard { status: opened.status, headers: opened.headers.clone(), beacons: Vec::new(), end: End::Refused };
        if opened.status == StatusCode::OK {
            let mut decoder = Decoder::new(&opened.headers, 4 << 20).map_err(undecodable)?;
            heard.end = hear(&mut opened, &mut decoder, &mut heard.beacons, began, deadline).await;
        }
        Ok(heard)
    }

    /// The same over a WebSocket.
    pub(super) async fn converse(&self, base: &str, silence: Duration) -> anyhow::Result<Heard> {
        let began = clock::now();
        let deadline = began + BEACONS + silence + PATIENCE;
        let target = format!("{base}?for={}ms", silence.as_millis());
        let (mut socket, headers) = match self.socket(&target).await? {
            Socket::Open(socket, headers) => (socket, headers),
            Socket::Refused(status, headers) => {
                return Ok(Heard { status, headers, beacons: Vec::new(), end: End::Refused });
            }
        };
        let mut heard =
            Heard { status: StatusCode::SWITCHING_PROTOCOLS, headers, beacons: Vec::new(), end: End::Whole };
        let mut last = clock::now();
        let why = loop {
            match timeout_at(deadline, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    last = clock::now();
                    heard.beacons.extend(Beacon::read(&text, last.saturating_duration_since(began)));
                }
                Ok(Some(Ok(Message::Close(_))) | None) => break "it was closed".to_owned(),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(Error::ConnectionClosed))) => break "it was closed".to_owned(),
                Ok(Some(Err(error))) => break error.to_string(),
                Err(_) => break "nothing more came".to_owned(),
            }
        };
        if !heard.beacons.last().is_some_and(|beacon| beacon.is_last) {
            heard.end = End::Cut { silence: clock::now().saturating_duration_since(last), why };
        }
        // The measurement is complete in any case.
        let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        Ok(heard)
    }

    /// Requests a response that is delayed by `hold`, with no byte before it.
    pub(super) async fn hold(&self, over: Over, base: &str, hold: Duration) -> Held {
        let began = clock::now();
        let target = format!("{base}?hold={}ms", hold.as_millis());
        let ours = [(ACCEPT, HeaderValue::from_static("application/json")), (ACCEPT_ENCODING, CODINGS)];
        let asking = async {
            let mut opened = self.open(over, &target, &ours).await?;
            let body = whole(&mut opened).await?;
            anyhow::Ok((opened.status, opened.headers, body))
        };
        let answer = timeout(hold + PATIENCE, asking).await;
        let after = clock::now().saturating_duration_since(began);
        let cut = |headers, why: String| Held::Cut { after, headers, why };
        match answer {
            Ok(Ok((status, headers, body))) => {
                let said: Option<Value> = serde_json::from_slice(&body).ok();
                let ours = said.is_some_and(|said| said["doctor"] == 1);
                match ours && after + Duration::from_millis(200) >= hold {
                    true => Held::Answered(headers),
                    false if ours => cut(headers, "answered before it was sent: a cache does that".to_owned()),
                    false => cut(headers, format!("answered {status} by somebody else")),
                }
            }
            Ok(Err(error)) => cut(HeaderMap::new(), format!("{error:#}")),
            Err(_) => cut(HeaderMap::new(), "no answer".to_owned()),
        }
    }
}

fn undecodable(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// Reads a short response completely and decodes it.
async fn whole(opened: &mut Opened) -> anyhow::Result<Vec<u8>> {
    let mut decoder = Decoder::new(&opened.headers, MAX_ANSWER as u64).map_err(undecodable)?;
    let mut body = Vec::new();
    while let Some(piece) = opened.piece().await {
        decoder.push(&piece?).map_err(undecodable)?;
        body.extend(decoder.take().map_err(undecodable)?);
        if body.len() > MAX_ANSWER {
            bail!("the answer is larger than any of Sungrazer's");
        }
    }
    body.extend(decoder.finish().unwrap_or_default());
    Ok(body)
}

/// Reads beacons until the end.
async fn hear(
    opened: &mut Opened,
    decoder: &mut Decoder,
    beacons: &mut Vec<Beacon>,
    began: Instant,
    deadline: Instant,
) -> End {
    let (mut line, mut last) = (Vec::new(), clock::now());
    let why = loop {
        match timeout_at(deadline, opened.piece()).await {
            // The end of a stream may arrive as an empty piece.
            Ok(Some(Ok(piece))) if piece.is_empty() => {}
            Ok(Some(Ok(piece))) => {
                last = clock::now();
                let decoded = decoder.push(&piece).and_then(|()| decoder.take());
                let Ok(decoded) = decoded else { break "what came cannot be decoded".to_owned() };
                line.extend(decoded);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let text: Vec<u8> = line.drain(..=end).collect();
                    let text = String::from_utf8_lossy(&text);
                    beacons.extend(Beacon::read(&text, last.saturating_duration_since(began)));
                }
            }
            Ok(None) => break "it ended".to_owned(),
            Ok(Some(Err(error))) => break error.to_string(),
            Err(_) => break "nothing more came".to_owned(),
        }
    };
    if beacons.last().is_some_and(|beacon| beacon.is_last) {
        return End::Whole;
    }
    End::Cut { silence: clock::now().saturating_duration_since(last), why }
}
