//! Patches between the versions of a resource: made on first demand, shared by all who need the same.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use crate::diff;
use crate::model::{Ask, DeltaKind, Kind, PatchKey, Shape, Snapshot};
use crate::normalise::{plain_utf8, text_of};

/// A patch is kept beyond its version's time, for clients that come back and are led step by step, if it is at most this
/// part of what it saves.
const KEPT_SHARE: usize = 4;

/// How the patch from `base` for `ask` is called. Patches of JSON are the same whatever the shape.
fn key(base: u64, ask: Ask) -> PatchKey {
    let shape = if ask.kind == DeltaKind::Splice { ask.shape } else { Shape::Record };
    PatchKey { base, ask: Ask { shape, ..ask } }
}

/// The patch that makes `target` of `base`, if there is one that is smaller than `target`.
pub(super) fn patch(base: &Snapshot, target: &Snapshot, ask: Ask) -> Option<Bytes> {
    target.memo.patch(key(base.version.position, ask), || make(base, target, ask))
}

/// That patch, if somebody needed it before.
pub(super) fn known(base: &Snapshot, target: &Snapshot, ask: Ask) -> Option<Bytes> {
    target.memo.known_patch(key(base.version.position, ask))
}

/// Whether a patch that leads to `snapshot` is kept when a newer version comes: only a small one from the version before,
/// at `step`.
pub(super) fn is_kept(key: &PatchKey, patch: &Bytes, step: Option<u64>, snapshot: &Snapshot) -> bool {
    Some(key.base) == step && patch.len() <= snapshot.weight() / KEPT_SHARE
}

fn make(base: &Snapshot, target: &Snapshot, ask: Ask) -> Option<Bytes> {
    let (one, other) = (&base.representation, &target.representation);
    // A patch says nothing of status and type.
    if one.status != other.status || one.headers.get(CONTENT_TYPE) != other.headers.get(CONTENT_TYPE) {
        return None;
    }
    let is_json = other.media_type().kind() == Kind::Json;
    let fits = match (ask.kind, ask.shape) {
        (DeltaKind::JsonPatch | DeltaKind::MergePatch, _) => is_json,
        (DeltaKind::Splice, Shape::Record) => !is_json,
        (DeltaKind::Splice, Shape::Data) => true,
        (DeltaKind::Splice, Shape::Exact) => plain_utf8(one).is_some() && plain_utf8(other).is_some(),
    };
    if !fits {
        return None;
    }
    let held = |text: Cow<'_, str>| match (ask.kind, ask.shape) {
        (DeltaKind::Splice, Shape::Data) if text.contains('\r') => text.replace("\r\n", "\n").replace('\r', "\n"),
        _ => text.into_owned(),
    };
    let (one, other) = (text_of(one)?, text_of(other)?);
    diff::delta(ask.kind, &held(one), &held(other)).ok().map(Bytes::from)
}
