//! What a held client follows, and what there is to tell it.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use super::STREAM_FIRST_STATE_TIMEOUT;
use super::format::{StreamFormat, Url};
use crate::clock;
use crate::model::{DeltaKind, DeltaRequest, EndReason, Frame, ResumeFrom, Update};
use crate::resource::{
    Cursor, Ended, EventListener, FenceListener, Resource, ResourceState, ResourceStatus, Subscription, TaskNotify,
};
use crate::telemetry::{HeldGuard, RouteMetrics};

/// Where news of a URL comes from.
#[derive(Debug)]
pub enum Source {
    /// A resource that we fetch.
    Resource(Subscription),
    /// A resource whose changes are a reason to ask for something else.
    TickOn(Subscription),
    /// The triggers of a route that we may not ask for ourselves.
    RouteEvents {
        /// The route's.
        listening: EventListener,
        /// At most one tick in this time.
        gap: Duration,
    },
}

/// One URL that a client follows.
#[derive(Debug)]
pub struct UrlSubscription {
    request: SubscribeRequest,
    /// By which name it is told of.
    url: Url,
    source: Source,
    cursor: Cursor,
    /// No state is told before there is one that the upstream had at this moment or later.
    since: Option<Instant>,
    /// When the client is told that there is none, if it still waits for it then.
    late: Option<Instant>,
    /// When it came.
    came: Instant,
    /// Nothing that was fetched before this is told: it says that it holds something of which nobody here knows how new it is.
    after: Option<Instant>,
    /// Ticks that have been told of, and when.
    seen_events: u64,
    last_told: Option<Instant>,
    /// Whether the client has been told that what it holds may be old, and nothing since.
    down: bool,
    /// How often another resource was sought because an answer taught something about the key.
    reresolved: usize,
    metrics: Arc<RouteMetrics>,
    _counted: HeldGuard,
}

/// When there are so many bytes to write, a client that follows many resources is told of the others later: what it does not read
/// must not be made all at once.
const MAX_AT_ONCE: usize = 1 << 20;

/// How often a follower may be sent to another resource.
const MAX_RERESOLVED: usize = 4;

impl UrlSubscription {
    /// A client that follows what it asked for by `delivery`. No state is told before there is one that the upstream had at
    /// `since` or later.
    pub fn new(
        asked: SubscribeRequest,
        source: Source,
        since: Option<Instant>,
        delivery: &'static str,
        metrics: Arc<RouteMetrics>,
    ) -> Self {
        let heard = match &source {
            Source::RouteEvents { listening, .. } => listening.events().ticks(),
            _ => 0,
        };
        let canonical = match &source {
            Source::Resource(subscription) => subscription.resource().key().target == asked.url,
            Source::TickOn(_) | Source::RouteEvents { .. } => false,
        };
        let url = Url { text: Arc::clone(&asked.url), canonical, identity: None };
        let counted = metrics.hold(delivery);
        Self {
            request: asked,
            url,
            source,
            cursor: Cursor::new(),
            since,
            late: None,
            came: clock::now(),
            after: None,
            seen_events: heard,
            last_told: None,
            down: false,
            reresolved: 0,
            metrics,
            _counted: counted,
        }
    }

    /// The same for a client that came at `came`, before there was something to tell it.
    pub fn since(mut self, came: Instant) -> Self {
        self.came = came;
        self
    }

    /// The same, told with each state whose it is.
    pub fn marked(mut self, identity: Option<String>) -> Self {
        self.url.identity = identity.map(Into::into);
        self
    }

    /// Has its resource fetched, if it does not know a state that is recent enough. If nothing has come of that at `late`, the
    /// client is told so.
    pub fn demand_fresh(&mut self, late: Instant) {
        if self.request.patient && self.request.resume_from.is_some() && self.request.interval.is_some() {
            return;
        }
        self.late = Some(late);
        if let (Source::Resource(subscription) | Source::TickOn(subscription), Some(since)) = (&self.source, self.since)
            && !subscription.resource().state().attempted_since(since)
        {
            subscription.resource().wake_on_next_fetch();
            subscription.resource().demand(since);
        }
    }

    /// The client has written at `wrote`: if it has not been told anything yet, then nothing that was read before.
    fn require_after(&mut self, wrote: Instant) {
        if self.since.is_some_and(|since| since < wrote) {
            self.since = Some(wrote);
            self.demand_fresh(wrote + STREAM_FIRST_STATE_TIMEOUT);
        }
    }

