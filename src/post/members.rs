//! JSON bodies: detects ambiguity between parsers, and replaces values by neutral ones.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use crate::json::{Kind, Value};
use crate::normalise::{Pointer, Token};

/// Returns whether all parsers read `value` alike: no object has two members with similar names. Some parsers, such as
/// Go's, ignore case.
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

/// Folds a name as a parser would that ignores case or ends text at a NUL.
fn folded(key: Value<'_>) -> String {
    let key = key.as_str().unwrap_or_default();
    let text = key.split('\0').next().unwrap_or_default();
    // Long s and the Kelvin sign are the two characters that fold into ASCII.
    text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ſ' { 's' } else { c }).collect()
}

/// Returns the member `name` of `object`. Returns `None` if its name differs in case, although some parsers would
/// accept it.
pub(super) fn member<'d>(object: Value<'d>, name: &str) -> Option<Value<'d>> {
    object.members().find(|(key, _)| key.as_str().is_some_and(|key| key == name)).map(|(_, value)| value)
}

/// Returns the text of the string member `name` of `object`.
pub(super) fn text<'d>(object: Value<'d>, name: &str) -> Option<Cow<'d, str>> {
    member(object, name)?.as_str()
}

/// Returns the values at `pointer` in `value`.
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

/// Returns the value at `path`, the names of a pointer without wildcards.
pub(super) fn at<'d>(value: Value<'d>, path: &[Box<str>]) -> Option<Value<'d>> {
    path.iter().try_fold(value, |value, name| match value.kind() {
        Kind::Object => member(value, name),
        Kind::Array => value.items().nth(name.parse().ok()?),
        _ => None,
    })
}

/// Returns a neutral value of the same kind as `value`.
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

/// The pending replacements of ranges in a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Replaces `value` by `text`.
    pub(super) fn replace(&mut self, value: Value<'_>, text: String) {
        self.0.push((value.span(), text));
    }

    /// Returns `text` with all replacements. Of nested ranges, the outer one wins.
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
