//! Plain polls that are held until there is news.
//!
//! A poll looks like any other GET. What tells the first of a page's polls, which wants an answer at once, from a later
//! one, which wants news, is a validator or, for the many pages that send none, what this client was last answered.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::USER_AGENT;
use tokio::time::{Instant, sleep_until};

use super::plain::knows;
use super::{Place, Wire};
use crate::clock;
use crate::model::{Claim, Snapshot, Update, Version};
use crate::resource::{Bell, Condition, Cursor, Subscription};

/// What is known of how clients poll. Bounded: when there are too many, those that are not waiting are forgotten.
#[derive(Debug, Default)]
pub struct Habits {
    hasher: RandomState,
    table: Mutex<HashMap<u64, Habit>>,
}

#[derive(Clone, Copy, Debug)]
struct Habit {
    /// Of which resource, by the hash of its handle.
    resource: u64,
    /// Whether it has been seen to ask again before it was answered.
    overlaps: bool,
    /// What the client was last given.
    answered: Option<Version>,
    /// Polls that have not been answered yet.
    outstanding: u32,
    /// How long the client waits before it gives up, as far as it has shown.
    patience: Option<Duration>,
    seen: Instant,
}

const MOST_CLIENTS: usize = 16_384;

/// A client that is silent for this long has probably been closed; its next poll is a first one.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// A client that gave up after some time is answered well before that, the next time.
const PATIENCE_SHARE: f64 = 0.7;

/// What has been learned of the clients that poll a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// How many there are.
    pub clients: usize,
    /// How many of them ask again before they are answered, so that they are not held while one request waits.
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
    pub bell: Arc<Bell>,
    /// Its place among all held clients.
    pub place: Place,
    /// The longest that it is held.
    pub longest: Duration,
}

/// One poll, from its arrival to its answer.
#[derive(Debug)]
pub struct HeldPoll {
    habits: Option<Arc<Habits>>,
    client: u64,
    /// What the client is taken to hold.
    known: Option<Version>,
    /// How long it can be held, at most.
    limit: Option<Duration>,
}

/// How a held poll ended.
#[derive(Debug)]
pub enum Outcome {
    /// There is this to answer.
    Answer(Arc<Snapshot>),
    /// The client left.
    Gone,
    /// Memory has no answer: the backend is to be asked.
    Unknown,
}

impl Habits {
    /// Who is polling what, as well as it can be told: a browser's tabs look alike.
    pub fn client(&self, address: Option<IpAddr>, headers: &HeaderMap, resource: &str) -> u64 {
        self.hasher.hash_one((address, headers.get(USER_AGENT), resource))
    }

    /// Notes that `client` polls. The poll can be held unless the client has another one waiting: then it polls without
    /// waiting for answers, and holding would only pile requests up.
    pub fn begin(self: &Arc<Self>, client: u64, resource: &str, now: Instant) -> HeldPoll {
        let mut table = self.lock();
        if table.len() >= MOST_CLIENTS && !table.contains_key(&client) {
            make_room(&mut table, now);
        }
        let resource = self.hasher.hash_one(resource);
        let new = Habit { resource, overlaps: false, answered: None, outstanding: 0, patience: None, seen: now };
        let habit = table.entry(client).or_insert(new);
        if now.saturating_duration_since(habit.seen) > FORGET_AFTER && habit.outstanding == 0 {
            *habit = new;
        }
        habit.seen = now;
        habit.outstanding += 1;
        let alone = habit.outstanding == 1;
        habit.overlaps |= !alone;
        HeldPoll {
            habits: Some(Arc::clone(self)),
            client,
            known: habit.answered.filter(|_| alone),
            limit: if alone { Some(habit.patience.unwrap_or(Duration::MAX)) } else { None },
        }
    }

    /// A poll of a client that says itself how long it waits. There is nothing to learn.
    pub fn asked(&self) -> HeldPoll {
        HeldPoll { habits: None, client: 0, known: None, limit: Some(Duration::MAX) }
    }

