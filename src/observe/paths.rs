//! Derives patterns from paths: identifiers in a path become `*`.

use std::collections::{HashMap, HashSet};

/// The maximum number of segments; longer paths are counted as one.
const MAX_SEGMENTS: usize = 12;

/// The maximum length of a name; longer segments are identifiers or texts.
const MAX_SEGMENT: usize = 40;

/// The maximum number of names at one position; with more, the names are data.
const MAX_NAMES: usize = 24;

/// The maximum number of positions.
const MAX_PLACES: usize = 1024;

/// The known paths of the site.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    /// The names seen after a prefix of a path.
    names: HashMap<String, HashSet<String>>,
}

impl Paths {
    /// Returns the pattern of `path` in the syntax of routes. Returns `None` if no route can match the path.
    pub(super) fn pattern(&mut self, path: &str) -> Option<String> {
        let rest = path.strip_prefix('/')?;
        let segments: Vec<&str> = rest.split('/').collect();
        let last = segments.len() - 1;
        let odd = |(at, segment): (usize, &&str)| matches!(*segment, "." | "..") || (segment.is_empty() && at != last);
        if segments.len() > MAX_SEGMENTS || path.contains(['\\', ';']) || segments.iter().enumerate().any(odd) {
            return None;
        }
        let mut pattern = String::new();
        for segment in segments {
            pattern.push('/');
            let name = shape(segment);
            let literal = !name.contains('*') && self.is_name(&pattern, &name);
            pattern.push_str(if literal || name.contains('*') { &name } else { "*" });
        }
        Some(pattern)
    }

    /// Returns whether `name` is one of few after `before`.
    fn is_name(&mut self, before: &str, name: &str) -> bool {
        if !self.names.contains_key(before) && self.names.len() >= MAX_PLACES {
            return false;
        }
        let names = self.names.entry(before.to_owned()).or_default();
        if names.contains(name) {
            return true;
        }
        if names.len() < MAX_NAMES {
            names.insert(name.to_owned());
        }
        names.contains(name)
    }

    pub(super) fn len(&self) -> usize {
        self.names.values().map(HashSet::len).sum()
    }
}

/// Returns `segment` with its identifiers replaced.
fn shape(segment: &str) -> String {
    let (stem, ending) = match segment.rsplit_once('.') {
        Some((stem, ending))
            if is_plain(stem)
                && !stem.is_empty()
                && (1..=5).contains(&ending.len())
                && ending.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
        {
            (stem, Some(ending))
        }
        _ => (segment, None),
    };
    match (is_identifier(stem), ending) {
        (false, _) => segment.to_owned(),
        (true, Some(ending)) => format!("*.{ending}"),
        (true, None) => "*".to_owned(),
    }
}

/// Returns whether a segment, without its extension, identifies one object of many.
fn is_identifier(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-' || byte == b'_');
    // Names have a consistent spelling; a mix of upper case, lower case and digits is random.
    let is_mixed = digits > 0
        && text.bytes().any(|byte| byte.is_ascii_uppercase())
        && text.bytes().any(|byte| byte.is_ascii_lowercase());
    !is_plain(text)
        || (is_mixed && text.len() >= 12)
        || text.len() > MAX_SEGMENT
        || (digits > 0 && letters == 0)
        || (digits > 0 && is_hexadecimal && text.len() >= 8)
        || (digits >= 4 && digits * 2 >= text.len())
        || (text.len() >= 20 && digits >= 3 && !text.contains(['-', '_', '.']))
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_become_stars_and_names_stay() {
        let mut paths = Paths::default();
        for (path, pattern) in [
            ("/", "/"),
            ("/api/v2/jobs", "/api/v2/jobs"),
            ("/jobs/17", "/jobs/*"),
            ("/jobs/17.json", "/jobs/*.json"),
            ("/jobs/2026-11-28/log", "/jobs/*/log"),
            ("/u/8f14e45f-ceea-467a-9575-2b3f0a1c7e11/feed/", "/u/*/feed/"),
            ("/caf%C3%A9/list", "/*/list"),
            ("/u/bob@example.org", "/u/*"),
            ("/a*b", "/*"),
            ("/index.php", "/index.php"),
            ("/status.json", "/status.json"),
            ("/x/ABCDEFGHIJ0123456789klm", "/x/*"),
            ("/s3/h2c/es6", "/s3/h2c/es6"),
            ("/confirm/eyJh-GciOi_J9x", "/confirm/*"),
            ("/wiki/release-notes-2026-11", "/wiki/release-notes-2026-11"),
        ] {
            assert_eq!(paths.pattern(path).as_deref(), Some(pattern), "{path}");
        }
        for path in ["", "x", "*", "/a//b", "/a/../b", "/a;b/c", "/\\x", &"/a".repeat(30)] {
            assert_eq!(paths.pattern(path), None, "{path}");
        }
    }

    #[test]
    fn where_many_names_stand_they_are_data() {
        let mut paths = Paths::default();
        let letters = |n: u32| {
            format!(
                "/wiki/{}",
                "abcdefghij".repeat(2).chars().skip((n % 9) as usize).take(9).collect::<String>()
                    + &"z".repeat((n / 9) as usize % 20)
            )
        };
        let found: HashSet<_> = (0..500).filter_map(|n| paths.pattern(&letters(n))).collect();
        assert!(found.len() <= MAX_NAMES + 1 && found.contains("/wiki/*"), "{found:?}");
        assert!(paths.len() <= MAX_NAMES + 1);
    }
}
