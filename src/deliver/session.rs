//! The held loop: what happens to a client from its first byte to its last.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep_until};

use super::{Delivery, Frame, Options, Place, Wire};
use crate::clock;
use crate::model::{Ask, DeltaKind, EndReason, Update, Version};
use crate::resource::{Bell, Cursor, Decline, Ended, Head, Refusal, Subscription, Trigger};
use crate::telemetry::RouteMetrics;

/// One held client.
pub struct Session {
    /// Whose updates it gets.
    pub subscription: Subscription,
    /// What wakes it.
    pub bell: Arc<Bell>,
    /// Its place among all held clients.
    pub place: Place,
    /// In which form.
    pub delivery: &'static dyn Delivery,
    /// How patiently.
    pub options: Options,
    /// Where it is counted.
    pub metrics: Arc<RouteMetrics>,
    /// The version that the client says it holds.
    pub resume: Option<Version>,
    /// The deltas that it wishes for.
    pub delta: Option<DeltaKind>,
    /// Of its own moments within the common ones.
    pub seed: u64,
}

/// What there is to say when the first look is over.
#[derive(Debug)]
pub enum Ready {
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
}

/// Waits until there is a state that the upstream had at `since` or later, or until it is clear that there is none. Asks
/// for a look if nobody has made it yet.
pub async fn await_ready(wire: &mut Wire, subscription: &Subscription, since: Instant) -> Ready {
    let resource = subscription.resource();
    let known = |head: &Head| {
        head.ended().is_some() || head.current_as_of(since).is_some() || head.tried.is_some_and(|tried| tried >= since)
    };
    if !known(&resource.head()) {
        resource.trigger(Trigger::Demand);
    }
    let head = tokio::select! {
        biased;
        head = resource.wait_for(known) => head,
        () = wire.gone() => return Ready::Gone,
    };
    match head.ended() {
        None => Ready::Stream,
        Some(Ended::Refused(refusal)) => Ready::Refused(Arc::clone(refusal)),
        Some(Ended::Declined(decline)) => Ready::Declined(decline.clone()),
        Some(Ended::Closed(_)) => Ready::Ended,
    }
}

/// Streams live for `max_age` and up to this part more, so that those that began together do not come back together.
const AGE_JITTER: f64 = 0.2;

/// When the server stops, streams end within this part of the time that it allows, so that the last of them is gone
/// before the time is over.
const DRAIN_SHARE: f64 = 0.8;

impl Session {
    /// Holds the client until it leaves, its time is over, or there is nothing more to tell.
    pub async fn run(mut self, wire: &mut Wire) {
        if self.delta.is_some() {
            self.delivery = self.delivery.with_deltas().unwrap_or(self.delivery);
        }
        let patience = self.options.write_timeout;
        let _counted = self.metrics.hold(self.delivery.name());
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let now = clock::now();
        let mut end_at = now + self.options.max_age.mul_f64(1.0 + AGE_JITTER * rng.f64());
        let mut reason = EndReason::MaxAge;
        let mut cursor = match &self.resume {
            Some(version) => Cursor::resume(version, &self.subscription.resource().head()),
            None => Cursor::new(),
        }
        .asking(self.delta.map(|kind| Ask { kind, shape: self.delivery.shape() }));
        let retry = self.options.retry.mul_f64(1.0 + rng.f64());
        let mut frames = vec![self.delivery.preamble(retry)];
        let mut ended = self.collect(&mut cursor, &mut frames, false);
        if wire.open(&self.headers(), &frames, patience).await.is_err() {
            return;
        }
        let mut spoken = clock::now();
        while !ended {
            let deadline = end_at.min(spoken + self.options.heartbeat);
            let mut sleep = pin!(sleep_until(deadline));
            frames.clear();
            tokio::select! {
                biased;
                () = self.bell.rung() => ended = self.collect(&mut cursor, &mut frames, true),
                () = wire.gone() => return,
                () = &mut sleep => {
                    if deadline == end_at {
                        frames.push(self.delivery.frame(&Update::End(reason)));
                        self.metrics.written("end");
                        ended = true;
                    } else {
                        frames.push(self.delivery.heartbeat());
                    }
                }
            }
            if reason != EndReason::Drain
                && let Some(last) = self.place.drain_deadline()
            {
                reason = EndReason::Drain;
                let now = clock::now();
                end_at = end_at.min(now + last.saturating_duration_since(now).mul_f64(DRAIN_SHARE * rng.f64()));
            }
            if frames.is_empty() {
                continue;
            }
            if wire.send(&frames, patience).await.is_err() {
                return;
            }
            spoken = clock::now();
        }
        wire.finish(patience).await;
    }

    /// Frames for all that the client has to be told. `true`: the last of them is the end. Delay is only measured on a
    /// stream that is `open` already: what a new one begins with may have been known for long.
    fn collect(&self, cursor: &mut Cursor, frames: &mut Vec<Frame>, open: bool) -> bool {
        let head = self.subscription.resource().head_full();
        while let Some(update) = cursor.next(&head) {
            frames.push(self.delivery.frame(&update));
            self.metrics.written(kind(&update));
            match update {
                Update::Snapshot(snapshot) | Update::Patch { snapshot, .. } if open => {
                    self.metrics.delayed(clock::now().saturating_duration_since(snapshot.arrived).as_secs_f64());
                }
                Update::End(_) => return true,
                Update::Snapshot(_) | Update::Patch { .. } | Update::Stale { .. } | Update::Live => {}
            }
        }
        false
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.delivery.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        if let Some(delta) = self.delta {
            headers.insert(VARY, HeaderValue::from_static("Accept, Prefer"));
            if let Ok(applied) = HeaderValue::from_str(&format!("delta={delta}")) {
                headers.insert("preference-applied", applied);
            }
        }
        headers
    }
}

/// The kind of an event in metrics.
fn kind(update: &Update) -> &'static str {
    match update {
        Update::Snapshot(_) => "snapshot",
        Update::Patch { .. } => "patch",
        Update::Stale { .. } => "stale",
        Update::Live => "live",
        Update::End(_) => "end",
    }
}

/// How long clients that were turned away are told to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
