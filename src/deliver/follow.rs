//! What a held client follows, and what there is to tell it.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::STREAM_PATIENCE;
use super::delivery::{Delivery, Url};
use crate::clock;
use crate::model::{Ask, Claim, DeltaKind, EndReason, Frame, Update};
use crate::resource::{Bell, Condition, Cursor, Ended, Head, Listening, Resource, Subscription};
use crate::telemetry::{Held, RouteMetrics};

/// Where news of a URL comes from.
#[derive(Debug)]
pub enum Source {
    /// A resource that we look at.
    Resource(Subscription),
    /// A resource whose changes are a reason to ask for something else.
    Reason(Subscription),
    /// The triggers of a route that we may not ask for ourselves.
    Beats {
        /// The route's.
        listening: Listening,
        /// At most one tick in this time.
        gap: Duration,
    },
}

/// One URL that a client follows.
#[derive(Debug)]
pub struct Follower {
    asked: Asked,
    /// By which name it is told of.
    url: Url,
    source: Source,
    cursor: Cursor,
    /// No state is told before there is one that the upstream had at this moment or later.
    since: Option<Instant>,
    /// When the client is told that there is none, if it still waits for it then.
    late: Option<Instant>,
    /// Ticks that have been told of, and when.
    heard: u64,
    told: Option<Instant>,
    /// How often another resource was sought because an answer taught something about the key.
    sought: usize,
    metrics: Arc<RouteMetrics>,
    _counted: Held,
}

/// When there are so many bytes to write, a client that follows many resources is told of the others later: what it does not read
/// must not be made all at once.
const MOST_AT_ONCE: usize = 1 << 20;

/// How often a follower may be sent to another resource.
const MOST_SOUGHT: usize = 4;

impl Follower {
    /// A client that follows what it asked for by `delivery`. No state is told before there is one that the upstream had at
    /// `since` or later.
    pub fn new(
        asked: Asked,
        source: Source,
        since: Option<Instant>,
        delivery: &'static str,
        metrics: Arc<RouteMetrics>,
    ) -> Self {
        let heard = match &source {
            Source::Beats { listening, .. } => listening.pulse().ticks(),
            _ => 0,
        };
        let canonical = match &source {
            Source::Resource(subscription) => subscription.resource().key().target == asked.url,
            Source::Reason(_) | Source::Beats { .. } => false,
        };
        let url = Url { text: Arc::clone(&asked.url), canonical, identity: None };
        let counted = metrics.hold(delivery);
        Self {
            asked,
            url,
            source,
            cursor: Cursor::new(),
            since,
            late: None,
            heard,
            told: None,
            sought: 0,
            metrics,
            _counted: counted,
        }
    }

    /// The same, told with each state whose it is.
    pub fn marked(mut self, identity: Option<String>) -> Self {
        self.url.identity = identity.map(Into::into);
        self
    }

    /// Has its resource looked at, if it does not know a state that is recent enough. If nothing has come of that at `late`, the
    /// client is told so.
    pub fn hurry(&mut self, late: Instant) {
        if self.asked.patient && self.asked.claim.is_some() && self.asked.pace.is_some() {
            return;
        }
        self.late = Some(late);
        if let (Source::Resource(subscription) | Source::Reason(subscription), Some(since)) = (&self.source, self.since)
            && !subscription.resource().head().has_tried(since)
        {
            subscription.resource().await_look();
            subscription.resource().demand(since);
        }
    }

    /// The client has written at `wrote`: if it has not been told anything yet, then nothing that was read before.
    fn begin_after(&mut self, wrote: Instant) {
        if self.since.is_some_and(|since| since < wrote) {
            self.since = Some(wrote);
            self.hurry(wrote + STREAM_PATIENCE);
        }
    }

    /// Whether there is something to begin with, given that it may be waited for.
    fn is_ready(&mut self, resource: &Resource, head: &Head) -> bool {
        if let Some(since) = self.since {
            if !head.has_tried(since) {
                resource.await_look();
                // It may have been made before we said that we wait for it.
                if !resource.head().has_tried(since) {
                    return false;
                }
            }
            self.since = None;
            self.late = None;
        }
        true
    }

    /// What there is to tell instead, if the client waits in vain: the upstream is left alone, or what should be read is not
    /// soon.
    fn in_vain(&mut self, resource: &Resource, head: &Head, now: Instant) -> Option<Update> {
        let is_late = self.late.is_some_and(|late| now >= late);
        if is_late {
            self.late = None;
        }
        // A look that is under way comes to an end by itself; but if the last one failed it is not waited for.
        let is_near = self.since.is_some_and(|since| resource.is_looked_at_since(since)) && !resource.is_stale();
        if !resource.rests(now) && (!is_late || is_near) {
            return None;
        }
        let (since, status) = match head.condition {
            Condition::Stale { since, status } => (since, status),
            _ => (clock::wall(), None),
        };
        self.cursor.stale(since, status)
    }
}

