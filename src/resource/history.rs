//! The last versions of a resource, bounded by count and by bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{ResumeFrom, Snapshot};

/// The limits of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Versions, the newest included.
    pub versions: usize,
    /// Bytes of their bodies. The newest version is always kept.
    pub bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { versions: 64, bytes: 4 << 20 }
    }
}

/// Versions in order of position, oldest first. Cheap to clone; readers hold clones.
#[derive(Clone, Debug, Default)]
pub struct History {
    snapshots: Arc<[Arc<Snapshot>]>,
}

impl History {
    /// Returns the newest version.
    pub fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.snapshots.last()
    }

    /// Returns the version at `position`, if it is still kept.
    pub fn at(&self, position: u64) -> Option<&Arc<Snapshot>> {
        self.snapshots
            .binary_search_by_key(&position, |snapshot| snapshot.version.position)
            .ok()
            .map(|index| &self.snapshots[index])
    }

    /// Returns the newest version with exactly the claimed content, at any position: positions of another process are
    /// meaningless here, but fingerprints are not.
    pub fn find(&self, claim: &ResumeFrom) -> Option<&Arc<Snapshot>> {
        self.snapshots.iter().rev().find(|snapshot| claim.matches_content(&snapshot.version))
    }

    /// Returns the versions after `position`, oldest first.
    pub fn after(&self, position: u64) -> &[Arc<Snapshot>] {
        let first = self.snapshots.partition_point(|snapshot| snapshot.version.position <= position);
        &self.snapshots[first..]
    }

    /// Returns all versions, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> + ExactSizeIterator {
        self.snapshots.iter()
    }

    /// Returns the number of versions.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Returns whether there are no versions.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// Returns the size of all bodies in bytes.
    pub fn weight(&self) -> u64 {
        self.snapshots.iter().map(|snapshot| snapshot.weight() as u64).sum()
    }

    /// Returns this history with `snapshot` appended, in place of the newest version if `replace`, and without the
    /// oldest versions that exceed `options`.
    pub fn with(&self, snapshot: Arc<Snapshot>, replace: bool, options: &Options) -> Self {
        let keep = self.len() - usize::from(replace && !self.is_empty());
        let mut snapshots: Vec<_> = self.snapshots[..keep].to_vec();
        snapshots.push(snapshot);
        let mut weight: u64 = snapshots.iter().map(|snapshot| snapshot.weight() as u64).sum();
        let mut drop = snapshots.len().saturating_sub(options.versions.max(1));
        weight -= snapshots[..drop].iter().map(|snapshot| snapshot.weight() as u64).sum::<u64>();
        while weight > options.bytes && drop + 1 < snapshots.len() {
            weight -= snapshots[drop].weight() as u64;
            drop += 1;
        }
        Self { snapshots: snapshots.split_off(drop).into() }
    }
}
