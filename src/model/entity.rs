//! Entity tags (RFC 9110 section 8.8.3): one parser for all lists of them, and the tags that this server creates.
//!
//! ```text
//! "x"                        the upstream's own
//! "<version>"                ours, where the upstream gave none
//! "<version>+<kind><x>"      ours, where it gave "x", which does not name this state, or not these bytes, alone
//! ```

use http::HeaderMap;
use http::header::HeaderName;

use super::Version;

/// A member of a list of entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Whether the tag is weak.
    pub weak: bool,
    /// The text between the quotes. Some clients omit the quotes; the bare text counts as the same.
    pub opaque: &'a [u8],
    /// The whole tag as it was sent.
    pub raw: &'a [u8],
}

/// The prefix of a tag of this server in front of the upstream's tag. It says which form of the body the tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body as the upstream sent it.
    Sent,
    /// The body without the upstream's content coding.
    Decoded,
    /// The body in a content coding of ours.
    Recoded,
    /// Any of them: the upstream's tag is weak.
    Weak,
}

/// A tag created by this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The state that the tag names.
    pub version: Version,
    /// The upstream's tag for that state; `None` if the upstream sent none.
    pub original: Option<Vec<u8>>,
}

/// The content codings that compressing intermediaries append to the tags of compressed responses.
const CODINGS: [&[u8]; 9] = [b"gzip", b"x-gzip", b"br", b"zstd", b"deflate", b"compress", b"dcb", b"dcz", b"df"];

impl Kind {
    const ALL: [(Self, u8); 4] = [(Self::Sent, b'c'), (Self::Decoded, b's'), (Self::Recoded, b'g'), (Self::Weak, b'w')];

    fn letter(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(b'c', |(_, letter)| *letter)
    }
}

impl<'a> EntityTag<'a> {
    /// Returns the only tag in `value`; `None` if there is none or more than one.
    pub fn only(value: &'a [u8]) -> Option<Self> {
        let mut tags = read(value);
        tags.next().filter(|_| tags.next().is_none())
    }

    /// Returns whether this tag equals `own` by the weak comparison (RFC 9110 section 8.8.3.2). An intermediary may
    /// have appended the content coding that it applied.
    pub fn names(&self, own: &[u8]) -> bool {
        self.opaque == own || self.opaque.strip_prefix(own).is_some_and(is_mark_of_coding)
    }

    /// Returns the version that the tag names, whether it is marked as one, and the text after it.
    fn version_and_rest(&self) -> Option<(Version, bool, &'a [u8])> {
        // The upstream's tag may contain any byte.
        let ascii = self.opaque.iter().position(|byte| !byte.is_ascii()).unwrap_or(self.opaque.len());
        let (version, marked, rest) = Version::read(std::str::from_utf8(&self.opaque[..ascii]).ok()?)?;
        Some((version, marked, &self.opaque[ascii - rest.len()..]))
    }

    /// Returns the version that the tag names, as an `id:` or as a tag of this server.
    pub fn version(&self) -> Option<Version> {
        let (version, marked, rest) = self.version_and_rest()?;
        (rest.is_empty() || is_mark_of_coding(rest) || marked && rest[0] == b'+').then_some(version)
    }

    /// Splits the tag into its parts if this server created it.
    pub fn made(&self) -> Option<Made> {
        let (version, true, rest) = self.version_and_rest()? else { return None };
        match rest {
            [b'+', letter, own @ ..] => {
                let (kind, _) = Kind::ALL.into_iter().find(|(_, known)| known == letter)?;
                let weak: &[u8] = if self.weak || kind == Kind::Weak { b"W/" } else { b"" };
                Some(Made { version, original: Some([weak, b"\"", own, b"\""].concat()) })
            }
            rest if rest.is_empty() || is_mark_of_coding(rest) => Some(Made { version, original: None }),
            _ => None,
        }
    }
}

/// Creates the tag of a state. `instead` is the upstream's tag if the upstream sent one that does not name the state
/// alone.
pub fn make(version: &Version, instead: Option<(Kind, &[u8])>) -> Vec<u8> {
    let version = version.to_string();
    match instead {
        None => format!("\"{version}\"").into_bytes(),
        Some((kind, own)) => {
            let weak: &[u8] = if kind == Kind::Weak { b"W/" } else { b"" };
            [weak, b"\"", version.as_bytes(), b"+", &[kind.letter()], own, b"\""].concat()
        }
    }
}

/// Returns the tags of a list field, over all its lines.
pub fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = EntityTag<'a>> {
    headers.get_all(name).iter().flat_map(|line| read(line.as_bytes()))
}

