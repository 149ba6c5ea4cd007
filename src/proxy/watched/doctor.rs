//! The server side of `sungrazer doctor`: reports how a request arrived, and sends timestamped beacons.
//!
//! ```text
//! {prefix}/doctor            ─▶ what is left of the request that the doctor sent, as JSON
//! {prefix}/doctor?hold=20s   ─▶ nothing for so long, and then that
//! {prefix}/doctor?for=20s    ─▶ beacons, small ones, then larger and larger ones; silence for so long; one more
//!                               as server-sent events, as lines, or as messages of a WebSocket
//! ```
//!
//! The endpoint reveals nothing about the site: it repeats only what the doctor itself sends, and everything else is
//! generated. Only a few may run at a time, each counts as a held client, and none sends more than 300 KiB.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, SEC_WEBSOCKET_KEY, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::clock;
use crate::deliver::{Coding, Downstream, H1Connection, LocalResponse, accept_key, response_head};
use crate::model::{Frame, fields};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::view::RequestView;
use crate::proxy::watched::dispatch::Dispatch;
use crate::proxy::watched::endpoints::not_allowed;
use crate::resource::TaskNotify;

/// The maximum number of concurrent examinations.
pub const MAX_DOCTORS: usize = 32;

/// The maximum silence.
const MAX_SILENCE: Duration = Duration::from_secs(600);

/// The time between two beacons.
const GAP: Duration = Duration::from_millis(200);

/// The number of first beacons, without padding.
const SMALL: usize = 8;

/// The padding of each later beacon, in bytes.
const PADDING: [usize; 8] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

/// Request headers that are repeated. No intermediary would put a secret into them.
const REPEATED: [&str; 6] =
    ["accept", "accept-encoding", "cache-control", "last-event-id", "prefer", "x-sungrazer-doctor"];

/// Request headers that reveal an intermediary. Only their names are reported, never their values.
const MARKERS: [&str; 14] = [
    "cdn-loop",
    "cf-ray",
    "fastly-ff",
    "forwarded",
    "via",
    "x-amz-cf-id",
    "x-amzn-trace-id",
    "x-azure-ref",
    "x-cloud-trace-context",
    "x-envoy-expected-rq-timeout-ms",
    "x-forwarded-for",
    "x-forwarded-server",
    "x-real-ip",
    "x-varnish",
];

/// The cookie that the doctor sends.
const COOKIE: &str = "sungrazer-doctor";

/// The maximum length of a repeated value, in bytes.
const MAX_REPEATED: usize = 200;

impl Gateway {
    /// Answers a request for `doctor`. Responses that take time are sent on `wire` by this method.
    pub(in crate::proxy) async fn doctor(
        self: &Arc<Self>,
        request: &RequestView<'_>,
        wire: &mut Downstream,
    ) -> Dispatch {
        if request.head.method != Method::GET {
            return not_allowed("GET");
        }
        let duration = |name: &str| request.target.parameter(name).map(|text| humantime::parse_duration(&text));
        let (silence, hold) = match (duration("for"), duration("hold")) {
            (None, None) => return Dispatch::Answer(mirror(request)),
            (Some(Ok(silence)), None) if silence <= MAX_SILENCE => (silence, false),
            (None, Some(Ok(hold))) if hold <= MAX_SILENCE => (hold, true),
            _ => {
                let text = format!("for or hold is a time of at most {} s, such as 20s.", MAX_SILENCE.as_secs());
                return Dispatch::text(StatusCode::BAD_REQUEST, &text);
            }
        };
        let Ok(_one_of_few) = self.doctors.try_acquire() else {
            return Dispatch::Answer(LocalResponse::overload("Other paths are being examined now."));
        };
        let _place = match self.enter(request, &Arc::<TaskNotify>::default(), false) {
            Ok(place) => place,
            Err(overload) => return self.reject_overloaded("streams", &overload.to_string()),
        };
        let patience = self.options().write_timeout;
        let answering = async {
            if hold {
                held(request, wire, silence, patience).await
            } else if let (true, Downstream::H1(connection)) = (request.is_websocket(), &mut *wire) {
                messages(request, connection, silence, patience).await
            } else {
                stream(request, wire, silence, patience).await
            }
        };
        tokio::select! {
            // The doctor detects at its end whether the response could be written.
            _ = answering => {}
            () = self.stopping.cancelled() => {}
        }
        Dispatch::ClientGone
    }
}

