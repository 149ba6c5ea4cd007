//! Which writes bear on a resource, as far as looks have shown.
//!
//! Each write that passes through is a reason to look. Pages that save something of their own all the time would have
//! everything looked at all the time; so what has been looked for in vain after several writes that were alike is not looked
//! for any more after one that is like them, until it is found changed soon after such a write after all.

use std::time::Duration;

use tokio::time::Instant;

use super::tally::Tally;
use crate::resource::UNKNOWN;

/// What is known of writes, for one resource. Bounded: what was not written for longest is forgotten.
#[derive(Clone, Debug, Default)]
pub struct Bearings {
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    likeness: u64,
    /// How often it was written without anything having changed.
    in_vain: Tally,
}

/// From so many on, looks after such a write are not made any more.
const IN_VAIN: u32 = 4;

/// A change that is found so soon after a write may be its effect.
const EFFECT: Duration = Duration::from_secs(10);

const MOST: usize = 64;

impl Bearings {
    /// Takes note of these writes, and returns whether any of them is a reason to look.
    pub fn wrote(&mut self, writes: &[u64], now: Instant) -> bool {
        writes.iter().filter(|likeness| self.note(**likeness, now)).count() > 0
    }

    fn note(&mut self, likeness: u64, now: Instant) -> bool {
        if likeness == UNKNOWN {
            return true;
        }
        if let Some(known) = self.known.iter_mut().find(|known| known.likeness == likeness) {
            let bears = known.in_vain.times < IN_VAIN;
            known.in_vain.again(now);
            return bears;
        }
        if self.known.len() >= MOST {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, known)| known.in_vain.last).map(|(at, _)| at);
            oldest.map(|at| self.known.swap_remove(at));
        }
        self.known.push(Known { likeness, in_vain: Tally::first(now) });
        true
    }

    /// A look that began at `started` found a change. It may be the effect of any write shortly before.
    pub fn changed(&mut self, started: Instant) {
        for known in &mut self.known {
            if started.saturating_duration_since(known.in_vain.last) <= EFFECT {
                known.in_vain.times = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_written_in_vain_again_and_again_is_no_reason_to_look() {
        let (mut bearings, start) = (Bearings::default(), clock::now());
        let heeded: Vec<bool> = (0..6).map(|n| bearings.wrote(&[1], start + seconds(20 * n))).collect();
        assert_eq!(heeded, [true, true, true, true, false, false]);
        assert!(bearings.wrote(&[2], start + seconds(200)), "another may be");
        assert!(bearings.wrote(&[1, UNKNOWN], start + seconds(220)));
        assert!(!bearings.wrote(&[1], start + seconds(240)));
    }

    #[test]
    fn a_change_soon_after_may_be_its_effect() {
        let (mut bearings, start) = (Bearings::default(), clock::now());
        for n in 0..6 {
            bearings.wrote(&[1], start + seconds(20 * n));
        }
        bearings.changed(start + seconds(115));
        assert!(!bearings.wrote(&[1], start + seconds(120)), "that was long after");
        bearings.changed(start + seconds(123));
        assert!(bearings.wrote(&[1], start + seconds(140)));
    }

    #[test]
    fn a_storm_is_one_write() {
        let (mut bearings, start) = (Bearings::default(), clock::now());
        assert!((0..800).all(|n| bearings.wrote(&[1], start + Duration::from_millis(n))));
    }

    #[test]
    fn a_storm_that_goes_on_in_vain_is_no_reason_in_the_end() {
        let (mut bearings, start) = (Bearings::default(), clock::now());
        let heeded = (0..100).filter(|n| bearings.wrote(&[1], start + Duration::from_millis(100 * n))).count();
        assert!((20..40).contains(&heeded), "{heeded} of a hundred");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut bearings, start) = (Bearings::default(), clock::now());
        for n in 0..10 * MOST as u64 {
            bearings.wrote(&[n + 1], start + Duration::from_millis(n));
        }
        assert!(bearings.known.len() <= MOST);
    }
}
