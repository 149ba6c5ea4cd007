//! Statistics about the script for operators: the number of pages with it, and the obstacles to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::policy::Obstacle;

/// Bounded: obstacles are stored by page path, and only for a limited number of paths.
#[derive(Debug, Default)]
pub struct InjectionStats {
    injected: AtomicU64,
    sightings: Mutex<BTreeMap<(String, &'static str), PolicyHit>>,
}

/// An obstacle on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyHit {
    /// The page's path.
    pub page: String,
    /// The obstacle.
    pub obstacle: Obstacle,
    /// The number of times that it was seen.
    pub times: u64,
    /// When it was last seen.
    pub last: SystemTime,
}

const MAX_SIGHTINGS: usize = 256;

impl InjectionStats {
    /// Counts a page that received the script.
    pub fn injected(&self) {
        self.injected.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of pages that received the script.
    pub fn pages(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    /// Records an obstacle on the page at `path`. Returns whether it is new.
    pub fn record(&self, path: &str, obstacle: Obstacle, now: SystemTime) -> bool {
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (path.to_owned(), obstacle.effect.as_str());
        if let Some(known) = sightings.get_mut(&key) {
            known.obstacle = obstacle;
            known.times += 1;
            known.last = now;
            return false;
        }
        if sightings.len() >= MAX_SIGHTINGS {
            let oldest = sightings.iter().min_by_key(|(_, sighting)| sighting.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| sightings.remove(&key));
        }
        sightings.insert(key, PolicyHit { page: path.to_owned(), obstacle, times: 1, last: now });
        true
    }

    /// Returns all obstacles by page.
    pub fn sightings(&self) -> Vec<PolicyHit> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::policy::Effect;
    use super::*;

    #[test]
    fn sightings_are_counted_and_bounded() {
        let ledger = InjectionStats::default();
        let obstacle = |directive: &str| Obstacle { directive: directive.to_owned(), effect: Effect::NoWorker };
        let at = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        assert!(ledger.record("/a", obstacle("worker-src 'none'"), at(1)));
        assert!(!ledger.record("/a", obstacle("worker-src b"), at(2)));
        let seen = ledger.sightings();
        assert_eq!((seen.len(), seen[0].times, seen[0].obstacle.directive.as_str()), (1, 2, "worker-src b"));
        for n in 0..2 * MAX_SIGHTINGS as u64 {
            ledger.record(&format!("/{n}"), obstacle("x"), at(10 + n));
        }
        let seen = ledger.sightings();
        assert_eq!(seen.len(), MAX_SIGHTINGS);
        assert!(seen.iter().all(|sighting| sighting.page != "/a"));
    }
}