/// Returns a description of how the request arrived.
fn mirror(request: &RequestView<'_>) -> LocalResponse {
    let headers = request.headers();
    let said = |name: &str| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let text = values.collect::<Vec<_>>().join(", ");
        (!text.is_empty()).then(|| Value::from(text.chars().take(MAX_REPEATED).collect::<String>()))
    };
    let repeated: Map<String, Value> =
        REPEATED.iter().filter_map(|name| Some(((*name).to_owned(), said(name)?))).collect();
    let cookie = fields::cookies(headers).find(|pair| fields::cookie_name(pair) == COOKIE.as_bytes()).map(|pair| {
        let value = pair.split(|byte| *byte == b'=').nth(1).unwrap_or_default();
        String::from_utf8_lossy(value).chars().take(MAX_REPEATED).collect::<String>()
    });
    let markers: Vec<&str> = MARKERS.into_iter().filter(|name| headers.contains_key(*name)).collect();
    let host = request.target.parameter("host").map(|host| {
        let own = headers.get(HOST).map(HeaderValue::as_bytes);
        own.or_else(|| request.head.uri.authority().map(|own| own.as_str().as_bytes())) == Some(host.as_bytes())
    });
    let id = format!("{:016x}", clock::seed());
    let found = json!({
        "doctor": 1,
        "id": id,
        "http": format!("{:?}", request.head.version),
        "headers": repeated,
        "cookie": cookie,
        "host": host,
        "markers": markers,
        "believed": request.client.hop.believed,
    });
    let mut headers = head("application/json");
    headers.insert(ETAG, value(&format!("\"{id}\"")));
    headers.insert(SET_COOKIE, value(&format!("{COOKIE}={id}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")));
    LocalResponse { status: StatusCode::OK, headers, body: Bytes::from(found.to_string()) }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Returns the same headers as any stream of this server.
fn head(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ])
}

