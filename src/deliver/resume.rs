//! Detects clients that hold a state unknown to this process.
//!
//! Another process, or this one before it evicted the resource, may have sent a client a state newer than any in
//! memory. Such a client only receives states fetched after its request.

use http::HeaderMap;
use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};

use crate::model::{ResumeFrom, Snapshot, Version};
use crate::resource::ResourceState;

/// Returns whether a validator in the request shows that the client may hold a state newer than those that `head`
/// knows.
pub fn holds_unknown(head: &ResourceState, request: &HeaderMap) -> bool {
    let tags = request.get_all(IF_NONE_MATCH);
    if tags.iter().next().is_some() {
        return !tags.iter().filter_map(|list| list.to_str().ok()).any(|list| is_known(head, list));
    }
    let date = |headers: &HeaderMap, name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let newest = head.newest().and_then(|newest| date(&newest.representation.headers, LAST_MODIFIED));
    newest.zip(date(request, IF_MODIFIED_SINCE)).is_some_and(|(newest, held)| held > newest)
}

/// Returns whether one of the entity tags in `list` belongs to a state that `head` knows.
fn is_known(head: &ResourceState, list: &str) -> bool {
    let is_version = |tag: &str| tag.parse().is_ok_and(|version: Version| head.knows(&ResumeFrom::Version(version)));
    // A tag may contain a comma, but no quote.
    let is_of = |snapshot: &Snapshot| {
        let tag = snapshot.representation.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        tag.is_some_and(|tag| list.contains(tag.strip_prefix("W/").unwrap_or(tag)))
    };
    list.trim() == "*" || list.split('"').any(is_version) || head.history.iter().any(|snapshot| is_of(snapshot))
}
