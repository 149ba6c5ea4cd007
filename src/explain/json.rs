//! Locations in JSON: pointers, with `*` for every index and for keys that are data.

use super::is_name;
use super::places::{ChangeKind, Explanation, Location, Rule};
use crate::diff::{Budget, Edit, Edits, Exhausted, Step, edits};
use crate::json::{Document, Value, unescape};
use crate::normalise::{IgnoredRanges, Rules};

/// Adds the differences between `old` and `new` to `found`.
pub(super) fn compare<'d>(
    old: &'d Document<'d>,
    new: &'d Document<'d>,
    rules: &'d Rules,
    found: &'d mut Explanation,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    let mut collector = Collector {
        old: Text { text: old.text(), cuts: rules.cuts(old.text(), None) },
        new: Text { text: new.text(), cuts: rules.cuts(new.text(), None) },
        rules,
        found,
    };
    edits(old.root(), new.root(), &mut collector, budget)
}

struct Text<'d> {
    text: &'d str,
    cuts: IgnoredRanges,
}

struct Collector<'d> {
    old: Text<'d>,
    new: Text<'d>,
    rules: &'d Rules,
    found: &'d mut Explanation,
}

impl<'d> Edits<'d> for Collector<'d> {
    fn edit(&mut self, path: &[Step<'d>], edit: Edit<'d>) -> Result<(), Exhausted> {
        let (verb, cut) = match edit {
            Edit::Add(value) => (ChangeKind::Added, self.new.is_cut(value)),
            Edit::Remove(value) => (ChangeKind::Removed, self.old.is_cut(value)),
            Edit::Move(..) => (ChangeKind::Moved, false),
            Edit::Replace(old, new) => (ChangeKind::Changed, self.old.kept(old) == self.new.kept(new)),
        };
        let name = pointer(path);
        self.found.push(Location {
            ignored: cut || ignores(self.rules, path),
            // A rule that ends at a data key would also ignore that key's siblings.
            rule: path.last().filter(|last| is_named(last)).map(|_| Rule::Json(name.clone())),
            name: if name.is_empty() { "the whole document".to_owned() } else { name },
            verb,
            count: 1,
        });
        Ok(())
    }
}

impl Text<'_> {
    fn is_cut(&self, value: Value<'_>) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&value.span())
    }

    fn kept(&self, value: Value<'_>) -> String {
        self.cuts.remaining(value.span()).map(|kept| &self.text[kept]).collect()
    }
}

fn ignores(rules: &Rules, path: &[Step<'_>]) -> bool {
    let names: Vec<String> = path
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.content().into_owned(),
            Step::Item(at) => at.to_string(),
        })
        .collect();
    rules.ignores(names.iter().map(String::as_str))
}

fn is_named(step: &Step<'_>) -> bool {
    match step {
        Step::Key(key) => is_name(&unescape(&key.content())),
        Step::Item(_) => true,
    }
}

fn pointer(path: &[Step<'_>]) -> String {
    let mut pointer = String::new();
    for step in path {
        pointer.push('/');
        match step {
            Step::Key(key) => {
                let content = key.content();
                let key = unescape(&content);
                if is_name(&key) { pointer.push_str(&key) } else { pointer.push('*') }
            }
            Step::Item(_) => pointer.push('*'),
        }
    }
    pointer
}
