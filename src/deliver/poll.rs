//! Plain polls that are held until there is news.
//!
//! A poll looks like any other GET, and nothing in it says of which page it is. What is known of pages is how their polls
//! come: see [`Rhythm`].

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

/// What is known of how clients poll. Bounded: when there are too many, those that are not waiting are forgotten.
#[derive(Debug, Default)]
pub struct PollClients {
    hasher: RandomState,
    table: Mutex<HashMap<u64, PollClient>>,
    /// Whether there ever was a poll that might be held.
    used: AtomicBool,
}

/// How polls come that are alike in all that they say.
#[derive(Debug)]
struct PollClient {
    /// Whose they may be, by the hash of address and `User-Agent`.
    agent: u64,
    /// Of what, by the hash of its key.
    resource: u64,
    rhythm: Rhythm,
    /// Polls that have not been answered yet.
    outstanding: u32,
    /// What ends the wait of those.
    waiting: Option<Arc<TaskNotify>>,
    /// Whether one has been seen to come before the one before was answered.
    overlaps: bool,
    /// How long the client waits before it gives up, as far as it has shown.
    patience: Option<Duration>,
    seen: Instant,
}

const MAX_CLIENTS: usize = 16_384;

/// A client that is silent for this long has probably been closed; its next poll is a first one.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// A client that gave up after some time is answered well before that, the next time.
const TIMEOUT_FRACTION: f64 = 0.7;

/// What has been learned of the clients that poll a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// How many there are, as far as they can be told apart.
    pub clients: usize,
    /// How many of them were several, or ask again before they are answered.
    pub overlapping: usize,
    /// How long the least patient of those that gave up is held from now on.
    pub patience: Option<Duration>,
}

/// What a poll is held on.
#[derive(Debug)]
pub struct Hold {
    /// Keeps the resource watched; its head is current when the hold begins.
    pub subscription: Subscription,
    /// What wakes the client.
    pub notify: Arc<TaskNotify>,
    /// Its place among all held clients.
    pub place: StreamPermit,
    /// The longest that it is held.
    pub longest: Duration,
}

/// One poll, from its arrival to its answer. Dropping it says that it has been answered.
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

/// How a poll is being answered.
#[derive(Debug, Default)]
struct Answering {
    /// With what, as far as that is known.
    with: Option<Version>,
    /// Whether its client left without an answer.
    gone: bool,
}

/// How long a poll is held, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// What the client is taken to have, if it does not say.
    pub known: Option<Version>,
    /// Whether what it says may come out of a cache that other pages use, too, so that it can only prove the contrary.
    pub is_shared: bool,
    /// The poll, if anything can be learned of it.
    pub poll: Option<&'a Poll>,
    /// When it came.
    pub now: Instant,
}

/// How a held poll ended.
#[derive(Debug)]
pub enum PollOutcome {
    /// There is this to answer.
    Answer(Arc<Snapshot>),
    /// The client left.
    Gone,
    /// Memory has no answer: the backend is to be asked.
    Unknown,
}

impl PollClients {
    /// A poll has come from a client at `address`, asking `headers` of what is called `resource`.
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

    /// A client goes to another page, or loads the one that it has again: what that page had is gone.
    pub fn navigates(&self, address: Option<IpAddr>, headers: &HeaderMap) {
        let agent = self.agent(address, headers);
        let mut table = self.lock();
        table.values_mut().filter(|habit| habit.agent == agent).for_each(|habit| habit.rhythm.disturbed());
    }

    /// Whether there is anything to learn.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// What has been learned of those who poll `resource`.
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
    /// What is to be done with it.
    pub fn treatment(&self) -> Treatment {
        self.treatment
    }

    /// What its page has, if it is the one that it seems to be.
    pub fn known(&self) -> Option<Version> {
        self.known
    }

    /// How long its client waits at most, if it has shown that.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// It is answered with this.
    pub fn answer(&self, with: Version) {
        self.state().with = Some(with);
    }

    /// It waits for `notify`, or for something else; it is notified if another like it comes.
    fn waits(&self, notify: &Arc<TaskNotify>) {
        if let Some(habit) = self.habits.lock().get_mut(&self.client) {
            habit.waiting = Some(Arc::clone(notify));
        }
    }

    /// Whether another has come while it waited.
    fn is_disturbed(&self) -> bool {
        self.habits.lock().get(&self.client).is_none_or(|habit| habit.waiting.is_none())
    }

    /// Its client left.
    pub fn left(&self) {
        self.state().gone = true;
    }

    /// Its client left after so long.
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
    /// Holds a poll, and says how to answer it: never with what was read before `wrote`, when its client last wrote. The client is
    /// notified when that changes, or when there seem to be several clients; then what came of it is looked for at once.
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
                // It may have been made before we said that we wait for it.
                if resource.state().last_success != head.last_success {
                    continue;
                }
                resource.demand(since);
            } else {
                match cursor.next(&head, None) {
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

/// The hold is up: the newest there is, unless the client has written, or been shown something newer, since it was read.
fn conclude(hold: &Hold, wrote: Instant) -> PollOutcome {
    let resource = hold.subscription.resource();
    let head = resource.state();
    let newest = head.current_as_of(wrote.max(resource.own_fence()));
    newest.map_or(PollOutcome::Unknown, |newest| PollOutcome::Answer(Arc::clone(newest)))
}

#[cfg(test)]
mod model;
