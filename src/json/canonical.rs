//! The canonical form: one spelling for all texts with the same meaning.
//!
//! Members are sorted by key, white space is removed, and strings have one spelling. Numbers keep their spelling,
//! because some parsers distinguish `1` from `1.0`, or `1e2` from `100`. Members with equal keys keep their order,
//! because parsers disagree on which of them counts.

use std::borrow::Cow;

use super::{Kind, Value};

/// Selects the parts of a document that take part in a comparison.
pub trait Filter {
    /// The filter's position in its rules at a value.
    type Place: Clone;

    /// Enters the value of the member `key`, in canonical spelling, of the object at `place`. `None` leaves it out.
    fn member(&self, place: &Self::Place, key: &str) -> Option<Self::Place>;

    /// Enters the item `index` of the array at `place`. `None` leaves it out.
    fn item(&self, place: &Self::Place, index: usize) -> Option<Self::Place>;

    /// Writes a key or a scalar value.
    fn write(&self, value: Value<'_>, out: &mut Vec<u8>) {
        write_scalar(value, out);
    }
}

/// A filter that keeps everything.
#[derive(Clone, Copy, Debug)]
pub struct KeepAll;

impl Filter for KeepAll {
    type Place = ();

    fn member(&self, (): &(), _: &str) -> Option<()> {
        Some(())
    }

    fn item(&self, (): &(), _: usize) -> Option<()> {
        Some(())
    }
}

/// Writes the canonical form of the parts of `value` that `sieve`, positioned at `place`, keeps.
pub fn canonical<S: Filter>(value: Value<'_>, sieve: &S, place: &S::Place, out: &mut Vec<u8>) {
    Writer { sieve, members: Vec::new(), spelled: Vec::new() }.write(value, place, out);
}

/// A member to be written: its key, and the index of its canonical spelling if that differs from the text.
#[derive(Clone, Copy)]
struct Member<'d> {
    key: Value<'d>,
    spelled: Option<usize>,
}

struct Writer<'s, 'd, S: Filter> {
    sieve: &'s S,
    /// The members of all objects being written, the innermost last: one allocation for the whole document.
    members: Vec<Member<'d>>,
    spelled: Vec<String>,
}

impl<'d, S: Filter> Writer<'_, 'd, S> {
    fn write(&mut self, value: Value<'d>, place: &S::Place, out: &mut Vec<u8>) {
        match value.kind() {
            Kind::Object => self.object(value, place, out),
            Kind::Array => {
                out.push(b'[');
                for (index, item) in value.items().enumerate() {
                    if let Some(place) = self.sieve.item(place, index) {
                        self.write(item, &place, out);
                        out.push(b',');
                    }
                }
                out.push(b']');
            }
            _ => self.sieve.write(value, out),
        }
    }

    fn object(&mut self, object: Value<'d>, place: &S::Place, out: &mut Vec<u8>) {
        let (first, first_spelled) = (self.members.len(), self.spelled.len());
        let mut sorted = true;
        let mut before: &[u8] = b"";
        for (key, _) in object.members() {
            let spelled = if let Cow::Owned(spelled) = key.content() {
                self.spelled.push(spelled);
                // The canonical spelling may sort differently, so the members are sorted.
                sorted = false;
                Some(self.spelled.len() - 1)
            } else {
                let name = key.inside();
                sorted = sorted && before <= name;
                before = name;
                None
            };
            self.members.push(Member { key, spelled });
        }
        if !sorted {
            let spelled = &self.spelled;
            self.members[first..].sort_by(|a, b| a.name(spelled).cmp(b.name(spelled)));
        }
        out.push(b'{');
        for index in first..self.members.len() {
            let Member { key, spelled } = self.members[index];
            let name = spelled.map_or_else(|| key.content(), |at| Cow::Owned(self.spelled[at].clone()));
            if let Some(place) = self.sieve.member(place, &name) {
                self.sieve.write(key, out);
                out.push(b':');
                self.write(key.member(), &place, out);
                out.push(b',');
            }
        }
        out.push(b'}');
        self.members.truncate(first);
        self.spelled.truncate(first_spelled);
    }
}

impl<'d> Member<'d> {
    fn name<'s>(&self, spelled: &'s [String]) -> &'s [u8]
    where
        'd: 's,
    {
        match self.spelled {
            Some(at) => spelled[at].as_bytes(),
            None => self.key.inside(),
        }
    }
}

/// Writes a key or a scalar in its canonical spelling.
pub fn write_scalar(value: Value<'_>, out: &mut Vec<u8>) {
    if value.is_plain() {
        out.extend_from_slice(value.bytes());
    } else {
        out.push(b'"');
        out.extend_from_slice(value.content().as_bytes());
        out.push(b'"');
    }
}

/// Writes `value` as it was written, without white space between tokens.
pub fn minified(value: Value<'_>, out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Object => {
            out.push(b'{');
            for (index, (key, value)) in value.members().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(key.bytes());
                out.push(b':');
                minified(value, out);
            }
            out.push(b'}');
        }
        Kind::Array => {
            out.push(b'[');
            for (index, item) in value.items().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                minified(item, out);
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(value.bytes()),
    }
}

/// Returns whether two values mean the same: whether their canonical forms are equal.
pub fn same(a: Value<'_>, b: Value<'_>) -> bool {
    if a.bytes() == b.bytes() {
        return true;
    }
    if a.kind() != b.kind() || a.nodes() != b.nodes() {
        return false;
    }
    match a.kind() {
        Kind::String => a.content() == b.content(),
        Kind::Array => a.items().zip(b.items()).all(|(a, b)| same(a, b)),
        Kind::Object => {
            let lockstep = a
                .members()
                .zip(b.members())
                .all(|((key, a), (other, b))| key.content() == other.content() && same(a, b));
            lockstep || {
                let (mut one, mut other) = (Vec::new(), Vec::new());
                canonical(a, &KeepAll, &(), &mut one);
                canonical(b, &KeepAll, &(), &mut other);
                one == other
            }
        }
        _ => false,
    }
}
