//! Finds changes in HTML and XML: by elements and attributes, or by surrounding text where an element contains more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::change_series::{ChangeSeries, Changes, Observation, RawSpan, Timeline};
use super::selector::{NarrowSelector, narrow};
use super::text;
use super::time_value::is_length_alone;
use super::value::{Grammar, token, unit, untagged};
use super::volatility::is_noisy;
use crate::diff::{Budget, hunks};
use crate::explain::{Rule, selector_of};
use crate::markup::{Element, Outline};

/// Texts that may accompany the value in an element that is ignored as a whole.
const UNITS: [&str; 16] =
    ["", "s", "ms", "µs", "sec", "secs", "seconds", "min", "minutes", "h", "hours", "b", "bytes", "kb", "mb", "gb"];

/// The maximum size in bytes of an element that is ignored with all its content, if nothing narrower identifies the
/// change.
const LARGEST: usize = 4000;

/// A location with a selector.
type Place = (String, Option<String>);

pub(super) fn collect(outlines: &[Outline<'_>], timeline: &Timeline, traces: &mut ChangeSeries) {
    let mut found: BTreeMap<Place, Changes> = BTreeMap::new();
    let mut moving: BTreeMap<String, Changes> = BTreeMap::new();
    for (at, pair) in outlines.windows(2).enumerate() {
        let (old, new) = (&pair[0], &pair[1]);
        let Ok(hunks) = hunks(old.text(), new.text(), &mut Budget::new(traces.steps)) else {
            traces.at("too much to say where").structural.push(at + 1);
            continue;
        };
        let texts = (old.text(), new.text());
        let grammar = Grammar::of_markup(new.text());
        let mut last = 0;
        for hunk in hunks {
            let raw = RawSpan { old: hunk.old, new: hunk.new, last };
            last = last.max(raw.new.end);
            let (was, is) = (locate(old, &raw.old), locate(new, &raw.new));
            let grouped = text::is_grouped(texts, &raw, grammar);
            let inside = is_inside_of_text(old, &raw.old) && is_inside_of_text(new, &raw.new);
            let named = (inside || grouped) && text::can_be_named(texts, &raw, grammar);
            let (was, is) = match (was, is) {
                (Some(was), Some(is)) if was.place == is.place && is.pure && !grouped => (Some(was), Some(is)),
                _ if named => (None, None),
                _ => (cell(old, &raw.old), cell(new, &raw.new)),
            };
            match (was, is) {
                (Some(was), Some(is)) if was.place == is.place => {
                    let trace = found.entry(is.place).or_default();
                    let spot = is.element.to_string();
                    let known = trace.seen.last().is_some_and(|last| last.fetch == at + 1 && last.spot == spot);
                    if !known {
                        let raw = named.then_some(raw);
                        trace.seen.push(Observation {
                            fetch: at + 1,
                            spot,
                            old: was.value,
                            new: is.value,
                            unit: is.unit,
                            raw,
                        });
                    }
                }
                _ if named => last = text::difference(at + 1, texts, &raw, grammar, traces),
                _ => {
                    // For removed text, the location is taken from the previous fetch.
                    let gone = raw.new.is_empty();
                    let (outline, range) = if gone { (old, &raw.old) } else { (new, &raw.new) };
                    match outline.innermost(range) {
                        Some(element) => {
                            let trace = moving.entry(selector_of(&element)).or_default();
                            trace.structural.push(at + 1);
                            let (fetch, spot) = (at + usize::from(!gone), element.index().to_string());
                            trace.seen.push(Observation {
                                fetch,
                                spot,
                                old: String::new(),
                                new: String::new(),
                                unit: "",
                                raw: None,
                            });
                        }
                        None => traces.at("outside of all elements").structural.push(at + 1),
                    }
                }
            }
        }
    }
    for (base, trace) in moving {
        churn(&base, &trace, outlines, timeline, traces);
    }
    for ((base, attribute), trace) in found {
        for part in parts(trace, outlines, timeline) {
            settle(&base, attribute.as_deref(), part, outlines, traces);
        }
    }
}

/// Adds an element in which something is added, removed or moved; if that happens in direct succession, with its
/// selector.
fn churn(base: &str, trace: &Changes, outlines: &[Outline<'_>], timeline: &Timeline, traces: &mut ChangeSeries) {
    traces.at(base).structural.extend(&trace.structural);
    let fetches: BTreeSet<usize> = trace.structural.iter().copied().filter(|fetch| !timeline.spaced[*fetch]).collect();
    let all: BTreeSet<usize> = trace.structural.iter().copied().collect();
    if !is_noisy(fetches.len(), all.len(), timeline.pairs(false)) {
        return;
    }
    let elements = trace.seen.iter().filter_map(|seen| {
        let at: usize = seen.spot.parse().ok()?;
        outlines[seen.fetch].elements().nth(at)
    });
    let page = outlines.iter().map(|outline| outline.text().len()).max().unwrap_or(0);
    let small = elements.clone().all(|element| is_small(&element, page));
    let whole = elements.clone().any(|element| is_frame(&element));
    if let Some(NarrowSelector { selector, others: 0 }) = narrowed(base, None, trace, outlines).filter(|_| !whole) {
        let into = traces.at(base);
        into.rule = Some(Rule::Css(selector));
        into.churns = true;
        into.doubt = (!small).then(|| "so large a part of the page is left to you".to_owned());
    }
}

/// Returns whether the element contains the whole page.
fn is_frame(element: &Element<'_>) -> bool {
    ["html", "head", "body"].iter().any(|name| element.name().eq_ignore_ascii_case(name))
}

/// The location of a difference, if all of it may be ignored.
struct Located {
    place: Place,
    element: usize,
    value: String,
    /// The unit of time after it.
    unit: &'static str,
    /// Whether the location contains nothing else.
    pure: bool,
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
            unit: "",
            pure: true,
        });
    }
    let inner = element.inner();
    let within = inner.start <= range.start && range.end <= inner.end;
    let content = &text[inner.clone()];
    if !within || is_code(&element) || content.contains('<') {
        return None;
    }
    let value = token(text, range);
    let around = text[inner.start..value.start.max(inner.start)]
        .chars()
        .chain(text[value.end.min(inner.end)..inner.end].chars());
    let around: String = around.filter(|c| c.is_alphabetic()).collect();
    let pure = UNITS.contains(&&*around.to_lowercase()) || is_length_alone(content);
    pure.then(|| Located {
        place: (selector_of(&element), None),
        element: element.index(),
        value: content.trim().to_owned(),
        unit: unit(&text[inner.end..]),
        pure,
    })
}

