//! Checks whether a response to a body that only reads can be shared, and restores the values of each client in it.

use std::borrow::Cow;

use bytes::Bytes;

use super::members::{at, member};
use crate::json::{Document, Kind, Value};
use crate::model::{BodySyntax, EchoPlace, EchoSlot, EchoSpelling, ReadBody};

/// Checks the response body `answer` to the request body `asked`. Returns the positions of client-specific values.
///
/// # Errors
/// Why the response is for one client alone: it reports errors, or lacks the values that it should repeat.
pub fn check_answer(asked: &ReadBody, answer: &[u8]) -> Result<Box<[EchoPlace]>, &'static str> {
    let needs_json = matches!(asked.syntax, BodySyntax::JsonRpc | BodySyntax::GraphQl);
    if !needs_json && asked.echo_slots.is_empty() {
        return Ok(Box::default());
    }
    let document = std::str::from_utf8(answer).ok().and_then(|text| Document::parse(text).ok());
    let Some(document) = document else {
        return if needs_json { Err("the answer is not JSON") } else { Ok(Box::default()) };
    };
    let root = document.root();
    let members: Vec<Value<'_>> = match (asked.is_batch, root.kind()) {
        (true, Kind::Array) => root.items().collect(),
        (true, _) => return Err("the answer to a batch is none"),
        (false, Kind::Object) => vec![root],
        (false, _) if needs_json => return Err("the answer is no object"),
        (false, _) => return Ok(Box::default()),
    };
    let mut places = Vec::new();
    for answered in members {
        check_errors(asked.syntax, answered)?;
        for (path, names) in asked.echo_paths.iter().enumerate() {
            let Some(value) = at(answered, names) else { continue };
            let mut slots = asked.echo_slots.iter().enumerate().filter(|(_, slot)| slot.path == path).peekable();
            if slots.peek().is_none() {
                // The request had no such value: the application set it.
                continue;
            }
            let Some((slot, _)) = slots.find(|(_, slot)| stands_for(slot, value)) else {
                return Err("the answer does not give back what it was asked with");
            };
            places.push(EchoPlace { range: value.span(), slot, is_text: value.kind() == Kind::String });
        }
    }
    places.sort_unstable_by_key(|place| place.range.start);
    let apart = places.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start);
    if apart { Ok(places.into()) } else { Err("the answer gives back one thing within another") }
}

fn check_errors(syntax: BodySyntax, answered: Value<'_>) -> Result<(), &'static str> {
    let is_there = |name: &str| {
        let named = answered.members().filter(|(key, _)| key.as_str().is_some_and(|key| key == name));
        let is_empty = |value: Value<'_>| {
            value.kind() == Kind::Null || value.kind() == Kind::Array && value.items().next().is_none()
        };
        named.into_iter().any(|(_, value)| !is_empty(value))
    };
    match syntax {
        BodySyntax::JsonRpc if answered.kind() != Kind::Object => Err("a member of the answer is no object"),
        BodySyntax::JsonRpc if is_there("error") => Err("the answer is an error"),
        BodySyntax::GraphQl if is_there("errors") => Err("the answer has errors"),
        BodySyntax::GraphQl if member(answered, "hasNext").is_some() => Err("the answer comes in pieces"),
        _ => Ok(()),
    }
}

/// Returns whether `value` is the number that a fetch sent in place of a client's value.
fn stands_for(slot: &EchoSlot, value: Value<'_>) -> bool {
    let number = slot.member.to_string();
    match (slot.spelling, value.kind()) {
        (EchoSpelling::Text | EchoSpelling::Field, Kind::String) => value.content() == number,
        (EchoSpelling::Number | EchoSpelling::Field, Kind::Number) => value.raw() == number,
        _ => false,
    }
}

/// Returns `answer` with a client's own values, `echoed` by slot, at `places`. Returns `None` if such a value cannot be
/// written there.
pub fn restore(answer: &Bytes, places: &[EchoPlace], echoed: &[Box<str>], asked: &ReadBody) -> Option<Bytes> {
    if places.is_empty() {
        return Some(answer.clone());
    }
    let mut restored = Vec::with_capacity(answer.len() + 64);
    let mut done = 0;
    for place in places {
        let (own, slot) = (echoed.get(place.slot)?, asked.echo_slots.get(place.slot)?);
        restored.extend_from_slice(answer.get(done..place.range.start)?);
        restored.extend_from_slice(spelled(own, slot.spelling, place.is_text)?.as_bytes());
        done = place.range.end;
    }
    restored.extend_from_slice(answer.get(done..)?);
    Some(restored.into())
}

/// Returns a client's own value as JSON.
fn spelled(own: &str, spelling: EchoSpelling, is_text: bool) -> Option<Cow<'_, str>> {
    match (spelling, is_text) {
        (EchoSpelling::Field, true) => Some(Cow::Owned(serde_json::Value::from(own).to_string())),
        (EchoSpelling::Field, false) => {
            let is_number = Document::parse(own).is_ok_and(|number| number.root().kind() == Kind::Number);
            (is_number && own.trim() == own).then_some(Cow::Borrowed(own))
        }
        (EchoSpelling::Text | EchoSpelling::Number, _) => Some(Cow::Borrowed(own)),
    }
}
