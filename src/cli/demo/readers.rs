//! Simulated readers that send the same requests as the wiki's page in a browser, on either side.
//!
//! ```text
//! polled   poll, wait for the response, sleep, poll again
//! pushed   the same; from the second response on, the browser script's stream delivers changes in between
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::wiki::{INTERVAL, Way, Wiki};
use crate::clock;

/// The recent delays of readers: for each edit, the time until a reader had its text or a newer one.
#[derive(Debug, Default)]
pub(super) struct Delays {
    /// The time of the edit, and the delay of a reader.
    last: Mutex<VecDeque<(Instant, Duration)>>,
}

/// The maximum number of recent delays.
const MAX_DELAYS: usize = 256;

/// The time after which every reader has polled. For a newer edit, only the fast readers are known.
const SETTLED: Duration = INTERVAL.saturating_add(Duration::from_secs(1));

impl Delays {
    fn note(&self, made: Instant, delay: Duration) {
        let mut last = self.last.lock();
        if last.len() >= MAX_DELAYS {
            last.pop_front();
        }
        last.push_back((made, delay));
    }

    /// Returns the median, if there is an edit that all readers have had time to see.
    pub(super) fn median(&self, now: Instant) -> Option<Duration> {
        let is_settled = |made: Instant| now.saturating_duration_since(made) >= SETTLED;
        let last = self.last.lock();
        let mut sorted: Vec<_> = last.iter().filter(|(made, _)| is_settled(*made)).map(|(_, delay)| *delay).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// One reader.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// The address of its server.
    pub(super) address: SocketAddr,
    /// Its path to the wiki.
    pub(super) way: Way,
    /// Its number; each reader is a separate browser.
    pub(super) number: usize,
    /// The wiki, to determine its delay.
    pub(super) wiki: Arc<Wiki>,
    /// The measured delays.
    pub(super) delays: Arc<Delays>,
    /// The languages of its browser: those of the browser that displays the demo, once there is one.
    pub(super) languages: watch::Receiver<Option<HeaderValue>>,
}

/// The newest edit that a reader has seen.
type Known = Mutex<Option<u64>>;

/// The number of polls after which the script subscribes.
const LEARNED: u64 = 2;

impl Reader {
    /// Reads until dropped, beginning after `pause`.
    pub(super) async fn run(self, pause: Duration) {
        sleep(pause).await;
        let (known, mut spoken) = (Known::default(), self.languages.clone());
        loop {
            let languages = spoken.borrow_and_update().clone();
            tokio::select! {
                // After any failure, a page would poll again after its interval.
                _ = self.read(languages.as_ref(), &known) => sleep(INTERVAL).await,
                // Another browser displays the demo, so the simulated page is opened in that browser.
                Ok(()) = spoken.changed() => {}
            }
        }
    }

    /// Simulates the open page until something fails.
    async fn read(&self, languages: Option<&HeaderValue>, known: &Known) -> anyhow::Result<()> {
        let answers = watch::Sender::new(0);
        tokio::select! {
            ended = self.poll(languages, known, &answers) => ended,
            ended = self.follow(languages, known, answers.subscribe()), if self.way == Way::Pushed => ended,
        }
    }

    /// Polls like the page over one connection, and counts the responses.
    async fn poll(
        &self,
        languages: Option<&HeaderValue>,
        known: &Known,
        answers: &watch::Sender<u64>,
    ) -> anyhow::Result<()> {
        let (mut sender, connection) = self.connect().await?;
        let asking = async {
            for asked in 1_u64.. {
                let mut request = self.request(&Method::GET, &format!("/wiki/text?_={asked}"), languages, "")?;
                if self.way == Way::Pushed && asked > LEARNED {
                    // The mark that the script sets on a poll with a subscription.
                    let mark = HeaderValue::from_str(&format!("/wiki/text#{asked}"))?;
                    request.headers_mut().insert("sungrazer-poll", mark);
                }
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                let body = answer.into_body().collect().await?.to_bytes();
                if status == StatusCode::OK {
                    self.take(&body, known);
                }
                answers.send_replace(asked);
                sleep(INTERVAL).await;
            }
            Ok(())
        };
        tokio::select! {
            ended = asking => ended,
            ended = connection => ended.map_err(Into::into),
        }
    }

