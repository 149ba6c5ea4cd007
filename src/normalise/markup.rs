//! Elements and attributes that a selector means.

use std::ops::Range;
use std::str::FromStr;

use super::ParseRuleError;
use crate::markup::{Element, Outline, Selectors};

/// A CSS selector, with `@attr` behind it for one attribute of what it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The selector alone.
    pub css: String,
    /// The attribute, if not the whole element is meant.
    pub attribute: Option<String>,
    compiled: Selectors,
}

impl FromStr for Selector {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // An at sign may stand in a quoted value too; no name of an attribute holds a quote or a bracket.
        let split = text.rsplit_once('@').filter(|(_, rest)| !rest.contains(['"', '\'', ']', ')']));
        let (css, attribute) = match split {
            Some((css, attribute)) => (css.trim(), Some(attribute.trim())),
            None => (text.trim(), None),
        };
        if attribute
            .is_some_and(|name| name.is_empty() || name.contains(|c: char| c.is_whitespace() || "<>/=".contains(c)))
        {
            return Err(ParseRuleError::new("behind \"@\" belongs the name of one attribute, as in \"time@datetime\""));
        }
        let compiled = css
            .parse()
            .map_err(|error| ParseRuleError::new(&format!("not a CSS selector that can be used here: {error}")))?;
        Ok(Self { css: css.to_owned(), attribute: attribute.map(str::to_ascii_lowercase), compiled })
    }
}

impl Selector {
    /// Adds what is to be cut out of the text of `outline`: elements with their tags, attributes with their names.
    pub(super) fn find(&self, outline: &Outline<'_>, found: &mut Vec<Range<usize>>) {
        let elements = self.compiled.select(outline);
        match &self.attribute {
            None => found.extend(elements.iter().map(Element::span)),
            Some(name) => found.extend(elements.iter().filter_map(|element| Some(element.attribute(name)?.span()))),
        }
    }
}
