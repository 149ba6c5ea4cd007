//! How held clients receive changes that are only noise: at their own pace.
//!
//! ```text
//! change ─▶ sent at once ─ a moment later ─▶ the browser script receives `down`: the page polls at its own pace
//!                      └ an interval later ─▶ others, and self-reloading pages, receive the newest version
//! ```
//!
//! No client is notified of each change in noise, and no client displays old noise for long: a poll of the page is
//! answered by a fetch.

use std::time::Duration;

use tokio::time::Instant;

use super::format::StreamFormat;
use super::url_subscription::UrlSubscription;
use crate::model::{BodyForm, DeltaRequest, Frame, Update};
use crate::resource::{NOISE_LASTS, ResourceState};

/// The interval for clients that declare none: noise is sent as often as any other frame.
const USUAL_PACE: Duration = Duration::from_secs(15);

/// The state of noise updates for one client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NoiseUpdates {
    /// Whether the client knows that the noise in its state is old.
    is_old: bool,
    /// Since when the client has held its state.
    since: Option<Instant>,
    /// When the next update may be due.
    due: Option<Instant>,
}

impl NoiseUpdates {
    /// Returns the time of the next update without a notification.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records that updates are being collected now.
    pub(super) fn collected(&mut self) {
        self.due = None;
    }
}

impl UrlSubscription {
    /// Adds the pending noise updates, and a confirmation that the state is current if it `is_asked` for and true.
    /// `is_told` means that the client has just received a change.
    pub(super) fn collect_noise(
        &mut self,
        head: &ResourceState,
        delivery: &dyn StreamFormat,
        (is_told, is_asked): (bool, bool),
        now: Instant,
        frames: &mut Vec<Frame>,
    ) {
        if is_told {
            let since = head.last_success.map_or(now, |fetched| fetched.finished);
            self.noise = NoiseUpdates { since: Some(since), ..NoiseUpdates::default() };
        }
        let is_script = delivery.body_form() == Some(BodyForm::Exact) && self.url.identity.is_some();
        if !head.is_noisy() || self.cursor.at() == 0 {
            if is_asked || self.down || std::mem::take(&mut self.noise.is_old) {
                self.down = false;
                self.metrics.tell(delivery, &Update::Live, &self.url, frames);
            }
        } else if is_script && !self.request.page {
            self.outdate(is_asked, delivery, now, frames);
        } else {
            if is_asked || self.down {
                self.down = false;
                self.metrics.tell(delivery, &Update::Live, &self.url, frames);
            }
            self.give_noise(head, delivery, now, frames);
        }
    }

    /// Handles a browser script: it is told to poll once its state is too old to be displayed, but not before, and not
    /// after the next change.
    fn outdate(&mut self, is_asked: bool, delivery: &dyn StreamFormat, now: Instant, frames: &mut Vec<Frame>) {
        if is_asked || self.down {
            // It polls already.
            self.down = false;
            self.noise.is_old = true;
        }
        if self.noise.is_old {
            return;
        }
        let until = self.noise.since.map_or(now, |since| since + NOISE_LASTS);
        if now < until {
            self.noise.due = Some(until);
            return;
        }
        self.noise.is_old = true;
        self.metrics.tell(delivery, &Update::Down, &self.url, frames);
    }

    /// Sends the newest version to other clients, no more often than they would poll.
    fn give_noise(&mut self, head: &ResourceState, delivery: &dyn StreamFormat, now: Instant, frames: &mut Vec<Frame>) {
        let pace = self.request.interval.unwrap_or(USUAL_PACE);
        let since = *self.noise.since.get_or_insert(now);
        if now >= since + pace {
            let ask = self.request.delta.zip(delivery.body_form()).map(|(kind, form)| DeltaRequest { kind, form });
            while let Some(update) = self.cursor.next_noise(head, ask) {
                self.metrics.tell(delivery, &update, &self.url, frames);
            }
            self.noise.since = Some(now);
        }
        self.noise.due = self.noise.since.map(|since| since + pace);
    }
}