    /// Subscribes to the text like the browser script, once the page has polled often enough.
    async fn follow(
        &self,
        languages: Option<&HeaderValue>,
        known: &Known,
        mut answers: watch::Receiver<u64>,
    ) -> anyhow::Result<()> {
        answers.wait_for(|answers| *answers >= LEARNED).await?;
        let every = u64::try_from(INTERVAL.as_millis())?;
        let wanted = json!({
            "follow": [{ "url": "/wiki/text", "headers": { "accept": "*/*" }, "every": every, "confirm": true }],
            "exact": true,
        });
        loop {
            let (mut sender, connection) = self.connect().await?;
            let reading = async {
                let request = self.request(&Method::POST, "/.sungrazer/stream", languages, &wanted.to_string())?;
                let answer = sender.send_request(request).await?;
                anyhow::ensure!(answer.status() == StatusCode::OK, "the stream is refused: {}", answer.status());
                let (mut body, mut rest) = (answer.into_body(), Vec::new());
                while let Some(frame) = body.frame().await {
                    rest.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
                    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        if let Some(text) = text_of(&line) {
                            self.take(&text, known);
                        }
                    }
                }
                Ok(())
            };
            tokio::select! {
                ended = reading => ended?,
                ended = connection => ended?,
            }
            // Streams end from time to time; the script reconnects at once.
        }
    }

    async fn connect(&self) -> anyhow::Result<(SendRequest<Full<Bytes>>, Connection)> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(http1::handshake(TokioIo::new(stream)).await?)
    }

    fn request(
        &self,
        method: &Method,
        target: &str,
        languages: Option<&HeaderValue>,
        body: &str,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, self.address.to_string())
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, format!("reader {} of the demo, {}", self.number, self.way.as_str()));
        if let Some(languages) = languages {
            request = request.header(ACCEPT_LANGUAGE, languages);
        }
        if *method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        Ok(request.body(Full::from(body.to_owned()))?)
    }

    /// Handles a response. The first text that a reader sees is not a change.
    fn take(&self, body: &Bytes, known: &Known) {
        let Some(number) = self.wiki.number_of(body) else { return };
        let now = clock::now();
        let seen = known.lock().replace(number);
        for made in seen.map(|seen| self.wiki.made_between(seen, number)).unwrap_or_default() {
            self.delays.note(made, now.saturating_duration_since(made));
        }
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Returns the text in a line of a stream.
fn text_of(line: &[u8]) -> Option<Bytes> {
    let record: Value = serde_json::from_slice(line.strip_prefix(b"data: ")?).ok()?;
    (record["event"] == "snapshot").then(|| record["body"].as_str().map(|body| Bytes::from(body.to_owned())))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_timed_and_the_median_is_the_one_in_the_middle() {
        let wiki = Arc::new(Wiki::new(clock::now()));
        let delays = Arc::<Delays>::default();
        let reader = Reader {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            way: Way::Polled,
            number: 0,
            wiki: Arc::clone(&wiki),
            delays: Arc::clone(&delays),
            languages: watch::Sender::new(None).subscribe(),
        };
        let known = Known::default();
        let began = clock::now();
        let later = began + SETTLED * 2;
        reader.take(&wiki.text().content, &known);
        reader.take(&wiki.text().content, &known);
        assert_eq!(delays.median(later), None);
        for text in ["seen by nobody", "seen"] {
            wiki.save(text.into(), Way::Polled, began);
        }
        reader.take(&wiki.text().content, &known);
        assert_eq!(delays.last.lock().len(), 2, "who sees the second edit has waited for the first, too");
        assert_eq!(delays.median(began), None, "others may not have asked yet");
        assert!(delays.median(later).is_some());
        for seconds in [7, 8, 9, 9] {
            delays.note(began, Duration::from_secs(seconds));
        }
        assert_eq!(delays.median(later), Some(Duration::from_secs(8)));
    }

    #[test]
    fn a_stream_brings_texts_and_other_things() {
        let text = |line: &str| text_of(line.as_bytes());
        assert_eq!(text("data: {\"event\":\"snapshot\",\"body\":\"new\"}\n"), Some(Bytes::from_static(b"new")));
        assert_eq!(text("data: {\"event\":\"live\"}\n"), None);
        assert_eq!(text(": heartbeat\n"), None);
    }
}
