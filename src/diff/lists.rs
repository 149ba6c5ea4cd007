//! Which items of two arrays are the same item.
//!
//! Equal ends are left alone. What lies between is matched by identity where items have one: a member such as `id`, found
//! by looking. Otherwise by what the two have in common, in order; what stands between two common items is then compared
//! in pairs. Whatever is matched is compared once more, so a poor match costs a larger patch and never a wrong one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_128;

use super::common::{common, interned, longest_increasing};
use super::tree::{Edit, Step, Walk};
use super::{Budget, Exhausted};
use crate::json::{self, Kind, Value};

/// Finds what turns the items `old` into `new`.
pub(super) fn compare<'d>(walk: &mut Walk<'_, 'd>, old: &[Value<'d>], new: &[Value<'d>]) -> Result<(), Exhausted> {
    let mut head = 0;
    while head < old.len() && head < new.len() && walk.same(old[head], new[head])? {
        head += 1;
    }
    let (mut old, mut new) = (&old[head..], &new[head..]);
    while let ([old_rest @ .., a], [new_rest @ .., b]) = (old, new)
        && walk.same(*a, *b)?
    {
        (old, new) = (old_rest, new_rest);
    }
    if old.is_empty() || new.is_empty() || (old.len() == 1 && new.len() == 1) {
        return gap(walk, head, old, new).map(drop);
    }
    match identities(old, new, walk.budget)? {
        Some((one, other)) => by_identity(walk, head, old, new, &one, &other),
        None => by_order(walk, head, old, new),
    }
}

/// Compares what stands at `at` in pairs, and removes or adds the rest. Returns where the next item stands then.
fn gap<'d>(walk: &mut Walk<'_, 'd>, mut at: usize, old: &[Value<'d>], new: &[Value<'d>]) -> Result<usize, Exhausted> {
    let pairs = old.len().min(new.len());
    for (old, new) in old.iter().zip(new) {
        walk.below(Step::Item(at), *old, *new)?;
        at += 1;
    }
    for gone in &old[pairs..] {
        walk.edit(Step::Item(at), Edit::Remove(*gone))?;
    }
    for added in &new[pairs..] {
        walk.edit(Step::Item(at), Edit::Add(*added))?;
        at += 1;
    }
    Ok(at)
}

fn by_order<'d>(walk: &mut Walk<'_, 'd>, head: usize, old: &[Value<'d>], new: &[Value<'d>]) -> Result<(), Exhausted> {
    let mut canonical = Vec::new();
    let mut fingerprints = |items: &[Value<'d>], budget: &mut Budget| -> Result<Vec<u128>, Exhausted> {
        let fingerprint = |item: &Value<'d>| {
            budget.spend(item.nodes())?;
            budget.read(item.raw().len())?;
            canonical.clear();
            json::canonical(*item, &json::KeepAll, &(), &mut canonical);
            Ok(xxh3_128(&canonical))
        };
        items.iter().map(fingerprint).collect()
    };
    let (one, other) = (fingerprints(old, walk.budget)?, fingerprints(new, walk.budget)?);
    let (one, other) = interned(one.into_iter(), other.into_iter(), walk.budget)?;
    let (mut at, mut from) = (head, (0, 0));
    for run in common(&one, &other, walk.budget)? {
        at = gap(walk, at, &old[from.0..run.a], &new[from.1..run.b])?;
        for (old, new) in old[run.a..run.a + run.len].iter().zip(&new[run.b..]) {
            walk.below(Step::Item(at), *old, *new)?;
            at += 1;
        }
        from = (run.a + run.len, run.b + run.len);
    }
    gap(walk, at, &old[from.0..], &new[from.1..]).map(drop)
}

/// The names that a member with an item's identity usually has, the likeliest first.
const USUAL: [&str; 14] =
    ["id", "_id", "uuid", "guid", "key", "uid", "pk", "@id", "name", "path", "url", "href", "slug", "hash"];

