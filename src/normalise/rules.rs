//! What a route says is no change.

use std::str::FromStr;

use regex::Regex;

use super::Pointer;
use crate::model::{Digest, Representation};

/// A CSS selector, with `@attr` behind it for one attribute of what it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The selector alone.
    pub css: String,
    /// The attribute, if not the whole element is meant.
    pub attribute: Option<String>,
}

/// A regular expression whose matches are cut out of text.
#[derive(Clone, Debug)]
pub struct TextPattern(pub Regex);

/// A rule that cannot be compiled, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseRuleError(String);

/// A compiled expression may not take more than this, so that no pattern of a configuration can exhaust memory.
const MOST_REGEX_BYTES: usize = 1 << 20;

impl FromStr for Selector {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (css, attribute) = match text.rsplit_once('@') {
            Some((css, attribute)) => (css.trim(), Some(attribute.trim())),
            None => (text.trim(), None),
        };
        if attribute
            .is_some_and(|name| name.is_empty() || name.contains(|c: char| c.is_whitespace() || "\"'<>/=".contains(c)))
        {
            return Err(ParseRuleError(
                "behind \"@\" belongs the name of one attribute, as in \"time@datetime\"".to_owned(),
            ));
        }
        css.parse::<lol_html::Selector>()
            .map_err(|error| ParseRuleError(format!("not a CSS selector that can be used here: {error}")))?;
        Ok(Self { css: css.to_owned(), attribute: attribute.map(str::to_ascii_lowercase) })
    }
}

impl FromStr for TextPattern {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let regex = regex::RegexBuilder::new(text).size_limit(MOST_REGEX_BYTES).build().map_err(|error| {
            let message = error.to_string();
            ParseRuleError(
                message.lines().last().unwrap_or("not a regular expression").trim_start_matches("error: ").to_owned(),
            )
        })?;
        if regex.is_match("") {
            return Err(ParseRuleError("matches the empty text, so it would cut at every place".to_owned()));
        }
        Ok(Self(regex))
    }
}

/// The compiled rules of one route.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Places in JSON documents.
    pub json: Vec<Pointer>,
    /// Elements and attributes of HTML and XML.
    pub css: Vec<Selector>,
    /// Stretches of text.
    pub regex: Vec<TextPattern>,
}

impl Rules {
    /// The fingerprint of what matters in `representation`, whose exact content has the fingerprint `content`.
    pub fn meaning(&self, _representation: &Representation, content: Digest) -> Digest {
        content
    }
}
