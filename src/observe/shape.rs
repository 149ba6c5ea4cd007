//! The shape of a body: its locations, each with a fingerprint of the value.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::explain::{is_name, selector_of};
use crate::json::{Document, Kind, Value, unescape};
use crate::markup::{Dialect, Element, Outline};
use crate::model;
use crate::probe::tells_time;

/// A passing body.
#[derive(Clone, Copy, Debug)]
pub struct Body<'b> {
    /// Its kind.
    pub kind: model::Kind,
    /// Its text.
    pub text: &'b str,
    /// The wall-clock time in seconds since 1970.
    pub wall: f64,
}

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Any value.
    Plain,
    /// The current time.
    Clock,
    /// A random-looking value.
    Token,
}

/// A location, or all locations with one name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    name: u64,
    value: u64,
    /// The kind of the value; `None` if it is empty.
    sort: Option<Sort>,
}

/// The locations of a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Sorted by the fingerprints of their names.
    places: Vec<Place>,
    /// The names in the same order; kept for the newest shape only.
    names: Vec<String>,
}

/// The maximum number of locations. A body with more has no shape.
const MAX_PLACES: usize = 256;

/// The maximum number of elements that are examined.
const MAX_ELEMENTS: usize = 4000;

/// The maximum length of a clock or token.
const MAX_VALUE: usize = 80;

/// The maximum length of a name.
const MAX_NAME: usize = 160;

impl Body<'_> {
    /// Returns the shape; `None` for a body without locations or with too many.
    pub(super) fn shape(&self, hasher: &RandomState) -> Option<Shape> {
        let mut gathered = Gathered { places: HashMap::new(), hasher, wall: self.wall };
        match self.kind {
            model::Kind::Json => gathered.json(self.text)?,
            model::Kind::Html => gathered.markup(self.text, Dialect::Html)?,
            model::Kind::Xml => gathered.markup(self.text, Dialect::Xml)?,
            model::Kind::Text | model::Kind::Binary => return None,
        }
        let mut all: Vec<(String, Place)> = gathered.places.into_iter().collect();
        all.sort_by_key(|(_, place)| place.name);
        let (names, places) = all.into_iter().unzip();
        Some(Shape { places, names })
    }
}

impl Shape {
    /// Returns the names of the locations whose values differ from `before`, and their kinds. Returns `None` if
    /// locations were added or removed.
    pub(super) fn differing(&self, before: &Self) -> Option<Vec<(&str, Sort)>> {
        if self.places.len() != before.places.len() {
            return None;
        }
        let mut found = Vec::new();
        for ((new, name), old) in self.places.iter().zip(&self.names).zip(&before.places) {
            if new.name != old.name {
                return None;
            }
            if new.value != old.value {
                let sort = if old.sort == new.sort { new.sort } else { None };
                found.push((name.as_str(), sort.unwrap_or(Sort::Plain)));
            }
        }
        Some(found)
    }

    /// Returns the shape without names, as it is kept.
    pub(super) fn kept(mut self) -> Self {
        self.names = Vec::new();
        self
    }
}

struct Gathered<'h> {
    places: HashMap<String, Place>,
    hasher: &'h RandomState,
    wall: f64,
}

impl Gathered<'_> {
    /// Adds `text` at the location `name`. Returns `None` if there are too many locations.
    fn add(&mut self, name: &str, text: &str) -> Option<()> {
        self.put(name, self.hasher.hash_one(text), Some(self.sort(name, text)))
    }

    fn put(&mut self, name: &str, value: u64, sort: Option<Sort>) -> Option<()> {
        if let Some(place) = self.places.get_mut(name) {
            // Locations with the same name are not distinguished, and their order does not count.
            place.value = place.value.wrapping_add(value);
            place.sort = match (place.sort, sort) {
                (known, None) => known,
                (None, sort) => sort,
                (known, sort) if known == sort => sort,
                _ => Some(Sort::Plain),
            };
            return Some(());
        }
        if self.places.len() == MAX_PLACES || name.len() > MAX_NAME {
            return None;
        }
        self.places.insert(name.to_owned(), Place { name: self.hasher.hash_one(name), value, sort });
        Some(())
    }

    fn sort(&self, name: &str, text: &str) -> Sort {
        let text = text.trim().trim_matches('"');
        if text.is_empty() || text.len() > MAX_VALUE {
            Sort::Plain
        } else if tells_time(text, self.wall) {
            Sort::Clock
        } else if is_token(text) || (name.to_ascii_lowercase().contains("nonce") && !text.contains(' ')) {
            Sort::Token
        } else {
            Sort::Plain
        }
    }

    fn json(&mut self, text: &str) -> Option<()> {
        let document = Document::parse(text).ok()?;
        self.value(document.root(), &mut String::new())
    }

    /// The recursion depth is bounded by the JSON parser.
    fn value(&mut self, value: Value<'_>, pointer: &mut String) -> Option<()> {
        let here = pointer.len();
        match value.kind() {
            Kind::Object => {
                for (key, member) in value.members() {
                    let content = key.content();
                    let name = unescape(&content);
                    pointer.push('/');
                    match is_name(&name) {
                        true => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
                        false => pointer.push('*'),
                    }
                    self.value(member, pointer)?;
                    pointer.truncate(here);
                }
                Some(())
            }
            Kind::Array => {
                pointer.push_str("/*");
                for item in value.items() {
                    self.value(item, pointer)?;
                }
                // The number of items is included, so that an additional equal item is detected.
                self.add(pointer, &format!("{} items", value.items().count()))?;
                pointer.truncate(here);
                Some(())
            }
            _ => self.add(pointer, value.raw()),
        }
    }

    fn markup(&mut self, text: &str, dialect: Dialect) -> Option<()> {
        let outline = Outline::read(text, dialect)?;
        if outline.elements().len() > MAX_ELEMENTS {
            return None;
        }
        let mut open: Vec<(Element<'_>, String)> = Vec::new();
        let mut at = 0;
        for element in outline.elements() {
            let span = element.span();
            while let Some((top, name)) = open.last()
                && top.span().end <= span.start
            {
                self.text(text, at, top.inner().end, name)?;
                at = at.max(top.span().end);
                open.pop();
            }
            self.text(text, at, span.start, open.last().map_or("", |(_, name)| name))?;
            at = at.max(element.tag().end);
            let name = selector_of(&element);
            for attribute in element.attributes() {
                let own = attribute.name(&outline).to_ascii_lowercase();
                // Other attributes have no rule, so they count as part of their element.
                let is_plain = own.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                let place = if is_plain { format!("{name}@{own}") } else { name.clone() };
                self.add(&place, attribute.value(&outline))?;
            }
            // The presence of the element is included, so that an additional equal element is detected.
            self.put(&name, 1, None)?;
            open.push((element, name));
        }
        while let Some((top, name)) = open.pop() {
            self.text(text, at, top.inner().end, &name)?;
            at = at.max(top.span().end);
        }
        Some(())
    }

    /// Adds the text between two positions to the element called `name`.
    fn text(&mut self, text: &str, from: usize, to: usize, name: &str) -> Option<()> {
        match text.get(from..to).map(str::trim) {
            Some(said) if !said.is_empty() => self.add(name, said),
            _ => Some(()),
        }
    }
}

