//! Fair sharing of limited quantities: fetches, places, bytes.
//!
//! ```text
//! most ──┬─ taken by one owner: at most a few times the rest
//!        └─ rest: for the next owner
//! ```
//!
//! The more is taken, the smaller the share of each owner becomes. The number of owners need not be known, a single
//! owner may take most of the total, and there is always something left for an owner that has nothing yet.

use super::AddressBucket;

/// The owner of a taken amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The client's network, if known.
    pub network: Option<AddressBucket>,
    /// Distinguishes clients of one network, as far as possible.
    pub client: u64,
}

/// The maximum share of one network, as a multiple of the amount left.
pub const OF_NETWORK: u64 = 3;

/// The maximum share of one client of a network, as a multiple of the amount left. It is smaller than the network's
/// share, so that other clients of the same network find something.
pub const OF_CLIENT: u64 = 2;

/// Returns whether an owner that has `own` of the `used` units may take one more, where the total is `most` and the
/// owner may have `times` the amount left. An owner that has nothing may take the last unit.
pub fn may_take(own: u64, used: u64, most: u64, times: u64) -> bool {
    let left = most.saturating_sub(used);
    left > 0 && (own == 0 || own < times.saturating_mul(left - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the amount that each of `owners` gets of `most` if all take as much as they may.
    fn taken(most: u64, owners: usize, times: u64) -> Vec<u64> {
        let mut own = vec![0; owners];
        loop {
            let mut none = true;
            for owner in 0..owners {
                if may_take(own[owner], own.iter().sum(), most, times) {
                    own[owner] += 1;
                    none = false;
                }
            }
            if none {
                return own;
            }
        }
    }

    #[test]
    fn one_alone_gets_most_of_it_and_several_get_the_same() {
        assert_eq!(taken(32, 1, OF_NETWORK), [24]);
        assert_eq!(taken(32, 1, OF_CLIENT), [21]);
        assert_eq!(taken(100, 1, OF_NETWORK), [75]);
        for owners in 2..8 {
            let own = taken(100, owners, OF_NETWORK);
            assert!(own.iter().max().unwrap_or(&0) - own.iter().min().unwrap_or(&0) <= 1, "{own:?}");
        }
    }

    #[test]
    fn there_is_something_left_for_whoever_has_nothing() {
        for most in 2..40 {
            for owners in 1..=most as usize / 4 {
                let used: u64 = taken(most, owners, OF_NETWORK).iter().sum();
                assert!(may_take(0, used, most, OF_NETWORK), "{owners} owners took {used} of {most}");
            }
        }
        assert!(may_take(0, 0, 1, OF_CLIENT) && !may_take(0, 1, 1, OF_CLIENT));
    }
}
