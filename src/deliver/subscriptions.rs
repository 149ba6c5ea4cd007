//! The URL subscriptions of a held client, and the updates that they yield.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use super::STREAM_FIRST_STATE_TIMEOUT;
use super::format::{StreamFormat, Url};
use super::url_subscription::{MAX_RERESOLVED, Source, UrlSubscription};
use crate::clock;
use crate::model::{DeltaKind, EndReason, Frame, ResumeFrom, Update};
use crate::resource::{Ended, FenceListener, TaskNotify};

/// The maximum number of bytes collected at once. Beyond it, a client with many subscriptions receives the others
/// later, so that frames for a client that does not read are not all created at once.
const MAX_AT_ONCE: usize = 1 << 20;

/// The method and body of a subscription to a resource that is not requested by GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostedBody {
    /// The method.
    pub method: Method,
    /// The body.
    pub body: Bytes,
}

impl PostedBody {
    /// Returns the method and body of a message. Returns `None` for a GET: the message has neither a `method` nor a
    /// `body`.
    ///
    /// # Errors
    /// The reason why the combination is invalid.
    pub fn of(method: Option<&str>, body: Option<String>) -> Result<Option<Box<Self>>, &'static str> {
        let (method, body) = match (method, body) {
            (None | Some("GET"), None) => return Ok(None),
            (method, Some(body)) => (method.unwrap_or("POST"), body),
            (Some(_), None) => return Err("is asked for by another method than GET without a body"),
        };
        let method = ["POST", "QUERY"].into_iter().find(|known| *known == method);
        let method = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
        let method = method.ok_or("can be asked for with a body by POST or QUERY alone")?;
        Ok(Some(Box::new(Self { method, body: body.into() })))
    }
}

/// A client's request to subscribe to a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The URL as the client wrote it.
    pub url: Arc<str>,
    /// Its index among the client's URLs.
    pub number: usize,
    /// The state that the client says it holds.
    pub resume_from: Option<Box<ResumeFrom>>,
    /// The kind of delta that the client accepts.
    pub delta: Option<DeltaKind>,
    /// Whether the client only wants to be told when to request the URL itself.
    pub tick: bool,
    /// The headers of the client's own requests, besides those of its stream.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether to send `live` if the client's state is current.
    pub confirm: bool,
    /// Whether the client waits for the next fetch, whenever that takes place.
    pub patient: bool,
    /// The client's own polling interval.
    pub interval: Option<Duration>,
    /// Whether the client displays the response as its page.
    pub page: bool,
    /// The method and body of the request, if it is not a GET. A fragment of the URL may then distinguish it from
    /// others at the same URL.
    pub posted: Option<Box<PostedBody>>,
}

/// The reason why a URL cannot be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// The request is invalid.
    Invalid(&'static str),
    /// The subscription is not possible now.
    Unavailable(EndReason),
}

/// Creates further subscriptions for a held client, always under the client's own credentials.
pub trait SubscriptionService: Send + Sync + 'static {
    /// Creates the subscriptions for a request. There are several if its updates have several sources.
    ///
    /// # Errors
    /// Returns [`SubscribeError`] if the URL cannot be subscribed to.
    fn subscribe(
        &self,
        asked: &SubscribeRequest,
        delivery: &'static str,
        notify: &Arc<TaskNotify>,
    ) -> Result<Vec<UrlSubscription>, SubscribeError>;

    /// Handles the end of a watch. Returns whether another resource may serve the URL, because this one had the wrong
    /// key or had just been removed.
    fn on_watch_ended(&self, asked: &SubscribeRequest, ended: &Ended) -> bool;
}

/// How a client was lost without a final message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The client left, or its connection failed.
    Closed,
    /// The client did not read its data.
    TooSlow,
}

impl Disconnect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "left",
            Self::TooSlow => "slow",
        }
    }
}

impl From<io::Error> for Disconnect {
    /// Converts the error of a failed write.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::TooSlow } else { Self::Closed }
    }
}

/// All subscriptions of one client.
#[derive(Debug, Default)]
pub struct UrlSubscriptions {
    all: Vec<UrlSubscription>,
    /// The number of URLs that the client asked for, including those that ended.
    count: usize,
    /// Rejected subscriptions that the client has not been told about.
    refused: Vec<(Arc<str>, EndReason)>,
    /// The client's writes: after a write, no state fetched before it is sent. Boxed, since few clients write.
    writes: Option<Box<OwnWrites>>,
}

#[derive(Debug)]
struct OwnWrites {
    fence: FenceListener,
    /// The last write that was taken into account.
    last: Option<Instant>,
}

impl UrlSubscriptions {
    /// Creates the subscriptions of a client of one URL.
    pub fn one(follower: UrlSubscription) -> Self {
        Self { all: vec![follower], count: 1, ..Self::default() }
    }

    /// Adds the client's fence, which reports its writes.
    pub fn of_client(self, fence: FenceListener) -> Self {
        Self { writes: Some(Box::new(OwnWrites { fence, last: None })), ..self }
    }

