//! The held clients of a resource.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::{Resource, TaskNotify};
use crate::model::AddressBucket;

/// The polling intervals that held clients declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientInterval {
    /// The shortest declared interval.
    pub min: Option<Duration>,
    /// Whether all held clients declare one.
    pub declared_by_all: bool,
}

/// The held clients of a resource.
#[derive(Default)]
pub(super) struct Subscribers {
    pub(super) tasks: Slab<Arc<TaskNotify>>,
    pub(super) by_delivery: Vec<(&'static str, usize)>,
    /// The declared intervals.
    pub(super) intervals: BTreeSet<(Duration, usize)>,
}

impl Subscribers {
    pub(super) fn min_interval(&self) -> Option<Duration> {
        self.intervals.first().map(|(pace, _)| *pace)
    }

    pub(super) fn count(&mut self, delivery: &'static str, change: isize) {
        match self.by_delivery.iter_mut().find(|(name, _)| *name == delivery) {
            Some((_, count)) => *count = count.saturating_add_signed(change),
            None => self.by_delivery.push((delivery, usize::try_from(change).unwrap_or(0))),
        }
    }
}

/// A held client's subscription to a resource. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pub(super) resource: Arc<Resource>,
    pub(super) network: Option<AddressBucket>,
    pub(super) delivery: &'static str,
    pub(super) slot: usize,
    pub(super) interval: Option<Duration>,
}

impl Subscription {
    /// Returns the resource.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// Sets the client's own polling interval. While the client is held, it must not learn of a change later than it
    /// would by polling.
    pub fn set_client_interval(&mut self, pace: Duration) {
        let mut roster = self.resource.lock_subscribers();
        let before = roster.min_interval();
        if let Some(before) = self.interval.replace(pace) {
            roster.intervals.remove(&(before, self.slot));
        }
        roster.intervals.insert((pace, self.slot));
        if before.is_none_or(|before| pace < before) {
            self.resource.wake();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.resource.askers.remove(self.network);
        let mut roster = self.resource.lock_subscribers();
        roster.tasks.remove(self.slot);
        if let Some(pace) = self.interval {
            roster.intervals.remove(&(pace, self.slot));
        }
        roster.count(self.delivery, -1);
        if roster.tasks.is_empty() {
            self.resource.wake();
        }
    }
}