/// Returns whether a text looks random: long, with letters and digits in no order.
fn is_token(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() >= 16
        && digits >= 3
        && digits < text.len()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=+/.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: f64 = 1_763_809_200.0;

    fn changes(kind: model::Kind, old: &str, new: &str) -> Option<Vec<(String, Sort)>> {
        let hasher = RandomState::new();
        let shape = |text| Body { kind, text, wall: WALL }.shape(&hasher).expect("a shape");
        let (old, new) = (shape(old).kept(), shape(new));
        let found = new.differing(&old)?.into_iter();
        let mut found: Vec<_> = found.map(|(name, sort)| (name.to_owned(), sort)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Some(found)
    }

    #[test]
    fn places_that_change_are_named_as_rules_name_them() {
        let json = |old, new| changes(model::Kind::Json, old, new);
        let said = |name: &str, sort| Some(vec![(name.to_owned(), sort)]);
        assert_eq!(json(r#"{"a":1,"now":1763809200}"#, r#"{"a":1,"now":1763809203}"#), said("/now", Sort::Clock));
        assert_eq!(json(r#"{"t":"2025-11-22T11:00:00Z"}"#, r#"{"t":"2025-11-22T11:00:03Z"}"#), said("/t", Sort::Clock));
        assert_eq!(
            json(r#"{"l":[{"id":1,"s":"a"},{"id":2,"s":"b"}]}"#, r#"{"l":[{"id":1,"s":"a"},{"id":2,"s":"c"}]}"#),
            said("/l/*/s", Sort::Plain)
        );
        assert_eq!(json(r#"{"a":1}"#, r#"{"b":1}"#), None);
        assert_eq!(
            json(r#"{"csrf":"q8f14e45fceea167a5"}"#, r#"{"csrf":"z77b9c45fceea16abc9"}"#),
            said("/csrf", Sort::Token)
        );
        let html = |old, new| changes(model::Kind::Html, old, new);
        assert_eq!(
            html("<p>a</p><i id=clock>11:00:00</i>", "<p>a</p><i id=clock>11:00:03</i>"),
            said("#clock", Sort::Clock)
        );
        assert_eq!(html("<ul><li>a<li>b</ul>", "<ul><li>a<li>c</ul>"), said("ul > li", Sort::Plain));
        assert_eq!(html("<a href=/x?1>x</a>", "<a href=/x?2>x</a>"), said("a@href", Sort::Plain));
        assert_eq!(html("<p>a<b>b</b>c</p>", "<p>a<b>b</b>d</p>"), said("p", Sort::Plain));
        assert_eq!(html("<p>a</p>", "<p>a</p><p></p>"), said("p", Sort::Plain));
    }

    #[test]
    fn a_body_of_many_places_has_no_shape() {
        let keys: Vec<String> = ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("\"{a}{b}\":1"))).collect();
        let body = format!("{{{}}}", keys.join(","));
        let many = Body { kind: model::Kind::Json, text: &body, wall: WALL };
        assert!(many.shape(&RandomState::new()).is_none());
    }

    #[test]
    fn no_value_is_kept() {
        let text = r#"{"password":"hunter2hunter2","n":4711}"#;
        let shape = Body { kind: model::Kind::Json, text, wall: WALL }.shape(&RandomState::new()).expect("a shape");
        let said = format!("{shape:?} {:?}", shape.clone().kept());
        assert!(!said.contains("hunter2") && !said.contains("4711"), "{said}");
    }
}
