//! Deltas: what they are applied to becomes what they were made for, by an implementation that is not the program's.

use sungrazer::diff::delta;
use sungrazer::model::DeltaKind;

use crate::support::oracle::{self, Json, Reader};

/// Two texts, divided by a zero.
fn two(data: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(data).ok()?.split_once('\0')
}

pub fn json(data: &[u8]) {
    let Some((base, target)) = two(data) else { return };
    for kind in [DeltaKind::JsonPatch, DeltaKind::MergePatch] {
        let Ok(patch) = delta(kind, base, target) else { continue };
        let patch = String::from_utf8(patch).unwrap();
        assert!(patch.len() < target.len());
        for reader in [Reader::FirstWins, Reader::LastWins] {
            let (held, patch) = (Json::read(base, reader), Json::read(&patch, reader));
            let made = match kind {
                DeltaKind::JsonPatch => oracle::json_patch(held, &patch).unwrap(),
                _ => oracle::merge_patch(held, &patch),
            };
            assert_eq!(made, Json::read(target, reader));
        }
    }
}

pub fn splice(data: &[u8]) {
    let Some((base, target)) = two(data) else { return };
    let Ok(patch) = delta(DeltaKind::Splice, base, target) else { return };
    let patch = String::from_utf8(patch).unwrap();
    assert!(patch.len() < target.len());
    let made = oracle::splice(base, &Json::read(&patch, Reader::LastWins)).unwrap();
    assert_eq!(made, target);
}
