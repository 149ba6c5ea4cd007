//! Describes the differences between two representations for operators, and suggests rules that would ignore them.
//!
//! ```text
//! (Representation, Representation, Rules) ─ explain ─▶ Explanation: places, each with the rule that would ignore it
//! ```
//!
//! Bodies hold secrets, and explanations have a wider audience than the bodies. An explanation therefore names
//! locations but never values, and a key that looks like a value is written as `*`. Both the length of an explanation
//! and the work to compute it are bounded.

mod json;
mod markup;
mod names;
mod places;
mod text;

pub use names::{is_name, selector_of};
pub use places::{ChangeKind, Explanation, Location, Rule};

use crate::diff::Budget;
use crate::json::Document;
use crate::markup::Outline;
use crate::model::Representation;
use crate::normalise::{BodyKind, Rules};

/// The maximum size of a body that is explained. Larger bodies are only compared.
const MAX_BYTES: usize = 2 << 20;

/// The step budget: some milliseconds.
const MAX_STEPS: usize = 500_000;

/// Describes where `old` and `new` differ, and which of the differences `rules` ignore.
pub fn explain(old: &Representation, new: &Representation, rules: &Rules) -> Explanation {
    let mut found = Explanation::default();
    if old.status != new.status {
        found.add(format!("the status ({} before, {} now)", old.status.as_u16(), new.status.as_u16()));
    }
    if old.media_type() != new.media_type() {
        found.add("the media type".to_owned());
    }
    let (one, other) = (rules.read(old), rules.read(new));
    let sizes = || format!("{} bytes before, {} now", old.body.len(), new.body.len());
    if old.body == new.body {
        return found;
    }
    if one.form != other.form || one.form == BodyKind::Bytes {
        found.add(format!("the body ({})", sizes()));
        return found;
    }
    if one.text.len().max(other.text.len()) > MAX_BYTES {
        found.add(format!("a body too large to say where ({})", sizes()));
        return found;
    }
    let mut budget = Budget::new(MAX_STEPS);
    let complete = match one.form {
        BodyKind::Json => match (Document::parse(&one.text), Document::parse(&other.text)) {
            (Ok(one), Ok(other)) => json::compare(&one, &other, rules, &mut found, &mut budget),
            _ => text::compare(&one.text, &other.text, rules, &mut found, &mut budget),
        },
        BodyKind::Markup(dialect) => match (Outline::read(&one.text, dialect), Outline::read(&other.text, dialect)) {
            (Some(one), Some(other)) => markup::compare(&one, &other, rules, &mut found, &mut budget),
            _ => text::compare(&one.text, &other.text, rules, &mut found, &mut budget),
        },
        BodyKind::Text | BodyKind::Bytes => text::compare(&one.text, &other.text, rules, &mut found, &mut budget),
    };
    if complete.is_err() {
        found.is_partial();
    } else if found.is_empty() {
        found.add("the spelling only".to_owned());
    }
    found
}

#[cfg(test)]
mod tests;
