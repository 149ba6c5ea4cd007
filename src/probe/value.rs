//! Determines the extent and the shape of values.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// The grammar that determines which letters are significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// All letters are.
    Plain,
    /// Letters in tags are not, since they occur everywhere.
    Markup,
    /// The same, and tags occur within numbers, as in `<span>1</span>204`.
    Grouped,
}

/// The pattern of a number that is divided into groups.
#[allow(clippy::expect_used, reason = "the pattern is written here, and tests compile it")]
static GROUPED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<span[^<>]*>\d+</span>\d{3}").expect("a pattern"));

impl Grammar {
    /// Returns the grammar of a page.
    pub(super) fn of_markup(text: &str) -> Self {
        if GROUPED.is_match(text) { Self::Grouped } else { Self::Markup }
    }

    pub(super) fn is_markup(self) -> bool {
        self != Self::Plain
    }
}

/// Matches a number on a page with grouped numbers: this one may become grouped when it grows.
pub(super) const DIVIDED: &str = r"(?:[\d ./:,%()+-]|</?span[^<>]*>)+";

/// Returns whether `value` is a number, grouped or not.
pub(super) fn is_divided(value: &str) -> bool {
    let mut rest = value;
    while let Some(shorter) = without_first(rest, Grammar::Grouped) {
        rest = shorter;
    }
    rest.is_empty()
}

/// The units after a number that is a duration.
const UNITS: [&str; 6] = ["ms", "µs", "s", "sec", "seconds", "minutes"];

/// Returns the unit of time at the beginning of `text`, the text after a number, skipping tags; empty if there is none.
pub(super) fn unit(text: &str) -> &'static str {
    let mut rest = text.trim_start();
    while let Some((_, behind)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        rest = behind.trim_start();
    }
    let word = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    UNITS.into_iter().find(|unit| *unit == word).unwrap_or_default()
}

/// Matches a duration such as `3h12m`.
pub(super) const DURATION: &str = "[0-9dhmswy]+";

/// The same in several words, such as `3h 12m`.
const DURATIONS: &str = "[0-9dhmswy]+(?: [0-9dhmswy]+)*";

/// Returns the narrowest character class that contains all values.
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
    } else if values.iter().all(|value| value.split(' ').all(is_duration)) {
        DURATIONS
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

/// The characters that may join the numbers of one value.
const FIGURES: &str = " ./:,%()+-";

/// Returns the range in `text` of the complete value around `range`: in markup, the whole content of an element if it
/// consists of numbers only.
pub(super) fn value(text: &str, range: &Range<usize>, grammar: Grammar) -> Range<usize> {
    let token = lengthened(text, token(text, range));
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

/// Extends `token` to a duration with all of its words, if it is a part of one.
fn lengthened(text: &str, token: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (token.start, token.end);
    if !is_duration(&text[token.clone()]) {
        return token;
    }
    while let Some(before) = text[..start].strip_suffix(' ') {
        let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if !is_duration(word) {
            break;
        }
        start = before.len() - word.len();
    }
    while let Some(behind) = text[end..].strip_prefix(' ') {
        let word = behind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if !is_duration(word) {
            break;
        }
        end += 1 + word.len();
    }
    start..end
}

/// Returns whether `word` is a number with a unit of time, such as `12m`.
fn is_duration(word: &str) -> bool {
    let number = word.trim_end_matches(|c: char| "dhmswy".contains(c));
    !number.is_empty() && number.len() < word.len() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_figures(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || FIGURES.contains(c))
}

/// Returns `text` without its last character or tag, if that belongs to a number.
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

/// Returns `text` without its first character or tag, if that belongs to a number.
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

/// Returns whether a tag, without its opening bracket, may occur within a number.
fn is_group(tag: &str) -> bool {
    let name = tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    name == "span"
}

/// Returns the range in `text` of the complete word or number around `range`.
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

/// Returns whether `c` is part of a value: a letter, a digit, or a character that joins numbers.
fn is_part(before: Option<char>, c: char, behind: Option<char>) -> bool {
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let digits = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    match c {
        '_' => true,
        '.' | ':' | '-' | '+' => inner(before) && inner(behind) && (digits(before) || digits(behind)),
        _ => c.is_alphanumeric(),
    }
}

/// Returns the text without its tags.
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
