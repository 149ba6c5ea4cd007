//! Splices of text: `[start, delete, "insert"]` in UTF-16 code units, as JavaScript counts, applied in order.

use super::{Budget, Differ, Hunk, NoDelta, hunks, room};
use crate::json;
use crate::model::DeltaKind;

/// Each splice counts positions in the text as left by the splices before it. Splices are ordered from the beginning of
/// the text to its end.
#[derive(Debug)]
pub(super) struct Splice;

impl Differ for Splice {
    fn kind(&self) -> DeltaKind {
        DeltaKind::Splice
    }

    fn diff(&self, base: &str, target: &str, budget: &mut Budget) -> Result<Vec<u8>, NoDelta> {
        let hunks = joined(hunks(base, target, budget)?);
        let mut out = vec![b'['];
        let (mut start, mut from) = (0, 0);
        for hunk in hunks {
            budget.read(hunk.new.end - from)?;
            start += utf16_len(&target[from..hunk.new.start]);
            if out.len() > 1 {
                out.push(b',');
            }
            let (delete, insert) = (utf16_len(&base[hunk.old]), &target[hunk.new.clone()]);
            out.extend_from_slice(format!("[{start},{delete},\"{}\"]", json::escape(insert)).as_bytes());
            if out.len() >= room(target) {
                return Err(NoDelta::Size);
            }
            start += utf16_len(insert);
            from = hunk.new.end;
        }
        out.push(b']');
        Ok(out)
    }
}

/// The approximate overhead of a second splice in bytes. A shorter gap between two splices is repeated in the text
/// instead.
const OVERHEAD: usize = 12;

fn joined(hunks: Vec<Hunk>) -> Vec<Hunk> {
    let mut joined: Vec<Hunk> = Vec::with_capacity(hunks.len());
    for hunk in hunks {
        match joined.last_mut() {
            Some(last) if hunk.new.start - last.new.end <= OVERHEAD => {
                last.old.end = hunk.old.end;
                last.new.end = hunk.new.end;
            }
            _ => joined.push(hunk),
        }
    }
    joined
}

/// Returns the number of UTF-16 code units in `text`: one per character, two for characters beyond the Basic
/// Multilingual Plane, which take four bytes in UTF-8.
fn utf16_len(text: &str) -> usize {
    text.bytes().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0)).sum()
}
