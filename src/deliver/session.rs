//! The held loop: serves a client from the first byte of its stream to the last.

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
    /// The URLs that it subscribes to.
    pub followers: UrlSubscriptions,
    /// The service for further subscriptions; `None` if it subscribes to one URL until that ends.
    pub desk: Option<Arc<dyn SubscriptionService>>,
    /// Wakes it.
    pub notify: Arc<TaskNotify>,
    /// Its permit among all held clients.
    pub place: StreamPermit,
    /// Its stream format.
    pub delivery: FormatRef,
    /// Its timing.
    pub options: Options,
    /// Whether the client accepts gzip.
    pub gzip: bool,
    /// Additional headers of the response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether it ends after the first update, as a poll does.
    pub once: bool,
    /// The seed for its individual jitter.
    pub seed: u64,
}

/// The result of waiting for the first fetch.
#[derive(Debug)]
pub enum FirstState {
    /// There is a state to begin with.
    Stream,
    /// The client left.
    Gone,
    /// The upstream refuses.
    Refused(Arc<Refusal>),
    /// The resource may not be watched as requested.
    Declined(Decline),
    /// The watch ended for another reason; another may begin.
    Ended,
    /// The first fetch takes longer than the client is to wait.
    Late,
}

/// How soon the first fetch for a stream must begin. A client that waits longer is told that the resource cannot be
/// read now.
pub const STREAM_FIRST_STATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits for a state that the upstream had at `since` or later, or until it is clear that there will be none soon.
/// Requests a fetch if none has been made yet.
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

/// Streams live for `max_age` plus up to this fraction of it, so that streams that began together do not reconnect
/// together.
const AGE_JITTER: f64 = 0.2;

/// When the server stops, streams end within this fraction of the allowed time, so that the last of them has ended
/// before the time is over.
const DRAIN_FRACTION: f64 = 0.8;

/// The time and reason for which this server ends a held client.
pub(super) struct StreamDeadline {
    rng: fastrand::Rng,
    /// The time.
    pub(super) at: Instant,
    /// The reason.
    pub(super) reason: EndReason,
}

impl StreamDeadline {
    /// Returns the deadline of a client that arrives at `now`.
    pub(super) fn new(options: &Options, seed: u64, now: Instant) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let at = now + options.max_age.mul_f64(1.0 + AGE_JITTER * rng.f64());
        Self { rng, at, reason: EndReason::MaxAge }
    }

    /// Returns a jittered reconnection delay for the client.
    pub(super) fn retry(&mut self, options: &Options) -> Duration {
        options.retry.mul_f64(1.0 + self.rng.f64())
    }

    /// Moves the deadline forward if the server is stopping, or if a cookie of the client has been replaced.
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
    /// Holds the client until it leaves, its time is over, or no more updates will follow. The method takes `&mut self`
    /// although it consumes the session: an `async fn` that takes `self` by value stores it twice.
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
            // Each event postpones the next heartbeat. The timer fires early instead of being reset for each event,
            // which would cost more than all other work in this loop.
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
            // Frees the memory, so that the cost of a waiting client does not depend on its last update.
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

    /// Adds frames for all pending updates and returns the current time.
    fn collect(&mut self, frames: &mut Vec<Frame>) -> Instant {
        let (before, now) = (frames.len(), clock::now());
        self.followers.collect(&*self.delivery, self.desk.as_deref(), &self.notify, now, frames);
        if frames.len() > before
            && self.desk.is_some()
            && let Some(stamp) = self.delivery.resume_marker(&self.followers.versions())
        {
            // The marker precedes the last frame, so that a client that misses that frame does not record its version.
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

/// The `Retry-After` for rejected clients.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
