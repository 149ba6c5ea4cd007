//! JSON-RPC and similar formats: an object that names a method, or a batch of such objects.

use super::glob::Glob;
use super::members::text;
use crate::json::{Kind, Value};

/// The maximum number of members; no page sends more at a time.
const MAX_BATCH: usize = 256;

/// Returns the methods that `body` calls, if all of them are among `reads`.
pub(super) fn names(body: Value<'_>, reads: &[Glob]) -> Option<Vec<String>> {
    let members: Vec<Value<'_>> = match body.kind() {
        Kind::Object => vec![body],
        Kind::Array => body.items().take(MAX_BATCH + 1).collect(),
        _ => return None,
    };
    if members.is_empty() || members.len() > MAX_BATCH {
        return None;
    }
    members
        .into_iter()
        .map(|member| {
            let method = text(member, "method")?;
            reads.iter().any(|read| read.matches(&method)).then(|| method.into_owned())
        })
        .collect()
}
