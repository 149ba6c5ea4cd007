//! Values that are chosen by the path of a request: the most specific pattern that matches wins.

use super::Pattern;
use super::path::{decode, is_unambiguous, resolve};

/// One value for most paths, and others for some.
#[derive(Clone, Debug)]
pub struct ByPath<T> {
    general: T,
    /// The most specific pattern first.
    special: Vec<(Pattern, T)>,
}

impl<T> ByPath<T> {
    /// Creates a choice of `general`, and of the `special` values for the paths of their patterns. Among equally
    /// specific patterns the first one wins.
    pub fn new(general: T, mut special: Vec<(Pattern, T)>) -> Self {
        special.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        Self { general, special }
    }

    /// Returns the value for a request of `path`, as it was sent.
    ///
    /// A path that servers read differently has a special value only if it has the same one in all readings. Otherwise
    /// a request for `/public/../private` would reach the application of `/public/**` and be read there as
    /// `/private`.
    pub fn at(&self, path: &str) -> &T {
        if self.special.is_empty() {
            return &self.general;
        }
        let found = self.find(&decode(path));
        if is_unambiguous(path) || found == self.find(&resolve(path)) { self.value(found) } else { &self.general }
    }

    /// Returns the value for most paths.
    pub fn general(&self) -> &T {
        &self.general
    }

    /// Returns the values for some paths, with the patterns in the order in which they are tried.
    pub fn special(&self) -> impl Iterator<Item = (&Pattern, &T)> {
        self.special.iter().map(|(pattern, value)| (pattern, value))
    }

    /// Returns all values, the general one first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.general).chain(self.special.iter().map(|(_, value)| value))
    }

    fn find(&self, decoded: &[u8]) -> Option<usize> {
        self.special.iter().position(|(pattern, _)| pattern.matches_decoded(decoded))
    }

    fn value(&self, found: Option<usize>) -> &T {
        found.and_then(|at| self.special.get(at)).map_or(&self.general, |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(patterns: &[&'static str]) -> ByPath<&'static str> {
        ByPath::new("general", patterns.iter().map(|text| (text.parse().expect(text), *text)).collect())
    }

    #[test]
    fn the_most_specific_pattern_wins_wherever_it_stands() {
        let choice = choice(&["/**", "/api/**", "/api/*", "/api/j*", "/api/jobs", "/api/jobs/**", "/*/status", "/a/"]);
        for (path, expected) in [
            ("/", "/**"),
            ("/apix", "/**"),
            ("/api", "/api/**"),
            ("/api/", "/api/**"),
            ("/api/a/b", "/api/**"),
            ("/api/a", "/api/*"),
            ("/api/joe", "/api/j*"),
            ("/api/jobs", "/api/jobs"),
            ("/api/%6Aobs", "/api/jobs"),
            ("/api/jobs/7/x", "/api/jobs/**"),
            ("/x/status", "/*/status"),
            ("/a/", "/a/"),
            ("/a", "/**"),
        ] {
            assert_eq!(*choice.at(path), expected, "{path}");
        }
        assert_eq!(*self::choice(&["/api/a*", "/api/*a"]).at("/api/aba"), "/api/a*", "the first of equals");
        assert_eq!(*self::choice(&["/api/*a", "/api/a*"]).at("/api/aba"), "/api/*a", "the first of equals");
        assert_eq!(*self::choice(&[]).at("/api/jobs"), "general");
    }

    #[test]
    fn a_path_that_may_lead_elsewhere_goes_where_it_would_without_patterns() {
        let choice = choice(&["/public/**", "/api/v1/**"]);
        for (path, expected) in [
            ("/public/../private", "general"),
            ("/public/%2e%2e/private", "general"),
            ("/public/%2E%2e%2Fprivate", "general"),
            ("/public/%252e%252e/private", "general"),
            ("/public/..;x=1/private", "general"),
            ("/public/..\\private", "general"),
            ("/public/..%5cprivate", "general"),
            ("/public/a/../../private", "general"),
            ("/x/../public/a", "general"),
            ("//public/a", "general"),
            ("/public%2Fa", "/public/**"),
            // All of these stay below the pattern however they are read.
            ("/public/a/../b", "/public/**"),
            ("/public/a%2Fb", "/public/**"),
            ("/public//a", "/public/**"),
            ("/public/a;v=1", "/public/**"),
            ("/public/50%", "/public/**"),
            ("/public/%ff", "/public/**"),
            ("/public/.", "/public/**"),
            ("/api/v1/projects/a%2Fb/issues", "/api/v1/**"),
            ("/api/v1/../v2/a", "general"),
            ("/../../..", "general"),
        ] {
            assert_eq!(*choice.at(path), expected, "{path}");
        }
    }
}
