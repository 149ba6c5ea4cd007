//! Translates conditions on entity tags of this server into conditions that the backend understands.
//!
//! ```text
//! If-None-Match: "ours", "theirs"   ─▶ If-None-Match: "theirs"       a tag left out costs a body, never a change
//! If-Match: "ours+theirs"           ─▶ If-Match: "theirs"            the client's condition without the proxy
//! If-Range: "ours"                  ─▶ the whole, without Range      the client's partial copy is not the backend's form
//! ```
//!
//! An entity tag of this server never reaches the backend. Each such tag contains the backend's tag that it replaces,
//! so that any process can translate it at any time. A tag created where the backend sent none is removed from
//! `If-Match` too: without the proxy the client would have no tag to send, and the backend would decide without it.

use http::header::{HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use pingora::Result;
use pingora::http::RequestHeader;

use crate::model::ResumeFrom;
use crate::model::entity::{self, EntityTag};
use crate::proxy::request::view::IF;
use crate::shim;

/// The last event that the client received of a stream. Our event ids mean nothing to an application with a stream of
/// its own.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The translation of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    /// It is the backend's own tag and stays.
    AsItIs,
    /// It is replaced by this tag of the backend.
    Instead(Vec<u8>),
    /// It has no counterpart at the backend and is removed.
    LeftOut,
}

impl Sent {
    fn of(tag: &EntityTag<'_>) -> Self {
        let original = match tag.made() {
            Some(made) => made.original,
            None => match shim::original_of(tag) {
                Some(original) => original,
                None => return Self::AsItIs,
            },
        };
        original.map_or(Self::LeftOut, Self::Instead)
    }
}

