//! What changes in HTML and XML: by elements and attributes, and by what stands around it where an element says more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::selector::{Narrow, narrow};
use super::text;
use super::trace::{Seen, Timeline, Trace, Traces};
use crate::diff::{Budget, hunks};
use crate::explain::{Rule, selector_of};
use crate::markup::{Element, Outline};

const MOST_STEPS: usize = 50_000_000;

/// How many letters that do not change may stand in an element that is ignored as a whole.
const MOST_LETTERS: usize = 16;

/// A place that has a selector.
type Place = (String, Option<String>);

pub(super) fn collect(outlines: &[Outline<'_>], timeline: &Timeline, traces: &mut Traces) {
    let mut found: BTreeMap<Place, Trace> = BTreeMap::new();
    for (at, pair) in outlines.windows(2).enumerate() {
        let (old, new) = (&pair[0], &pair[1]);
        let Ok(hunks) = hunks(old.text(), new.text(), &mut Budget::new(MOST_STEPS)) else {
            traces.at("too much to say where").structural.push(at + 1);
            continue;
        };
        let mut last = 0;
        for hunk in hunks {
            match (locate(old, &hunk.old), locate(new, &hunk.new)) {
                (Some(was), Some(is)) if was.place == is.place => {
                    let seen = Seen { look: at + 1, spot: is.element.to_string(), old: was.value, new: is.value };
                    let trace = found.entry(is.place).or_default();
                    if trace.seen.last() != Some(&seen) {
                        trace.seen.push(seen);
                    }
                }
                _ if is_inside_of_text(old, &hunk.old) && is_inside_of_text(new, &hunk.new) => {
                    last = text::difference(at + 1, (old.text(), &hunk.old), (new.text(), &hunk.new), last, traces);
                    continue;
                }
                _ => {
                    let (outline, range) = if hunk.new.is_empty() { (old, &hunk.old) } else { (new, &hunk.new) };
                    let name = outline
                        .innermost(range)
                        .map_or_else(|| "outside of all elements".to_owned(), |element| selector_of(&element));
                    traces.at(&name).structural.push(at + 1);
                }
            }
            last = hunk.new.end;
        }
    }
    for ((base, attribute), trace) in found {
        for part in parts(trace, outlines, timeline) {
            settle(&base, attribute.as_deref(), part, outlines, traces);
        }
    }
}

/// Where a difference lies, if all of that place may be ignored for it.
struct Located {
    place: Place,
    element: usize,
    value: String,
}

fn locate(outline: &Outline<'_>, range: &Range<usize>) -> Option<Located> {
    let text = outline.text();
    let element = outline.innermost(range)?;
    let attribute = element.attributes().iter().find(|attribute| {
        let span = attribute.span();
        span.start < range.start.max(span.start + 1) && range.end <= span.end && range.start >= span.start
    });
    if let Some(attribute) = attribute {
        let name = attribute.name(outline);
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c));
        return plain.then(|| Located {
            place: (selector_of(&element), Some(name.to_ascii_lowercase())),
            element: element.index(),
            value: attribute.value(outline).to_owned(),
        });
    }
    let inner = element.inner();
    let within = inner.start <= range.start && range.end <= inner.end;
    let content = &text[inner.clone()];
    if !within || content.contains('<') || is_code(&element) {
        return None;
    }
    let value = text::token(text, range);
    let rest = text[inner.start..value.start.max(inner.start)]
        .chars()
        .chain(text[value.end.min(inner.end)..inner.end].chars());
    let letters = rest.filter(|c| c.is_alphabetic()).count();
    (letters <= MOST_LETTERS).then(|| Located {
        place: (selector_of(&element), None),
        element: element.index(),
        value: content.trim().to_owned(),
    })
}

fn is_code(element: &Element<'_>) -> bool {
    ["script", "style"].iter().any(|name| element.name().eq_ignore_ascii_case(name))
}

/// Whether `range` lies in text, in a comment or in code, and crosses no tag.
fn is_inside_of_text(outline: &Outline<'_>, range: &Range<usize>) -> bool {
    let part = &outline.text()[range.clone()];
    match outline.innermost(range) {
        Some(element) if element.tag().contains(&range.start) => false,
        Some(element) if is_code(&element) => true,
        _ => !part.contains(['<', '>']),
    }
}

/// A place whose elements change for different reasons is taken apart by their places among their siblings.
fn parts(trace: Trace, outlines: &[Outline<'_>], timeline: &Timeline) -> Vec<Trace> {
    use super::nature::nature;
    if nature(&trace, timeline).is_noise() {
        return vec![trace];
    }
    let nth = |seen: &Seen| {
        let at: usize = seen.spot.parse().unwrap_or_default();
        outlines[seen.look].elements().nth(at).map_or(0, |element| element.nth())
    };
    let mut parts: BTreeMap<usize, Trace> = BTreeMap::new();
    for seen in trace.seen {
        parts.entry(nth(&seen)).or_default().seen.push(seen);
    }
    let (noise, open): (Vec<Trace>, Vec<Trace>) =
        parts.into_values().partition(|part| nature(part, timeline).is_noise());
    let mut rest = Trace { seen: open.into_iter().flat_map(|part| part.seen).collect(), ..Trace::default() };
    rest.seen.sort_by_key(|seen| seen.look);
    noise.into_iter().chain((!rest.seen.is_empty()).then_some(rest)).collect()
}

/// Finds the selector for a place, and adds what was seen there.
fn settle(base: &str, attribute: Option<&str>, trace: Trace, outlines: &[Outline<'_>], traces: &mut Traces) {
    let Some(look) = trace.seen.iter().map(|seen| seen.look).max() else { return };
    let outline = &outlines[look];
    let stable = outlines.iter().all(|other| other.elements().len() == outline.elements().len());
    let changed: BTreeSet<usize> = trace
        .seen
        .iter()
        .filter(|seen| stable || seen.look == look)
        .filter_map(|seen| seen.spot.parse().ok())
        .collect();
    let found = narrow(outline, base, &changed, attribute);
    let (selector, doubt) = match found {
        Some(Narrow { selector, others: 0 }) => (selector, None),
        Some(Narrow { selector, others }) => {
            (selector, Some(format!("no selector tells it from {others} more that did not change")))
        }
        None => (base.to_owned(), Some("no selector was found for it".to_owned())),
    };
    let name = match attribute {
        Some(attribute) => format!("{selector}@{attribute}"),
        None => selector,
    };
    let into = traces.at(&name);
    into.rule = Some(Rule::Css(name));
    into.doubt = doubt;
    into.seen.extend(trace.seen);
}
