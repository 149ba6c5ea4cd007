//! A limited quantity, such as bytes or places, shared fairly among owners.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::share::may_take;
use super::{AddressBucket, Owner};

/// A quantity and the amounts that its owners have taken.
#[derive(Debug)]
pub struct Ration {
    /// The maximum share of one network and of one of its clients, as multiples of the amount left.
    times: (u64, u64),
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    most: u64,
    used: u64,
    by_network: HashMap<Option<AddressBucket>, u64>,
    by_owner: HashMap<Owner, u64>,
}

impl Books {
    fn of(&self, owner: Owner) -> u64 {
        self.by_owner.get(&owner).copied().unwrap_or_default()
    }

    fn add(&mut self, owner: Owner, amount: u64) {
        if amount > 0 {
            self.used += amount;
            *self.by_network.entry(owner.network).or_default() += amount;
            *self.by_owner.entry(owner).or_default() += amount;
        }
    }

    fn subtract(&mut self, owner: Owner, amount: u64) {
        self.used -= amount;
        subtract(&mut self.by_network, &owner.network, amount);
        subtract(&mut self.by_owner, &owner, amount);
    }

    /// Returns whether `owner` may take one more unit, not counting `amount` of its own.
    fn may_take(&self, owner: Owner, amount: u64, (of_network, of_client): (u64, u64)) -> bool {
        let network = self.by_network.get(&owner.network).copied().unwrap_or_default();
        let used = self.used - amount;
        may_take(network - amount, used, self.most, of_network)
            && may_take(self.of(owner) - amount, used, self.most, of_client)
    }
}

fn subtract<K: Hash + Eq>(accounts: &mut HashMap<K, u64>, key: &K, amount: u64) {
    if let Some(own) = accounts.get_mut(key) {
        *own -= amount;
        if *own == 0 {
            accounts.remove(key);
        }
    }
}

impl Ration {
    /// Creates a ration of `most` units. `times` limits one network, and one client of it, to a multiple of the amount
    /// left.
    pub fn new(most: u64, times: (u64, u64)) -> Self {
        Self { times, books: Mutex::new(Books { most, ..Books::default() }) }
    }

    /// Changes the total. If more than that is taken, the excess disappears as it is returned.
    pub fn resize(&self, most: u64) {
        self.books().most = most;
    }

    /// Returns the amount taken.
    pub fn used(&self) -> u64 {
        self.books().used
    }

    /// Returns the amount taken by `owner`.
    pub fn used_by(&self, owner: Owner) -> u64 {
        self.books().of(owner)
    }

    /// Returns the total.
    pub fn most(&self) -> u64 {
        self.books().most
    }

    /// Returns whether everything is taken.
    pub fn is_full(&self) -> bool {
        let books = self.books();
        books.used >= books.most
    }

    /// Returns whether `owner` may take more.
    pub fn has_room(&self, owner: Owner) -> bool {
        self.books().may_take(owner, 0, self.times)
    }

    /// Takes `amount` for `owner`, if `owner` may have that much.
    pub fn take(self: &Arc<Self>, owner: Owner, amount: u64) -> Option<Taken> {
        let mut taken = Taken::nothing(Arc::clone(self), owner);
        taken.grow(amount).then_some(taken)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ration {
    /// Creates a ration without a limit.
    fn default() -> Self {
        Self::new(u64::MAX, (u64::MAX, u64::MAX))
    }
}

/// A part of a ration. Dropping it returns the amount.
#[derive(Debug)]
pub struct Taken {
    ration: Arc<Ration>,
    owner: Owner,
    amount: u64,
}

impl Taken {
    /// Creates an empty part for `owner`.
    pub fn nothing(ration: Arc<Ration>, owner: Owner) -> Self {
        Self { ration, owner, amount: 0 }
    }

    /// Returns the amount.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes `more`. Returns `false` and takes nothing if the owner may not have that much.
    pub fn grow(&mut self, more: u64) -> bool {
        let mut books = self.ration.books();
        let may = books.may_take(self.owner, 0, self.ration.times);
        if may {
            books.add(self.owner, more);
            self.amount += more;
        }
        may
    }

    /// Sets the amount and the owner, without checking any limit.
    pub fn set(&mut self, owner: Owner, amount: u64) {
        let mut books = self.ration.books();
        books.subtract(self.owner, self.amount);
        books.add(owner, amount);
        (self.owner, self.amount) = (owner, amount);
    }

    /// Returns whether the owner may take more.
    pub fn has_room(&self) -> bool {
        self.ration.has_room(self.owner)
    }

    /// Returns whether the owner has more than it may: the part could not have been taken beside the rest, and the
    /// owner has more than an equal share.
    pub fn is_too_much(&self) -> bool {
        let books = self.ration.books();
        let equal = books.most / (books.by_owner.len() as u64 + 1);
        books.of(self.owner) > equal && !books.may_take(self.owner, self.amount, self.ration.times)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ration.books().subtract(self.owner, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(network: u8, client: u64) -> Owner {
        Owner { network: Some(AddressBucket::of([10, 0, 0, network].into())), client }
    }

    #[test]
    fn one_owner_leaves_something_for_the_others_and_gets_back_what_it_gives() {
        let ration = Arc::new(Ration::new(100, (3, 2)));
        let mut flood: Vec<_> = std::iter::from_fn(|| ration.take(owner(1, 1), 1)).collect();
        assert_eq!(flood.len(), 66);
        assert!(ration.has_room(owner(1, 2)) && !ration.has_room(owner(1, 1)));
        flood.extend(std::iter::from_fn(|| ration.take(owner(1, 2), 1)));
        assert_eq!(flood.len(), 75);
        assert!(ration.has_room(owner(2, 1)) && !ration.has_room(owner(1, 3)));
        let other = ration.take(owner(2, 1), 20).expect("there is room");
        flood.truncate(30);
        assert!(ration.has_room(owner(1, 1)));
        drop((flood, other));
        assert_eq!(ration.used(), 0);
        assert!(ration.books().by_network.is_empty() && ration.books().by_owner.is_empty());
    }

    #[test]
    fn what_grows_is_too_much_only_for_those_who_have_much() {
        let ration = Arc::new(Ration::new(100, (3, 3)));
        let mut large: Vec<_> = (0..10).map(|_| Taken::nothing(Arc::clone(&ration), owner(1, 1))).collect();
        let mut small = Taken::nothing(Arc::clone(&ration), owner(2, 1));
        let too_much = large.iter_mut().map(|taken| {
            taken.set(owner(1, 1), 20);
            taken.is_too_much()
        });
        let too_much = too_much.filter(|too_much| *too_much).count();
        assert_eq!(too_much, 6, "what came when 80 of 100 were taken");
        small.set(owner(2, 1), 10);
        assert!(!small.is_too_much(), "it has little, however full it is");
        // The owner of a part may change.
        large[0].set(owner(2, 1), 20);
        assert_eq!((ration.used_by(owner(1, 1)), ration.used_by(owner(2, 1)), ration.used()), (180, 30, 210));
    }
}