/// How many members of the first item are looked at.
const MAX_CANDIDATES: usize = 12;

type Identities<'d> = Vec<Cow<'d, str>>;

/// What tells the items apart, if all of them are objects that have such a thing.
fn identities<'d>(
    old: &[Value<'d>],
    new: &[Value<'d>],
    budget: &mut Budget,
) -> Result<Option<(Identities<'d>, Identities<'d>)>, Exhausted> {
    if !old.iter().chain(new).all(|item| item.kind() == Kind::Object) {
        return Ok(None);
    }
    let Some(first) = old.first() else { return Ok(None) };
    let mut candidates: Vec<(usize, Cow<'d, str>)> = first
        .members()
        .filter(|(_, value)| matches!(value.kind(), Kind::String | Kind::Number))
        .map(|(key, _)| (rank(&key.content()), key.content()))
        .collect();
    candidates.sort_by_key(|(rank, _)| *rank);
    candidates.truncate(MAX_CANDIDATES);
    let mut best: Option<(usize, Identities<'d>, Identities<'d>)> = None;
    for (rank, name) in candidates {
        let Some(one) = values(old, &name, budget)? else { continue };
        let Some(other) = values(new, &name, budget)? else { continue };
        let known: HashSet<&str> = one.iter().map(AsRef::as_ref).collect();
        let shared = other.iter().filter(|value| known.contains(value.as_ref())).count();
        // A member by a usual name need only hold for some items; what just happens to be unique must hold for most.
        let enough = if rank < USUAL.len() + 1 { 1 } else { old.len().min(new.len()).div_ceil(2) };
        if shared >= enough && best.as_ref().is_none_or(|(most, ..)| shared > *most) {
            best = Some((shared, one, other));
            if rank < USUAL.len() {
                break;
            }
        }
    }
    Ok(best.map(|(_, one, other)| (one, other)))
}

/// How likely a member called `name` is to be an identity; less is likelier.
fn rank(name: &str) -> usize {
    match USUAL.iter().position(|usual| usual.eq_ignore_ascii_case(name)) {
        Some(place) => place,
        None if name.ends_with("id") || name.ends_with("Id") || name.ends_with("ID") => USUAL.len(),
        None => USUAL.len() + 1,
    }
}

/// The value of the member `name` of each item, if all have one, and no two the same.
fn values<'d>(items: &[Value<'d>], name: &str, budget: &mut Budget) -> Result<Option<Identities<'d>>, Exhausted> {
    let mut seen = HashSet::with_capacity(items.len());
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let mut fetched = 1;
        let found = item.members().inspect(|_| fetched += 1).find(|(key, _)| key.content() == name);
        budget.spend(fetched + 2)?;
        let Some((_, value)) = found.filter(|(_, value)| matches!(value.kind(), Kind::String | Kind::Number)) else {
            return Ok(None);
        };
        // Whether 1 and "1" are one thing is not for us to say: the quotes are part of it.
        let value = if value.kind() == Kind::String {
            Cow::Owned(format!("\"{}", value.content()))
        } else {
            Cow::Borrowed(value.raw())
        };
        if !seen.insert(value.clone()) {
            return Ok(None);
        }
        values.push(value);
    }
    Ok(Some(values))
}

