//! Request targets as seen by routes.

use std::borrow::Cow;

/// Returns whether a backend will interpret this path as we do. Servers read dot segments, empty segments, path
/// parameters, backslashes, encoded separators and control characters differently. A path with any of them matches no
/// route, so it is proxied and never shared.
pub fn is_unambiguous(path: &str) -> bool {
    if !path.starts_with('/') || path.contains("//") || path.contains([';', '\\']) {
        return false;
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return false;
    }
    // Some servers accept overlong encodings of dots and slashes.
    if std::str::from_utf8(&decode(path)).is_err() {
        return false;
    }
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| match hex_pair(&bytes[at + 1..]) {
        Some(b'.' | b'/' | b'\\' | b';' | b'%') | None => false,
        Some(byte) => byte >= 0x20 && byte != 0x7f,
    })
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    u8::try_from(digit(bytes.first())? * 16 + digit(bytes.get(1))?).ok()
}

/// Returns `path` with percent-encoding removed (RFC 3986 section 2.1).
pub(super) fn decode(path: &str) -> Cow<'_, [u8]> {
    if !path.contains('%') {
        return Cow::Borrowed(path.as_bytes());
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex_pair(&bytes[at + 1..])) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}

/// Returns `path` as a server sees it that decodes, resolves and merges as much as any server does. A path that is
/// [unambiguous](is_unambiguous) is the same to all of them.
pub(super) fn resolve(path: &str) -> Vec<u8> {
    let mut decoded = decode(path).into_owned();
    // Nothing is gained by decoding a path that is still encoded after this.
    for _ in 0..2 {
        match std::str::from_utf8(&decoded) {
            Ok(text) if text.contains('%') => decoded = decode(text).into_owned(),
            _ => break,
        }
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut is_open = false;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        is_open = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let mut resolved: Vec<u8> = kept.iter().flat_map(|segment| [&b"/"[..], segment]).flatten().copied().collect();
    if is_open {
        resolved.push(b'/');
    }
    resolved
}

/// A request target in origin form (RFC 9112 section 3.2.1), split into path and query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// The path as it was sent.
    pub path: &'a str,
    /// The query as it was sent, without the question mark.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Splits `text`. Returns `None` if it is not in origin form.
    pub fn parse(text: &'a str) -> Option<Self> {
        if !text.starts_with('/') || text.contains('#') {
            return None;
        }
        Some(match text.split_once('?') {
            Some((path, query)) => Self { path, query: Some(query) },
            None => Self { path: text, query: None },
        })
    }

    /// Returns the first query parameter called `name`, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).next()
    }

    /// Returns all query parameters called `name`, in order, decoded.
    pub fn parameters(&self, name: &str) -> impl Iterator<Item = String> {
        self.query.unwrap_or_default().split('&').filter_map(move |parameter| {
            let (found, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (found == name).then(|| String::from_utf8_lossy(&decode(&value.replace('+', " "))).into_owned())
        })
    }

    /// Returns path and query as the backend sees them in fetches: without the parameters in `ignored`, where `#` in a
    /// name stands for digits.
    pub fn canonical(&self, ignored: &[String]) -> String {
        let kept = self.query.map(|query| {
            let kept: Vec<&str> = query
                .split('&')
                .filter(|parameter| {
                    let name = parameter.split('=').next().unwrap_or_default();
                    !ignored.iter().any(|ignored| is_called(name, ignored))
                })
                .collect();
            kept.join("&")
        });
        match kept {
            Some(query) if !query.is_empty() => format!("{}?{query}", self.path),
            _ => self.path.to_owned(),
        }
    }
}

/// Returns whether `pattern`, in which `#` stands for one digit or more, matches the parameter `name`. The query of a
/// request cannot contain that character.
fn is_called(name: &str, pattern: &str) -> bool {
    let Some((before, behind)) = pattern.split_once('#') else { return name == pattern };
    let Some(rest) = name.strip_prefix(before) else { return false };
    let other = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    other.len() < rest.len() && is_called(other, behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_servers_read_differently_are_not_plain() {
        for path in ["/", "/a/b", "/a.b", "/caf%C3%A9", "/a%20b", "/..a", "/a..", "/...", "/%61pi"] {
            assert!(is_unambiguous(path), "{path}");
        }
        for path in [
            "",
            "a",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/%2e%2e/a",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a;v=1",
            "/a%3Bv",
            "/a%00",
            "/a%0a",
            "/a%",
            "/a%4",
            "/a%zz",
            "/%252e",
            "/a%c0%ae%c0%ae/b",
            "/a%ff",
            "/a%u002e",
        ] {
            assert!(!is_unambiguous(path), "{path}");
        }
    }

    #[test]
    fn ignored_parameters_go_and_the_rest_stays_as_it_is() {
        let ignored = ["_".to_owned()];
        for (target, canonical) in [
            ("/a", "/a"),
            ("/a?", "/a"),
            ("/a?_=1", "/a"),
            ("/a?b=%20&_=1&a", "/a?b=%20&a"),
            ("/a?_x=1", "/a?_x=1"),
            ("/a?b=1?_=2", "/a?b=1?_=2"),
        ] {
            assert_eq!(
                Target::parse(target).map(|target| target.canonical(&ignored)).as_deref(),
                Some(canonical),
                "{target}"
            );
        }
        let ignored = ["#".to_owned(), "t#x".to_owned()];
        for (target, canonical) in [
            ("/a?1795324069242", "/a"),
            ("/a?content=0&1795324069242", "/a?content=0"),
            ("/a?t17x=1&t17=1&tx=1&17x", "/a?t17=1&tx=1&17x"),
            ("/a?&b", "/a?&b"),
        ] {
            assert_eq!(
                Target::parse(target).map(|target| target.canonical(&ignored)).as_deref(),
                Some(canonical),
                "{target}"
            );
        }
        assert_eq!(Target::parse("http://x/"), None);
        assert_eq!(Target::parse("/a#b"), None);
    }
}
