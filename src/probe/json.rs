//! Finds changes in JSON by pointers, with `*` for every index and for keys that are data.

use super::change_series::{ChangeSeries, Observation};
use super::text;
use super::value::Grammar;
use crate::diff::{Budget, Edit, Edits, Exhausted, Step, edits};
use crate::explain::{Rule, is_name};
use crate::json::{Document, Kind, Value, unescape};

pub(super) fn collect(documents: &[Document<'_>], traces: &mut ChangeSeries) {
    for (at, pair) in documents.windows(2).enumerate() {
        let mut budget = Budget::new(traces.steps);
        let mut collector = Collector { fetch: at + 1, documents, traces };
        // A partial result is sufficient; the rules are tried on all samples anyway.
        let _ = edits(pair[0].root(), pair[1].root(), &mut collector, &mut budget);
    }
}

struct Collector<'c, 'd> {
    fetch: usize,
    documents: &'c [Document<'d>],
    traces: &'c mut ChangeSeries,
}

impl<'d> Edits<'d> for Collector<'_, '_> {
    fn edit(&mut self, path: &[Step<'d>], edit: Edit<'d>) -> Result<(), Exhausted> {
        let (old, new) = match edit {
            Edit::Replace(old, new) => (old, new),
            Edit::Add(_) | Edit::Remove(_) | Edit::Move(..) => {
                let (name, rule) = named(path, self.documents);
                let trace = self.traces.at(&name);
                trace.structural.push(self.fetch);
                trace.rule = rule;
                return Ok(());
            }
        };
        if let (Kind::String, Kind::String) = (old.kind(), new.kind())
            && text::is_prose(old.raw(), new.raw())
        {
            text::compare(self.fetch, old.raw(), new.raw(), Grammar::Plain, self.traces);
            return Ok(());
        }
        let (name, rule) = named(path, self.documents);
        let trace = self.traces.at(&name);
        let spot = path.iter().map(spelled).collect::<Vec<_>>().join("/");
        trace.rule = rule;
        let (old, new) = (old.raw().to_owned(), new.raw().to_owned());
        trace.seen.push(Observation { fetch: self.fetch, spot, old, new, unit: "", raw: None });
        Ok(())
    }
}

fn spelled(step: &Step<'_>) -> String {
    match step {
        Step::Key(key) => unescape(&key.content()).into_owned(),
        Step::Item(at) => at.to_string(),
    }
}

/// Returns the name of a location and the rule for it.
fn named(path: &[Step<'_>], documents: &[Document<'_>]) -> (String, Option<Rule>) {
    let mut pointer = String::new();
    for (at, step) in path.iter().enumerate() {
        pointer.push('/');
        let name = spelled(step);
        match step {
            Step::Key(_) if is_name(&name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
            Step::Item(_) if is_tuple(&path[..at], documents) => pointer.push_str(&name),
            Step::Key(_) | Step::Item(_) => pointer.push('*'),
        }
    }
    if pointer.is_empty() {
        return ("the whole document".to_owned(), None);
    }
    // A rule that ends at a data key also ignores that key's siblings.
    let rule = Rule::Json(pointer.clone());
    (pointer, Some(rule))
}

/// The maximum number of items of an array that is a record, with a meaning for each position.
const WIDEST: usize = 12;

/// Returns whether the array at `path` is a record without names rather than a list: its length is constant, and its
/// items are scalars of different types.
fn is_tuple(path: &[Step<'_>], documents: &[Document<'_>]) -> bool {
    let mut length = None;
    documents.iter().all(|document| {
        let Some(array) = path.iter().try_fold(document.root(), |value, step| below(value, step)) else { return false };
        let kinds: Vec<Kind> = array.items().map(|item| item.kind()).collect();
        let mixed = kinds.iter().any(|kind| *kind != kinds[0]);
        let scalars = array.items().all(|item| !item.is_container());
        mixed && scalars && kinds.len() <= WIDEST && *length.get_or_insert(kinds.len()) == kinds.len()
    })
}

fn below<'d>(value: Value<'d>, step: &Step<'_>) -> Option<Value<'d>> {
    match step {
        Step::Key(key) => {
            let name = key.content();
            value.members().find(|(known, _)| known.content() == name).map(|(_, value)| value)
        }
        Step::Item(at) => value.items().nth(*at),
    }
}
