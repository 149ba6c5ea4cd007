//! The held loop: what happens to a client from its first byte to its last.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::downstream::Coding;
use super::format::FormatRef;
use super::subscriptions::{Disconnect, SubscriptionService, UrlSubscriptions};
use super::{Downstream, Options, StreamPermit};
use crate::clock;
use crate::model::{EndReason, Frame};
use crate::resource::{Decline, Ended, Refusal, Subscription, TaskNotify, WaitLimit};

/// One held client.
pub struct Session {
    /// What it follows.
    pub followers: UrlSubscriptions,
    /// Where it finds more; `None` if it follows one URL until that ends.
    pub desk: Option<Arc<dyn SubscriptionService>>,
    /// What wakes it.
    pub notify: Arc<TaskNotify>,
    /// Its place among all held clients.
    pub place: StreamPermit,
    /// In which form.
    pub delivery: FormatRef,
    /// How patiently.
    pub options: Options,
    /// Whether the client takes gzip.
    pub gzip: bool,
    /// What else the head of the response says.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether it ends as soon as there was something to tell, as a poll does.
    pub once: bool,
    /// Of its own moments within the common ones.
    pub seed: u64,
}

/// What there is to say when the first fetch is over.
#[derive(Debug)]
pub enum FirstState {
    /// Go on.
    Stream,
    /// The client left.
    Gone,
    /// The upstream refuses.
    Refused(Arc<Refusal>),
    /// The resource may not be watched as it was asked for.
    Declined(Decline),
    /// The watch ended for another reason; another may begin.
    Ended,
    /// It takes longer than the client is to wait.
    Late,
}

/// How soon the first look at what a stream is opened for has to begin. A client that waits for longer is told that what it
/// asks for cannot be read now.
pub const STREAM_FIRST_STATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until there is a state that the upstream had at `since` or later, or until it is clear that there is none, or none
/// soon. Asks for a fetch if nobody has made it yet.
pub async fn await_ready(
    wire: &mut Downstream,
    subscription: &Subscription,
    since: Instant,
    patience: WaitLimit,
) -> FirstState {
    let head = tokio::select! {
        biased;
        head = subscription.resource().fetch_since(since, clock::now(), patience) => head,
        () = wire.closed() => return FirstState::Gone,
    };
    let Some(head) = head else { return FirstState::Late };
    match head.ended() {
        None => FirstState::Stream,
        Some(Ended::Refused(refusal)) => FirstState::Refused(Arc::clone(refusal)),
        Some(Ended::Declined(decline)) => FirstState::Declined(decline.clone()),
        Some(Ended::Closed(_)) => FirstState::Ended,
    }
}

/// Streams live for `max_age` and up to this part more, so that those that began together do not come back together.
const AGE_JITTER: f64 = 0.2;

/// When the server stops, streams end within this part of the time that it allows, so that the last of them is gone
/// before the time is over.
const DRAIN_FRACTION: f64 = 0.8;

/// When a held client is to be ended by us, and why.
pub(super) struct StreamDeadline {
    rng: fastrand::Rng,
    /// The moment.
    pub(super) at: Instant,
    /// The reason.
    pub(super) reason: EndReason,
}

impl StreamDeadline {
    /// The end of a client that comes `now`.
    pub(super) fn new(options: &Options, seed: u64, now: Instant) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let at = now + options.max_age.mul_f64(1.0 + AGE_JITTER * rng.f64());
        Self { rng, at, reason: EndReason::MaxAge }
    }

    /// A moment of the client's own to come back after.
    pub(super) fn retry(&mut self, options: &Options) -> Duration {
        options.retry.mul_f64(1.0 + self.rng.f64())
    }

    /// Brings the end nearer, if the server is stopping, or if the client has other cookies by now than it came with.
    pub(super) fn apply_drain(&mut self, place: &StreamPermit) {
        if self.reason == EndReason::MaxAge
            && let Some(at) = place.revoked()
        {
            self.reason = EndReason::Reload;
            self.at = self.at.min(at);
        }
        if self.reason != EndReason::Drain
            && let Some(last) = place.drain_deadline()
        {
            let now = clock::now();
            self.reason = EndReason::Drain;
            self.at = self.at.min(now + last.saturating_duration_since(now).mul_f64(DRAIN_FRACTION * self.rng.f64()));
        }
    }
}

impl Session {
    /// Holds the client until it leaves, its time is over, or there is nothing more to tell. That is all that a session is
    /// good for; it is lent all the same, because a future has room twice for what it is given.
    pub async fn run(&mut self, wire: &mut Downstream) {
        let patience = self.options.write_timeout;
        let mut ending = StreamDeadline::new(&self.options, self.seed, clock::now());
        ending.apply_drain(&self.place);
        let mut coding = Coding::new(self.gzip);
        let mut frames: Vec<Frame> = self.delivery.preamble(ending.retry(&self.options)).into_iter().collect();
        let preamble = frames.len();
        let headers = self.response_headers();
        let mut spoken = self.collect(&mut frames);
        let mut told = frames.len() > preamble;
        if let Err(error) = Box::pin(wire.open(headers, &frames, &mut coding, patience)).await {
            return self.followers.disconnect(error.into());
        }
        self.followers.sent();
        let mut alarm = pin!(sleep_until(ending.at.min(spoken + self.options.heartbeat)));
        while !(self.followers.is_empty() || self.once && told) {
            let heartbeat = spoken + self.options.heartbeat;
            let deadline = ending.at.min(heartbeat).min(self.followers.due().unwrap_or(heartbeat));
            // Each event puts the next heartbeat off. The alarm is left to go off early instead of being set anew each time,
            // which would cost more than all else that is done here.
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            // What a client costs while it waits must not depend on what it was last told.
            frames = Vec::new();
            let now = tokio::select! {
                biased;
                () = self.notify.notified() => self.collect(&mut frames),
                () = wire.closed() => return self.followers.disconnect(Disconnect::Closed),
                () = alarm.as_mut() => {
                    let now = self.collect(&mut frames);
                    if now >= ending.at {
                        self.followers.end(&*self.delivery, ending.reason, &mut frames);
                    } else if frames.is_empty() && now >= heartbeat {
                        spoken = now;
                        frames.extend(self.delivery.heartbeat());
                    }
                    now
                }
            };
            ending.apply_drain(&self.place);
            if frames.is_empty() {
                self.followers.sent();
                continue;
            }
            spoken = now;
            if let Err(error) = wire.send(&frames, &mut coding, patience).await {
                return self.followers.disconnect(error.into());
            }
            self.followers.sent();
            told = true;
        }
        Box::pin(wire.finish(&mut coding, patience)).await;
    }

    /// Adds frames for all that there is to tell now, and says when that is.
    fn collect(&mut self, frames: &mut Vec<Frame>) -> Instant {
        let (before, now) = (frames.len(), clock::now());
        self.followers.collect(&*self.delivery, self.desk.as_deref(), &self.notify, now, frames);
        if frames.len() > before
            && self.desk.is_some()
            && let Some(stamp) = self.delivery.resume_marker(&self.followers.versions())
        {
            // With the last of them, so that a client that lost one has not been told that it holds it.
            frames.insert(frames.len() - 1, stamp);
        }
        now
    }

    fn response_headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::from_iter(mem::take(&mut self.headers));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.delivery.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding, Prefer"));
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers
    }
}

/// How long clients that were turned away are told to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
