//! Learns which writes affect a resource.
//!
//! Each forwarded write triggers a fetch. Pages that save something of their own all the time would cause constant
//! fetches, so after four similar writes without an observed change, similar writes no longer trigger a fetch, until a
//! change is found soon after such a write.

use std::time::Duration;

use tokio::time::Instant;

use super::debounced_counter::DebouncedCounter;
use crate::resource::UNKNOWN_WRITE;

/// The observed writes for one resource. Bounded: the least recent classes are dropped.
#[derive(Clone, Debug, Default)]
pub struct WriteRelevance {
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    write_class: u64,
    /// The number of writes without a change.
    in_vain: DebouncedCounter,
}

/// From this number on, such writes no longer trigger fetches.
const MAX_WITHOUT_EFFECT: u32 = 4;

/// A change found this soon after a write may be its effect.
const EFFECT: Duration = Duration::from_secs(10);

const MAX_ENTRIES: usize = 64;

impl WriteRelevance {
    /// Records these writes, and returns whether any of them is a reason to fetch.
    pub fn record_write(&mut self, writes: &[u64], now: Instant) -> bool {
        writes.iter().filter(|write_class| self.record(**write_class, now)).count() > 0
    }

    fn record(&mut self, write_class: u64, now: Instant) -> bool {
        if write_class == UNKNOWN_WRITE {
            return true;
        }
        if let Some(known) = self.known.iter_mut().find(|known| known.write_class == write_class) {
            let bears = known.in_vain.times < MAX_WITHOUT_EFFECT;
            known.in_vain.again(now);
            return bears;
        }
        if self.known.len() >= MAX_ENTRIES {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, known)| known.in_vain.last).map(|(at, _)| at);
            oldest.map(|at| self.known.swap_remove(at));
        }
        self.known.push(Known { write_class, in_vain: DebouncedCounter::first(now) });
        true
    }

    /// Records that a fetch that began at `started` found a change, which may be the effect of any recent write.
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
    fn what_is_written_in_vain_again_and_again_is_no_reason_to_fetch() {
        let (mut relevance, start) = (WriteRelevance::default(), clock::now());
        let heeded: Vec<bool> = (0..6).map(|n| relevance.record_write(&[1], start + seconds(20 * n))).collect();
        assert_eq!(heeded, [true, true, true, true, false, false]);
        assert!(relevance.record_write(&[2], start + seconds(200)), "another may be");
        assert!(relevance.record_write(&[1, UNKNOWN_WRITE], start + seconds(220)));
        assert!(!relevance.record_write(&[1], start + seconds(240)));
    }

    #[test]
    fn a_change_soon_after_may_be_its_effect() {
        let (mut relevance, start) = (WriteRelevance::default(), clock::now());
        for n in 0..6 {
            relevance.record_write(&[1], start + seconds(20 * n));
        }
        relevance.changed(start + seconds(115));
        assert!(!relevance.record_write(&[1], start + seconds(120)), "that was long after");
        relevance.changed(start + seconds(123));
        assert!(relevance.record_write(&[1], start + seconds(140)));
    }

    #[test]
    fn a_storm_is_one_write() {
        let (mut relevance, start) = (WriteRelevance::default(), clock::now());
        assert!((0..800).all(|n| relevance.record_write(&[1], start + Duration::from_millis(n))));
    }

    #[test]
    fn a_storm_that_goes_on_in_vain_is_no_reason_in_the_end() {
        let (mut relevance, start) = (WriteRelevance::default(), clock::now());
        let heeded = (0..100).filter(|n| relevance.record_write(&[1], start + Duration::from_millis(100 * n))).count();
        assert!((20..40).contains(&heeded), "{heeded} of a hundred");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut relevance, start) = (WriteRelevance::default(), clock::now());
        for n in 0..10 * MAX_ENTRIES as u64 {
            relevance.record_write(&[n + 1], start + Duration::from_millis(n));
        }
        assert!(relevance.known.len() <= MAX_ENTRIES);
    }
}
