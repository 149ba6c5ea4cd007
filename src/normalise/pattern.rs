//! Ranges of text matched by a regular expression.

use std::ops::Range;
use std::str::FromStr;

use regex::Regex;

use super::ParseRuleError;

/// A regular expression. Its matches are cut out of the text. If it has groups named `cut`, `cut1`, `cut2` and so on,
/// only the text of these groups is cut.
#[derive(Clone, Debug)]
pub struct TextPattern {
    regex: Regex,
    /// The numbers of the groups to cut; empty for the whole match.
    groups: Vec<usize>,
}

/// The maximum size of a compiled expression, so that no configured pattern can exhaust memory.
const MAX_REGEX_BYTES: usize = 1 << 20;

impl FromStr for TextPattern {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let regex = regex::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
            let message = error.to_string();
            let why = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            ParseRuleError::new(&format!("not a regular expression: {why}"))
        })?;
        if regex.is_match("") {
            return Err(ParseRuleError::new("matches the empty text, so it would cut at every place"));
        }
        let is_cut = |name: Option<&str>| {
            name.and_then(|name| name.strip_prefix("cut"))
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let groups =
            regex.capture_names().enumerate().filter(|(_, name)| is_cut(*name)).map(|(number, _)| number).collect();
        Ok(Self { regex, groups })
    }
}

impl TextPattern {
    /// Returns the expression as written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Adds the ranges to cut out of `text`.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        if self.groups.is_empty() {
            found.extend(self.regex.find_iter(text).map(|found| found.range()));
            return;
        }
        for captures in self.regex.captures_iter(text) {
            found.extend(self.groups.iter().filter_map(|group| Some(captures.get(*group)?.range())));
        }
    }
}
