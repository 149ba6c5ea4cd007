//! Plain polls that are held until the resource changes.
//!
//! A poll looks like any other GET, and nothing in it identifies its page. Pages are recognised by the timing of their
//! polls: see [`Rhythm`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT};
use tokio::time::{Instant, sleep_until};

use super::response::has_current_meaning;
use super::rhythm::{Rhythm, Treatment};
use super::{Downstream, StreamPermit};
use crate::clock;
use crate::model::{ResumeFrom, Snapshot, Update, Version};
use crate::resource::{Cursor, ResourceStatus, Subscription, TaskNotify};

/// The observed behaviour of polling clients. Bounded: if the table is full, clients without a waiting poll are
/// forgotten.
#[derive(Debug, Default)]
pub struct PollClients {
    hasher: RandomState,
    table: Mutex<HashMap<u64, PollClient>>,
    /// Whether any poll that may be held has been seen.
    used: AtomicBool,
}

/// The behaviour of the polls that share address, headers and resource.
#[derive(Debug)]
struct PollClient {
    /// The hash of address and `User-Agent`.
    agent: u64,
    /// The hash of the resource's key.
    resource: u64,
    rhythm: Rhythm,
    /// The number of polls that have not been answered yet.
    outstanding: u32,
    /// Wakes the polls that are being held.
    waiting: Option<Arc<TaskNotify>>,
    /// Whether a poll has arrived before the previous one was answered.
    overlaps: bool,
    /// How long to hold a poll of this client, learned from its timeouts.
    patience: Option<Duration>,
    seen: Instant,
}

const MAX_CLIENTS: usize = 16_384;

/// After this much silence a client has probably been closed; its next poll counts as its first.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// The fraction of a client's observed timeout after which its next poll is answered.
const TIMEOUT_FRACTION: f64 = 0.7;

/// The behaviour observed of the clients that poll a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The number of clients that can be distinguished.
    pub clients: usize,
    /// The number of entries that were several clients, or poll again before they are answered.
    pub overlapping: usize,
    /// The hold time of the client with the shortest observed timeout.
    pub patience: Option<Duration>,
}

/// The resources that a held poll occupies.
#[derive(Debug)]
pub struct Hold {
    /// Keeps the resource watched; its state is current when the hold begins.
    pub subscription: Subscription,
    /// Wakes the client.
    pub notify: Arc<TaskNotify>,
    /// Its permit among all held clients.
    pub place: StreamPermit,
    /// The maximum hold time.
    pub longest: Duration,
}

/// One poll, from its arrival to its response. Dropping it records that it was answered.
#[derive(Debug)]
pub struct Poll {
    habits: Arc<PollClients>,
    client: u64,
    began: Instant,
    treatment: Treatment,
    known: Option<Version>,
    patience: Option<Duration>,
    state: Mutex<Answering>,
}

/// The response to a poll.
#[derive(Debug, Default)]
struct Answering {
    /// The version of the response, if known.
    with: Option<Version>,
    /// Whether the client left without a response.
    gone: bool,
}

/// The parameters of a hold.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// The version that the client is assumed to have, if it does not say.
    pub known: Option<Version>,
    /// Whether the client's validator may come from a cache that other pages share. Such a validator can prove that the
    /// client's state is old, but not that it is current.
    pub is_shared: bool,
    /// The poll, if its timing can be learned from.
    pub poll: Option<&'a Poll>,
    /// The time of its arrival.
    pub now: Instant,
}

/// The end of a held poll.
#[derive(Debug)]
pub enum PollOutcome {
    /// Answer with this snapshot.
    Answer(Arc<Snapshot>),
    /// The client left.
    Gone,
    /// Memory has no response: the backend must be asked.
    Unknown,
}

