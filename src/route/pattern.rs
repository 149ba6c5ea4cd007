//! Path patterns: `*` matches one segment or a part of one, `**` any number of further segments.

use std::fmt;
use std::str::FromStr;

use super::path::decode;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
    /// Whether it ends in `**`.
    rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Vec<u8>),
    /// The literal text before, between and after stars.
    Stars(Vec<Vec<u8>>),
}

/// The text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePatternError {
    /// It does not begin with a slash.
    #[error("a path begins with \"/\": write \"/{0}\"")]
    NoSlash(String),
    /// `**` is not the complete last segment.
    #[error("\"**\" stands for any rest, so it can only be the last segment, alone")]
    RestNotLast,
    /// It contains something that no matching request path contains.
    #[error("a path that can be matched has no query, no fragment, no empty segment and no \".\" or \"..\" segment")]
    NeverMatches,
}

impl Pattern {
    /// Returns whether `path`, as sent, matches. The caller has checked that the path is unambiguous.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_decoded(&decode(path))
    }

    /// The same for a path without percent-encoding.
    pub(super) fn matches_decoded(&self, decoded: &[u8]) -> bool {
        let mut given = decoded.strip_prefix(b"/").unwrap_or(decoded).split(|byte| *byte == b'/');
        for segment in &self.segments {
            match given.next() {
                Some(given) if segment.matches(given) => {}
                _ => return false,
            }
        }
        // "/a/**" matches "/a", "/a/" and everything below.
        self.rest || given.next().is_none()
    }

    /// Returns whether this pattern matches every path that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        let enough = if self.rest {
            other.segments.len() >= self.segments.len()
        } else {
            !other.rest && other.segments.len() == self.segments.len()
        };
        enough && self.segments.iter().zip(&other.segments).all(|(own, other)| own.covers(other))
    }

    /// Returns whether every path matches.
    pub fn covers_everything(&self) -> bool {
        self.rest && self.segments.is_empty()
    }

    /// Returns whether some path may match both patterns. Where both have stars in one segment, it is assumed so.
    pub fn overlaps(&self, other: &Self) -> bool {
        let reaches = |one: &Self, other: &Self| one.rest || one.segments.len() >= other.segments.len();
        reaches(self, other)
            && reaches(other, self)
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(one), Segment::Literal(other)) => one == other,
                (Segment::Literal(text), stars) | (stars, Segment::Literal(text)) => stars.matches(text),
                (Segment::Stars(_), Segment::Stars(_)) => true,
            })
    }

    /// Returns how specific the pattern is: the greater, the fewer paths are meant. More segments count first, then an
    /// end other than `**`, then more literal text.
    pub(super) fn specificity(&self) -> (usize, bool, usize) {
        let literal = |segment: &Segment| match segment {
            Segment::Literal(text) => text.len(),
            Segment::Stars(parts) => parts.iter().map(Vec::len).sum(),
        };
        let whole = |segment: &&Segment| matches!(segment, Segment::Literal(_));
        // A segment without a star is worth more than any text around one.
        let text = self.segments.iter().map(literal).sum::<usize>();
        let exact = self.segments.iter().filter(whole).count();
        (self.segments.len(), !self.rest, exact << 16 | text)
    }

    /// Returns the pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Represents any text that a star of another pattern may match. No path that matches a route contains it.
const ANYTHING: &[u8] = b"\0";

