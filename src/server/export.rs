//! Exports requests as spans to an OpenTelemetry collector over HTTP, if the environment names one.
//!
//! ```text
//! AccessLog ─ Export::export ─▶ a queue with a bound ─▶ batches ─▶ POST …/v1/traces
//! ```
//!
//! The environment variables are those of the OpenTelemetry specification that apply to traces as JSON over HTTP.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use pingora::http::RequestHeader;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use crate::telemetry::{Export, Record, SpanResource, encode_spans};
use crate::tls::Outgoing;
use crate::upstream::{self, Address, HostMode, Upstream};

/// The maximum number of queued spans.
const MAX_WAITING: usize = 2048;

/// The maximum number of spans per batch.
const BATCH: usize = 512;

/// The maximum delay of a span before its batch is sent.
const DELAY: Duration = Duration::from_secs(5);

/// The timeout of the last export when the server stops.
const FINAL_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum number of bytes read of a collector's response.
const MAX_ANSWER: u64 = 64 * 1024;

/// Sends spans to a collector.
pub(super) struct Exporter {
    collector: Upstream,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    resource: SpanResource,
    delay: Duration,
    queue: mpsc::Receiver<Record>,
    /// Whether the collector accepted the last batch. Only the first of several failures in a row is logged.
    well: bool,
}

/// The sending end of the queue.
pub(super) struct Spans(mpsc::Sender<Record>);

impl Export for Spans {
    fn export(&self, record: Record) {
        if record.trace.as_ref().is_some_and(crate::telemetry::Trace::is_sampled) {
            // A slow collector must not slow down requests, so spans that do not fit into the queue are dropped.
            let _ = self.0.try_send(record);
        }
    }
}

impl Exporter {
    /// Creates the exporter for the collector named in the environment; `None` if there is none.
    pub(super) fn from_env() -> Option<(Spans, Self)> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| {
            let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            Some(format!("{}/v1/traces", base.trim_end_matches('/')))
        })?;
        let Some((address, path)) = parse(&endpoint) else {
            warn!(
                "OTEL_EXPORTER_OTLP_ENDPOINT {endpoint:?} is no URL such as http://127.0.0.1:4318: no spans are sent"
            );
            return None;
        };
        let pairs = |text: String| -> Vec<(String, String)> {
            let pair = |item: &str| item.split_once('=').map(|(name, value)| (name.trim().into(), value.trim().into()));
            text.split(',').filter_map(pair).collect()
        };
        let given = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS"));
        let headers = given.map(pairs).unwrap_or_default();
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_str(&value).ok()?)))
            .collect();
        let mut attributes = variable("OTEL_RESOURCE_ATTRIBUTES").map(pairs).unwrap_or_default();
        attributes.retain(|(name, _)| name != "service.name");
        let service = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "sungrazer".to_owned());
        attributes.insert(0, ("service.name".to_owned(), service));
        let delay = variable("OTEL_BSP_SCHEDULE_DELAY")
            .and_then(|delay| delay.parse().ok())
            .map_or(DELAY, Duration::from_millis);
        let collector = Upstream::new(upstream::Options {
            address,
            host: HostMode::Preserve,
            connect_timeout: Duration::from_secs(2),
            fetch_timeout: Duration::from_secs(10),
            keepalive: 1,
            tls: Outgoing::default(),
            request_headers: Default::default(),
            response_headers: Default::default(),
        });
        info!("spans are sent to {endpoint}");
        let (sender, queue) = mpsc::channel(MAX_WAITING);
        let delay = delay.max(Duration::from_millis(10));
        let resource = SpanResource { attributes };
        Some((Spans(sender), Self { collector, path, headers, resource, delay, queue, well: true }))
    }

    /// Sends batches until all senders are dropped, and then the remaining spans.
    pub(super) async fn run(mut self) {
        let mut due = interval(self.delay);
        let mut waiting = Vec::new();
        loop {
            let ended = tokio::select! {
                read = self.queue.recv_many(&mut waiting, BATCH) => read == 0,
                _ = due.tick() => {
                    self.send(&mut waiting).await;
                    continue;
                }
            };
            if ended {
                let _ = timeout(FINAL_EXPORT_TIMEOUT, self.send(&mut waiting)).await;
                return;
            }
            if waiting.len() >= BATCH {
                self.send(&mut waiting).await;
            }
        }
    }

    async fn send(&mut self, waiting: &mut Vec<Record>) {
        if waiting.is_empty() {
            return;
        }
        let body = Bytes::from(encode_spans(&self.resource, waiting).to_string());
        let spans = waiting.len();
        waiting.clear();
        let sent = match self.head(body.len()) {
            Ok(head) => self.collector.exchange_once(head, body, MAX_ANSWER).await,
            Err(error) => Err(error.into()),
        };
        let trouble = match sent {
            Ok(answer) if answer.status.is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status)),
            Err(error) => Some(error.to_string()),
        };
        match &trouble {
            Some(text) if self.well => warn!(spans, "the collector does not take spans: {text}"),
            None if !self.well => info!("the collector takes spans again"),
            _ => {}
        }
        self.well = trouble.is_none();
    }

    fn head(&self, length: usize) -> pingora::Result<RequestHeader> {
        let mut head = RequestHeader::build(Method::POST, self.path.as_bytes(), Some(4 + self.headers.len()))?;
        head.insert_header("host", self.collector.options().address.authority())?;
        head.insert_header("content-type", "application/json")?;
        head.insert_header("content-length", length)?;
        head.insert_header("connection", "close")?;
        for (name, value) in &self.headers {
            head.insert_header(name.clone(), value.clone())?;
        }
        Ok(head)
    }
}

/// Splits a collector's URL into origin and path.
fn parse(endpoint: &str) -> Option<(Address, String)> {
    let uri: Uri = endpoint.parse().ok()?;
    let origin = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    Some((Address::from_str(&origin).ok()?, uri.path_and_query()?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_url_has_an_origin_and_a_path() {
        let (address, path) = parse("http://127.0.0.1:4318/v1/traces").expect("a URL");
        assert_eq!((address.to_string().as_str(), path.as_str()), ("http://127.0.0.1:4318", "/v1/traces"));
        assert!(parse("127.0.0.1:4318").is_none() && parse("ftp://x/").is_none());
    }
}
