//! Finds changes in text by the surrounding text.

use std::collections::BTreeSet;
use std::ops::Range;

use super::change_series::{ChangeSeries, Observation, RawSpan};
use super::value::{DIVIDED, DURATION, Grammar, class, is_divided, unit, value};
use crate::diff::{Budget, hunks};
use crate::explain::Rule;

/// The number of characters before and after a value that identify it.
const BEFORE: usize = 28;
const BEHIND: usize = 12;

/// The minimum number of letters around a value for it to be found again.
const FEWEST_LETTERS: usize = 2;

pub(super) fn collect(texts: &[&str], traces: &mut ChangeSeries) {
    for (at, pair) in texts.windows(2).enumerate() {
        compare(at + 1, pair[0], pair[1], Grammar::Plain, traces);
    }
}

/// Returns whether the strings are texts with few changes, rather than values.
pub(super) fn is_prose(old: &str, new: &str) -> bool {
    let head = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let tail = old.bytes().rev().zip(new.bytes().rev()).take_while(|(a, b)| a == b).count();
    old.len() > 60 && head + tail > old.len() / 2
}

/// Adds the differences between two texts.
pub(super) fn compare(fetch: usize, old: &str, new: &str, grammar: Grammar, traces: &mut ChangeSeries) {
    let Ok(hunks) = hunks(old, new, &mut Budget::new(traces.steps)) else {
        traces.at("too much to say where").structural.push(fetch);
        return;
    };
    let mut last = 0;
    for hunk in hunks {
        last = difference(fetch, (old, new), &RawSpan { old: hunk.old, new: hunk.new, last }, grammar, traces);
    }
}

/// Adds one difference. Returns the end of the handled part of the new text, which says nothing about later locations.
pub(super) fn difference(
    fetch: usize,
    (old, new): (&str, &str),
    raw: &RawSpan,
    grammar: Grammar,
    traces: &mut ChangeSeries,
) -> usize {
    let last = raw.last;
    let (old_value, new_value) = (value(old, &raw.old, grammar), value(new, &raw.new, grammar));
    if new_value.start < last {
        // It is another part of the same value.
        return last.max(new_value.end);
    }
    let (was, is) = (&old[old_value], &new[new_value.clone()]);
    let line = || format!("line {}", new[..raw.new.start].matches('\n').count() + 1);
    if was.is_empty() || is.is_empty() || was.contains('\n') || is.contains('\n') {
        traces.at(&line()).structural.push(fetch);
        return new_value.end;
    }
    let Some(around) = around(new, &new_value, last, grammar) else {
        let trace = traces.at(&line());
        trace.structural.push(fetch);
        trace.doubt = Some("nothing around it says what it is".to_owned());
        return new_value.end;
    };
    let unit = unit(&new[new_value.end..]);
    let trace = traces.at(&around.name());
    trace.seen.push(Observation {
        fetch,
        spot: around.name(),
        old: was.to_owned(),
        new: is.to_owned(),
        unit,
        raw: None,
    });
    let values: BTreeSet<&str> = trace.seen.iter().flat_map(|seen| [&*seen.old, &*seen.new]).collect();
    let class = if grammar == Grammar::Grouped && values.iter().all(|value| is_divided(value)) {
        DIVIDED
    } else {
        class(&values)
    };
    trace.rule = Some(Rule::Regex(around.pattern(class)));
    new_value.end
}

/// The text around a value.
struct Context {
    /// Whether `before` starts at the beginning of the line.
    anchored: bool,
    before: String,
    behind: String,
}

impl Context {
    fn name(&self) -> String {
        format!("{}…{}", self.before.trim_start().replace('\n', " "), self.behind.trim_end())
    }

    fn pattern(&self, class: &str) -> String {
        let anchor = if self.anchored { "(?m)^" } else { "" };
        let behind = literal(&self.behind);
        // In a text such as "up 3 days", the duration is noise, but the direction (up or down) is not.
        let word = self.behind.strip_prefix(' ').filter(|word| word.chars().all(char::is_alphabetic));
        let behind = if class == DURATION && word.is_some_and(|word| word.len() > 1) { r" \w+" } else { &behind };
        format!("{anchor}{}(?<cut>{class}){behind}", literal(&self.before))
    }
}

/// Returns a pattern that matches `text` with any numbers.
fn literal(text: &str) -> String {
    let mut pattern = String::new();
    let mut digits = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            if !digits {
                pattern.push_str(r"\d+");
            }
        } else {
            match c {
                '\n' => pattern.push_str(r"\n"),
                '\r' => pattern.push_str(r"\r"),
                c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
        }
        digits = c.is_ascii_digit();
    }
    pattern
}

