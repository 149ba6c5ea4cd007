//! Something of which there is only so much, such as bytes or places, shared out among networks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Network;
use super::share::may_take;

/// How much there is, and who has it.
#[derive(Debug)]
pub struct Ration {
    /// How many times what is left one network may have.
    times: u64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    most: u64,
    used: u64,
    by_network: HashMap<Option<Network>, u64>,
}

impl Books {
    fn of(&self, network: Option<Network>) -> u64 {
        self.by_network.get(&network).copied().unwrap_or_default()
    }

    fn add(&mut self, network: Option<Network>, amount: u64) {
        if amount > 0 {
            self.used += amount;
            *self.by_network.entry(network).or_default() += amount;
        }
    }

    fn subtract(&mut self, network: Option<Network>, amount: u64) {
        self.used -= amount;
        if let Some(own) = self.by_network.get_mut(&network) {
            *own -= amount;
            if *own == 0 {
                self.by_network.remove(&network);
            }
        }
    }
}

impl Ration {
    /// `most` in all, of which one network may have `times` what is left.
    pub fn new(most: u64, times: u64) -> Self {
        Self { times, books: Mutex::new(Books { most, ..Books::default() }) }
    }

    /// Changes how much there is. What is taken beyond that comes back as it is given back.
    pub fn resize(&self, most: u64) {
        self.books().most = most;
    }

    /// How much is taken.
    pub fn used(&self) -> u64 {
        self.books().used
    }

    /// How much of it by `network`.
    pub fn used_by(&self, network: Option<Network>) -> u64 {
        self.books().of(network)
    }

    /// How much there is in all.
    pub fn most(&self) -> u64 {
        self.books().most
    }

    /// Whether all of it is taken.
    pub fn is_full(&self) -> bool {
        let books = self.books();
        books.used >= books.most
    }

    /// Whether `network` may take more.
    pub fn has_room(&self, network: Option<Network>) -> bool {
        let books = self.books();
        may_take(books.of(network), books.used, books.most, self.times)
    }

    /// Takes `amount` for `network`, if it may have that.
    pub fn take(self: &Arc<Self>, network: Option<Network>, amount: u64) -> Option<Taken> {
        let mut taken = Taken::nothing(Arc::clone(self), network);
        taken.grow(amount).then_some(taken)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ration {
    /// Without end.
    fn default() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }
}

/// A part of a ration; given back when this is dropped.
#[derive(Debug)]
pub struct Taken {
    ration: Arc<Ration>,
    network: Option<Network>,
    amount: u64,
}

impl Taken {
    /// Nothing yet, for `network`.
    pub fn nothing(ration: Arc<Ration>, network: Option<Network>) -> Self {
        Self { ration, network, amount: 0 }
    }

    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes `more`. `false`, and nothing is taken, if its network may not have that.
    pub fn grow(&mut self, more: u64) -> bool {
        let mut books = self.ration.books();
        let may = may_take(books.of(self.network), books.used, books.most, self.ration.times);
        if may {
            books.add(self.network, more);
            self.amount += more;
        }
        may
    }

    /// It is this much now, whoever may have how much, and on the account of `network`.
    pub fn set(&mut self, network: Option<Network>, amount: u64) {
        let mut books = self.ration.books();
        books.subtract(self.network, self.amount);
        books.add(network, amount);
        (self.network, self.amount) = (network, amount);
    }

    /// Whether its network may take more.
    pub fn has_room(&self) -> bool {
        self.ration.has_room(self.network)
    }

    /// Whether it is more than its network may have: it could not have been begun beside the rest, and the network has more than
    /// an equal part of all.
    pub fn is_too_much(&self) -> bool {
        let books = self.ration.books();
        let own = books.of(self.network);
        let equal = books.most / (books.by_network.len() as u64 + 1);
        let (own_rest, rest) = (own - self.amount, books.used - self.amount);
        own > equal && !may_take(own_rest, rest, books.most, self.ration.times)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ration.books().subtract(self.network, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> Option<Network> {
        Some(Network::of([10, 0, 0, number].into()))
    }

    #[test]
    fn one_network_leaves_something_for_the_others_and_gets_back_what_it_gives() {
        let ration = Arc::new(Ration::new(100, 3));
        let mut flood: Vec<_> = std::iter::from_fn(|| ration.take(network(1), 1)).collect();
        assert_eq!(flood.len(), 75);
        assert!(ration.has_room(network(2)) && !ration.has_room(network(1)));
        let other = ration.take(network(2), 20).expect("there is room");
        flood.truncate(30);
        assert!(ration.has_room(network(1)));
        drop((flood, other));
        assert_eq!(ration.used(), 0);
        assert!(ration.books().by_network.is_empty());
    }

    #[test]
    fn what_grows_is_too_much_only_for_those_who_have_much() {
        let ration = Arc::new(Ration::new(100, 3));
        let mut large: Vec<_> = (0..10).map(|_| Taken::nothing(Arc::clone(&ration), network(1))).collect();
        let mut small = Taken::nothing(Arc::clone(&ration), network(2));
        let too_much = large.iter_mut().map(|taken| {
            taken.set(network(1), 20);
            taken.is_too_much()
        });
        let too_much = too_much.filter(|too_much| *too_much).count();
        assert_eq!(too_much, 6, "what came when 80 of 100 were taken");
        small.set(network(2), 10);
        assert!(!small.is_too_much(), "it has little, however full it is");
        // On whose account something is may change.
        large[0].set(network(2), 20);
        assert_eq!((ration.used_by(network(1)), ration.used_by(network(2)), ration.used()), (180, 30, 210));
    }
}
