//! Recognises a polling page by the timing of its polls. Pure.
//!
//! Neither address nor `User-Agent` distinguishes one page from another, nor do connections, which browsers share, or
//! validators, which caches share. Only the page that received a response polls again a fixed time after *that*
//! response: if the response is delayed, the page's next poll is delayed equally, and the polls of all other pages are
//! not.
//!
//! ```text
//! polls at regular distances ─▶ their answers are delayed, by a little, now and then
//!                                   ├ the next poll comes when it would come of the page that got the answer ─▶ a proof
//!                                   └ it comes at another time, or while one waits ─▶ there are several: all begins again
//! enough proofs ─▶ the next poll is held if it comes when that page is due, and that page has the newest state
//! ```
//!
//! A poll held by mistake belongs to another page and arrived just when the recognised page was due. The recognised
//! page polls at that time too, which ends the hold: no page waits longer than [`window`] twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Version;

/// The number of times that the next poll must move with a response.
const PROOFS: u32 = 3;

/// The minimum rest between two polls for a page to be held. With shorter rests, some poll among many pages always
/// comes at the expected time.
const SHORTEST_REST: Duration = Duration::from_millis(250);

/// One more poll interval of hold per this many polls that came when expected: a page that has stayed for long will
/// probably stay for long.
const POLLS_A_REST: u32 = 4;

/// Returns how far from the expected moment a poll may come.
pub(super) fn window(rest: Duration) -> Duration {
    (rest / 100).clamp(Duration::from_millis(10), Duration::from_millis(30))
}

/// The treatment of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Answer it without any assumption about its page.
    AtOnce,
    /// Answer it with the newest state, so that the state of a page that may be recognised is known.
    Meet,
    /// Answer it after this delay, or at once if the resource changes.
    Delay(Duration),
    /// Hold it for at most this long, if its page has the newest state.
    Hold(Duration),
}

/// The timing of similar polls.
#[derive(Clone, Debug, Default)]
pub(super) struct Rhythm {
    /// The page's rest between a response and its next poll.
    rest: Option<Duration>,
    /// The last poll that was answered.
    last: Option<Answered>,
    /// The delay of the response before that.
    before: Duration,
    proofs: u32,
    /// The number of consecutive polls that came when expected.
    met: u32,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    delay: Duration,
    with: Option<Version>,
}

impl Rhythm {
    /// Records a poll at `now`; `chance`, from 0 to 1, is random.
    pub(super) fn asked(&mut self, now: Instant, chance: f64) -> Treatment {
        let Some(last) = self.last else { return Treatment::AtOnce };
        let rested = now.saturating_duration_since(last.at);
        let Some(rest) = self.rest else {
            self.rest = Some(rested);
            return Treatment::AtOnce;
        };
        let window = window(rest);
        if rested + window < rest {
            // Timers never fire early, so this is another page.
            self.begin_again(Some(rested));
            return Treatment::AtOnce;
        }
        if rested > rest + window {
            // Either the page was busy, or it is another page.
            self.proofs /= 2;
            self.met /= 2;
            if self.proofs == 0 {
                self.begin_again(Some(rested));
            }
            return Treatment::AtOnce;
        }
        self.rest = Some((rest * 3 + rested) / 4);
        self.met += 1;
        if last.delay.abs_diff(self.before) > 2 * window {
            self.proofs += 1;
        }
        if rest < SHORTEST_REST {
            return Treatment::AtOnce;
        }
        match self.proofs {
            _ if last.with.is_none() => Treatment::Meet,
            PROOFS.. => Treatment::Hold(rest * (self.met / POLLS_A_REST).max(1)),
            _ if last.delay > window => Treatment::Meet,
            _ => Treatment::Delay(window.mul_f64(2.5 + 1.5 * chance)),
        }
    }

    /// Records a response at `now`, after `delay`; `with` is its version, if known.
    pub(super) fn answered(&mut self, now: Instant, delay: Duration, with: Option<Version>) {
        self.before = self.last.map_or(delay, |last| last.delay);
        self.last = Some(Answered { at: now, delay, with });
    }

    /// Returns the version held by the page that polls next, if that is the page that was answered last.
    pub(super) fn known(&self) -> Option<Version> {
        self.last?.with
    }

    /// Records that a poll came while another was waiting: there are several pages.
    pub(super) fn disturbed(&mut self) {
        self.begin_again(None);
    }

    fn begin_again(&mut self, rest: Option<Duration>) {
        self.rest = rest;
        self.proofs = 0;
        self.met = 0;
    }
}