/// Returns whether a difference lies in a number that is divided into groups.
pub(super) fn is_grouped((old, new): (&str, &str), raw: &RawSpan, grammar: Grammar) -> bool {
    let (was, is) = (value(old, &raw.old, grammar), value(new, &raw.new, grammar));
    grammar == Grammar::Grouped && (old[was].contains('<') || new[is].contains('<'))
}

/// Returns whether the text around a difference identifies it.
pub(super) fn can_be_named((old, new): (&str, &str), raw: &RawSpan, grammar: Grammar) -> bool {
    let (was, is) = (value(old, &raw.old, grammar), value(new, &raw.new, grammar));
    let plain =
        |text: &str| !text.is_empty() && !text.contains('\n') && (!text.contains(['<', '>']) || is_divided(text));
    is.start < raw.last
        || (plain(&old[was]) && plain(&new[is.clone()]) && around(new, &is, raw.last, grammar).is_some())
}

/// Returns the number of significant letters in `text`.
fn letters(text: &str, grammar: Grammar) -> usize {
    let mut rest = text;
    let mut count = 0;
    if grammar.is_markup()
        && let Some((_, behind)) = rest.split_once('>').filter(|(before, _)| !before.contains('<'))
    {
        rest = behind;
    }
    while let Some(c) = rest.chars().next() {
        if grammar.is_markup() && c == '<' && !rest.starts_with("<!--") {
            rest = rest.split_once('>').map_or("", |(_, behind)| behind);
            continue;
        }
        count += usize::from(c.is_alphabetic());
        rest = &rest[c.len_utf8()..];
    }
    count
}

fn around(text: &str, value: &Range<usize>, last: usize, grammar: Grammar) -> Option<Context> {
    let begin = text[..value.start].rfind('\n').map_or(0, |at| at + 1);
    let line = begin.max(last.min(value.start));
    let end = text[value.end..].find('\n').map_or(text.len(), |at| value.end + at);
    let mut start = value.start;
    for (at, _) in text[line..value.start].char_indices().rev().take(BEFORE) {
        start = line + at;
    }
    // Partial words are dropped.
    if start > line
        && let Some(space) = text[start..value.start].find([' ', '>', '"', ','])
        && start + space + 1 < value.start
    {
        start += space + 1;
    }
    let letters = |text: &str| letters(text, grammar);
    // Text in the same element identifies the value better than text in the previous one.
    if grammar.is_markup()
        && let Some(tag) = text[start..value.start].rfind('>')
        && letters(&text[start + tag..value.start]) >= FEWEST_LETTERS
    {
        start += tag;
    }
    let before = &text[start..value.start];
    let anchored = start == begin && letters(before) > 0;
    let behind: String = if anchored || letters(before) >= FEWEST_LETTERS {
        text[value.end..end].chars().take_while(|c| !c.is_alphanumeric()).take(1).collect()
    } else {
        let behind: String = text[value.end..end].chars().take(BEHIND).collect();
        // If the text before the next tag is sufficient, the tag is not needed.
        match behind.split_once('<') {
            Some((first, _)) if letters(first) >= FEWEST_LETTERS => first.to_owned(),
            _ => behind,
        }
    };
    let enough = anchored || letters(before) + letters(&behind) >= FEWEST_LETTERS;
    if !enough && grammar == Grammar::Plain {
        return headed(text, value);
    }
    // In JSON and in single-line pages, the beginning of the line adds nothing to a few words.
    let anchored = anchored && letters(before) < FEWEST_LETTERS;
    enough.then(|| Context { anchored, before: before.to_owned(), behind })
}

/// Returns the context of a value on a line with only numbers: the end of the previous line, which is its heading.
fn headed(text: &str, value: &Range<usize>) -> Option<Context> {
    let (above, line) = text[..value.start].rsplit_once('\n')?;
    let head = above.rsplit('\n').next().unwrap_or_default();
    let mut tail: String = head.chars().rev().take(BEFORE).collect::<Vec<_>>().into_iter().rev().collect();
    if tail.len() < head.len()
        && let Some(space) = tail.find(' ')
    {
        tail.drain(..=space);
    }
    let named = tail.chars().filter(|c| c.is_alphabetic()).count() >= FEWEST_LETTERS;
    let bare = line.chars().all(|c| !c.is_alphabetic());
    let behind = text[value.end..].chars().take(1).filter(|c| !c.is_alphanumeric()).collect();
    // The numbers before it may change, so the pattern matches any numbers.
    let mut before = format!("{tail}\n");
    for c in line.chars() {
        match c {
            '0'..='9' if before.ends_with('0') => {}
            '0'..='9' => before.push('0'),
            c => before.push(c),
        }
    }
    (named && bare).then_some(Context { anchored: false, before, behind })
}
