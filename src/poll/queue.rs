//! The pure part of the limiter: which fetch begins next.
//!
//! ```text
//! fetch ─▶ its client's queue, by rank ─▶ clients of a network take turns ─▶ networks take turns ─▶ begins
//! ```
//!
//! A client that requests many fetches only delays its own: each network, and each client within it, gets one in turn,
//! and none may have more than its [share](crate::model::share) of the fetches in flight or of those begun in one
//! second. A client's queue is no longer than its number of resources, since a resource waits for one fetch at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::BudgetOptions;
use crate::model::share::{OF_CLIENT, OF_NETWORK, may_take};
use crate::model::{AddressBucket, Owner};

/// The rank of a fetch among those of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Its interval has elapsed.
    Routine,
    /// It was triggered.
    Triggered,
}

/// The advantage of a triggered fetch over one that was due earlier.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// A place in the queue: the owner, and the position among the owner's fetches by rank and arrival.
pub(super) type Place = (Owner, (Instant, u64));

/// All running and waiting fetches. `C` is the data of a waiting fetch.
#[derive(Debug)]
pub(super) struct Queue<C> {
    options: BudgetOptions,
    running: usize,
    /// The fetches that began within the last second, oldest first.
    begun: VecDeque<(Instant, Owner)>,
    networks: Level<(), Option<AddressBucket>>,
    clients: Level<Option<AddressBucket>, Owner>,
    waiting: BTreeMap<Owner, BTreeMap<(Instant, u64), C>>,
    waiting_in_all: usize,
    /// The last turn of a network.
    round: u64,
    arrivals: u64,
}

/// Parties that take turns, in groups.
#[derive(Debug)]
struct Level<G, K> {
    /// The maximum share of one party, as a multiple of what is left.
    times: u64,
    parties: BTreeMap<K, Party>,
    /// The waiting parties in the order of their turns.
    turns: BTreeSet<(G, u64, K)>,
}

#[derive(Debug, Default)]
struct Party {
    turn: u64,
    /// The last turn of one of its members.
    round: u64,
    running: usize,
    begun: usize,
    waiting: usize,
}

/// The totals.
#[derive(Clone, Copy)]
struct Totals {
    running: usize,
    begun: usize,
    options: BudgetOptions,
}

impl<G: Ord + Copy, K: Ord + Copy> Level<G, K> {
    fn new(times: u64) -> Self {
        Self { times, parties: BTreeMap::new(), turns: BTreeSet::new() }
    }

    /// Adds a waiting fetch of `key`. A party that did not wait before has its turn after those that do.
    fn join(&mut self, group: G, key: K, round: u64) {
        let party = self.parties.entry(key).or_default();
        party.waiting += 1;
        if party.waiting == 1 {
            party.turn = round + 1;
            self.turns.insert((group, party.turn, key));
        }
    }

    fn leave(&mut self, group: G, key: K) {
        self.change(key, |party| party.waiting -= 1);
        if let Some(party) = self.parties.get(&key)
            && party.waiting == 0
        {
            self.turns.remove(&(group, party.turn, key));
        }
        self.prune(key);
    }

    /// Marks a waiting fetch of `key` as running. Returns its turn.
    fn begin(&mut self, group: G, key: K, round: u64) -> u64 {
        let Some(party) = self.parties.get_mut(&key) else { return round };
        self.turns.remove(&(group, party.turn, key));
        let turn = party.turn.max(round);
        party.turn = turn + 1;
        party.waiting -= 1;
        party.running += 1;
        party.begun += 1;
        if party.waiting > 0 {
            self.turns.insert((group, party.turn, key));
        }
        turn
    }

    fn change(&mut self, key: K, change: impl FnOnce(&mut Party)) {
        if let Some(party) = self.parties.get_mut(&key) {
            change(party);
        }
    }

    fn prune(&mut self, key: K) {
        if self.parties.get(&key).is_some_and(|party| party.waiting + party.running + party.begun == 0) {
            self.parties.remove(&key);
        }
    }

    fn may_begin(&self, key: K, totals: Totals) -> bool {
        let (running, begun) = self.parties.get(&key).map_or((0, 0), |party| (party.running, party.begun));
        let Totals { options, .. } = totals;
        may_take(running as u64, totals.running as u64, options.max_fetches as u64, self.times)
            && may_take(begun as u64, totals.begun as u64, options.max_fetch_rate as u64, self.times)
    }
}

impl<C> Queue<C> {
    pub(super) fn new(options: BudgetOptions) -> Self {
        Self {
            options: options.at_least_one(),
            running: 0,
            begun: VecDeque::new(),
            networks: Level::new(OF_NETWORK),
            clients: Level::new(OF_CLIENT),
            waiting: BTreeMap::new(),
            waiting_in_all: 0,
            round: 0,
            arrivals: 0,
        }
    }

    pub(super) fn options(&self) -> BudgetOptions {
        self.options
    }

