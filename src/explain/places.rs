//! What is said of a difference.

use std::fmt;

/// What happened at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another than before.
    Changed,
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It stands elsewhere.
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

/// An entry of a route's `ignore`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Of `ignore.json`.
    Json(String),
    /// Of `ignore.css`.
    Css(String),
    /// Of `ignore.regex`.
    Regex(String),
}

impl Rule {
    /// The key below `ignore`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Css(_) => "css",
            Self::Regex(_) => "regex",
        }
    }

    /// The entry.
    pub fn text(&self) -> &str {
        match self {
            Self::Json(text) | Self::Css(text) | Self::Regex(text) => text,
        }
    }
}

/// A place, or all places that have the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// What it is called.
    pub name: String,
    /// What happened there.
    pub verb: ChangeKind,
    /// How often.
    pub count: usize,
    /// Whether the route's rules ignore it.
    pub ignored: bool,
    /// What would make it so.
    pub rule: Option<Rule>,
}

/// Where two representations differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    places: Vec<Location>,
    /// Places that are not among them.
    left_out: usize,
    partial: bool,
}

/// How many names are kept; they are looked through for each place that is added.
const MAX_PLACES: usize = 64;

/// How many of them are said.
const MAX_SAID: usize = 6;

/// How long one may be, in characters.
const MAX_NAME_LEN: usize = 120;

impl Explanation {
    /// The places that were found.
    pub fn places(&self) -> &[Location] {
        &self.places
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.left_out == 0
    }

    /// The rules that would make all of the difference no change, as far as there are such.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.places.iter().filter(|place| !place.ignored).filter_map(|place| place.rule.as_ref())
    }

    /// As if there had been changes that just these rules would ignore.
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

    /// The work to find all places was too much.
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

/// As in `/items/*/status, /items/* added (2 times); ignored: /now`.
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
