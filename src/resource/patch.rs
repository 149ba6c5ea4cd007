//! Patches between the versions of a resource: made on first demand, shared by all who need the same.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use crate::diff;
use crate::model::{Ask, DeltaKind, Kind, MemoKey, Shape, Snapshot};
use crate::normalise::text_of;

/// A patch is kept beyond its version's time, for clients that come back and are led step by step, if it is at most this
/// part of what it saves.
const KEPT_SHARE: usize = 4;

/// How the patch from `position` to a snapshot is called among that snapshot's forms. It is no delivery's own: each wraps
/// the same document.
fn key(position: u64, ask: Ask) -> MemoKey {
    let delivery = match (ask.kind, ask.shape) {
        (DeltaKind::Splice, Shape::Data) => "patch of data",
        _ => "patch",
    };
    MemoKey { delivery, delta: Some((position, ask.kind)) }
}

/// The patch that makes `target` of `base`, if there is one that is smaller than `target`.
pub(super) fn patch(base: &Snapshot, target: &Snapshot, ask: Ask) -> Option<Bytes> {
    target.memo.get(key(base.version.position, ask), || make(base, target, ask))
}

/// That patch, if somebody needed it before.
pub(super) fn known(base: &Snapshot, target: &Snapshot, ask: Ask) -> Option<Bytes> {
    target.memo.peek(key(base.version.position, ask))
}

/// Whether a form of `snapshot` is kept when a newer version comes: only a small patch from the version before, at `step`.
pub(super) fn is_kept(key: &MemoKey, form: &Bytes, step: Option<u64>, snapshot: &Snapshot) -> bool {
    key.delivery.starts_with("patch")
        && key.delta.is_some_and(|(position, _)| Some(position) == step)
        && form.len() <= snapshot.weight() / KEPT_SHARE
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
