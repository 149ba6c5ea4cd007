//! Readers that follow the text as the wiki's page does: they ask, wait for the answer, sleep, and ask again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::wiki::{INTERVAL, Way, Wiki};
use crate::clock;

/// How late readers were, lately.
#[derive(Debug, Default)]
pub(super) struct Delays {
    last: Mutex<VecDeque<Duration>>,
}

/// As many as say what is usual now.
const MOST_DELAYS: usize = 256;

impl Delays {
    fn note(&self, delay: Duration) {
        let mut last = self.last.lock();
        if last.len() >= MOST_DELAYS {
            last.pop_front();
        }
        last.push_back(delay);
    }

    /// The one in the middle, if anybody has seen a change yet.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.last.lock().iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// One reader.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// Whom it asks.
    pub(super) address: SocketAddr,
    /// By which way it comes to the wiki.
    pub(super) way: Way,
    /// Tells it from the others; a browser of its own.
    pub(super) number: usize,
    /// What it is compared with.
    pub(super) wiki: Arc<Wiki>,
    /// Where it says how late it was.
    pub(super) delays: Arc<Delays>,
}

impl Reader {
    /// Reads for as long as it is polled, beginning after `pause`.
    pub(super) async fn run(self, pause: Duration) {
        sleep(pause).await;
        let mut known = None;
        loop {
            // Whatever went wrong, a page would ask again after its interval.
            let _ = self.follow(&mut known).await;
            sleep(INTERVAL).await;
        }
    }

    /// Asks again and again over one connection, until it fails.
    async fn follow(&self, known: &mut Option<Bytes>) -> anyhow::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let mut asked = 0_u64;
            loop {
                asked += 1;
                let request = Request::get(format!("/wiki/text?_={asked}"))
                    .header(HOST, self.address.to_string())
                    .header(USER_AGENT, format!("reader {} of the demo, {}", self.number, self.way.as_str()))
                    .body(Empty::<Bytes>::new())?;
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                let body = answer.into_body().collect().await?.to_bytes();
                if status == StatusCode::OK {
                    self.read(body, known);
                }
                sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            result = asking => result,
            result = connection => result.map_err(Into::into),
        }
    }

    /// Takes in what was answered. A change is only timed if no other has followed it yet.
    fn read(&self, body: Bytes, known: &mut Option<Bytes>) {
        let text = self.wiki.text();
        let news = known.as_ref().is_some_and(|known| *known != body);
        if news && body == text.content {
            self.delays.note(clock::now().saturating_duration_since(text.since));
        }
        *known = Some(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_timed_and_the_median_is_the_one_in_the_middle() {
        let wiki = Arc::new(Wiki::new(clock::now()));
        let delays = Arc::<Delays>::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let reader =
            Reader { address, way: Way::Polled, number: 0, wiki: Arc::clone(&wiki), delays: Arc::clone(&delays) };
        let mut known = None;
        reader.read(wiki.text().content, &mut known);
        reader.read(wiki.text().content, &mut known);
        assert_eq!(delays.median(), None);
        wiki.edit("1", clock::now());
        reader.read(wiki.text().content, &mut known);
        assert!(delays.median().is_some());
        for seconds in [7, 8, 9] {
            delays.note(Duration::from_secs(seconds));
        }
        assert_eq!(delays.median(), Some(Duration::from_secs(8)));
    }
}
