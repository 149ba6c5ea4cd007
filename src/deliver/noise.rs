//! How held clients are told of what changes by itself: at their own pace.
//!
//! ```text
//! news ─▶ told at once ─ a moment later ─▶ the browser script is told `down`: its polls ask, at the page's own pace
//!                      └ a pace later ───▶ others, and pages that load themselves again, are given the newest version
//! ```
//!
//! Nobody is told of each change, and nobody shows for long what is old: a poll of the page's own is answered by a fetch.

use std::time::Duration;

use tokio::time::Instant;

use super::format::StreamFormat;
use super::url_subscription::UrlSubscription;
use crate::model::{BodyForm, DeltaRequest, Frame, Update};
use crate::resource::{NOISE_LASTS, ResourceState};

/// Who does not say how often he would ask is given noise as often as he hears from us at all.
const USUAL_PACE: Duration = Duration::from_secs(15);

/// What one client has been told, as far as noise is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NoiseUpdates {
    /// Whether the client has been told that the noise in what it holds is old.
    is_old: bool,
    /// Since when it holds what it does.
    since: Option<Instant>,
    /// When there is something to tell, perhaps.
    due: Option<Instant>,
}

impl NoiseUpdates {
    /// When there may be something to tell of which nothing notifies.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is looked for now.
    pub(super) fn collected(&mut self) {
        self.due = None;
    }
}

impl UrlSubscription {
    /// Adds what there is to tell a client of noise, and that what it holds is current if it `is_asked` and that is so. `is_told`:
    /// it has just been told of news.
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

    /// The script asks for itself once what it holds is too old to be shown; until then, and after the next news, it does not.
    fn outdate(&mut self, is_asked: bool, delivery: &dyn StreamFormat, now: Instant, frames: &mut Vec<Frame>) {
        if is_asked || self.down {
            // It asks for itself already.
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

    /// Others have the newest version, no more often than they would ask for it.
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