/// Translates all conditions in `head`.
///
/// # Errors
/// Returns an error if a header cannot be written.
pub(in crate::proxy) fn translate(head: &mut RequestHeader) -> Result<()> {
    // Most requests have no condition, and most conditions contain no tag of this server.
    if head.headers.contains_key(&IF_NONE_MATCH) {
        translate_if_none_match(head)?;
    }
    if is_concerned(head, &IF_MATCH) {
        let tags = entity::tags(&head.headers, &IF_MATCH);
        let sent: Vec<Vec<u8>> = tags
            .filter_map(|tag| match Sent::of(&tag) {
                Sent::AsItIs => Some(tag.raw.to_vec()),
                Sent::Instead(tag) => Some(tag),
                Sent::LeftOut => None,
            })
            .collect();
        write(head, IF_MATCH, &sent.join(&b", "[..]))?;
    }
    if is_concerned(head, &IF_RANGE) {
        head.remove_header(&IF_RANGE);
        head.remove_header(&RANGE);
    }
    if let Some(lists) = head.headers.get(&IF)
        && let Some(lists) = translate_lists(lists.as_bytes())
    {
        write(head, IF, &lists)?;
    }
    let last = head.headers.get(&LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    if last.is_some_and(|id| matches!(ResumeFrom::parse(id), Some(ResumeFrom::Version(_)))) {
        head.remove_header(&LAST_EVENT_ID);
    }
    Ok(())
}

/// Removes the tags of this server from `If-None-Match`. Such a tag may name a form that the backend's tag does not
/// identify: another coding, a page with the script, or one of several states with the same tag. At worst the client
/// receives the whole body.
fn translate_if_none_match(head: &mut RequestHeader) -> Result<()> {
    let (mut kept, mut ours, mut instead) = (Vec::new(), false, false);
    for tag in entity::tags(&head.headers, &IF_NONE_MATCH) {
        match Sent::of(&tag) {
            Sent::AsItIs => kept.push(tag.raw),
            sent => {
                ours = true;
                instead |= sent != Sent::LeftOut || tag.made().is_none();
            }
        }
    }
    if !ours {
        return Ok(());
    }
    let kept = kept.join(&b", "[..]);
    if kept.is_empty() && instead {
        // Without the tags the date would count, and it belongs to the backend's form.
        head.remove_header(&IF_MODIFIED_SINCE);
    }
    write(head, IF_NONE_MATCH, &kept)
}

fn is_concerned(head: &RequestHeader, name: &HeaderName) -> bool {
    entity::tags(&head.headers, name).any(|tag| Sent::of(&tag) != Sent::AsItIs)
}

fn write(head: &mut RequestHeader, name: HeaderName, value: &[u8]) -> Result<()> {
    head.remove_header(&name);
    match HeaderValue::from_bytes(value) {
        Ok(value) if !value.is_empty() => head.insert_header(name, value),
        _ => Ok(()),
    }
}

/// Translates the entity tags in the lists of a WebDAV `If` (RFC 4918 section 10.4):
/// `<url> (<lock> ["tag"]) (Not ["tag"])`. Returns `None` if it contains no tag of this server. Lists that become empty
/// are removed, and so are URLs without lists.
fn translate_lists(value: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    let (mut rest, mut changed) = (value, false);
    // The beginning of the current list in `out`, and whether the list has an entry.
    let mut list = None;
    while let [first, ..] = rest {
        let length = match first {
            b'<' => length_of(rest, b'>'),
            b'[' => {
                // A tag may contain a bracket.
                let quoted = rest.get(1..)?.iter().position(|byte| *byte == b'"').map_or(0, |at| at + 2);
                let closed = rest[quoted..].iter().position(|byte| *byte == b'"').map_or(quoted, |at| quoted + at + 1);
                closed + length_of(&rest[closed.min(rest.len())..], b']')
            }
            _ => 1,
        };
        let (token, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        match first {
            b'(' => list = Some((out.len(), false)),
            b'[' => {
                let inner = token.strip_prefix(b"[").map(|inner| inner.strip_suffix(b"]").unwrap_or(inner));
                match inner.and_then(EntityTag::only).map(|tag| Sent::of(&tag)) {
                    Some(Sent::Instead(tag)) => {
                        changed = true;
                        out.extend([b"[", &tag[..], b"]"].concat());
                        list = list.map(|(at, _)| (at, true));
                        continue;
                    }
                    Some(Sent::LeftOut) => {
                        changed = true;
                        let kept = out.trim_ascii_end();
                        let kept = kept.strip_suffix(b"Not").unwrap_or(kept).trim_ascii_end().len();
                        out.truncate(kept);
                        continue;
                    }
                    _ => list = list.map(|(at, _)| (at, true)),
                }
            }
            b'<' => list = list.map(|(at, _)| (at, true)),
            b')' => {
                if let Some((at, false)) = list.take() {
                    out.truncate(at);
                    continue;
                }
            }
            _ => {}
        }
        out.extend_from_slice(token);
    }
    if !changed {
        return None;
    }
    // Without lists the header has no meaning.
    Some(if out.contains(&b'(') { out.trim_ascii().to_vec() } else { Vec::new() })
}

fn length_of(text: &[u8], end: u8) -> usize {
    text.iter().position(|byte| *byte == end).map_or(text.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::model::entity::{Kind, make};
    use crate::model::{Digest, Version};

    fn version() -> Version {
        Version { position: 7, content: Digest::of(b"a"), meaning: Digest::of(b"b") }
    }

    fn bare() -> String {
        String::from_utf8(make(&version(), None)).unwrap()
    }

    fn instead_of(kind: Kind, own: &str) -> String {
        String::from_utf8(make(&version(), Some((kind, own.as_bytes())))).unwrap()
    }

    fn sent(headers: &[(&'static str, &str)]) -> Vec<(String, String)> {
        let mut head = RequestHeader::build(Method::GET, b"/", None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        translate(&mut head).unwrap();
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned());
        head.headers.iter().map(text).collect()
    }

    fn only(name: &'static str, value: &str) -> Option<String> {
        sent(&[(name, value)]).pop().map(|(_, value)| value)
    }

    #[test]
    fn what_is_not_ours_passes_as_it_was_written() {
        for (name, value) in [
            ("if-none-match", "\"a,b\" ,W/\"c\",  \"12-3hPqcTnQm4x0cH2VhGmR6w\""),
            ("if-none-match", "*"),
            ("if-match", "\"a\",\"b-gzip\""),
            ("if-match", "*"),
            ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("if", "<http://a/b> (<urn:uuid:1> [\"a]b\"]) (Not [W/\"c\"])"),
            ("last-event-id", "12"),
        ] {
            assert_eq!(only(name, value).as_deref(), Some(value));
        }
    }

    #[test]
    fn ours_are_left_out_where_the_backend_gave_none() {
        let bare = bare();
        for name in ["if-none-match", "if-match"] {
            assert_eq!(only(name, &bare), None, "{name}");
            assert_eq!(only(name, &format!("W/{bare}")), None, "{name}");
            assert_eq!(only(name, &format!("\"a,b\", {bare} ,W/\"c\"")).as_deref(), Some("\"a,b\", W/\"c\""), "{name}");
            for mark in ["-gzip", "-br", ";gzip"] {
                assert_eq!(only(name, &format!("{}{mark}\"", &bare[..bare.len() - 1])), None, "{name} {mark}");
            }
        }
        assert_eq!(only("last-event-id", &version().to_string()), None);
        // The date of the client's copy is the backend's own.
        let date = ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(sent(&[("if-none-match", &bare), date]).len(), 1);
        assert_eq!(sent(&[("if-none-match", &instead_of(Kind::Sent, "x")), date]).len(), 0);
    }

    #[test]
    fn what_ours_were_made_of_is_what_writes_are_conditional_on() {
        for (kind, own) in [(Kind::Sent, "\"rev,1\""), (Kind::Decoded, "\"rev,1\""), (Kind::Weak, "W/\"rev,1\"")] {
            assert_eq!(only("if-match", &instead_of(kind, "rev,1")).as_deref(), Some(own));
        }
        let both = format!("\"x\", {}", instead_of(Kind::Recoded, "y"));
        assert_eq!(only("if-match", &both).as_deref(), Some("\"x\", \"y\""));
        assert_eq!(only("if-match", "W/\"own~sAAAAAAAAAAA\"").as_deref(), Some("\"own\""));
        assert_eq!(only("if-none-match", "W/\"own~sAAAAAAAAAAA\""), None);
    }

    #[test]
    fn a_part_is_asked_for_only_on_conditions_of_the_backends() {
        assert_eq!(sent(&[("range", "bytes=5-"), ("if-range", &bare())]).len(), 0);
        assert_eq!(sent(&[("range", "bytes=5-"), ("if-range", &instead_of(Kind::Sent, "x"))]).len(), 0);
        assert_eq!(sent(&[("range", "bytes=5-"), ("if-range", "\"x\"")]).len(), 2);
    }

    #[test]
    fn lists_of_webdav_are_translated() {
        let bare = bare();
        let ours = instead_of(Kind::Sent, "a]b");
        for (lists, expected) in [
            (format!("([{bare}])"), None),
            (format!("(Not [{bare}])"), None),
            (format!("<http://a/b> ([{bare}])"), None),
            (format!("(<urn:uuid:1> [{bare}])"), Some("(<urn:uuid:1>)")),
            (format!("(<urn:uuid:1> Not [{bare}])"), Some("(<urn:uuid:1>)")),
            (format!("([{bare}]) ([\"x\"])"), Some("([\"x\"])")),
            (format!("(<urn:uuid:1> [{ours}])"), Some("(<urn:uuid:1> [\"a]b\"])")),
        ] {
            assert_eq!(only("if", &lists).as_deref(), expected, "{lists}");
        }
        // Malformed lists must terminate too.
        for lists in ["[", "[\"", "([\"a", "<", "(", ")", "[]", "([])", "(Not [\"a\""] {
            only("if", lists);
        }
    }
}