    /// What has been learned of those who poll `resource`.
    pub fn learned(&self, resource: &str) -> Learned {
        let resource = self.hasher.hash_one(resource);
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

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Habit>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(table: &mut HashMap<u64, Habit>, now: Instant) {
    table.retain(|_, habit| habit.outstanding > 0 || now.saturating_duration_since(habit.seen) < FORGET_AFTER);
    if table.len() >= MOST_CLIENTS {
        table.retain(|_, habit| habit.outstanding > 0);
    }
}

impl HeldPoll {
    /// Holds the poll, if it may be held at all, and says how to answer it: never with what was read before `wrote`, when
    /// its client last wrote. The bell is rung when that changes; then what came of it is looked for at once.
    pub async fn run(
        self,
        hold: &Hold,
        wire: &mut Wire,
        request: &HeaderMap,
        now: Instant,
        wrote: impl Fn() -> Instant,
    ) -> Outcome {
        let resource = hold.subscription.resource();
        let head = resource.head_full();
        let Some(newest) = head.newest() else { return Outcome::Unknown };
        // What the client says of itself counts for more than what it was last given.
        let known = match knows(newest, request) {
            Some(true) => Some(newest.version),
            Some(false) => None,
            None => self.known,
        };
        let (Some(known), Some(limit)) = (known, self.limit) else { return self.answer(newest) };
        let deadline = now + hold.longest.min(limit);
        let mut cursor = Cursor::resume(&Claim::Version(known), &head);
        loop {
            if hold.place.drain_deadline().is_some() {
                return self.conclude(hold, wrote());
            }
            let since = wrote();
            let head = resource.head_full();
            let is_behind = matches!(head.condition, Condition::Live) && head.current_as_of(since).is_none();
            if is_behind {
                resource.await_look();
                // It may have been made before we said that we wait for it.
                if resource.head().looked != head.looked {
                    continue;
                }
                resource.demand(since);
            } else {
                match cursor.next(&head, None) {
                    Some(Update::Snapshot(snapshot) | Update::Patch { snapshot, .. }) => return self.answer(&snapshot),
                    Some(Update::Stale { .. } | Update::End(_)) => return Outcome::Unknown,
                    Some(Update::Live | Update::Tick | Update::Down) => continue,
                    None => {}
                }
            }
            tokio::select! {
                biased;
                () = hold.bell.rung() => {}
                () = wire.gone() => {
                    self.gave_up(clock::now().saturating_duration_since(now));
                    return Outcome::Gone;
                }
                () = sleep_until(deadline) => return self.conclude(hold, wrote()),
            }
        }
    }

    /// The hold is up: the newest there is, unless the client has written, or been shown something newer, since it was read.
    fn conclude(&self, hold: &Hold, wrote: Instant) -> Outcome {
        let resource = hold.subscription.resource();
        let head = resource.head();
        head.current_as_of(wrote.max(resource.fenced_itself())).map_or(Outcome::Unknown, |newest| self.answer(newest))
    }

    fn answer(&self, snapshot: &Arc<Snapshot>) -> Outcome {
        self.learn(|habit| habit.answered = Some(snapshot.version));
        Outcome::Answer(Arc::clone(snapshot))
    }

    fn gave_up(&self, after: Duration) {
        let patience = after.mul_f64(PATIENCE_SHARE);
        self.learn(|habit| habit.patience = Some(habit.patience.map_or(patience, |known| known.min(patience))));
    }

    fn learn(&self, lesson: impl FnOnce(&mut Habit)) {
        let Some(habits) = &self.habits else { return };
        if let Some(habit) = habits.lock().get_mut(&self.client) {
            lesson(habit);
        }
    }
}

impl Drop for HeldPoll {
    fn drop(&mut self) {
        self.learn(|habit| habit.outstanding = habit.outstanding.saturating_sub(1));
    }
}
