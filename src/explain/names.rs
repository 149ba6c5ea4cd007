//! How places are called.

use crate::markup::Element;

/// The most characters of a key, an id or a class that is repeated.
const MAX_NAME_LEN: usize = 40;

/// More digits than this are a number or an identifier of somebody, not a part of a name.
const MAX_DIGITS: usize = 3;

/// Whether `text`, a key or an id or a class, is a name that the application's author chose, rather than data that it was
/// made of: a user's number, an address, a token.
pub fn is_name(text: &str) -> bool {
    let letters = |c: char| c.is_alphabetic() || "_-$.:".contains(c);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    // As in "@id" and "@timestamp"; in the middle it would be an address.
    let text = text.strip_prefix('@').unwrap_or(text);
    text.chars().any(char::is_alphabetic)
        && text.chars().count() <= MAX_NAME_LEN
        && digits <= MAX_DIGITS
        && text.chars().all(|c| letters(c) || c.is_ascii_digit())
        && !is_hexadecimal(text)
}

/// Whether `text` looks like a number written in hexadecimal: digits and letters mixed, or long.
fn is_hexadecimal(text: &str) -> bool {
    let all = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    all && text.len() >= 6 && (text.chars().any(|c| c.is_ascii_digit()) || text.len() >= 16)
}

/// How many elements a path names, the innermost included.
const MAX_STEPS: usize = 3;

/// A selector for `element` and those like it: its name, id and classes, and those of the elements around it.
pub fn selector_of(element: &Element<'_>) -> String {
    let mut steps = Vec::new();
    let mut next = Some(*element);
    while let Some(element) = next.filter(|_| steps.len() < MAX_STEPS) {
        let (step, is_unique) = compound(&element);
        steps.push(step);
        next = if is_unique { None } else { element.parent() };
    }
    steps.reverse();
    steps.join(" > ")
}

/// The compound selector of one element, and whether it stands for that one alone.
fn compound(element: &Element<'_>) -> (String, bool) {
    let name = element.name().rsplit(':').next().unwrap_or_default().to_ascii_lowercase();
    if let Some(id) = element.value("id").filter(|id| is_plain(id)) {
        return (format!("#{id}"), true);
    }
    let classes: Vec<&str> = element.classes().filter(|class| is_plain(class)).take(2).collect();
    let name = if name.chars().all(is_plain_char) { name } else { "*".to_owned() };
    (classes.iter().fold(name, |selector, class| selector + "." + class), false)
}

/// Whether `text` is a name that can stand in a selector as it is.
fn is_plain(text: &str) -> bool {
    is_name(text) && text.chars().all(is_plain_char) && text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn is_plain_char(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}
