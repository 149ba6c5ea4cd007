//! Who saw which state when.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use tokio::sync::Notify;

use crate::bed::now;

/// What all clients of a run have seen.
#[derive(Default)]
pub struct Sightings {
    /// The number of a state, and when a client first had it.
    seen: RefCell<Vec<(u32, u64)>>,
    /// How many clients have come to each number, or past it.
    reached: RefCell<Vec<u32>>,
    pub bytes: Cell<u64>,
    pub events: Cell<u64>,
    ended: Cell<usize>,
    pub errors: RefCell<Vec<String>>,
    progress: Notify,
}

impl Sightings {
    /// A client that knew `known` now knows `n`.
    pub fn saw(&self, known: &mut u32, n: u32) {
        self.events.set(self.events.get() + 1);
        if n <= *known {
            return;
        }
        self.seen.borrow_mut().push((n, now()));
        let mut reached = self.reached.borrow_mut();
        if reached.len() <= n as usize {
            reached.resize(n as usize + 1, 0);
        }
        for count in &mut reached[*known as usize + 1..=n as usize] {
            *count += 1;
        }
        *known = n;
        self.progress.notify_waiters();
    }

    pub fn got(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// So many clients have ended.
    pub fn end(&self, count: usize) {
        self.ended.set(self.ended.get() + count);
        self.progress.notify_waiters();
    }

    pub fn ended(&self) -> usize {
        self.ended.get()
    }

    pub fn failed(&self, error: String) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < 5 {
            errors.push(error);
        }
    }

    /// How many clients know the state `n`, or a later one.
    pub fn reached(&self, n: u32) -> usize {
        self.reached.borrow().get(n as usize).copied().unwrap_or(0) as usize
    }

    /// Completes when `clients` know the state `n`, or a later one, or have ended.
    pub async fn all_reach(&self, n: u32, clients: usize) {
        while self.reached(n) + self.ended.get() < clients {
            self.progress.notified().await;
        }
    }

    /// Forgets what was counted; what clients know stays.
    pub fn reset(&self) {
        self.seen.borrow_mut().clear();
        self.bytes.set(0);
        self.events.set(0);
    }

    /// Milliseconds from the moment that `since` has for a state to each sighting of it, in order.
    pub fn delays(&self, since: &HashMap<u32, u64>) -> Vec<f64> {
        let delay = |(n, at): &(u32, u64)| Some(at.saturating_sub(*since.get(n)?) as f64 / 1000.0);
        let mut delays: Vec<f64> = self.seen.borrow().iter().filter_map(delay).collect();
        delays.sort_by(f64::total_cmp);
        delays
    }
}

/// The value below which the `share` of `sorted` lies.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        len => sorted[((len as f64 * share) as usize).min(len - 1)],
    }
}
