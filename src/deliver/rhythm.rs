//! By what a page is known that polls without a word. Pure.
//!
//! Neither address nor `User-Agent` tell one page from another, nor do connections, which browsers share, or validators, which
//! caches share. What only one page does is to ask again a fixed time after *its* answer came: if that answer is late, the
//! next poll is late by as much, and the polls of all others are not.
//!
//! ```text
//! polls at regular distances ─▶ their answers are delayed, by a little, now and then
//!                                   ├ the next poll comes when it would come of the page that got the answer ─▶ a proof
//!                                   └ it comes at another time, or while one waits ─▶ there are several: all begins again
//! enough proofs ─▶ the next poll is held if it comes when that page is due, and that page has the newest state
//! ```
//!
//! A poll that is held by mistake is another page's that came just when the known one was due. The known one comes then, too,
//! and with that the hold is over: nobody waits for longer than [`window`] twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Version;

/// So many times the next poll has to move with an answer.
const PROOFS: u32 = 3;

/// Pages that rest for less between two polls are not held: among many pages there is always one that comes so soon.
const SHORTEST_REST: Duration = Duration::from_millis(250);

/// A page is held this many polls' time for each of its polls that came when it was expected: one that has been there for long
/// will be there for long.
const POLLS_A_REST: u32 = 4;

/// How far from the expected moment a poll may come.
pub(super) fn window(rest: Duration) -> Duration {
    (rest / 100).clamp(Duration::from_millis(10), Duration::from_millis(30))
}

/// What is done with a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is answered as if nothing were known of its page.
    AtOnce,
    /// It may be the poll of a page that could be known: it is answered with what is newest, so that it is known what that page
    /// has.
    Meet,
    /// It is answered after so long, or at once if that brings news.
    Delay(Duration),
    /// It is held for so long at most, if its page has the newest state.
    Hold(Duration),
}

/// How the polls come that are alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Rhythm {
    /// How long the page rests between an answer and its next poll.
    rest: Option<Duration>,
    /// The last poll that was answered.
    last: Option<Answered>,
    /// How long the answer before was delayed.
    before: Duration,
    proofs: u32,
    /// Polls in a row that came when they were expected.
    met: u32,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    delay: Duration,
    with: Option<Version>,
}

impl Rhythm {
    /// A poll comes at `now`; `chance`, from 0 to 1, is drawn for it.
    pub(super) fn asked(&mut self, now: Instant, chance: f64) -> Treatment {
        let Some(last) = self.last else { return Treatment::AtOnce };
        let rested = now.saturating_duration_since(last.at);
        let Some(rest) = self.rest else {
            self.rest = Some(rested);
            return Treatment::AtOnce;
        };
        let window = window(rest);
        if rested + window < rest {
            // No timer is early: this is another page.
            self.begin_again(Some(rested));
            return Treatment::AtOnce;
        }
        if rested > rest + window {
            // The page was busy, or it is another.
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

    /// It was answered at `now`, after `delay`; `with` what, if that is known.
    pub(super) fn answered(&mut self, now: Instant, delay: Duration, with: Option<Version>) {
        self.before = self.last.map_or(delay, |last| last.delay);
        self.last = Some(Answered { at: now, delay, with });
    }

    /// What the page has that polls next, if it is the one that was answered last.
    pub(super) fn known(&self) -> Option<Version> {
        self.last?.with
    }

    /// A poll comes while another waits: there are several.
    pub(super) fn disturbed(&mut self) {
        self.begin_again(None);
    }

    fn begin_again(&mut self, rest: Option<Duration>) {
        self.rest = rest;
        self.proofs = 0;
        self.met = 0;
    }
}