    pub(super) fn set_options(&mut self, options: BudgetOptions) {
        self.options = options.at_least_one();
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting_in_all
    }

    /// Returns the number of fetches that began within the second before `now`.
    pub(super) fn last_second(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.begun.len()
    }

    /// Adds a fetch to the queue. A triggered fetch ranks as if it had been due [`PATIENCE`] earlier.
    pub(super) fn enqueue(&mut self, owner: Owner, priority: Priority, due: Instant, call: C) -> Place {
        let rank = match priority {
            Priority::Routine => due + PATIENCE,
            Priority::Triggered => due,
        };
        self.arrivals += 1;
        let place = (rank, self.arrivals);
        self.waiting.entry(owner).or_default().insert(place, call);
        self.waiting_in_all += 1;
        self.networks.join((), owner.network, self.round);
        let round = self.networks.parties.get(&owner.network).map_or(0, |network| network.round);
        self.clients.join(owner.network, owner, round);
        (owner, place)
    }

    /// Removes a fetch from the queue, if it is still there.
    pub(super) fn dequeue(&mut self, place: &Place) {
        if self.take(place).is_some() {
            self.clients.leave(place.0.network, place.0);
            self.networks.leave((), place.0.network);
        }
    }

    fn take(&mut self, (owner, place): &Place) -> Option<C> {
        let queue = self.waiting.get_mut(owner)?;
        let taken = queue.remove(place)?;
        if queue.is_empty() {
            self.waiting.remove(owner);
        }
        self.waiting_in_all -= 1;
        Some(taken)
    }

    /// Admits all fetches that may begin at `now`, and returns them.
    pub(super) fn admit(&mut self, now: Instant) -> Vec<(Owner, C)> {
        self.forget(now);
        let mut admitted = Vec::new();
        while let Some(place) = self.next() {
            let Some(call) = self.take(&place) else { break };
            self.begin(place.0, now);
            admitted.push((place.0, call));
        }
        admitted
    }

    /// Records that a fetch of `owner` has ended.
    pub(super) fn end(&mut self, owner: Owner) {
        self.running -= 1;
        self.clients.change(owner, |party| party.running -= 1);
        self.networks.change(owner.network, |party| party.running -= 1);
        self.prune(owner);
    }

    /// Returns when a waiting fetch may begin if nothing else happens until then.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        let waits = self.waiting_in_all > 0 && self.running < self.options.max_fetches;
        self.begun.front().filter(|_| waits).map(|(begun, _)| *begun + WINDOW)
    }

    /// Returns whether a fetch of `owner` could begin at once.
    pub(super) fn has_room(&mut self, owner: Owner, now: Instant) -> bool {
        self.forget(now);
        let waits = self.clients.parties.get(&owner).is_some_and(|party| party.waiting > 0);
        let totals = self.totals();
        !waits && self.networks.may_begin(owner.network, totals) && self.clients.may_begin(owner, totals)
    }

    /// Returns the load of `owner`'s network.
    pub(super) fn load(&self, owner: Owner) -> usize {
        self.networks.parties.get(&owner.network).map_or(0, |party| party.waiting + party.running + party.begun)
    }

    fn next(&self) -> Option<Place> {
        let totals = self.totals();
        if totals.running >= totals.options.max_fetches || totals.begun >= totals.options.max_fetch_rate {
            return None;
        }
        let networks = self.networks.turns.iter().map(|(.., network)| *network);
        let owner = networks.filter(|network| self.networks.may_begin(*network, totals)).find_map(|network| {
            let first = Owner { network, client: 0 };
            let clients = self.clients.turns.range((network, 0, first)..).take_while(|(of, ..)| *of == network);
            clients.map(|(.., owner)| *owner).find(|owner| self.clients.may_begin(*owner, totals))
        })?;
        let (place, _) = self.waiting.get(&owner)?.first_key_value()?;
        Some((owner, *place))
    }

    fn begin(&mut self, owner: Owner, now: Instant) {
        self.running += 1;
        self.begun.push_back((now, owner));
        self.round = self.networks.begin((), owner.network, self.round);
        let round = self.networks.parties.get(&owner.network).map_or(0, |network| network.round);
        let turn = self.clients.begin(owner.network, owner, round);
        self.networks.change(owner.network, |party| party.round = turn);
    }

    fn totals(&self) -> Totals {
        Totals { running: self.running, begun: self.begun.len(), options: self.options }
    }

    /// Removes the fetches that began a second ago or earlier.
    fn forget(&mut self, now: Instant) {
        while let Some((begun, owner)) = self.begun.front().copied()
            && begun + WINDOW <= now
        {
            self.begun.pop_front();
            self.clients.change(owner, |party| party.begun -= 1);
            self.networks.change(owner.network, |party| party.begun -= 1);
            self.prune(owner);
        }
    }

    fn prune(&mut self, owner: Owner) {
        self.clients.prune(owner);
        self.networks.prune(owner.network);
    }
}

#[cfg(test)]
mod tests;
