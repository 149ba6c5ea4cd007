//! Per-identity and per-address quotas on watched resources.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of watched resources by account. An account is the hash of its owner.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    counts: Mutex<HashMap<u64, usize>>,
}

/// One resource's entries in the quotas. Dropping it removes them.
#[derive(Debug)]
pub(super) struct QuotaGuard {
    quotas: Arc<Quotas>,
    on: Vec<u64>,
}

impl Quotas {
    /// Counts one resource on each of these accounts, each with its limit.
    ///
    /// # Errors
    /// Returns the error of the first limit that is reached; nothing is counted then.
    pub(super) fn acquire<E: Copy>(self: &Arc<Self>, on: &[(u64, usize, E)]) -> Result<QuotaGuard, E> {
        let mut counts = self.counts();
        for (account, most, full) in on {
            if counts.get(account).is_some_and(|count| count >= most) {
                return Err(*full);
            }
        }
        for (account, ..) in on {
            *counts.entry(*account).or_default() += 1;
        }
        Ok(QuotaGuard { quotas: Arc::clone(self), on: on.iter().map(|(account, ..)| *account).collect() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        let mut counts = self.quotas.counts();
        for account in &self.on {
            let Some(count) = counts.get_mut(account) else { continue };
            *count -= 1;
            if *count == 0 {
                counts.remove(account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_has_its_most_and_gets_back_what_is_dropped() {
        let accounts = Arc::<Quotas>::default();
        let charge = |identity: u64| accounts.acquire(&[(identity, 1, "identity"), (7, 2, "address")]);
        let first = charge(1).expect("nothing is counted yet");
        assert_eq!(charge(1).err(), Some("identity"));
        let second = charge(2).expect("one more");
        assert_eq!(charge(3).err(), Some("address"));
        drop(first);
        let third = charge(1).expect("its place is free again");
        drop((second, third));
        assert!(accounts.counts().is_empty());
    }
}