impl PollClients {
    /// Records the arrival of a poll with `headers` from a client at `address` for `resource`.
    pub fn ask(self: &Arc<Self>, address: Option<IpAddr>, headers: &HeaderMap, resource: u64, now: Instant) -> Poll {
        let agent = self.agent(address, headers);
        let mut said: Vec<_> = headers
            .iter()
            .filter(|(name, _)| ![IF_NONE_MATCH, IF_MODIFIED_SINCE, CONTENT_LENGTH].contains(name))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        said.sort_unstable();
        let client = self.hasher.hash_one((address, said, resource));
        self.used.store(true, Ordering::Relaxed);
        let chance = f64::from(clock::seed() as u32) / f64::from(u32::MAX);
        let mut table = self.lock();
        if table.len() >= MAX_CLIENTS && !table.contains_key(&client) {
            make_room(&mut table, now);
        }
        let habit = table.entry(client).or_insert_with(|| PollClient::new(agent, resource, now));
        if now.saturating_duration_since(habit.seen) > FORGET_AFTER && habit.outstanding == 0 {
            *habit = PollClient::new(agent, resource, now);
        }
        habit.seen = now;
        let treatment = if habit.outstanding > 0 {
            habit.overlaps = true;
            habit.rhythm.disturbed();
            if let Some(notify) = habit.waiting.take() {
                notify.notify();
            }
            Treatment::AtOnce
        } else {
            habit.rhythm.asked(now, chance)
        };
        habit.outstanding += 1;
        Poll {
            habits: Arc::clone(self),
            client,
            began: now,
            treatment,
            known: habit.rhythm.known(),
            patience: habit.patience,
            state: Mutex::default(),
        }
    }

    /// Records that a client navigates to another page or reloads its page: the state of the old page is lost.
    pub fn navigates(&self, address: Option<IpAddr>, headers: &HeaderMap) {
        let agent = self.agent(address, headers);
        let mut table = self.lock();
        table.values_mut().filter(|habit| habit.agent == agent).for_each(|habit| habit.rhythm.disturbed());
    }

    /// Returns whether any poll has been recorded.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the observed behaviour of the clients that poll `resource`.
    pub fn learned(&self, resource: u64) -> Learned {
        let mut learned = Learned::default();
        for habit in self.lock().values().filter(|habit| habit.resource == resource) {
            learned.clients += 1;
            learned.overlapping += usize::from(habit.overlaps);
            learned.patience = match (learned.patience, habit.patience) {
                (Some(least), Some(patience)) => Some(least.min(patience)),
                (least, patience) => least.or(patience),
            };
        }
        learned
    }