    /// Whether there is something to begin with, given that it may be waited for.
    fn is_ready(&mut self, resource: &Resource, head: &ResourceState) -> bool {
        if let Some(since) = self.since {
            if !head.attempted_since(since) {
                resource.wake_on_next_fetch();
                // It may have been made before we said that we wait for it.
                if !resource.state().attempted_since(since) {
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
    fn stale_instead(&mut self, resource: &Resource, head: &ResourceState, now: Instant) -> Option<Update> {
        if resource.is_untried() {
            // The client's own next poll is waited for: nothing has failed, and a client that was told so would give up.
            self.late = None;
            return None;
        }
        let is_late = self.late.is_some_and(|late| now >= late);
        if is_late {
            self.late = None;
        }
        // A fetch that is under way comes to an end by itself; but if the last one failed it is not waited for.
        let is_near = self.since.is_some_and(|since| resource.is_fetched_since(since)) && !resource.is_stale();
        if !resource.rests(now) && (!is_late || is_near) {
            return None;
        }
        let (since, status) = match head.status {
            ResourceStatus::Stale { since, status } => (since, status),
            _ => (clock::wall(), None),
        };
        self.cursor.stale(since, status)
    }
}

/// With what a client would ask for something by another method than GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostedBody {
    /// The method.
    pub method: Method,
    /// The body.
    pub body: Bytes,
}

impl PostedBody {
    /// That of a message that names a `method`, or a `body`, or neither: then it is a GET.
    ///
    /// # Errors
    /// What is wrong with that.
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
    /// With what it would ask for it, if not by GET. Then a fragment of the URL may tell it from others at the same URL.
    pub posted: Option<Box<PostedBody>>,
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

impl UrlSubscription {
    fn end_reason(&self, ended: &Ended) -> EndReason {
        match &self.source {
            Source::Resource(subscription) | Source::TickOn(subscription) => subscription.resource().end_reason(ended),
            Source::RouteEvents { .. } => ended.reason(),
        }
    }

    /// Frames for all that there is to tell a client that last wrote at `wrote`; `Some` if it is over.
    fn collect(
        &mut self,
        delivery: &dyn StreamFormat,
        wrote: Option<Instant>,
        now: Instant,
        frames: &mut Vec<Frame>,
    ) -> Option<Ended> {
        wrote.into_iter().for_each(|wrote| self.require_after(wrote));
        let subscription = match &self.source {
            Source::Resource(subscription) | Source::TickOn(subscription) => subscription,
            Source::RouteEvents { listening, .. } if listening.events().is_closed() => {
                return Some(Ended::Closed(EndReason::Reload));
            }
            Source::RouteEvents { .. } => {
                self.tick(delivery, now, frames);
                return None;
            }
        };
        let mut head = subscription.resource().state();
        let is_reason = matches!(self.source, Source::TickOn(_));
        let fence = |follower: &Self| wrote.max(follower.after).filter(|_| !is_reason);
        if self.since.is_some()
            || self.request.resume_from.is_some()
            || fence(self).is_some_and(|fence| is_from_before(&head, fence))
        {
            let resource = Arc::clone(subscription.resource());
            if !self.is_ready(&resource, &head) {
                if let Source::Resource(_) = self.source
                    && let Some(stale) = self.stale_instead(&resource, &head, now)
                {
                    self.metrics.tell(delivery, &stale, &self.url, frames);
                }
                return None;
            }
            head = resource.state();
            if head.ended().is_none() {
                self.resume(&head);
                if let Some(fence) = fence(self).filter(|fence| is_from_before(&head, *fence)) {
                    head = self.withhold(&resource, fence, delivery, frames)?;
                }
            }
        }
        if let Some(ended) = head.ended() {
            return Some(ended.clone());
        }
        let before = frames.len();
        let ask = self.request.delta.zip(delivery.body_form()).map(|(kind, shape)| DeltaRequest { kind, form: shape });
        while let Some(update) = self.cursor.next(&head, ask) {
            if is_reason {
                // Where it stands when the client comes is no news.
                if self.last_told.replace(now).is_some() && matches!(update, Update::Snapshot(_)) {
                    self.metrics.tell(delivery, &Update::Tick, &self.url, frames);
                }
                continue;
            }
            if let Update::Snapshot(snapshot) = &update
                && delivery.must_end_at(&snapshot.representation)
            {
                return Some(Ended::Closed(EndReason::Gone));
            }
            if let Update::Snapshot(snapshot) | Update::Patch { snapshot, .. } = &update {
                // What a client begins with may have been known for long.
                if self.last_told.replace(now).is_some() {
                    self.metrics.delayed(now.saturating_duration_since(snapshot.arrived));
                }
            }
            self.metrics.tell(delivery, &update, &self.url, frames);
            self.reresolved = 0;
            self.down = false;
        }
        let is_asked =
            mem::take(&mut self.request.confirm) && !is_reason && frames.len() == before && self.cursor.at() > 0;
        if is_asked || self.down {
            self.down = false;
            self.metrics.tell(delivery, &Update::Live, &self.url, frames);
        }
        None
    }

    /// Takes the client at its word, the first time. What it holds may be newer than all that is known here.
    fn resume(&mut self, head: &ResourceState) {
        if let Some(claim) = self.request.resume_from.take() {
            self.after = (!head.knows(&claim)).then_some(self.came);
            self.cursor.take_up(&claim, head);
        }
    }

    /// The head to tell of, if it is not from before `fence`, the client's last write. If it is, the client is told nothing until
    /// there is another: not the news in it, nor that it is current. A client that answers requests from what it is told
    /// hears that it must not.
    ///
    /// *Races.* A fetch that ends while this decides wakes the client again, as it is awaited before the head is read.
    fn withhold(
        &mut self,
        resource: &Resource,
        fence: Instant,
        delivery: &dyn StreamFormat,
        frames: &mut Vec<Frame>,
    ) -> Option<Guard<Arc<ResourceState>>> {
        resource.wake_on_next_fetch();
        let head = resource.state();
        let has_news = self.cursor.at() < head.meaning_position;
        let is_told = has_news || matches!(head.status, ResourceStatus::Live);
        if head.ended().is_some() || !(is_told && is_from_before(&head, fence)) {
            return Some(head);
        }
        if self.url.identity.is_some() && self.cursor.at() > 0 && !mem::replace(&mut self.down, true) {
            self.metrics.tell(delivery, &Update::Down, &self.url, frames);
        }
        if has_news && self.request.interval.is_none() {
            // There is news for which nobody else may be waiting.
            resource.demand(fence);
        }
        if let Some(update) = self.cursor.stale_head(&head) {
            self.metrics.tell(delivery, &update, &self.url, frames);
        }
        None
    }

    fn tick(&mut self, delivery: &dyn StreamFormat, now: Instant, frames: &mut Vec<Frame>) {
        let Source::RouteEvents { listening, gap } = &self.source else { return };
        let ticks = listening.events().ticks();
        if ticks != self.seen_events && self.last_told.is_none_or(|told| now.saturating_duration_since(told) >= *gap) {
            self.seen_events = ticks;
            self.last_told = Some(now);
            self.metrics.tell(delivery, &Update::Tick, &self.url, frames);
        }
    }
}

/// Whether what is known was fetched before a client wrote.
fn is_from_before(head: &ResourceState, wrote: Instant) -> bool {
    head.last_success.is_some_and(|fetched| fetched.started < wrote)
}

impl RouteMetrics {
    /// Adds the frame that says `reason`, and counts the end.
    fn end(&self, delivery: &dyn StreamFormat, reason: EndReason, url: &Url, frames: &mut Vec<Frame>) {
        self.tell(delivery, &Update::End(reason), url, frames);
        self.ended(reason.as_str());
    }

    /// Adds the frame of `update`, if `delivery` has words for it, and counts it.
    fn tell(&self, delivery: &dyn StreamFormat, update: &Update, url: &Url, frames: &mut Vec<Frame>) {
        if let Some(frame) = delivery.frame(update, url) {
            frames.push(frame);
            self.written(match update {
                Update::Snapshot(_) => "snapshot",
                Update::Patch { .. } => "patch",
                Update::Stale { .. } => "stale",
                Update::Live => "live",
                Update::Tick => "tick",
                Update::Down => "down",
                Update::End(_) => "end",
            });
        }
    }
}
