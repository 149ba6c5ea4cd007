//! Where a snapshot stands in its resource, and what it contains.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// A version: a position in one resource's life in this process, and fingerprints that hold anywhere.
///
/// On the wire, as an SSE `id:` and inside the `ETag`, it is `<position>-<content>` or, where ignore rules or JSON
/// semantics make the meaning differ from the bytes, `<position>-<content>~<meaning>`. Positions begin at 1 and only
/// grow. They say nothing to another process; the fingerprints do, so that a replica, or this one after a restart, can
/// tell a client that it is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The place in the resource's history, from 1.
    pub position: u64,
    /// The fingerprint of status, media type and body: the exact bytes.
    pub content: Digest,
    /// The fingerprint of what is compared, with ignored parts left out.
    pub meaning: Digest,
}

impl Version {
    /// As an entity tag: `"<version>"`, strong (RFC 9110 section 8.8.3).
    pub fn etag(&self) -> String {
        format!("\"{self}\"")
    }

    /// Whether an `If-None-Match` value names this version's exact content, by the weak comparison that
    /// RFC 9110 section 13.1.2 asks for.
    pub fn matches(&self, if_none_match: &str) -> bool {
        entity_tags(if_none_match).any(|tag| tag.parse::<Self>().is_ok_and(|v| v.content == self.content))
    }

    /// Whether an `If-None-Match` value names a version that means the same, though its content may be another.
    pub fn is_no_news_to(&self, if_none_match: &str) -> bool {
        entity_tags(if_none_match).any(|tag| tag.parse::<Self>().is_ok_and(|v| v.meaning == self.meaning))
    }
}

/// The opaque tags of an `If-None-Match` or `ETag` list, weak marks and quotes removed.
fn entity_tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|tag| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
    })
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.content)?;
        if self.meaning != self.content {
            write!(f, "~{}", self.meaning)?;
        }
        Ok(())
    }
}

/// What a client says that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A version.
    Version(Version),
    /// A content, by the [`Digest::short`] form that multiplexed streams use.
    Content(String),
}

impl Claim {
    /// Reads a version, or the short form. `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let short = text.len() == 11 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        text.parse().map(Self::Version).ok().or_else(|| short.then(|| Self::Content(text.to_owned())))
    }

    /// Whether `version` has the content that is claimed.
    pub fn is_content_of(&self, version: &Version) -> bool {
        match self {
            Self::Version(claimed) => claimed.content == version.content,
            Self::Content(short) => version.content.short() == *short,
        }
    }

    /// Whether `version` is the same news as what is claimed, though its bytes may differ.
    pub fn is_meaning_of(&self, version: &Version) -> bool {
        matches!(self, Self::Version(claimed) if claimed.meaning == version.meaning)
    }
}

/// The text is not a version: neither `<position>-<content>` nor `<position>-<content>~<meaning>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: expected <position>-<content>, as an id or ETag of this server")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (position, digests) = text.split_once('-').ok_or(ParseVersionError)?;
        let (content, meaning) = match digests.split_once('~') {
            Some((content, meaning)) => (content, Some(meaning)),
            None => (digests, None),
        };
        let content = Digest::parse(content).ok_or(ParseVersionError)?;
        Ok(Self {
            position: position.parse().map_err(|_| ParseVersionError)?,
            content,
            meaning: match meaning {
                Some(meaning) => Digest::parse(meaning).ok_or(ParseVersionError)?,
                None => content,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(content: &[u8], meaning: &[u8]) -> Version {
        Version { position: 42, content: Digest::of(content), meaning: Digest::of(meaning) }
    }

    #[test]
    fn reads_back_what_it_writes() {
        for v in [version(b"a", b"a"), version(b"a", b"b")] {
            assert_eq!(v.to_string().parse(), Ok(v));
        }
        assert!(!version(b"a", b"a").to_string().contains('~'));
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        for text in [
            "",
            "-",
            "1-",
            "x-AAAAAAAAAAAAAAAAAAAAAA",
            "1-AAAA",
            "1-AAAAAAAAAAAAAAAAAAAAAA~",
            "1\n-AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(text.parse::<Version>(), Err(ParseVersionError), "{text:?}");
        }
    }

    #[test]
    fn matches_lists_of_weak_and_strong_tags_by_content_alone() {
        let v = version(b"a", b"a");
        let later = Version { position: 99, ..v };
        assert!(v.matches(&later.etag()));
        assert!(v.matches(&format!("\"other\", W/{}", v.etag())));
        assert!(!v.matches(&version(b"b", b"a").etag()));
        assert!(!v.matches("*"));
        assert!(version(b"b", b"a").is_no_news_to(&format!("\"x\", {}", version(b"c", b"a").etag())));
        assert!(!version(b"b", b"a").is_no_news_to(&version(b"b", b"c").etag()));
    }
}