impl Segment {
    /// Returns whether this segment matches everything that `other` matches. Only a star matches the placeholder for
    /// any text.
    fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Literal(text) => self.matches(text),
            Self::Stars(parts) => matches!(self, Self::Stars(_)) && self.matches(&parts.join(ANYTHING)),
        }
    }

    fn matches(&self, given: &[u8]) -> bool {
        match self {
            Self::Literal(text) => text == given,
            Self::Stars(parts) => {
                let [first, middle @ .., last] = parts.as_slice() else { return false };
                let Some(mut rest) = given.strip_prefix(first.as_slice()) else { return false };
                for part in middle {
                    match rest.windows(part.len().max(1)).position(|window| window == part.as_slice()) {
                        Some(at) => rest = &rest[at + part.len()..],
                        None => return false,
                    }
                }
                // A star that is the complete segment matches at least one character.
                rest.ends_with(last) && !given.is_empty()
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(ParsePatternError::NoSlash(text.to_owned()));
        };
        if text.contains(['?', '#', '\\', ';']) {
            return Err(ParsePatternError::NeverMatches);
        }
        let mut parts: Vec<&str> = path.split('/').collect();
        let rest = parts.last() == Some(&"**");
        if rest {
            parts.pop();
        }
        if parts.iter().any(|part| part.contains("**")) {
            return Err(ParsePatternError::RestNotLast);
        }
        let last = parts.len().saturating_sub(1);
        if parts
            .iter()
            .enumerate()
            .any(|(at, part)| matches!(*part, "." | "..") || (part.is_empty() && (rest || at != last)))
        {
            return Err(ParsePatternError::NeverMatches);
        }
        let segments = parts
            .into_iter()
            .map(|part| {
                if part.contains('*') {
                    Segment::Stars(part.split('*').map(|part| decode(part).into_owned()).collect())
                } else {
                    Segment::Literal(decode(part).into_owned())
                }
            })
            .collect();
        Ok(Self { text: text.to_owned(), segments, rest })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A method, or `*` for every unsafe method, and a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritePattern {
    method: Option<http::Method>,
    path: Pattern,
}

/// The text is not `METHOD /path`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseWritePatternError {
    /// There are not two words.
    #[error("write a method, or \"*\" for any, and a path: \"POST /api/**\"")]
    Form,
    /// The first word is not a method in capitals.
    #[error("{0:?} is no method: methods are written in capitals, \"*\" is any that changes something")]
    Method(String),
    /// The second word is not a pattern.
    #[error(transparent)]
    Path(#[from] ParsePatternError),
}

impl WritePattern {
    /// Returns whether it matches every unsafe request, like the default.
    pub fn is_general(&self) -> bool {
        self.method.is_none() && self.path.covers_everything()
    }

    /// Returns whether it matches a request with this method and path. `*` matches every method that is not safe (RFC
    /// 9110 section 9.2.1).
    pub fn matches(&self, method: &http::Method, path: &str) -> bool {
        self.method.as_ref().map_or(!method.is_safe(), |own| own == method) && self.path.matches(path)
    }
}

impl FromStr for WritePattern {
    type Err = ParseWritePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, path) = text.split_once(' ').ok_or(ParseWritePatternError::Form)?;
        let method = match method {
            "*" => None,
            other if other.chars().any(|c| c.is_ascii_lowercase()) => {
                return Err(ParseWritePatternError::Method(other.to_owned()));
            }
            other => Some(other.parse().map_err(|_| ParseWritePatternError::Method(other.to_owned()))?),
        };
        Ok(Self { method, path: path.trim().parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_are_any_rest() {
        for (pattern, yes, no) in [
            ("/", vec!["/"], vec!["/a"]),
            ("/**", vec!["/", "/a", "/a/b/"], vec![]),
            (
                "/api/messages",
                vec!["/api/messages", "/%61pi/messages"],
                vec!["/api/messages/", "/api", "/API/messages"],
            ),
            ("/api/*", vec!["/api/a"], vec!["/api/", "/api", "/api/a/b"]),
            ("/api/**", vec!["/api", "/api/", "/api/a/b"], vec!["/apix"]),
            (
                "/*/data/*.json",
                vec!["/0/data/queues.json", "/a/data/.json"],
                vec!["/0/data/queues.xml", "/0/data/a/b.json"],
            ),
            ("/a*b*c", vec!["/abc", "/axbyc", "/abbcc"], vec!["/ab", "/acb"]),
            ("/a/", vec!["/a/"], vec!["/a"]),
            ("/caf%C3%A9", vec!["/café", "/caf%c3%a9"], vec!["/cafe"]),
        ] {
            let compiled: Pattern = pattern.parse().expect(pattern);
            for path in yes {
                assert!(compiled.matches(path), "{pattern} should take {path}");
            }
            for path in no {
                assert!(!compiled.matches(path), "{pattern} should not take {path}");
            }
        }
    }

    #[test]
    fn a_pattern_covers_those_whose_every_path_it_takes() {
        for (wide, narrow) in [
            ("/**", "/"),
            ("/**", "/a/b"),
            ("/**", "/a/**"),
            ("/**", "/**"),
            ("/api/**", "/api"),
            ("/api/**", "/api/*/x"),
            ("/api/*", "/api/jobs"),
            ("/api/*", "/api/j*"),
            ("/api/*", "/api/*"),
            ("/api/j*", "/api/jo*s"),
            ("/*/b", "/a*/b"),
            ("/api/jobs", "/%61pi/jobs"),
        ] {
            let [wide, narrow] = [wide, narrow].map(|text| text.parse::<Pattern>().expect(text));
            assert!(wide.covers(&narrow), "{wide} {narrow}");
        }
        for (one, other) in [
            ("/api/jobs", "/api/*"),
            ("/api/*", "/api/**"),
            ("/api/*", "/api/"),
            ("/api/*", "/api/a/b"),
            ("/api/**", "/**"),
            ("/a/*/**", "/a/**"),
            ("/api/j*", "/api/*j"),
            ("/api/j*s", "/api/j*"),
            ("/a", "/b"),
        ] {
            let [one, other] = [one, other].map(|text| text.parse::<Pattern>().expect(text));
            assert!(!one.covers(&other), "{one} {other}");
        }
    }

    #[test]
    fn patterns_that_can_never_match_are_refused() {
        assert_eq!("api".parse::<Pattern>(), Err(ParsePatternError::NoSlash("api".into())));
        for text in ["/**/a", "/a**", "/**/**"] {
            assert_eq!(text.parse::<Pattern>(), Err(ParsePatternError::RestNotLast), "{text}");
        }
        for text in ["/a?b", "/a//b", "/./a", "/a/..", "//", "/a;b", "/a//**"] {
            assert_eq!(text.parse::<Pattern>(), Err(ParsePatternError::NeverMatches), "{text}");
        }
    }
}