/// Returns the location of a difference that has no name nearby and may cover more than text: the cell of a table or
/// the item of a list, the outermost of those that are a small part of the page; otherwise the innermost element.
fn cell(outline: &Outline<'_>, range: &Range<usize>) -> Option<Located> {
    let innermost = outline.innermost(range)?;
    let found = cell_of(&innermost, outline.text().len());
    let inner = found.inner();
    let within = inner.start <= range.start && range.end <= inner.end;
    (within && is_small(&found, outline.text().len()) && !is_code(&innermost)).then(|| Located {
        place: (selector_of(&found), None),
        element: found.index(),
        unit: unit(&outline.text()[inner.end..]),
        value: untagged(&outline.text()[inner]),
        pure: false,
    })
}

fn cell_of<'o>(innermost: &Element<'o>, page: usize) -> Element<'o> {
    let is_cell = |element: &Element<'_>| {
        ["td", "th", "li", "dd"].iter().any(|name| element.name().eq_ignore_ascii_case(name)) && is_small(element, page)
    };
    let around = std::iter::successors(Some(*innermost), Element::parent);
    around.filter(is_cell).last().unwrap_or(*innermost)
}

/// Returns whether the element is a small part of the page. Ignoring a larger part could hide real changes.
fn is_small(element: &Element<'_>, page: usize) -> bool {
    let size = element.inner().len();
    size <= LARGEST && size * 4 < page
}

fn is_code(element: &Element<'_>) -> bool {
    ["script", "style"].iter().any(|name| element.name().eq_ignore_ascii_case(name))
}

/// Returns whether `range` lies in text, in a comment or in code, and crosses no tag.
fn is_inside_of_text(outline: &Outline<'_>, range: &Range<usize>) -> bool {
    let part = &outline.text()[range.clone()];
    match outline.innermost(range) {
        Some(element) if element.tag().contains(&range.start) => false,
        Some(element) if is_code(&element) => true,
        _ => !part.contains(['<', '>']),
    }
}