    fn agent(&self, address: Option<IpAddr>, headers: &HeaderMap) -> u64 {
        self.hasher.hash_one((address, headers.get(USER_AGENT)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, PollClient>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollClient {
    fn new(agent: u64, resource: u64, now: Instant) -> Self {
        Self {
            agent,
            resource,
            rhythm: Rhythm::default(),
            outstanding: 0,
            waiting: None,
            overlaps: false,
            patience: None,
            seen: now,
        }
    }
}

fn make_room(table: &mut HashMap<u64, PollClient>, now: Instant) {
    table.retain(|_, habit| habit.outstanding > 0 || now.saturating_duration_since(habit.seen) < FORGET_AFTER);
    if table.len() >= MAX_CLIENTS {
        table.retain(|_, habit| habit.outstanding > 0);
    }
}

impl Poll {
    /// Returns how to treat the poll.
    pub fn treatment(&self) -> Treatment {
        self.treatment
    }

    /// Returns the version that the poll's page has, if it is the recognised page.
    pub fn known(&self) -> Option<Version> {
        self.known
    }

    /// Returns how long to hold the client's polls, if a timeout was observed.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Records the version of the response.
    pub fn answer(&self, with: Version) {
        self.state().with = Some(with);
    }

    /// Registers `notify`, which wakes the held poll if a similar one arrives.
    fn waits(&self, notify: &Arc<TaskNotify>) {
        if let Some(habit) = self.habits.lock().get_mut(&self.client) {
            habit.waiting = Some(Arc::clone(notify));
        }
    }

    /// Returns whether a similar poll has arrived during the wait.
    fn is_disturbed(&self) -> bool {
        self.habits.lock().get(&self.client).is_none_or(|habit| habit.waiting.is_none())
    }

    /// Records that the client left.
    pub fn left(&self) {
        self.state().gone = true;
    }

    /// Records that the client left after this time.
    fn client_timed_out(&self, after: Duration) {
        self.left();
        let patience = after.mul_f64(TIMEOUT_FRACTION);
        if let Some(habit) = self.habits.lock().get_mut(&self.client) {
            habit.patience = Some(habit.patience.map_or(patience, |known| known.min(patience)));
        }
    }

    fn state(&self) -> MutexGuard<'_, Answering> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let now = clock::now();
        let Answering { with, gone } = *self.state();
        if let Some(habit) = self.habits.lock().get_mut(&self.client) {
            habit.outstanding = habit.outstanding.saturating_sub(1);
            habit.waiting = None;
            habit.seen = now;
            if gone {
                habit.rhythm.disturbed();
            } else {
                habit.rhythm.answered(now, now.saturating_duration_since(self.began), with);
            }
        }
    }
}

impl Holding<'_> {
    /// Holds a poll and returns how to answer it, never with a state fetched before `wrote`, the client's last write.
    /// The client is notified when `wrote` changes or when there seem to be several clients; the loop then checks again
    /// at once.
    ///
    /// # Races
    /// A fetch that ends before the hold registers for it would be missed, so the state is read again after
    /// registering.
    pub async fn run(
        &self,
        hold: &Hold,
        wire: &mut Downstream,
        request: &HeaderMap,
        wrote: impl Fn() -> Instant,
    ) -> PollOutcome {
        let resource = hold.subscription.resource();
        let head = resource.state_full();
        let Some(newest) = head.newest() else { return PollOutcome::Unknown };
        let known = match has_current_meaning(&head.history, request) {
            Some(true) if !self.is_shared => Some(newest.version),
            Some(false) => None,
            _ => self.known,
        };
        let Some(known) = known else { return PollOutcome::Answer(Arc::clone(newest)) };
        let deadline = self.now + hold.longest;
        if let Some(poll) = self.poll {
            poll.waits(&hold.notify);
        }
        let mut cursor = Cursor::resume(&ResumeFrom::Version(known), &head);
        loop {
            if hold.place.drain_deadline().is_some() || self.poll.is_some_and(Poll::is_disturbed) {
                return conclude(hold, wrote());
            }
            let since = wrote();
            let head = resource.state_full();
            let is_behind = matches!(head.status, ResourceStatus::Live) && head.current_as_of(since).is_none();
            if is_behind {
                resource.wake_on_next_fetch();
                // The fetch may have ended before the registration.
                if resource.state().last_success != head.last_success {
                    continue;
                }
                resource.demand(since);
            } else {
                let mut next = cursor.next(&head, None);
                if next.is_none() && self.is_shared && head.is_noisy() {
                    // The client would have polled by now, and would have seen newer noise.
                    resource.wake_on_next_fetch();
                    next = cursor.next_noise(&resource.state(), None);
                }
                match next {
                    Some(Update::Snapshot(snapshot) | Update::Patch { snapshot, .. }) => {
                        return PollOutcome::Answer(snapshot);
                    }
                    Some(Update::Stale { .. } | Update::End(_)) => return PollOutcome::Unknown,
                    Some(Update::Live | Update::Tick | Update::Down) => continue,
                    None => {}
                }
            }
            tokio::select! {
                biased;
                () = hold.notify.notified() => {}
                () = wire.closed() => {
                    if let Some(poll) = self.poll {
                        poll.client_timed_out(clock::now().saturating_duration_since(self.now));
                    }
                    return PollOutcome::Gone;
                }
                () = sleep_until(deadline) => return conclude(hold, wrote()),
            }
        }
    }
}

/// Ends the hold: returns the newest snapshot, unless the client has written, or has been shown a newer state, since it
/// was fetched.
fn conclude(hold: &Hold, wrote: Instant) -> PollOutcome {
    let resource = hold.subscription.resource();
    let head = resource.state();
    let newest = head.current_as_of(wrote.max(resource.own_fence()));
    newest.map_or(PollOutcome::Unknown, |newest| PollOutcome::Answer(Arc::clone(newest)))
}

#[cfg(test)]
mod model;