    /// Records that the collected frames were sent: the client knows that its state may be from before its last write.
    pub fn sent(&self) {
        if let Some(OwnWrites { fence, last: Some(last) }) = self.writes.as_deref() {
            fence.told(*last);
        }
    }

    /// Adds the result of [`SubscriptionService::subscribe`].
    pub fn add(&mut self, followers: Vec<UrlSubscription>) {
        for mut follower in followers {
            self.count = self.count.max(follower.request.number + 1);
            follower.demand_fresh(clock::now() + STREAM_FIRST_STATE_TIMEOUT);
            self.all.push(follower);
        }
    }

    /// Records a rejected subscription. The client is told with the next frames.
    pub fn refuse(&mut self, asked: &SubscribeRequest, reason: EndReason) {
        self.count = self.count.max(asked.number + 1);
        self.refused.push((Arc::clone(&asked.url), reason));
    }

    /// Removes the subscription to `url`. Returns whether there was one.
    pub fn remove(&mut self, url: &str) -> bool {
        let before = self.all.len();
        self.all.retain(|follower| *follower.url.text != *url);
        self.all.len() < before
    }

    /// Returns whether there is a subscription to `url`.
    pub fn has(&self, url: &str) -> bool {
        self.all.iter().any(|follower| *follower.url.text == *url)
    }

    /// Returns the number of subscriptions.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns whether there are no subscriptions.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the versions that the client holds, by index.
    pub fn versions(&self) -> Vec<Option<String>> {
        let mut versions = vec![None; self.count];
        for follower in &self.all {
            if let (Source::Resource(subscription), Some(slot)) =
                (&follower.source, versions.get_mut(follower.request.number))
            {
                let head = subscription.resource().state();
                *slot = head.history.at(follower.cursor.at()).map(|held| held.version.content.short());
            }
        }
        versions
    }

    /// Returns the time of the next update without a notification: a deferred tick, or a state that is late.
    pub fn due(&self) -> Option<Instant> {
        let due = |follower: &UrlSubscription| match &follower.source {
            Source::Resource(_) if follower.since.is_some() => follower.late,
            Source::Resource(_) => follower.noise.due(),
            Source::RouteEvents { listening, gap } if listening.events().ticks() != follower.seen_events => {
                follower.last_told.map(|told| told + *gap)
            }
            _ => None,
        };
        self.all.iter().filter_map(due).min()
    }

    /// Tells the client that its stream ends: once per URL, or once in total if the format has no URLs.
    pub fn end(&mut self, delivery: &dyn StreamFormat, reason: EndReason, frames: &mut Vec<Frame>) {
        for follower in self.all.drain(..).filter(|follower| !matches!(follower.source, Source::TickOn(_))) {
            follower.metrics.end(delivery, reason, &follower.url, frames);
        }
    }

    /// Records that the client was lost, and the reason.
    pub fn disconnect(&mut self, loss: Disconnect) {
        for follower in self.all.drain(..).filter(|follower| !matches!(follower.source, Source::TickOn(_))) {
            follower.metrics.ended(loss.as_str());
        }
    }

    /// Adds frames for all pending updates. Subscriptions that ended are removed, or `desk` creates them again with
    /// what the end has taught.
    pub fn collect(
        &mut self,
        delivery: &dyn StreamFormat,
        desk: Option<&dyn SubscriptionService>,
        notify: &Arc<TaskNotify>,
        now: Instant,
        frames: &mut Vec<Frame>,
    ) {
        for (text, reason) in self.refused.drain(..) {
            frames.extend(delivery.frame(&Update::End(reason), &Url { text, canonical: false, identity: None }));
        }
        let wrote = self.writes.as_deref_mut().map(|writes| {
            let last = writes.fence.at();
            writes.last = Some(last);
            last
        });
        let mut at = 0;
        while at < self.all.len() {
            if frames.iter().map(|frame| frame.chunk().framed().len()).sum::<usize>() >= MAX_AT_ONCE {
                // The rest follows when this has been written, and comes first then.
                self.all.rotate_left(at);
                notify.notify();
                break;
            }
            let collecting = &mut self.all[at];
            let Some(ended) = collecting.collect(delivery, wrote, now, frames) else {
                at += 1;
                continue;
            };
            let gone = self.all.swap_remove(at);
            match desk.filter(|desk| gone.reresolved < MAX_RERESOLVED && desk.on_watch_ended(&gone.request, &ended)) {
                Some(desk) => match desk.subscribe(&gone.request, delivery.name(), notify) {
                    Ok(mut found) => {
                        found.iter_mut().for_each(|follower| follower.reresolved = gone.reresolved + 1);
                        self.add(found);
                    }
                    Err(why) => {
                        let reason =
                            if let SubscribeError::Unavailable(reason) = why { reason } else { EndReason::Gone };
                        gone.metrics.end(delivery, reason, &gone.url, frames);
                    }
                },
                None if matches!(gone.source, Source::TickOn(_)) => {}
                None => gone.metrics.end(delivery, gone.end_reason(&ended), &gone.url, frames),
            }
        }
    }
}
