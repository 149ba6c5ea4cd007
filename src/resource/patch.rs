//! Patches between the versions of a resource, computed on first demand and shared.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use crate::diff;
use crate::model::{BodyForm, DeltaKind, DeltaRequest, Kind, PatchKey, Snapshot};
use crate::normalise::{plain_utf8, text_of};

/// The maximum size of a kept patch, as a fraction of the body that it saves. Small patches are kept beyond their
/// version's time, for clients that return and are led patch by patch.
const KEPT_SHARE: usize = 4;

/// Returns the cache key of the patch from `base` for `ask`. JSON patches do not depend on the body form.
fn key(base: u64, ask: DeltaRequest) -> PatchKey {
    let shape = if ask.kind == DeltaKind::Splice { ask.form } else { BodyForm::Record };
    PatchKey { base, ask: DeltaRequest { form: shape, ..ask } }
}

/// Returns the patch from `base` to `target`, if there is one that is smaller than `target`.
pub(super) fn patch(base: &Snapshot, target: &Snapshot, ask: DeltaRequest) -> Option<Bytes> {
    target.encodings.patch(key(base.version.position, ask), || make(base, target, ask))
}

/// Returns that patch if it has been computed before.
pub(super) fn known(base: &Snapshot, target: &Snapshot, ask: DeltaRequest) -> Option<Bytes> {
    target.encodings.known_patch(key(base.version.position, ask))
}

/// Returns whether a patch that leads to `snapshot` is kept when a newer version arrives: only a small patch from the
/// previous version, at `step`.
pub(super) fn is_kept(key: &PatchKey, patch: &Bytes, step: Option<u64>, snapshot: &Snapshot) -> bool {
    Some(key.base) == step && patch.len() <= snapshot.weight() / KEPT_SHARE
}

fn make(base: &Snapshot, target: &Snapshot, ask: DeltaRequest) -> Option<Bytes> {
    let (one, other) = (&base.representation, &target.representation);
    // A patch cannot express a change of status or type.
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