/// A URL that a client asks to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// As the client wrote it.
    pub url: Arc<str>,
    /// Its number among those that the client asks for.
    pub number: usize,
    /// What the client says it holds.
    pub claim: Option<Box<Claim>>,
    /// How it would like to be told of changes.
    pub delta: Option<DeltaKind>,
    /// Whether it is only to be told when to ask for this itself.
    pub tick: bool,
    /// What it would ask with, besides what it came with.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether it is to be told, by `live`, that what it holds is current, if it is.
    pub confirm: bool,
    /// Whether it waits for the next look, whenever that is made.
    pub patient: bool,
    /// How often it would ask for this itself.
    pub pace: Option<Duration>,
}

/// Why a URL cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfollowed {
    /// It is none that can be.
    Malformed(&'static str),
    /// It could be, but not now.
    Ended(EndReason),
}

/// Where a held client finds what else it asks for: under its own credentials, whatever it asks by.
pub trait Desk: Send + Sync + 'static {
    /// Begins to follow what is asked for. Several followers if its news has several reasons.
    ///
    /// # Errors
    /// Why it cannot be followed.
    fn follow(&self, asked: &Asked, delivery: &'static str, bell: &Arc<Bell>) -> Result<Vec<Follower>, Unfollowed>;

    /// When the client last wrote, or might have.
    fn wrote(&self) -> Instant;

    /// Takes in how the watch of what was asked for ended. Returns whether another resource may serve it: this one was
    /// keyed wrongly, or had just been given up.
    fn heed(&self, asked: &Asked, ended: &Ended) -> bool;
}

/// How a client came to be held no more without being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It left, or its connection failed.
    Left,
    /// It did not read what was written to it.
    Slow,
}

impl Loss {
    fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Slow => "slow",
        }
    }
}

impl From<io::Error> for Loss {
    /// Of a failed write.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Slow } else { Self::Left }
    }
}

/// All that one client follows.
#[derive(Debug, Default)]
pub struct Followers {
    all: Vec<Follower>,
    /// How many URLs the client asked for; those that ended still count.
    count: usize,
    /// What could not be followed, and has not been told.
    refused: Vec<(Arc<str>, EndReason)>,
}

impl Followers {
    /// One URL, and nothing else ever.
    pub fn one(follower: Follower) -> Self {
        Self { all: vec![follower], count: 1, refused: Vec::new() }
    }

    /// Adds what [`Desk::follow`] gave.
    pub fn add(&mut self, followers: Vec<Follower>) {
        for mut follower in followers {
            self.count = self.count.max(follower.asked.number + 1);
            follower.hurry(clock::now() + STREAM_PATIENCE);
            self.all.push(follower);
        }
    }

    /// Notes what cannot be followed now: the client is told so with all else.
    pub fn refuse(&mut self, asked: &Asked, reason: EndReason) {
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
                (&follower.source, versions.get_mut(follower.asked.number))
            {
                let head = subscription.resource().head();
                *slot = head.history.at(follower.cursor.at()).map(|held| held.version.content.short());
            }
        }
        versions
    }

    /// When there may be something to tell for which no bell rings: a tick that was held back, or that a state is late.
    pub fn due(&self) -> Option<Instant> {
        let due = |follower: &Follower| match &follower.source {
            Source::Resource(_) if follower.since.is_some() => follower.late,
            Source::Beats { listening, gap } if listening.pulse().ticks() != follower.heard => {
                follower.told.map(|told| told + *gap)
            }
            _ => None,
        };
        self.all.iter().filter_map(due).min()
    }

    /// Tells the client that it is sent away: once for each URL, or once in all where URLs have no names.
    pub fn end(&mut self, delivery: &dyn Delivery, reason: EndReason, frames: &mut Vec<Frame>) {
        for follower in self.all.drain(..).filter(|follower| !matches!(follower.source, Source::Reason(_))) {
            follower.metrics.end(delivery, reason, &follower.url, frames);
        }
    }

    /// The client cannot be told any more, and why.
    pub fn lose(&mut self, loss: Loss) {
        for follower in self.all.drain(..).filter(|follower| !matches!(follower.source, Source::Reason(_))) {
            follower.metrics.ended(loss.as_str());
        }
    }

    /// Frames for all that the client has to be told. What has ended is followed no more, or is sought anew by `desk` under
    /// what the end has taught.
    pub fn collect(
        &mut self,
        delivery: &dyn Delivery,
        desk: Option<&dyn Desk>,
        bell: &Arc<Bell>,
        now: Instant,
        frames: &mut Vec<Frame>,
    ) {
        for (text, reason) in self.refused.drain(..) {
            frames.extend(delivery.frame(&Update::End(reason), &Url { text, canonical: false, identity: None }));
        }
        let mut at = 0;
        while at < self.all.len() {
            if frames.iter().map(|frame| frame.chunk().framed().len()).sum::<usize>() >= MOST_AT_ONCE {
                // The rest comes when this has been written; and next time it comes first.
                self.all.rotate_left(at);
                bell.ring();
                break;
            }
            let collecting = &mut self.all[at];
            if let Some(desk) = desk {
                collecting.begin_after(desk.wrote());
            }
            let Some(ended) = collecting.collect(delivery, now, frames) else {
                at += 1;
                continue;
            };
            let gone = self.all.swap_remove(at);
            match desk.filter(|desk| gone.sought < MOST_SOUGHT && desk.heed(&gone.asked, &ended)) {
                Some(desk) => match desk.follow(&gone.asked, delivery.name(), bell) {
                    Ok(mut found) => {
                        found.iter_mut().for_each(|follower| follower.sought = gone.sought + 1);
                        self.add(found);
                    }
                    Err(why) => {
                        let reason = if let Unfollowed::Ended(reason) = why { reason } else { EndReason::Gone };
                        gone.metrics.end(delivery, reason, &gone.url, frames);
                    }
                },
                None if matches!(gone.source, Source::Reason(_)) => {}
                None => gone.metrics.end(delivery, gone.end_reason(&ended), &gone.url, frames),
            }
        }
    }
}

