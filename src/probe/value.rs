//! Where a value begins and ends, and what it looks like.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What letters say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// All do.
    Plain,
    /// Those of tags do not: they are all over the page.
    Markup,
    /// As well, and there are tags within numbers, as in `<span>1</span>204`.
    Grouped,
}

/// What divides a number into groups.
#[allow(clippy::expect_used, reason = "the pattern is written here, and tests compile it")]
static GROUPED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<span[^<>]*>\d+</span>\d{3}").expect("a pattern"));

impl Grammar {
    /// That of a page.
    pub(super) fn of_markup(text: &str) -> Self {
        if GROUPED.is_match(text) { Self::Grouped } else { Self::Markup }
    }

    pub(super) fn is_markup(self) -> bool {
        self != Self::Plain
    }
}

/// A number, on a page on which some are divided into groups: this one may be when it grows.
pub(super) const DIVIDED: &str = r"(?:[\d ./:,%()+-]|</?span[^<>]*>)+";

/// Whether `value` is a number, be it divided into groups or not.
pub(super) fn is_divided(value: &str) -> bool {
    let mut rest = value;
    while let Some(shorter) = without_first(rest, Grammar::Grouped) {
        rest = shorter;
    }
    rest.is_empty()
}

/// What stands behind a number that is a length of time.
const UNITS: [&str; 6] = ["ms", "µs", "s", "sec", "seconds", "minutes"];

/// The unit of time that `text`, which stands behind a number, begins with, whatever tags are between; empty if there is
/// none.
pub(super) fn unit(text: &str) -> &'static str {
    let mut rest = text.trim_start();
    while let Some((_, behind)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        rest = behind.trim_start();
    }
    let word = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    UNITS.into_iter().find(|unit| *unit == word).unwrap_or_default()
}

/// A length of time, as in `3h12m`.
pub(super) const DURATION: &str = "[0-9dhmswy]+";

/// The narrowest of a few classes that holds all values.
pub(super) fn class(values: &BTreeSet<&str>) -> &'static str {
    let all = |allowed: &dyn Fn(char) -> bool| values.iter().all(|value| value.chars().all(allowed));
    let digit = |c: char| c.is_ascii_digit();
    if all(&digit) {
        r"\d+"
    } else if all(&|c| digit(c) || c == '.') {
        r"[\d.]+"
    } else if all(&|c| digit(c) || ".:-".contains(c)) {
        r"[\d.:-]+"
    } else if all(&|c| digit(c) || "dhmswy".contains(c)) {
        DURATION
    } else if all(&|c| digit(c) || ".:-TZ+".contains(c)) {
        r"[\d.:TZ+-]+"
    } else if all(&|c| digit(c) || FIGURES.contains(c)) {
        r"[\d ./:,%()+-]+"
    } else if all(&|c| c.is_ascii_hexdigit()) {
        "[0-9A-Fa-f]+"
    } else if all(&|c| c.is_alphanumeric() || c == '_') {
        r"\w+"
    } else {
        r"[\w.:+-]+"
    }
}

/// What may stand between the numbers of one value.
const FIGURES: &str = " ./:,%()+-";

/// The stretch of `text` that holds all of the value of which `range` is a part: in markup, all that an element says if
/// that is nothing but numbers.
pub(super) fn value(text: &str, range: &Range<usize>, grammar: Grammar) -> Range<usize> {
    let token = token(text, range);
    if !grammar.is_markup() {
        return token;
    }
    let (mut begin, mut end) = (token.start, token.end);
    while let Some(shorter) = without_last(&text[..begin], grammar) {
        begin = shorter.len();
    }
    while let Some(shorter) = without_first(&text[end..], grammar) {
        end = text.len() - shorter.len();
    }
    let content = text[begin..end].trim();
    let fits = text[..begin].ends_with('>') && text[end..].starts_with('<') && content.len() > token.len();
    let whole = content.matches('<').count() == 2 * content.matches("</").count();
    if !fits || !whole || !is_figures(&text[token.clone()]) {
        return token;
    }
    let begin = end - text[begin..end].trim_start().len();
    begin..begin + content.len()
}

fn is_figures(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || FIGURES.contains(c))
}

/// `text` without what belongs to the numbers at its end, if anything does.
fn without_last(text: &str, grammar: Grammar) -> Option<&str> {
    match text.chars().next_back()? {
        c if is_figures(c.encode_utf8(&mut [0; 4])) => Some(&text[..text.len() - 1]),
        '>' if grammar == Grammar::Grouped => {
            let (before, tag) = text.rsplit_once('<')?;
            is_group(tag).then_some(before)
        }
        _ => None,
    }
}

/// `text` without what belongs to the numbers at its beginning, if anything does.
fn without_first(text: &str, grammar: Grammar) -> Option<&str> {
    match text.chars().next()? {
        c if is_figures(c.encode_utf8(&mut [0; 4])) => Some(&text[1..]),
        '<' if grammar == Grammar::Grouped => {
            let (tag, behind) = text[1..].split_once('>')?;
            is_group(tag).then_some(behind)
        }
        _ => None,
    }
}

/// Whether a tag, without what it begins with, is one that may stand within a number.
fn is_group(tag: &str) -> bool {
    let name = tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    name == "span"
}

/// The stretch of `text` that holds all of the word or number of which `range` is a part.
pub(super) fn token(text: &str, range: &Range<usize>) -> Range<usize> {
    let mut start = range.start;
    while let Some(c) = text[..start].chars().next_back() {
        let before = text[..start - c.len_utf8()].chars().next_back();
        let behind = text[start..].chars().next();
        if is_part(before, c, behind) {
            start -= c.len_utf8();
        } else {
            break;
        }
    }
    let mut end = range.end;
    while let Some(c) = text[end..].chars().next() {
        let before = text[..end].chars().next_back();
        let behind = text[end + c.len_utf8()..].chars().next();
        if is_part(before, c, behind) {
            end += c.len_utf8();
        } else {
            break;
        }
    }
    start..end
}

/// Whether `c` is within a value: a letter, a digit, or what holds numbers together.
fn is_part(before: Option<char>, c: char, behind: Option<char>) -> bool {
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let digits = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    match c {
        '_' => true,
        '.' | ':' | '-' | '+' => inner(before) && inner(behind) && (digits(before) || digits(behind)),
        _ => c.is_alphanumeric(),
    }
}

/// The text without its tags.
pub(super) fn untagged(content: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in content.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text.trim().to_owned()
}