/// Removes, adds, moves, and then compares what has the same identity.
fn by_identity<'d>(
    walk: &mut Walk<'_, 'd>,
    head: usize,
    old: &[Value<'d>],
    new: &[Value<'d>],
    one: &Identities<'d>,
    other: &Identities<'d>,
) -> Result<(), Exhausted> {
    let places: HashMap<&str, usize> = one.iter().enumerate().map(|(at, value)| (value.as_ref(), at)).collect();
    let origins: Vec<Option<usize>> = other.iter().map(|value| places.get(value.as_ref()).copied()).collect();
    walk.budget.spend(4 * (old.len() + new.len()))?;
    let mut stays = vec![false; old.len()];
    origins.iter().flatten().for_each(|origin| stays[*origin] = true);
    for (at, gone) in old.iter().enumerate().rev().filter(|(at, _)| !stays[*at]) {
        walk.edit(Step::Item(head + at), Edit::Remove(*gone))?;
    }
    let mut order = Order::new(old.len(), &origins);
    for (to, item) in new.iter().enumerate() {
        match origins[to] {
            None => walk.edit(Step::Item(head + order.add(to)), Edit::Add(*item))?,
            Some(origin) => {
                if let Some((from, at)) = order.settle(origin, to)
                    && from != at
                {
                    walk.edit(Step::Item(head + at), Edit::Move(head + from, *item))?;
                }
            }
        }
    }
    for (to, item) in new.iter().enumerate() {
        if let Some(origin) = origins[to] {
            walk.below(Step::Item(head + to), old[origin], *item)?;
        }
    }
    Ok(())
}

/// Keeps track of where items stand while they are brought into a new order, from the first to the last.
///
/// The items of the longest chain that is in order already stay. All others are taken from where they are and put behind
/// the one that comes before them. At any moment the list is: the new order up to here, with items between that still
/// have to go elsewhere, then what stays of the rest, with such items between as well.
struct Order {
    /// Items that stay, by their old place and their new one.
    fixed: Vec<(usize, usize)>,
    /// How many of those are behind us.
    passed: usize,
    /// Items that must go elsewhere and have not yet, by old place.
    loose: Counts,
}

impl Order {
    fn new(old: usize, origins: &[Option<usize>]) -> Self {
        let kept: Vec<(usize, usize)> =
            origins.iter().enumerate().filter_map(|(to, origin)| Some(((*origin)?, to))).collect();
        let values: Vec<usize> = kept.iter().map(|(origin, _)| *origin).collect();
        let fixed: Vec<(usize, usize)> = longest_increasing(&values).into_iter().map(|at| kept[at]).collect();
        let mut loose = Counts(vec![0; old + 1]);
        kept.iter().for_each(|(origin, _)| loose.change(*origin, 1));
        fixed.iter().for_each(|(origin, _)| loose.change(*origin, -1));
        Self { fixed, passed: 0, loose }
    }

    /// Where an item goes that is the `to`th of the new order.
    fn add(&self, to: usize) -> usize {
        let last = self.passed.checked_sub(1).map(|last| self.fixed[last].0);
        to + last.map_or(0, |last| self.loose.before(last))
    }

    /// The item that was at `origin` is the `to`th of the new order. Returns from where to where it goes, if it does; the
    /// second place is counted without it.
    fn settle(&mut self, origin: usize, to: usize) -> Option<(usize, usize)> {
        if self.fixed.get(self.passed).is_some_and(|fixed| fixed.0 == origin) {
            self.passed += 1;
            return None;
        }
        let fixed_before = self.fixed.partition_point(|fixed| fixed.0 < origin);
        // What stands before it: all of the new order up to the first fixed item behind it, or all that was settled and
        // the fixed items between there and it.
        let settled = match self.fixed.get(fixed_before) {
            Some((_, next)) if fixed_before < self.passed => *next,
            _ => to + (fixed_before.max(self.passed) - self.passed),
        };
        let from = settled + self.loose.before(origin);
        self.loose.change(origin, -1);
        Some((from, self.add(to)))
    }
}

/// Counts by place that can be summed up to any place quickly (a Fenwick tree).
struct Counts(Vec<isize>);

impl Counts {
    fn change(&mut self, place: usize, by: isize) {
        let mut at = place + 1;
        while let Some(count) = self.0.get_mut(at) {
            *count += by;
            at += at & at.wrapping_neg();
        }
    }

    /// The sum of all counts before `place`.
    fn before(&self, place: usize) -> usize {
        let mut at = place;
        let mut sum = 0;
        while at > 0 {
            sum += self.0[at];
            at &= at - 1;
        }
        usize::try_from(sum).unwrap_or(0)
    }
}