/// Splits a location whose elements change for different reasons by the positions of the elements among their siblings.
fn parts(trace: Changes, outlines: &[Outline<'_>], timeline: &Timeline) -> Vec<Changes> {
    use super::volatility::classify;
    if classify(&trace, timeline).is_noise() {
        return vec![trace];
    }
    let nth = |seen: &Observation| {
        let at: usize = seen.spot.parse().unwrap_or_default();
        outlines[seen.fetch].elements().nth(at).map_or(0, |element| element.nth())
    };
    let mut parts: BTreeMap<usize, Changes> = BTreeMap::new();
    for seen in trace.seen {
        parts.entry(nth(&seen)).or_default().seen.push(seen);
    }
    let (noise, open): (Vec<Changes>, Vec<Changes>) =
        parts.into_values().partition(|part| classify(part, timeline).is_noise());
    let mut rest = Changes { seen: open.into_iter().flat_map(|part| part.seen).collect(), ..Changes::default() };
    rest.seen.sort_by_key(|seen| seen.fetch);
    noise.into_iter().chain((!rest.seen.is_empty()).then_some(rest)).collect()
}

/// Finds the selector for a location and adds its changes. If no selector is specific enough, the location is named by
/// the surrounding text, or by the path to each element.
fn settle(base: &str, attribute: Option<&str>, trace: Changes, outlines: &[Outline<'_>], traces: &mut ChangeSeries) {
    let found = narrowed(base, attribute, &trace, outlines);
    if let Some(NarrowSelector { selector, others: 0 }) = found {
        return add(selector, attribute, None, trace, traces);
    }
    let (named, bare): (Vec<Observation>, Vec<Observation>) =
        trace.seen.into_iter().partition(|seen| seen.raw.is_some());
    for seen in &named {
        let texts = (outlines[seen.fetch - 1].text(), outlines[seen.fetch].text());
        if let Some(raw) = &seen.raw {
            text::difference(seen.fetch, texts, raw, Grammar::of_markup(texts.1), traces);
        }
    }
    let mut alone: BTreeMap<(String, String), Changes> = BTreeMap::new();
    for mut seen in bare {
        let outline = &outlines[seen.fetch];
        let element = seen.spot.parse().ok().and_then(|at: usize| outline.elements().nth(at));
        let around = element.filter(|_| attribute.is_none()).map(|element| cell_of(&element, outline.text().len()));
        let (spot, base) = match around {
            Some(cell) => (cell.index().to_string(), selector_of(&cell)),
            None => (seen.spot.clone(), base.to_owned()),
        };
        seen.spot.clone_from(&spot);
        alone.entry((spot, base)).or_default().seen.push(seen);
    }
    if alone.len() > MAX_ALONE {
        let mut rest = Changes::default();
        rest.seen.extend(alone.into_values().flat_map(|trace| trace.seen));
        let doubt = "no selector tells it from others that did not change".to_owned();
        return add(base.to_owned(), attribute, Some(doubt), rest, traces);
    }
    for ((_, base), trace) in alone {
        let (selector, doubt) = match narrowed(&base, attribute, &trace, outlines) {
            Some(NarrowSelector { selector, others: 0 }) => (selector, None),
            Some(NarrowSelector { selector, others }) => {
                (selector, Some(format!("no selector tells it from {others} that did not change")))
            }
            None => (base, Some("no selector was found for it".to_owned())),
        };
        add(selector, attribute, doubt, trace, traces);
    }
}

/// The maximum number of elements that are named individually.
const MAX_ALONE: usize = 24;

fn narrowed(base: &str, attribute: Option<&str>, trace: &Changes, outlines: &[Outline<'_>]) -> Option<NarrowSelector> {
    let fetch = trace.seen.iter().map(|seen| seen.fetch).max()?;
    let outline = &outlines[fetch];
    let stable = outlines.iter().all(|other| other.elements().len() == outline.elements().len());
    let changed: BTreeSet<usize> = trace
        .seen
        .iter()
        .filter(|seen| stable || seen.fetch == fetch)
        .filter_map(|seen| seen.spot.parse().ok())
        .collect();
    narrow(outline, base, &changed, attribute)
}

fn add(selector: String, attribute: Option<&str>, doubt: Option<String>, trace: Changes, traces: &mut ChangeSeries) {
    let name = match attribute {
        Some(attribute) => format!("{selector}@{attribute}"),
        None => selector,
    };
    let into = traces.at(&name);
    into.rule = Some(Rule::Css(name));
    into.doubt = doubt;
    into.seen.extend(trace.seen);
}
