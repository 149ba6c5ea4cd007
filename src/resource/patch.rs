//! Patches between the versions of a resource: made on first demand, shared by all who need the same.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use crate::diff;
use crate::model::{BodyForm, DeltaKind, DeltaRequest, Kind, PatchKey, Snapshot};
use crate::normalise::{plain_utf8, text_of};

/// A patch is kept beyond its version's time, for clients that come back and are led step by step, if it is at most this
/// part of what it saves.
const KEPT_SHARE: usize = 4;

/// How the patch from `base` for `ask` is called. Patches of JSON are the same whatever the shape.
fn key(base: u64, ask: DeltaRequest) -> PatchKey {
    let shape = if ask.kind == DeltaKind::Splice { ask.form } else { BodyForm::Record };
    PatchKey { base, ask: DeltaRequest { form: shape, ..ask } }
}

/// The patch that makes `target` of `base`, if there is one that is smaller than `target`.
pub(super) fn patch(base: &Snapshot, target: &Snapshot, ask: DeltaRequest) -> Option<Bytes> {
    target.encodings.patch(key(base.version.position, ask), || make(base, target, ask))
}

/// That patch, if somebody needed it before.
pub(super) fn known(base: &Snapshot, target: &Snapshot, ask: DeltaRequest) -> Option<Bytes> {
    target.encodings.known_patch(key(base.version.position, ask))
}

/// Whether a patch that leads to `snapshot` is kept when a newer version comes: only a small one from the version before,
/// at `step`.
pub(super) fn is_kept(key: &PatchKey, patch: &Bytes, step: Option<u64>, snapshot: &Snapshot) -> bool {
    Some(key.base) == step && patch.len() <= snapshot.weight() / KEPT_SHARE
}

fn make(base: &Snapshot, target: &Snapshot, ask: DeltaRequest) -> Option<Bytes> {
    let (one, other) = (&base.representation, &target.representation);
    // A patch says nothing of status and type.
    if one.status != other.status || one.headers.get(CONTENT_TYPE) != other.headers.get(CONTENT_TYPE) {
        return None;
    }
    let is_json = other.media_type().kind() == Kind::Json;
    let fits = match (ask.kind, ask.form) {
        (DeltaKind::JsonPatch | DeltaKind::MergePatch, _) => is_json,
        (DeltaKind::Splice, BodyForm::Record) => !is_json,
        (DeltaKind::Splice, BodyForm::Data) => true,
        (DeltaKind::Splice, BodyForm::Exact) => plain_utf8(one).is_some() && plain_utf8(other).is_some(),
    };
    if !fits {
        return None;
    }
    let held = |text: Cow<'_, str>| match (ask.kind, ask.form) {
        (DeltaKind::Splice, BodyForm::Data) if text.contains('\r') => text.replace("\r\n", "\n").replace('\r', "\n"),
        _ => text.into_owned(),
    };
    let (one, other) = (text_of(one)?, text_of(other)?);
    diff::delta(ask.kind, &held(one), &held(other)).ok().map(Bytes::from)
}
