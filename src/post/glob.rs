//! Name patterns in which `*` stands for any text.

/// A name pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// Creates a pattern.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Returns whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let pieces: Vec<&str> = pieces.collect();
        let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
        let mut rest = rest;
        for piece in between {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, matches) in [
            ("get", "get", true),
            ("get", "gets", false),
            ("*", "", true),
            ("*", "anything", true),
            ("torrent-*", "torrent-get", true),
            ("torrent-*", "torrent-", true),
            ("torrent-*", "session-get", false),
            ("*.get_*", "core.get_torrents_status", true),
            ("*.get_*", "core.set_get_", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }
}
