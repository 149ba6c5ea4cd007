//! The last versions of a resource, bounded by count and by bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{ResumeFrom, Snapshot};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Versions, the newest included.
    pub versions: usize,
    /// Bytes of their bodies. The newest is kept whatever it weighs.
    pub bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { versions: 64, bytes: 4 << 20 }
    }
}

/// Versions in order of position, oldest first. Cheap to clone: a clone is what readers see.
#[derive(Clone, Debug, Default)]
pub struct History {
    snapshots: Arc<[Arc<Snapshot>]>,
}

impl History {
    /// The newest version.
    pub fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.snapshots.last()
    }

    /// The version at `position`, if it is still kept.
    pub fn at(&self, position: u64) -> Option<&Arc<Snapshot>> {
        self.snapshots
            .binary_search_by_key(&position, |snapshot| snapshot.version.position)
            .ok()
            .map(|index| &self.snapshots[index])
    }

    /// The newest version with exactly the content that is claimed, whatever its position: positions of another process
    /// mean nothing here, fingerprints do.
    pub fn find(&self, claim: &ResumeFrom) -> Option<&Arc<Snapshot>> {
        self.snapshots.iter().rev().find(|snapshot| claim.matches_content(&snapshot.version))
    }

    /// The versions behind the one at `position`, oldest first.
    pub fn after(&self, position: u64) -> &[Arc<Snapshot>] {
        let first = self.snapshots.partition_point(|snapshot| snapshot.version.position <= position);
        &self.snapshots[first..]
    }

    /// All versions, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> + ExactSizeIterator {
        self.snapshots.iter()
    }

    /// How many versions are kept.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Whether nothing was ever read.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// Bytes of body that are kept.
    pub fn weight(&self) -> u64 {
        self.snapshots.iter().map(|snapshot| snapshot.weight() as u64).sum()
    }

    /// This history with `snapshot` behind it, in place of the newest version if `replace`, and the oldest versions
    /// dropped until `options` hold.
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