impl Follower {
    fn end_reason(&self, ended: &Ended) -> EndReason {
        match &self.source {
            Source::Resource(subscription) | Source::Reason(subscription) => subscription.resource().end_reason(ended),
            Source::Beats { .. } => ended.reason(),
        }
    }

    /// Frames for all that there is to tell; `Some` if it is over.
    fn collect(&mut self, delivery: &dyn Delivery, now: Instant, frames: &mut Vec<Frame>) -> Option<Ended> {
        let subscription = match &self.source {
            Source::Resource(subscription) | Source::Reason(subscription) => subscription,
            Source::Beats { listening, .. } if listening.pulse().is_over() => {
                return Some(Ended::Closed(EndReason::Reload));
            }
            Source::Beats { .. } => {
                self.tick(delivery, now, frames);
                return None;
            }
        };
        let mut head = subscription.resource().head();
        if self.since.is_some() {
            let resource = Arc::clone(subscription.resource());
            if !self.is_ready(&resource, &head) {
                if let Source::Resource(_) = self.source
                    && let Some(stale) = self.in_vain(&resource, &head, now)
                {
                    self.metrics.tell(delivery, &stale, &self.url, frames);
                }
                return None;
            }
            head = resource.head();
        }
        if let Some(ended) = head.ended() {
            return Some(ended.clone());
        }
        if let Some(claim) = self.asked.claim.take() {
            self.cursor.take_up(&claim, &head);
        }
        let is_reason = matches!(self.source, Source::Reason(_));
        let before = frames.len();
        let ask = self.asked.delta.zip(delivery.shape()).map(|(kind, shape)| Ask { kind, shape });
        while let Some(update) = self.cursor.next(&head, ask) {
            if is_reason {
                // Where it stands when the client comes is no news.
                if self.told.replace(now).is_some() && matches!(update, Update::Snapshot(_)) {
                    self.metrics.tell(delivery, &Update::Tick, &self.url, frames);
                }
                continue;
            }
            if let Update::Snapshot(snapshot) = &update
                && delivery.ends_at(&snapshot.representation)
            {
                return Some(Ended::Closed(EndReason::Gone));
            }
            if let Update::Snapshot(snapshot) | Update::Patch { snapshot, .. } = &update {
                // What a client begins with may have been known for long.
                if self.told.replace(now).is_some() {
                    self.metrics.delayed(now.saturating_duration_since(snapshot.arrived));
                }
            }
            self.metrics.tell(delivery, &update, &self.url, frames);
            self.sought = 0;
        }
        if mem::take(&mut self.asked.confirm) && !is_reason && frames.len() == before && self.cursor.at() > 0 {
            self.metrics.tell(delivery, &Update::Live, &self.url, frames);
        }
        None
    }

    fn tick(&mut self, delivery: &dyn Delivery, now: Instant, frames: &mut Vec<Frame>) {
        let Source::Beats { listening, gap } = &self.source else { return };
        let ticks = listening.pulse().ticks();
        if ticks != self.heard && self.told.is_none_or(|told| now.saturating_duration_since(told) >= *gap) {
            self.heard = ticks;
            self.told = Some(now);
            self.metrics.tell(delivery, &Update::Tick, &self.url, frames);
        }
    }
}

impl RouteMetrics {
    /// Adds the frame that says `reason`, and counts the end.
    fn end(&self, delivery: &dyn Delivery, reason: EndReason, url: &Url, frames: &mut Vec<Frame>) {
        self.tell(delivery, &Update::End(reason), url, frames);
        self.ended(reason.as_str());
    }

    /// Adds the frame of `update`, if `delivery` has words for it, and counts it.
    fn tell(&self, delivery: &dyn Delivery, update: &Update, url: &Url, frames: &mut Vec<Frame>) {
        if let Some(frame) = delivery.frame(update, url) {
            frames.push(frame);
            self.written(match update {
                Update::Snapshot(_) => "snapshot",
                Update::Patch { .. } => "patch",
                Update::Stale { .. } => "stale",
                Update::Live => "live",
                Update::Tick => "tick",
                Update::End(_) => "end",
            });
        }
    }
}
