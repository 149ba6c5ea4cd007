//! Matches the items of two arrays.
//!
//! Equal items at both ends are left alone. The items between them are matched by identity if they have one: a member
//! such as `id`, found by trying candidates. Otherwise they are matched by their common subsequence, and the items
//! between two common ones are compared in pairs. Every match is compared once more, so a poor match costs a larger
//! patch and never a wrong one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_128;

use super::common::{common, interned, longest_increasing};
use super::tree::{Edit, Step, Walk};
use super::{Budget, Exhausted};
use crate::json::{self, Kind, Value};

/// Emits the edits that turn the items `old` into `new`.
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

/// Compares the items from `at` on in pairs, and removes or adds the rest. Returns the position of the next item.
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

/// The usual names of a member that identifies an item, the likeliest first.
const USUAL: [&str; 14] =
    ["id", "_id", "uuid", "guid", "key", "uid", "pk", "@id", "name", "path", "url", "href", "slug", "hash"];

/// How many members of the first item are tried as an identity.
const MAX_CANDIDATES: usize = 12;

type Identities<'d> = Vec<Cow<'d, str>>;

/// Returns the identities of the items on both sides, if all items are objects with such a member.
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
        // For a member with a usual name one shared value is enough. A member that only happens to be unique must be
        // shared by most items.
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

/// Returns the rank of `name` as the name of an identity; a lower rank is likelier.
fn rank(name: &str) -> usize {
    match USUAL.iter().position(|usual| usual.eq_ignore_ascii_case(name)) {
        Some(place) => place,
        None if name.ends_with("id") || name.ends_with("Id") || name.ends_with("ID") => USUAL.len(),
        None => USUAL.len() + 1,
    }
}

/// Returns the value of the member `name` of each item, if all items have one and all values differ.
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
        // 1 and "1" may be different identities, so the quotes are part of the value.
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

/// Removes, adds and moves items, and then compares the items with the same identity.
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

/// Tracks the positions of items while they are brought into a new order, from first to last.
///
/// Items in the longest chain that is already in order stay. Each other item is taken from its position and inserted
/// behind its predecessor. At any moment the list consists of the new order up to the current item, mixed with items
/// that must still move, followed by the rest of the fixed items, also mixed with such items.
struct Order {
    /// Fixed items, as pairs of old and new position.
    fixed: Vec<(usize, usize)>,
    /// The number of fixed items already passed.
    passed: usize,
    /// Items that must still move, by old position.
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

    /// Returns the position at which to insert item number `to` of the new order.
    fn add(&self, to: usize) -> usize {
        let last = self.passed.checked_sub(1).map(|last| self.fixed[last].0);
        to + last.map_or(0, |last| self.loose.before(last))
    }

    /// Places the item from `origin` as item number `to` of the new order. Returns its current position and its new
    /// position if it moves; the new position does not count the item itself.
    fn settle(&mut self, origin: usize, to: usize) -> Option<(usize, usize)> {
        if self.fixed.get(self.passed).is_some_and(|fixed| fixed.0 == origin) {
            self.passed += 1;
            return None;
        }
        let fixed_before = self.fixed.partition_point(|fixed| fixed.0 < origin);
        // The number of items before it: all of the new order up to the first fixed item behind it, or all settled
        // items and the fixed items between them and it.
        let settled = match self.fixed.get(fixed_before) {
            Some((_, next)) if fixed_before < self.passed => *next,
            _ => to + (fixed_before.max(self.passed) - self.passed),
        };
        let from = settled + self.loose.before(origin);
        self.loose.change(origin, -1);
        Some((from, self.add(to)))
    }
}

/// Counts by position with fast prefix sums (a Fenwick tree).
struct Counts(Vec<isize>);

impl Counts {
    fn change(&mut self, place: usize, by: isize) {
        let mut at = place + 1;
        while let Some(count) = self.0.get_mut(at) {
            *count += by;
            at += at & at.wrapping_neg();
        }
    }

    /// Returns the sum of all counts before `place`.
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
