use std::collections::BTreeMap;

use super::*;
use crate::clock;

/// A simulated URL with some identities, each fetched when it is due.
struct World {
    cohort: Cohort,
    now: Instant,
    ids: Vec<usize>,
    /// The start of each identity's last fetch, and the content that it received.
    fetched: BTreeMap<usize, (Instant, u64)>,
    /// The members to fetch at once.
    ordered: Vec<usize>,
    fetches: usize,
    longest: Duration,
}

const INTERVAL: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);

impl World {
    fn new(identities: usize) -> Self {
        let mut cohort = Cohort::default();
        let ids = (0..identities).map(|_| cohort.join()).collect();
        Self {
            cohort,
            now: clock::now(),
            ids,
            fetched: BTreeMap::new(),
            ordered: Vec::new(),
            fetches: 0,
            longest: INTERVAL * 600,
        }
    }

    /// Runs for `time`; `content` says what each identity receives, `None` for a failure.
    fn run(&mut self, time: Duration, content: impl Fn(usize) -> Option<u64>) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            for id in self.ids.clone() {
                let own = self.fetched.get(&id).map_or(self.now, |(started, _)| *started + INTERVAL);
                let due = self.cohort.due(id, INTERVAL, self.longest).unwrap_or(own);
                let ordered = self.ordered.iter().position(|other| *other == id);
                if let Some(at) = ordered {
                    self.ordered.swap_remove(at);
                } else if due > self.now {
                    continue;
                }
                self.fetch(id, content(id));
            }
        }
    }

    fn fetch(&mut self, id: usize, content: Option<u64>) {
        self.fetches += 1;
        self.cohort.begin(id, self.now);
        self.now += Duration::from_micros(10);
        let found = content.map_or(Found::Failure, |content| Found::Content(Digest::of(&content.to_le_bytes())));
        let orders = self.cohort.record(id, found, self.now);
        self.ordered.extend(orders.fetch);
        self.fetched.insert(id, (self.now, content.unwrap_or_default()));
    }

    fn fetches(&mut self, time: Duration, content: impl Fn(usize) -> Option<u64>) -> usize {
        let before = self.fetches;
        self.run(time, content);
        self.fetches - before
    }

    /// Makes all identities share several versions.
    fn share(&mut self) {
        for version in 0..4 {
            self.run(INTERVAL * 3, |_| Some(version));
        }
    }

    fn seated(&self) -> usize {
        self.cohort.seated
    }
}

#[test]
fn while_nothing_changes_one_of_all_is_fetched_in_turn() {
    let mut world = World::new(100);
    world.share();
    assert_eq!(world.seated(), 100);
    let fetches = world.fetches(INTERVAL * 100, |_| Some(3));
    assert!((95..=105).contains(&fetches), "{fetches} fetches in a hundred intervals");
    // All had their turn.
    let oldest = world.fetched.values().map(|(started, _)| *started).min().unwrap();
    assert!(oldest >= world.now - INTERVAL * 106, "{:?}", world.now - oldest);
}

#[test]
fn each_is_fetched_by_itself_in_any_case() {
    let mut world = World::new(60);
    world.longest = INTERVAL * 20;
    world.share();
    let fetches = world.fetches(INTERVAL * 60, |_| Some(3));
    assert!((175..=250).contains(&fetches), "{fetches} fetches of 60 in three times every_max");
    let oldest = world.fetched.values().map(|(started, _)| *started).min().unwrap();
    assert!(oldest + INTERVAL * 20 + STEP * 2 >= world.now);
}

#[test]
fn news_for_all_is_fetched_for_all_at_once() {
    let mut world = World::new(50);
    world.share();
    world.run(INTERVAL * 10, |_| Some(3));
    let fetches = world.fetches(INTERVAL + STEP * 10, |_| Some(4));
    assert!(world.fetched.values().all(|(_, content)| *content == 4), "somebody is late");
    assert!((50..=54).contains(&fetches), "{fetches} fetches for one change");
    assert_eq!(world.seated(), 50);
}

#[test]
fn news_of_one_costs_two_fetches_and_its_place() {
    let mut world = World::new(50);
    world.share();
    let own = world.ids[7];
    let content = |id: usize| Some(if id == own { 99 } else { 3 });
    let fetches = world.fetches(INTERVAL * 60, content);
    assert_eq!(world.fetched[&own].1, 99);
    assert_eq!(world.seated(), 49);
    // Half of the time it is fetched by itself, as without others.
    assert!(fetches <= 60 + 60 + 4, "{fetches} fetches");
    // What only happened to be the same does not count for long.
    let same = world.fetches(INTERVAL * 3, |_| Some(5));
    assert!(same >= 50);
    assert_eq!(world.seated(), 49);
}

#[test]
fn identities_with_contents_of_their_own_are_fetched_as_if_there_were_no_others() {
    let mut world = World::new(30);
    for version in 0..6 {
        let fetches = world.fetches(INTERVAL * 10, |id| Some(version * 1000 + id as u64));
        assert!((290..=330).contains(&fetches), "{fetches}");
    }
    assert_eq!(world.seated(), 0);
}

#[test]
fn one_version_in_common_is_not_enough() {
    let mut world = World::new(30);
    // An empty inbox, for everybody.
    world.run(INTERVAL * 20, |_| Some(0));
    assert_eq!(world.seated(), 0);
    let own = world.ids[3];
    let fetches = world.fetches(INTERVAL * 2, |id| Some(u64::from(id == own)));
    assert_eq!(world.fetched[&own].1, 1, "a message after two intervals");
    assert!(fetches >= 58);
}

#[test]
fn when_the_application_fails_everybody_learns_of_it() {
    let mut world = World::new(40);
    world.share();
    world.run(INTERVAL * 2, |_| None);
    assert_eq!(world.seated(), 0);
    assert!(world.fetched.values().all(|(_, content)| *content == 0), "somebody was not told");
    // One success each, and they take turns again.
    world.run(INTERVAL * 2, |_| Some(3));
    assert_eq!(world.seated(), 40);
}

#[test]
fn one_that_is_refused_is_fetched_by_itself() {
    let mut world = World::new(40);
    world.share();
    let out = world.ids[11];
    world.run(INTERVAL * 80, |id| (id != out).then_some(3));
    assert_eq!(world.seated(), 39);
}

#[test]
fn who_leaves_in_its_turn_holds_nobody_up() {
    let mut world = World::new(10);
    world.share();
    for _ in 0..6 {
        let first = world.cohort.first().expect("somebody's turn");
        world.ids.retain(|id| *id != first);
        world.fetched.remove(&first);
        let next = world.cohort.leave(first).next;
        assert_eq!(next, world.cohort.first(), "the next is woken");
        let fetches = world.fetches(INTERVAL * 10, |_| Some(3));
        assert!((9..=12).contains(&fetches), "{fetches} fetches");
    }
    for id in world.ids.clone() {
        world.cohort.leave(id);
    }
    assert!(world.cohort.is_empty() && world.cohort.contents.is_empty() && world.cohort.queue.is_empty());
    assert_eq!(world.cohort.seated, 0);
}

#[test]
fn who_has_no_clients_for_a_while_has_no_turn() {
    let mut world = World::new(10);
    world.share();
    let first = world.cohort.first().expect("somebody's turn");
    world.ids.retain(|id| *id != first);
    world.cohort.away(first);
    let fetches = world.fetches(INTERVAL * 20, |_| Some(3));
    assert!((18..=22).contains(&fetches), "{fetches} fetches");
}