/// Waits, unless the client leaves earlier.
async fn wait(wire: &mut Downstream, time: Duration) -> io::Result<()> {
    tokio::select! {
        () = sleep(time) => Ok(()),
        () = wire.closed() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Answers a poll after `hold`, without sending a byte before.
async fn held(request: &RequestView<'_>, wire: &mut Downstream, hold: Duration, patience: Duration) -> io::Result<()> {
    wait(wire, hold).await?;
    let answer = mirror(request);
    wire.answer(answer.status, &answer.headers, &answer.body, true, patience).await
}

/// The beacons with the pauses between them, the last one after the silence.
struct Beacons {
    begun: tokio::time::Instant,
    number: usize,
    sent: usize,
    rng: fastrand::Rng,
}

impl Beacons {
    fn new() -> Self {
        Self { begun: clock::now(), number: 0, sent: 0, rng: fastrand::Rng::with_seed(clock::seed()) }
    }

    /// Returns the pause before the next beacon; `None` after the last.
    fn pause(&self, silence: Duration) -> Option<Duration> {
        match self.number.checked_sub(SMALL + PADDING.len()) {
            None if self.number == 0 => Some(Duration::ZERO),
            None => Some(GAP),
            Some(0) => Some(silence),
            Some(_) => None,
        }
    }

    /// Returns the text of the next beacon. Its padding is random, so compression cannot shrink it away.
    fn next(&mut self, is_events: bool) -> String {
        let padding = self.number.checked_sub(SMALL).and_then(|at| PADDING.get(at)).copied().unwrap_or(0);
        let padding: String = std::iter::repeat_with(|| self.rng.alphanumeric()).take(padding).collect();
        let at = clock::now().saturating_duration_since(self.begun).as_millis();
        let (number, sent) = (self.number, self.sent);
        let beacon = match (padding.as_str(), self.number == SMALL + PADDING.len()) {
            (_, true) => format!("{{\"n\":{number},\"at\":{at},\"bytes\":{sent},\"last\":true}}"),
            ("", false) => format!("{{\"n\":{number},\"at\":{at},\"bytes\":{sent}}}"),
            (padding, false) => format!("{{\"n\":{number},\"at\":{at},\"bytes\":{sent},\"pad\":\"{padding}\"}}"),
        };
        let text = if is_events { format!("data: {beacon}\n\n") } else { format!("{beacon}\n") };
        self.number += 1;
        self.sent += text.len();
        text
    }
}

async fn stream(
    request: &RequestView<'_>,
    wire: &mut Downstream,
    silence: Duration,
    patience: Duration,
) -> io::Result<()> {
    let is_events = request.accepts("text/event-stream");
    let headers = head(if is_events { "text/event-stream" } else { "application/x-ndjson" });
    let (mut beacons, mut coding) = (Beacons::new(), Coding::new(false));
    let first = Frame::new(beacons.next(is_events).as_bytes());
    wire.open(headers, &[first], &mut coding, patience).await?;
    while let Some(pause) = beacons.pause(silence) {
        wait(wire, pause).await?;
        let frame = Frame::new(beacons.next(is_events).as_bytes());
        wire.send(&[frame], &mut coding, patience).await?;
    }
    wire.finish(&mut coding, patience).await;
    Ok(())
}

/// Sends the beacons as messages of a WebSocket (RFC 6455 section 5). Messages of the client are not read.
async fn messages(
    request: &RequestView<'_>,
    connection: &mut H1Connection,
    silence: Duration,
    patience: Duration,
) -> io::Result<()> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| accept_key(key.as_bytes())).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(http::header::SEC_WEBSOCKET_ACCEPT, value(&key));
    let head = response_head(StatusCode::SWITCHING_PROTOCOLS, &headers);
    connection.write(&[&head, b"\r\n"], patience).await?;
    let mut beacons = Beacons::new();
    while let Some(pause) = beacons.pause(silence) {
        tokio::select! {
            () = sleep(pause) => {}
            () = connection.closed() => return Ok(()),
        }
        let text = beacons.next(false);
        connection.write(&[&text_frame(text.len()), text.as_bytes()], patience).await?;
    }
    // Close code 1000: the purpose is fulfilled. The client answers the close, and either side ends the connection.
    connection.write(&[&[0x88, 2, 0x03, 0xe8]], patience).await?;
    let _ = tokio::time::timeout(FAREWELL, connection.closed()).await;
    Ok(())
}

/// How long to wait for a client that was told to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// Returns the header of a text message of `length` bytes in one frame.
fn text_frame(length: usize) -> Vec<u8> {
    let mut head = vec![0x81];
    match (u16::try_from(length), length) {
        (_, 0..126) => head.push(u8::try_from(length).unwrap_or_default()),
        (Ok(short), _) => {
            head.push(126);
            head.extend(short.to_be_bytes());
        }
        (Err(_), _) => {
            head.push(127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beacons_grow_and_end_within_their_bound() {
        let (mut beacons, silence) = (Beacons::new(), Duration::from_secs(7));
        let (mut pauses, mut sizes) = (Vec::new(), Vec::new());
        while let Some(pause) = beacons.pause(silence) {
            pauses.push(pause);
            sizes.push(beacons.next(true).len());
        }
        assert_eq!((pauses.first(), pauses.last()), (Some(&Duration::ZERO), Some(&silence)));
        assert!(sizes[..SMALL].iter().all(|size| *size < 100) && sizes[sizes.len() - 2] > 128 << 10, "{sizes:?}");
        assert!(sizes.iter().sum::<usize>() <= 300 << 10, "{sizes:?}");
    }

    #[test]
    fn frames_say_their_length_in_the_shortest_form() {
        for (length, head) in [
            (5, &[0x81, 5][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(text_frame(length), head, "{length}");
        }
    }
}
