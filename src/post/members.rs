//! JSON bodies: whether all readers read them alike, and what of them is replaced by something neutral.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use crate::json::{Kind, Value};
use crate::normalise::{Pointer, Token};

/// Whether all readers of `value` find the same in it: no object has two members whose names are alike. Some readers do not tell
/// capital letters from small ones, as Go's do not.
pub(super) fn is_unambiguous(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Object => {
            let mut seen = HashSet::new();
            value.members().all(|(key, member)| seen.insert(folded(key)) && is_unambiguous(member))
        }
        Kind::Array => value.items().all(is_unambiguous),
        _ => true,
    }
}

/// A name, as a reader compares it that does not tell capital letters from small ones, or for which text ends with a zero.
fn folded(key: Value<'_>) -> String {
    let key = key.as_str().unwrap_or_default();
    let text = key.split('\0').next().unwrap_or_default();
    // Long s and the Kelvin sign are the two characters that fold into ASCII.
    text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ſ' { 's' } else { c }).collect()
}

/// The member of `object` that is called `name`; `None` also if it is written with other capital letters, as which some readers
/// would take it.
pub(super) fn member<'d>(object: Value<'d>, name: &str) -> Option<Value<'d>> {
    object.members().find(|(key, _)| key.as_str().is_some_and(|key| key == name)).map(|(_, value)| value)
}

/// What the string member `name` of `object` says.
pub(super) fn text<'d>(object: Value<'d>, name: &str) -> Option<Cow<'d, str>> {
    member(object, name)?.as_str()
}

/// The values to which `pointer` leads from `value`.
pub(super) fn find<'d>(value: Value<'d>, pointer: &Pointer) -> Vec<Value<'d>> {
    pointer.tokens().iter().fold(vec![value], |at, token| at.into_iter().flat_map(|value| step(value, token)).collect())
}

fn step<'d>(value: Value<'d>, token: &Token) -> Vec<Value<'d>> {
    match (value.kind(), token) {
        (Kind::Object, Token::Any) => value.members().map(|(_, value)| value).collect(),
        (Kind::Object, Token::Name(name)) => member(value, name).into_iter().collect(),
        (Kind::Array, Token::Any) => value.items().collect(),
        (Kind::Array, Token::Name(index)) => {
            let index = index.parse::<usize>().ok().filter(|number| *index == number.to_string());
            index.and_then(|index| value.items().nth(index)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The value that `path`, the names of a pointer without wildcards, leads to.
pub(super) fn at<'d>(value: Value<'d>, path: &[Box<str>]) -> Option<Value<'d>> {
    path.iter().try_fold(value, |value, name| match value.kind() {
        Kind::Object => member(value, name),
        Kind::Array => value.items().nth(name.parse().ok()?),
        _ => None,
    })
}

/// A value of the same kind as `value` that says nothing.
pub(super) fn neutral(value: Value<'_>) -> &'static str {
    match value.kind() {
        Kind::Null => "null",
        Kind::Bool => "false",
        Kind::Number => "1",
        Kind::String => "\"1\"",
        Kind::Array => "[]",
        Kind::Object => "{}",
    }
}

/// Stretches of a text that are replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// In place of `value` there will be `text`.
    pub(super) fn replace(&mut self, value: Value<'_>, text: String) {
        self.0.push((value.span(), text));
    }

    /// `text` with all that is to be replaced. Of stretches that lie in one another the outer one counts.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut edits: Vec<&(Range<usize>, String)> = self.0.iter().collect();
        edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut edited = String::with_capacity(text.len());
        let mut done = 0;
        for (range, with) in edits {
            if range.start < done {
                continue;
            }
            edited.push_str(&text[done..range.start]);
            edited.push_str(with);
            done = range.end;
        }
        edited.push_str(&text[done..]);
        edited
    }
}
