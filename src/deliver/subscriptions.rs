//! What a held client follows, and what there is to tell it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::STREAM_FIRST_STATE_TIMEOUT;
use super::format::{StreamFormat, Url};
use super::url_subscription::{MAX_RERESOLVED, Source, UrlSubscription};
use crate::clock;
use crate::model::{DeltaKind, EndReason, Frame, ResumeFrom, Update};
use crate::resource::{Ended, FenceListener, TaskNotify};

/// When there are so many bytes to write, a client that follows many resources is told of the others later: what it does not read
/// must not be made all at once.
const MAX_AT_ONCE: usize = 1 << 20;

/// A URL that a client asks to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// As the client wrote it.
    pub url: Arc<str>,
    /// Its number among those that the client asks for.
    pub number: usize,
    /// What the client says it holds.
    pub resume_from: Option<Box<ResumeFrom>>,
    /// How it would like to be told of changes.
    pub delta: Option<DeltaKind>,
    /// Whether it is only to be told when to ask for this itself.
    pub tick: bool,
    /// What it would ask with, besides what it came with.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether it is to be told, by `live`, that what it holds is current, if it is.
    pub confirm: bool,
    /// Whether it waits for the next fetch, whenever that is made.
    pub patient: bool,
    /// How often it would ask for this itself.
    pub interval: Option<Duration>,
    /// Whether it shows this as the page that it is.
    pub page: bool,
}

/// Why a URL cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// It is none that can be.
    Invalid(&'static str),
    /// It could be, but not now.
    Unavailable(EndReason),
}

/// Where a held client finds what else it asks for: under its own credentials, whatever it asks by.
pub trait SubscriptionService: Send + Sync + 'static {
    /// Begins to follow what is asked for. Several followers if its news has several reasons.
    ///
    /// # Errors
    /// Why it cannot be followed.
    fn subscribe(
        &self,
        asked: &SubscribeRequest,
        delivery: &'static str,
        notify: &Arc<TaskNotify>,
    ) -> Result<Vec<UrlSubscription>, SubscribeError>;

    /// Takes in how the watch of what was asked for ended. Returns whether another resource may serve it: this one was
    /// keyed wrongly, or had just been given up.
    fn on_watch_ended(&self, asked: &SubscribeRequest, ended: &Ended) -> bool;
}

/// How a client came to be held no more without being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// It left, or its connection failed.
    Closed,
    /// It did not read what was written to it.
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
    /// Of a failed write.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::TooSlow } else { Self::Closed }
    }
}

/// All that one client follows.
#[derive(Debug, Default)]
pub struct UrlSubscriptions {
    all: Vec<UrlSubscription>,
    /// How many URLs the client asked for; those that ended still count.
    count: usize,
    /// What could not be followed, and has not been told.
    refused: Vec<(Arc<str>, EndReason)>,
    /// The client's writes: nothing that was fetched before one is told after it. Boxed, for few clients write.
    writes: Option<Box<OwnWrites>>,
}

#[derive(Debug)]
struct OwnWrites {
    fence: FenceListener,
    /// The last write that was taken into account.
    last: Option<Instant>,
}

impl UrlSubscriptions {
    /// One URL, and nothing else ever.
    pub fn one(follower: UrlSubscription) -> Self {
        Self { all: vec![follower], count: 1, ..Self::default() }
    }

    /// The same, for a client whose writes `fence` hears of.
    pub fn of_client(self, fence: FenceListener) -> Self {
        Self { writes: Some(Box::new(OwnWrites { fence, last: None })), ..self }
    }

    /// What was collected has been sent: the client knows that what it holds may be from before its last write.
    pub fn sent(&self) {
        if let Some(OwnWrites { fence, last: Some(last) }) = self.writes.as_deref() {
            fence.told(*last);
        }
    }

    /// Adds what [`SubscriptionService::subscribe`] gave.
    pub fn add(&mut self, followers: Vec<UrlSubscription>) {
        for mut follower in followers {
            self.count = self.count.max(follower.request.number + 1);
            follower.demand_fresh(clock::now() + STREAM_FIRST_STATE_TIMEOUT);
            self.all.push(follower);
        }
    }

    /// Notes what cannot be followed now: the client is told so with all else.
    pub fn refuse(&mut self, asked: &SubscribeRequest, reason: EndReason) {
        self.count = self.count.max(asked.number + 1);
        self.refused.push((Arc::clone(&asked.url), reason));
    }

    /// Stops following `url`. Whether it was followed.
    pub fn remove(&mut self, url: &str) -> bool {
        let before = self.all.len();
        self.all.retain(|follower| *follower.url.text != *url);
        self.all.len() < before
    }

    /// Whether `url` is followed.
    pub fn has(&self, url: &str) -> bool {
        self.all.iter().any(|follower| *follower.url.text == *url)
    }

    /// How many URLs are followed.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The versions that the client holds, by number.
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

    /// When there may be something to tell of which nothing notifies: a tick that was held back, or that a state is late.
    pub fn due(&self) -> Option<Instant> {
        let due = |follower: &UrlSubscription| match &follower.source {
            Source::Resource(_) if follower.since.is_some() => follower.late,
            Source::RouteEvents { listening, gap } if listening.events().ticks() != follower.seen_events => {
                follower.last_told.map(|told| told + *gap)
            }
            _ => None,
        };
        self.all.iter().filter_map(due).min()
    }

    /// Tells the client that it is sent away: once for each URL, or once in all where URLs have no names.
    pub fn end(&mut self, delivery: &dyn StreamFormat, reason: EndReason, frames: &mut Vec<Frame>) {
        for follower in self.all.drain(..).filter(|follower| !matches!(follower.source, Source::TickOn(_))) {
            follower.metrics.end(delivery, reason, &follower.url, frames);
        }
    }

    /// The client cannot be told any more, and why.
    pub fn disconnect(&mut self, loss: Disconnect) {
        for follower in self.all.drain(..).filter(|follower| !matches!(follower.source, Source::TickOn(_))) {
            follower.metrics.ended(loss.as_str());
        }
    }

    /// Frames for all that the client has to be told. What has ended is followed no more, or is sought anew by `desk` under
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
                // The rest comes when this has been written; and next time it comes first.
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
