//! Finds selectors that match given elements and as few others as possible.

use std::collections::BTreeSet;

use super::time_value::{Kind, time_value};
use crate::explain::is_name;
use crate::markup::{Element, Outline, Selectors};

/// A selector and the number of other elements that it matches.
pub(super) struct NarrowSelector {
    pub(super) selector: String,
    pub(super) others: usize,
}

/// Attributes by which authors distinguish elements.
const TELLING: [&str; 7] = ["name", "property", "http-equiv", "rel", "itemprop", "type", "for"];

/// Narrows `base`, the general name of the elements at `changed`. With `attribute`, only that attribute is selected.
pub(super) fn narrow(
    outline: &Outline<'_>,
    base: &str,
    changed: &BTreeSet<usize>,
    attribute: Option<&str>,
) -> Option<NarrowSelector> {
    let elements: Vec<Element<'_>> = outline.elements().filter(|element| changed.contains(&element.index())).collect();
    let first = *elements.first()?;
    let mut candidates = vec![base.to_owned()];
    for name in TELLING {
        if let Some(value) = first.value(name).filter(|value| is_name(value) && !value.contains('"'))
            && elements.iter().all(|element| element.value(name) == Some(value))
        {
            candidates.push(format!("{base}[{name}=\"{value}\"]"));
        }
    }
    if elements.iter().all(|element| element.nth() == first.nth()) {
        candidates.push(format!("{base}:nth-child({})", first.nth()));
    }
    if elements.len() == 1 {
        candidates.push(path(&first));
    }
    let tried = candidates.into_iter().filter_map(|selector| {
        let others = others(outline, &selector, &elements, attribute)?;
        Some(NarrowSelector { selector, others })
    });
    tried.min_by_key(|narrow| narrow.others)
}

/// Returns how many elements `selector` matches that are unlike `elements`. Returns `None` if it does not match all of
/// those.
fn others(outline: &Outline<'_>, selector: &str, elements: &[Element<'_>], attribute: Option<&str>) -> Option<usize> {
    let selectors: Selectors = selector.parse().ok()?;
    let mut selected = selectors.select(outline);
    if let Some(attribute) = attribute {
        selected.retain(|element| element.attribute(attribute).is_some());
    }
    let is_meant = |element: &Element<'_>| elements.iter().any(|meant| meant.index() == element.index());
    let meant = selected.iter().filter(|element| is_meant(element)).count();
    if meant < elements.len() {
        return None;
    }
    let value = |element: &Element<'_>| match attribute {
        Some(attribute) => element.value(attribute).unwrap_or_default().to_owned(),
        None => outline.text()[element.inner()].to_owned(),
    };
    let shapes: BTreeSet<String> = elements.iter().map(|element| shape(&value(element))).collect();
    let kinds: Vec<Kind> =
        elements.iter().filter_map(|element| time_value(&value(element))).map(|moment| moment.kind).collect();
    let most = 2 * meant > selected.len();
    let alike = |element: &Element<'_>| {
        let value = value(element);
        // The element holds a time or an age that stood still, or a value like the many that changed.
        let time = time_value(&value).is_some_and(|moment| moment.kind != Kind::Number && kinds.contains(&moment.kind));
        time || value.trim().is_empty() || (most && shapes.contains(&shape(&value)))
    };
    Some(selected.iter().filter(|element| !is_meant(element) && !alike(element)).count())
}

/// Returns the shape of a text: its runs of digits and of letters, whatever they are.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.trim().chars() {
        let class = if c.is_ascii_digit() {
            '0'
        } else if c.is_alphabetic() {
            'a'
        } else {
            c
        };
        if !(matches!(class, '0' | 'a') && shape.ends_with(class)) {
            shape.push(class);
        }
    }
    shape
}

/// Returns the path to one element, from the nearest one with an id.
fn path(element: &Element<'_>) -> String {
    let mut steps = Vec::new();
    let mut next = Some(*element);
    while let Some(element) = next {
        if let Some(id) = element.value("id").filter(|id| is_name(id) && id.chars().all(is_plain)) {
            steps.push(format!("#{id}"));
            break;
        }
        let name = element.name().rsplit(':').next().unwrap_or_default().to_ascii_lowercase();
        let name = if name.chars().all(is_plain) { name } else { "*".to_owned() };
        let only = matches!(name.as_str(), "html" | "body" | "head");
        steps.push(if only { name } else { format!("{name}:nth-child({})", element.nth()) });
        next = element.parent();
    }
    steps.reverse();
    steps.join(" > ")
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}
