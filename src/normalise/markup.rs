//! Elements and attributes matched by a selector.

use std::ops::Range;
use std::str::FromStr;

use super::ParseRuleError;
use crate::markup::{Element, Outline, Selectors};

/// A CSS selector, optionally followed by `@attr` for one attribute of the selected elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The selector alone.
    pub css: String,
    /// The attribute, or `None` for the whole element.
    pub attribute: Option<String>,
    compiled: Selectors,
}

impl FromStr for Selector {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A quoted value may contain an at sign too, but an attribute name never contains a quote or a bracket.
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
    /// Adds the ranges to cut out of the text of `outline`: elements with their tags, attributes with their names.
    pub(super) fn find(&self, outline: &Outline<'_>, found: &mut Vec<Range<usize>>) {
        let elements = self.compiled.select(outline);
        match &self.attribute {
            None => found.extend(elements.iter().map(Element::span)),
            Some(name) => found.extend(elements.iter().filter_map(|element| Some(element.attribute(name)?.span()))),
        }
    }
}
