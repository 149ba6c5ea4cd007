//! Names for locations.

use crate::markup::Element;

/// The maximum length in characters of a key, id or class that is repeated.
const MAX_NAME_LEN: usize = 40;

/// The maximum number of digits in a name. A text with more digits is a number or an identifier.
const MAX_DIGITS: usize = 3;

/// Returns whether `text` (a key, an id or a class) is a name chosen by the application's author, rather than data: a
/// user's number, an address, a token.
pub fn is_name(text: &str) -> bool {
    let letters = |c: char| c.is_alphabetic() || "_-$.:".contains(c);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    // A leading at sign, as in "@id" and "@timestamp", is allowed; in the middle it would be an address.
    let text = text.strip_prefix('@').unwrap_or(text);
    text.chars().any(char::is_alphabetic)
        && text.chars().count() <= MAX_NAME_LEN
        && digits <= MAX_DIGITS
        && text.chars().all(|c| letters(c) || c.is_ascii_digit())
        && !is_hexadecimal(text)
}

/// Returns whether `text` looks like a hexadecimal number: digits and letters mixed, or long.
fn is_hexadecimal(text: &str) -> bool {
    let all = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    all && text.len() >= 6 && (text.chars().any(|c| c.is_ascii_digit()) || text.len() >= 16)
}

/// The maximum number of elements in a path, including the innermost.
const MAX_STEPS: usize = 3;

/// Returns a selector for `element` and similar elements: its name, id and classes, and those of its ancestors.
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

/// Returns the compound selector of one element, and whether it identifies that element alone.
fn compound(element: &Element<'_>) -> (String, bool) {
    let name = element.name().rsplit(':').next().unwrap_or_default().to_ascii_lowercase();
    if let Some(id) = element.value("id").filter(|id| is_plain(id)) {
        return (format!("#{id}"), true);
    }
    let classes: Vec<&str> = element.classes().filter(|class| is_plain(class)).take(2).collect();
    let name = if name.chars().all(is_plain_char) { name } else { "*".to_owned() };
    (classes.iter().fold(name, |selector, class| selector + "." + class), false)
}

/// Returns whether `text` is a name that can be used in a selector without escaping.
fn is_plain(text: &str) -> bool {
    is_name(text) && text.chars().all(is_plain_char) && text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn is_plain_char(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}