/// Returns the tags of one line. A comma between quotes is part of a tag (RFC 9110 section 8.8.3).
pub fn read(list: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|byte| !is_between(*byte))?;
        rest = &rest[begin..];
        let weak = rest.starts_with(b"W/") || rest.starts_with(b"w/");
        let value = if weak { &rest[2..] } else { rest };
        let (opaque, length) = match value {
            [b'"', quoted @ ..] => match quoted.iter().position(|byte| *byte == b'"') {
                Some(end) => (&quoted[..end], end + 2),
                None => (quoted, value.len()),
            },
            _ => {
                let end = value.iter().position(|byte| is_between(*byte)).unwrap_or(value.len());
                (&value[..end], end)
            }
        };
        let (raw, behind) = rest.split_at(length + if weak { 2 } else { 0 });
        rest = behind;
        Some(EntityTag { weak, opaque, raw })
    })
}

fn is_between(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t')
}

/// Returns whether `text`, the rest of a tag, says that an intermediary compressed the response: `-gzip`, `--gzip`,
/// `;br`, …
pub fn is_mark_of_coding(text: &[u8]) -> bool {
    let marks = text.iter().take_while(|byte| b"-;:.+_".contains(byte)).count();
    (1..=2).contains(&marks) && CODINGS.iter().any(|coding| text[marks..].eq_ignore_ascii_case(coding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn version() -> Version {
        Version { position: 42, content: Digest::of(b"a"), meaning: Digest::of(b"a") }
    }

    fn opaque(list: &str) -> Vec<String> {
        read(list.as_bytes()).map(|tag| String::from_utf8_lossy(tag.opaque).into_owned()).collect()
    }

    #[test]
    fn commas_between_quotes_divide_nothing() {
        for (list, tags) in [
            ("\"a\"", &["a"][..]),
            ("\"rev,1\"", &["rev,1"]),
            ("W/\"rev,1\" , \"x\"", &["rev,1", "x"]),
            (" ,, \"a\",w/\"b\"\t,", &["a", "b"]),
            ("\"\"", &[""]),
            ("\"a b\"", &["a b"]),
            ("abc, W/def", &["abc", "def"]),
            ("*", &["*"]),
            ("", &[]),
            ("W/", &[""]),
            ("\"never closed, \"", &["never closed, "]),
            ("\"open, and more", &["open, and more"]),
        ] {
            assert_eq!(opaque(list), tags, "{list}");
        }
        // The pieces of a malformed list do not count as tags.
        assert!(!opaque("\"a,\"plain\",b\"").contains(&"plain".to_owned()));
        let raw: Vec<&[u8]> = read(b"W/\"a,b\", c").map(|tag| tag.raw).collect();
        assert_eq!(raw, [&b"W/\"a,b\""[..], b"c"]);
    }

    #[test]
    fn marks_of_codings_make_no_other_tag() {
        for mark in ["", "-gzip", "--gzip", ";gzip", ":gzip", "-br", "-zstd", "-deflate", "-GZIP", ";x-gzip"] {
            let list = format!("W/\"plain{mark}\"");
            assert!(read(list.as_bytes()).all(|tag| tag.names(b"plain")), "{mark}");
            let ours = format!("\"{}{mark}\"", version());
            let tag = EntityTag::only(ours.as_bytes()).unwrap();
            assert_eq!(tag.made(), Some(Made { version: version(), original: None }), "{mark}");
            assert_eq!(tag.version(), Some(version()), "{mark}");
        }
        for other in ["\"plain-2\"", "\"plain-\"", "\"plaingzip\"", "\"plain---gzip\"", "\"x-plain\""] {
            assert!(read(other.as_bytes()).all(|tag| !tag.names(b"plain")), "{other}");
        }
    }

    #[test]
    fn a_tag_of_ours_gives_the_upstreams_own_back() {
        for own in [&b"x"[..], b"a,b", b"", b"rev-1-gzip", "j\u{fc}".as_bytes(), b"+g\\"] {
            for (kind, weak, back) in [
                (Kind::Sent, false, [b"\"", own, b"\""].concat()),
                (Kind::Decoded, true, [b"W/\"", own, b"\""].concat()),
                (Kind::Recoded, false, [b"\"", own, b"\""].concat()),
                (Kind::Weak, false, [b"W/\"", own, b"\""].concat()),
            ] {
                let tag = make(&version(), Some((kind, own)));
                let tag = if weak { [b"W/", &tag[..]].concat() } else { tag };
                let made = EntityTag::only(&tag).unwrap().made().unwrap();
                assert_eq!((made.version, made.original), (version(), Some(back)), "{kind:?} {own:?}");
            }
        }
        assert_eq!(EntityTag::only(&make(&version(), None)).unwrap().made().unwrap().original, None);
    }

    /// Express once built its tags from a length and an MD5 in base64.
    #[test]
    fn what_looks_like_a_version_by_chance_is_the_upstreams_own() {
        for own in
            ["\"12-3hPqcTnQm4x0cH2VhGmR6w\"", "W/\"1-3hPqcTnQm4x0cH2VhGmR6w-gzip\"", "\"1-2\"", "\"~\"", "\"1-2~+sx\""]
        {
            assert_eq!(EntityTag::only(own.as_bytes()).unwrap().made(), None, "{own}");
        }
    }
}
