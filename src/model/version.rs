//! Versions: the position of a snapshot in its resource, and fingerprints of its content.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// A version: a position that is valid for one resource in this process, and fingerprints that are valid anywhere.
///
/// On the wire, as an SSE `id:` and inside an `ETag`, it is `<position>-<content>~` or, where ignore rules or JSON
/// semantics make the meaning differ from the bytes, `<position>-<content>~<meaning>`. Base64 hashes contain no `~`, so
/// it keeps entity tags of some applications from looking like versions. Positions begin at 1 and only grow. They mean
/// nothing to another process, but the fingerprints do: a replica, or this process after a restart, can tell a client
/// that its state is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The position in the resource's history, from 1.
    pub position: u64,
    /// The fingerprint of status, media type and body: the exact bytes.
    pub content: Digest,
    /// The fingerprint of the compared part, with ignored parts left out.
    pub meaning: Digest,
}

impl Version {
    /// Reads the version at the beginning of `text`. Also returns whether it is marked as one, and the text after it.
    pub fn read(text: &str) -> Option<(Self, bool, &str)> {
        let (position, rest) = text.split_once('-')?;
        let is_number = !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_digit());
        let position = is_number.then(|| position.parse().ok()).flatten()?;
        let content = Digest::parse(rest.get(..LENGTH)?)?;
        let rest = &rest[LENGTH..];
        let Some(marked) = rest.strip_prefix('~') else {
            return Some((Self { position, content, meaning: content }, false, rest));
        };
        match marked.get(..LENGTH).and_then(Digest::parse) {
            Some(meaning) => Some((Self { position, content, meaning }, true, &marked[LENGTH..])),
            None => Some((Self { position, content, meaning: content }, true, marked)),
        }
    }
}

/// The length of a fingerprint in characters.
const LENGTH: usize = 22;

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}~", self.position, self.content)?;
        if self.meaning != self.content {
            write!(f, "{}", self.meaning)?;
        }
        Ok(())
    }
}

/// The state that a client says it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// A version.
    Version(Version),
    /// A content, in the [`Digest::short`] form that multiplexed streams use.
    Content(String),
}

impl ResumeFrom {
    /// Parses a version or the short form. Returns `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let short = text.len() == 11 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        text.parse().map(Self::Version).ok().or_else(|| short.then(|| Self::Content(text.to_owned())))
    }

    /// Returns whether `version` has the same content.
    pub fn matches_content(&self, version: &Version) -> bool {
        match self {
            Self::Version(claimed) => claimed.content == version.content,
            Self::Content(short) => version.content.short() == *short,
        }
    }

    /// Returns whether `version` has the same meaning, though its bytes may differ.
    pub fn matches_meaning(&self, version: &Version) -> bool {
        matches!(self, Self::Version(claimed) if claimed.meaning == version.meaning)
    }
}

/// The text is not a version: neither `<position>-<content>~` nor `<position>-<content>~<meaning>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: expected <position>-<content>~, as an id or ETag of this server")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A version without its mark is accepted too.
        Self::read(text).filter(|(.., rest)| rest.is_empty()).map(|(version, ..)| version).ok_or(ParseVersionError)
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
        assert!(version(b"a", b"a").to_string().ends_with('~'));
        assert_eq!(version(b"a", b"a").to_string().trim_end_matches('~').parse(), Ok(version(b"a", b"a")));
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        for text in [
            "",
            "-",
            "1-",
            "x-AAAAAAAAAAAAAAAAAAAAAA",
            "1-AAAA",
            "1-AAAAAAAAAAAAAAAAAAAAAA~A",
            "+1-AAAAAAAAAAAAAAAAAAAAAA~",
            "1\n-AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(text.parse::<Version>(), Err(ParseVersionError), "{text:?}");
        }
    }
}
