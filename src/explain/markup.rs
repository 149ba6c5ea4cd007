//! Locations in HTML and XML: elements and attributes, as selectors.

use std::ops::Range;

use super::names::selector_of;
use super::places::{ChangeKind, Explanation, Location, Rule};
use crate::diff::{Budget, Exhausted, hunks};
use crate::markup::Outline;
use crate::normalise::Rules;

/// Adds the differences between the texts of `old` and `new` to `found`.
pub(super) fn compare(
    old: &Outline<'_>,
    new: &Outline<'_>,
    rules: &Rules,
    found: &mut Explanation,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    let (old_cuts, new_cuts) = (rules.cuts(old.text(), Some(old)), rules.cuts(new.text(), Some(new)));
    for hunk in hunks(old.text(), new.text(), budget)? {
        budget.spend(8)?;
        let ignored = old_cuts.contains(&hunk.old) && new_cuts.contains(&hunk.new);
        let (verb, name) = match (hunk.old.is_empty(), hunk.new.is_empty()) {
            (false, true) => (ChangeKind::Removed, name_of(old, &hunk.old)),
            (true, false) => (ChangeKind::Added, name_of(new, &hunk.new)),
            _ => (ChangeKind::Changed, name_of(new, &hunk.new)),
        };
        let rule = name.clone().map(Rule::Css);
        let name = name.unwrap_or_else(|| "outside of all elements".to_owned());
        found.push(Location { name, verb, count: 1, ignored, rule });
    }
    Ok(())
}

/// Returns the selector of the element or attribute that contains all of `range`.
fn name_of(outline: &Outline<'_>, range: &Range<usize>) -> Option<String> {
    let element = outline.innermost(range)?;
    let holds = |span: Range<usize>| span.start <= range.start && range.end <= span.end;
    let attribute = element.attributes().iter().find(|attribute| holds(attribute.span()));
    let selector = selector_of(&element);
    Some(match attribute.map(|attribute| attribute.name(outline)) {
        Some(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == ':') => {
            format!("{selector}@{}", name.to_ascii_lowercase())
        }
        _ => selector,
    })
}
