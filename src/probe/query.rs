//! Detects cache-busting query parameters: by their names, or by comparing two URLs of one poll.

use super::caching_findings::{cache_buster, cursor};
use super::{AnonymousResult, Facts};

/// A parameter that differs between two URLs of one poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varying {
    /// The name for `ignore_query`, where `#` stands for digits. `None`: no name covers it in both URLs.
    pub name: Option<String>,
    /// The text for display.
    pub shown: String,
    /// The query of the first URL without it.
    pub rest: String,
    /// The application's response without it, if tested.
    pub trial: Option<AnonymousResult>,
}

/// The maximum number of tested parameters.
const MAX_VARYING: usize = 8;

/// Returns the parameters that differ between `one` query and `other`.
pub fn varying(one: Option<&str>, other: Option<&str>) -> Vec<Varying> {
    let (one, other) = (parameters(one), parameters(other));
    let changed: Vec<&str> = one.iter().filter(|text| !other.contains(text)).copied().collect();
    let new: Vec<&str> = other.iter().filter(|text| !one.contains(text)).copied().collect();
    let mut found: Vec<Varying> = Vec::new();
    for text in changed.iter().chain(&new) {
        let name = name(text);
        // A parameter without a name is identified by its shape, which must occur in both URLs.
        let is_named = !is_bare(text) || [&changed, &new].iter().all(|side| side.iter().any(|t| self::name(t) == name));
        let rest: Vec<&str> = one.iter().filter(|text| self::name(text) != name).copied().collect();
        if found.len() < MAX_VARYING && !found.iter().any(|known| known.shown == name) {
            let ignored = (is_named && !name.is_empty()).then(|| name.clone());
            found.push(Varying { name: ignored, shown: name, rest: rest.join("&"), trial: None });
        }
    }
    found
}

fn parameters(query: Option<&str>) -> Vec<&str> {
    query.unwrap_or_default().split('&').filter(|text| !text.is_empty()).collect()
}

/// Returns whether the parameter is only a number without a name.
fn is_bare(text: &str) -> bool {
    text.split_once('=').is_none_or(|(_, value)| value.is_empty()) && text.contains(|c: char| c.is_ascii_digit())
}

/// Returns the name of a parameter for `ignore_query`.
fn name(text: &str) -> String {
    let name = text.split('=').next().unwrap_or_default();
    if !is_bare(text) {
        return name.to_owned();
    }
    let mut shape = String::new();
    for c in name.chars() {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            c => shape.push(c),
        }
    }
    shape
}

/// The findings about the query.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Cache-busting parameters, as named in `ignore_query`.
    pub(super) busters: Vec<String>,
    /// A parameter that holds the client's position.
    pub(super) cursor: Option<String>,
    /// Whether the cache-busting parameters were found by testing.
    pub(super) tried: bool,
    /// Further remarks.
    pub(super) open: Vec<String>,
    /// The rest of the query.
    pub(super) rest: String,
}

impl Verdict {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let all = parameters(facts.query);
        let plain = |text: &&str| text.split('=').next().unwrap_or_default().to_owned();
        let mut verdict = Self { cursor: all.iter().map(plain).find(|name| cursor(name)), ..Self::default() };
        match facts.varying {
            Some(varying) => verdict.take(varying),
            None => {
                let found = all.iter().filter(|text| {
                    let (name, value) =
                        text.split_once('=').map_or((**text, None), |(name, value)| (name, Some(value)));
                    cache_buster(name, value)
                });
                verdict.busters = found.map(|text| name(text)).collect();
            }
        }
        // Parameters that are ignored by default come first.
        verdict.busters.sort_by_key(|name| (name != "_", name.clone()));
        verdict.busters.dedup();
        let ignored = |text: &&&str| verdict.busters.contains(&name(text)) || plain(text) == "_";
        let rest: Vec<&str> = all.iter().filter(|text| !ignored(text)).copied().collect();
        verdict.rest = rest.join("&");
        verdict
    }

    fn take(&mut self, varying: &[Varying]) {
        self.tried = true;
        for Varying { name, shown, trial, .. } in varying {
            let (said, name) = match (trial, name) {
                _ if cursor(shown) => continue,
                (Some(AnonymousResult::Same), Some(name)) => ("", name),
                (Some(AnonymousResult::Same), None) => ("no pattern of ignore_query covers it in both", shown),
                (Some(AnonymousResult::Other), _) => {
                    ("without it the answer is another one, so it stays a part of the URL", shown)
                }
                (Some(AnonymousResult::Refused(_)), _) => {
                    ("without it the application refuses, so it stays a part of the URL", shown)
                }
                (None, _) => ("what the answer is without it could not be tried, so it stays a part of the URL", shown),
            };
            if said.is_empty() {
                self.busters.push(name.clone());
            } else {
                self.open.push(format!("The parameter \"{name}\" differs between the two URLs; {said}."));
            }
        }
        if varying.is_empty() {
            self.open.push("What the second URL was to show: its query is the same as that of the first.".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_two_urls_is_named_as_ignore_query_names_it() {
        for (one, other, expected) in [
            ("id=7&t=1", "id=7&t=2", "t:id=7"),
            ("id=7&t=1", "t=2&id=7", "t:id=7"),
            ("1763809200123", "1763809200999", "#:"),
            ("a=1&0.8234", "a=1&0.17", "#.#:a=1"),
            ("1763809200123=", "1763809200999=", "#:"),
            ("id=7", "id=7&r=x", "r:id=7"),
            ("id=7&r=x", "id=7", "r:id=7"),
            ("a=1&b=1&a=2", "a=3&b=1&a=2", "a:b=1"),
            ("a8f3", "b77c", "-:,-:a8f3"),
            ("id=7", "id=7", ""),
            ("t=1&_=5", "t=2&_=6", "t:_=5,_:t=1"),
        ] {
            let found: Vec<String> = varying(Some(one), Some(other))
                .iter()
                .map(|found| format!("{}:{}", found.name.as_deref().unwrap_or("-"), found.rest))
                .collect();
            assert_eq!(found.join(","), expected, "{one} {other}");
        }
        assert_eq!(varying(None, Some("t=1")).len(), 1);
    }
}
