//! The text of an explanation.

use std::fmt;

/// The kind of change at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its value changed.
    Changed,
    /// It was added.
    Added,
    /// It was removed.
    Removed,
    /// It was moved.
    Moved,
}

impl ChangeKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Moved => "moved",
        }
    }
}

/// A suggested entry of a route's `ignore`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// For `ignore.json`.
    Json(String),
    /// For `ignore.css`.
    Css(String),
    /// For `ignore.regex`.
    Regex(String),
}

impl Rule {
    /// Returns the configuration key below `ignore`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Css(_) => "css",
            Self::Regex(_) => "regex",
        }
    }

    /// Returns the text of the entry.
    pub fn text(&self) -> &str {
        match self {
            Self::Json(text) | Self::Css(text) | Self::Regex(text) => text,
        }
    }
}

/// One location, or all locations with the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The name of the location.
    pub name: String,
    /// The kind of change.
    pub verb: ChangeKind,
    /// The number of changes.
    pub count: usize,
    /// Whether the route's rules ignore the change.
    pub ignored: bool,
    /// The rule that would ignore it.
    pub rule: Option<Rule>,
}

/// The differences between two representations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    places: Vec<Location>,
    /// The number of locations that were not kept.
    left_out: usize,
    partial: bool,
}

/// The maximum number of locations kept. Adding a location searches them linearly.
const MAX_PLACES: usize = 64;

/// The maximum number of locations in the text.
const MAX_SAID: usize = 6;

/// The maximum length of a name, in characters.
const MAX_NAME_LEN: usize = 120;

impl Explanation {
    /// Returns the locations that were found.
    pub fn places(&self) -> &[Location] {
        &self.places
    }

    /// Returns whether no difference was found.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.left_out == 0
    }

    /// Returns the rules that would ignore all differences, as far as such rules exist.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.places.iter().filter(|place| !place.ignored).filter_map(|place| place.rule.as_ref())
    }

    /// Creates an explanation of words alone.
    pub fn of_words(words: &str) -> Self {
        let mut made = Self::default();
        made.add(words.to_owned());
        made
    }

    /// Creates an explanation of changes that exactly these rules would ignore.
    pub fn of_rules(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut made = Self::default();
        for rule in rules {
            made.push(Location {
                name: rule.text().to_owned(),
                verb: ChangeKind::Changed,
                count: 1,
                ignored: false,
                rule: Some(rule),
            });
        }
        made
    }

    pub(super) fn add(&mut self, name: String) {
        self.push(Location { name, verb: ChangeKind::Changed, count: 1, ignored: false, rule: None });
    }

    pub(super) fn push(&mut self, place: Location) {
        let room = self.places.len() < MAX_PLACES;
        let alike = |known: &&mut Location| {
            (&known.name, known.verb, known.ignored) == (&place.name, place.verb, place.ignored)
        };
        match self.places.iter_mut().find(alike) {
            Some(known) => known.count += place.count,
            None if room => self.places.push(place),
            None => self.left_out += 1,
        }
    }

    /// Notes that the search for differences ran out of steps.
    pub(super) fn is_partial(&mut self) {
        self.partial = true;
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, ignored: bool) -> fmt::Result {
        let mut said = 0;
        let mut more = if ignored { 0 } else { self.left_out };
        for place in self.places.iter().filter(|place| place.ignored == ignored) {
            if said == MAX_SAID {
                more += 1;
                continue;
            }
            f.write_str(if said == 0 { "" } else { ", " })?;
            match place.name.char_indices().nth(MAX_NAME_LEN) {
                Some((end, _)) => write!(f, "{}…", &place.name[..end])?,
                None => f.write_str(&place.name)?,
            }
            if place.verb != ChangeKind::Changed {
                write!(f, " {}", place.verb.as_str())?;
            }
            if place.count > 1 {
                write!(f, " ({} times)", place.count)?;
            }
            said += 1;
        }
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// Formats as `/items/*/status, /items/* added (2 times); ignored: /now`.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = |ignored| self.places.iter().any(|place| place.ignored == ignored);
        if any(false) {
            self.write(f, false)?;
        }
        if any(true) {
            f.write_str(if any(false) { "; ignored: " } else { "ignored: " })?;
            self.write(f, true)?;
        }
        match (self.partial, self.places.is_empty()) {
            (true, true) => f.write_str("too much to say where"),
            (true, false) => f.write_str("; and more, too much to say where"),
            (false, _) => Ok(()),
        }
    }
}
