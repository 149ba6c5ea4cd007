//! A part that was learned to be noise, and whether it continues to change in the same way.
//!
//! A rule says where to look; the law says which values may be there. Each spot that the rule matches is judged
//! individually: a spot that has stood still is not noise, whatever its neighbours do.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::time_value::{Kind, TimeValue, time_value};
use super::value::untagged;
use super::volatility::{Volatility, is_opaque};
use crate::explain::Rule;
use crate::json::{Document, Value, unescape};
use crate::markup::Outline;
use crate::normalise::{BodyKind, DecodedBody, Pointer, Rules, Token};

/// How the values of a part develop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// Continuously with the clock.
    Clock,
    /// With the clock, in steps: an age in whole minutes.
    Length,
    /// In any way, as long as they change and stay of the same kind.
    Free,
    /// The same, and as long as they both rise and fall: a number that only rises may count events that users wait for.
    Wavering,
}

impl Law {
    /// Returns whether all values that `other` expects are expected by this one, as far as the same fetches show.
    pub(super) fn includes(self, other: Self) -> bool {
        self == other || (self, other) == (Self::Free, Self::Wavering)
    }
}

/// The locations of a rule's values.
#[derive(Clone, Debug)]
enum Place {
    Json(Pointer),
    /// Elements, attributes or ranges of text.
    Text(Box<Rules>),
}

/// A part of a resource that changes by itself.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) rule: Rule,
    pub(super) nature: Volatility,
    pub(super) law: Law,
    place: Place,
    spots: BTreeMap<String, Spot>,
    /// The number of consecutive fetches without a value.
    missing: u32,
    /// The time of the last fetch.
    seen: Option<Instant>,
}

/// The maximum number of spots that are tracked individually.
const MAX_SPOTS: usize = 256;

/// The number of consecutive fetches without a value that end the part.
const MAX_MISSING: u32 = 3;

/// How long a spot may stay unchanged, or for how many fetches if those are rare.
const REST: Duration = Duration::from_secs(10);
const REST_FETCHES: u32 = 3;

/// The tolerance in seconds by which a clock may deviate from the elapsed time.
const SLACK: f64 = 1.15;

/// The same for clocks with milliseconds or less: response times vary by this much.
const FINE_SLACK: f64 = 0.3;

/// The maximum age of the reading with which a clock is compared.
const ANCHOR: Duration = Duration::from_secs(30);

/// The factor by which a number must exceed its largest previous step to be extraordinary.
const JUMP: f64 = 8.0;

/// A parsed body in which values are searched.
pub(super) enum Read<'t> {
    Json(Document<'t>, &'t str),
    Markup(Outline<'t>),
    Text(&'t str),
}

impl<'t> Read<'t> {
    pub(super) fn of(body: &'t DecodedBody<'_>) -> Self {
        match body.form {
            BodyKind::Json => match Document::parse(&body.text) {
                Ok(document) => Self::Json(document, &body.text),
                Err(_) => Self::Text(&body.text),
            },
            BodyKind::Markup(dialect) => match Outline::read(&body.text, dialect) {
                Some(outline) => Self::Markup(outline),
                None => Self::Text(&body.text),
            },
            BodyKind::Text | BodyKind::Bytes => Self::Text(&body.text),
        }
    }
}

impl Part {
    /// Creates a part for `rule` with values of this `nature`. Returns `None` if the nature implies no law.
    pub(super) fn new(rule: Rule, nature: Volatility) -> Option<Self> {
        let law = match nature {
            Volatility::Clock | Volatility::Age | Volatility::Countdown => Law::Clock,
            Volatility::Duration => Law::Length,
            Volatility::Counter | Volatility::Token | Volatility::Noise => Law::Free,
            Volatility::Measure => Law::Wavering,
            Volatility::Churn | Volatility::Unknown => return None,
        };
        let none = Rules::default();
        let place = match &rule {
            Rule::Json(text) => Place::Json(text.parse().ok()?),
            Rule::Css(text) => Place::Text(Box::new(none.and(&[], &[text.parse().ok()?], &[]))),
            Rule::Regex(text) => Place::Text(Box::new(none.and(&[], &[], &[text.parse().ok()?]))),
        };
        Some(Self { rule, nature, law, place, spots: BTreeMap::new(), missing: 0, seen: None })
    }

    /// Returns the same part without observations.
    pub(super) fn afresh(&self) -> Self {
        Self { spots: BTreeMap::new(), missing: 0, seen: None, ..self.clone() }
    }

    /// Returns whether a number that follows neither the clock nor a law of growth changed in the fetch that began at `at`.
    pub(super) fn has_moved_freely(&self, at: Instant) -> bool {
        let is_number = matches!(self.nature, Volatility::Counter | Volatility::Noise | Volatility::Measure);
        is_number && self.spots.values().any(|spot| spot.moves > 0 && spot.moved == at)
    }

    /// Returns whether the part has ended because it has no values.
    pub(super) fn is_over(&self) -> bool {
        self.missing >= MAX_MISSING
    }

    /// Processes the values in a fetch that began at `at`. Returns whether they were expected.
    pub(super) fn observe(&mut self, body: &Read<'_>, at: Instant) -> bool {
        let values = self.values(body);
        let rest = self.rest(at);
        self.missing = if values.is_empty() { self.missing + 1 } else { 0 };
        let is_first = self.spots.is_empty();
        let mut expected = values.len() <= MAX_SPOTS && (is_first || values.keys().eq(self.spots.keys()));
        self.spots.retain(|spot, _| values.contains_key(spot));
        for (name, text) in values.into_iter().take(MAX_SPOTS) {
            match self.spots.get_mut(&name) {
                Some(spot) => expected &= spot.observe(text, self.law, rest, at),
                None => drop(self.spots.insert(name, Spot::new(text, at))),
            }
        }
        expected
    }

    /// Processes an unchanged fetch that began at `at`. Returns whether that was expected.
    pub(super) fn rests(&mut self, at: Instant) -> bool {
        let (law, rest) = (self.law, self.rest(at));
        self.spots.values_mut().map(|spot| spot.rests(law, rest, at)).filter(|expected| !expected).count() == 0
    }

    /// Records that all values have been sent to clients.
    pub(super) fn told(&mut self) {
        self.spots.values_mut().for_each(|spot| spot.silent = false);
    }

    /// Returns how long a spot may stay unchanged, given a fetch now.
    fn rest(&mut self, at: Instant) -> Duration {
        let gap = self.seen.replace(at).map_or(Duration::ZERO, |last| at.saturating_duration_since(last));
        REST.max(gap * REST_FETCHES)
    }

    fn values(&self, body: &Read<'_>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        match (&self.place, body) {
            (Place::Json(pointer), Read::Json(document, _)) => {
                select(document.root(), pointer.tokens(), &mut String::new(), &mut found);
            }
            (Place::Json(_), _) => {}
            (Place::Text(rules), Read::Markup(outline)) => number(rules, outline.text(), Some(outline), &mut found),
            (Place::Text(rules), Read::Json(_, text) | Read::Text(text)) => number(rules, text, None, &mut found),
        }
        found
    }
}

/// Adds the values that `tokens` lead to from `value`, by their paths.
fn select(value: Value<'_>, tokens: &[Token], path: &mut String, found: &mut BTreeMap<String, String>) {
    let Some((token, rest)) = tokens.split_first() else {
        found.insert(path.clone(), value.raw().to_owned());
        return;
    };
    let before = path.len();
    let mut enter = |name: &str, value: Value<'_>| {
        if found.len() <= MAX_SPOTS && (*token == Token::Any || matches!(token, Token::Name(wanted) if wanted == name))
        {
            path.push('/');
            path.push_str(name);
            select(value, rest, path, found);
            path.truncate(before);
        }
    };
    for (key, value) in value.members() {
        enter(&unescape(&key.content()), value);
    }
    for (at, value) in value.items().enumerate() {
        enter(&at.to_string(), value);
    }
}

/// Adds the texts that `rules` cut, by number.
fn number(rules: &Rules, text: &str, outline: Option<&Outline<'_>>, found: &mut BTreeMap<String, String>) {
    let cuts = rules.cuts(text, outline);
    for (at, cut) in cuts.iter().take(MAX_SPOTS + 1).enumerate() {
        found.insert(format!("{at:04}"), text[cut.clone()].to_owned());
    }
}

/// One spot of a rule.
#[derive(Clone, Debug)]
struct Spot {
    text: String,
    /// When it last changed, the number of changes, and whether clients have been told.
    moved: Instant,
    moves: u32,
    silent: bool,
    clock: Hand,
    numbers: Vec<Moves>,
    /// Its previous texts, unless it is a number.
    words: Vec<String>,
}

/// The reading of a clock, if the spot is one.
#[derive(Clone, Copy, Debug)]
struct Hand {
    /// An earlier reading and the current one.
    anchor: Option<(TimeValue, Instant)>,
    shows: Option<TimeValue>,
    /// The number of consecutive readings that fit a clock.
    good: u32,
    /// The number of readings that did not fit after earlier ones had; and the time of the last.
    breaks: u32,
    broke: Instant,
}

/// The steps of one number of a spot.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    times: u32,
    largest: f64,
    /// Whether it ever increased, and decreased.
    rose: bool,
    fell: bool,
}

/// The number of changes after which further ones are expected.
const MIN_MOVES: u32 = 2;

/// The number of changes after which the range of a number is known; changes in direct succession say little about
/// that.
const JUDGED: u32 = 5;

/// The number of changes after which a number that never decreased counts as a counter.
const GROWS: u32 = 3;

const MAX_WORDS: usize = 8;

/// The maximum number of breaks. A clock that broke must fit some more times for each break, within some time.
const MAX_BREAKS: u32 = 6;
const BREAKS_COUNT_FOR: Duration = Duration::from_secs(300);

impl Spot {
    fn new(text: String, at: Instant) -> Self {
        let shows = moment(&text);
        let clock = Hand { anchor: shows.map(|shows| (shows, at)), shows, good: 0, breaks: 0, broke: at };
        let numbers = vec![Moves::default(); pieces(&text).1.len()];
        let words = vec![untagged(&text)];
        Self { text, moved: at, moves: 0, silent: false, clock, numbers, words }
    }

    fn observe(&mut self, text: String, law: Law, rest: Duration, at: Instant) -> bool {
        if text == self.text {
            return self.rests(law, rest, at);
        }
        if matches!(law, Law::Free | Law::Wavering) {
            self.rests(law, rest, at);
        }
        let same_tags = tags(&text) == tags(&self.text);
        let expected = match law {
            Law::Clock => {
                // A counter may look like a clock for a while.
                let moves_on = self.moves_on(&text, law);
                (self.clock.goes_to(moment(&text), at) || moves_on) && same_tags
            }
            Law::Length => self.grows(&text, at) && same_tags,
            Law::Free | Law::Wavering => self.moves_on(&text, law),
        };
        self.moves = self.moves.saturating_add(1);
        self.moved = at;
        self.silent = expected;
        self.text = text;
        expected
    }

    /// Processes an unchanged text.
    fn rests(&mut self, law: Law, rest: Duration, at: Instant) -> bool {
        let still = at.saturating_duration_since(self.moved);
        match law {
            Law::Clock => self.clock.rests(at) || !self.silent,
            Law::Length => true,
            Law::Free | Law::Wavering if self.moves > 0 && still > rest => {
                // Changes from here on are real, until there were some more.
                let was_silent = self.silent;
                *self = Self::new(std::mem::take(&mut self.text), at);
                !was_silent
            }
            Law::Free | Law::Wavering => true,
        }
    }

    /// Returns whether an age grew by no more than the elapsed time and its resolution.
    fn grows(&self, text: &str, at: Instant) -> bool {
        let (Some(was), Some(is)) = (moment(&self.text), moment(text)) else { return false };
        let passed = at.saturating_duration_since(self.moved).as_secs_f64() * 1.05 + SLACK;
        was.kind == is.kind && is.value > was.value && is.value - was.value <= passed + resolution(text, is.kind)
    }

    fn moves_on(&mut self, text: &str, law: Law) -> bool {
        let ((was, old), (is, new)) = (pieces(&self.text), pieces(text));
        if was == is && self.numbers.len() == new.len() && !new.is_empty() {
            let pairs = self.numbers.iter_mut().zip(old.into_iter().zip(new));
            return pairs
                .filter(|(_, (old, new))| old != new)
                .fold(true, |expected, (moves, (old, new))| moves.take(old, new, law) && expected);
        }
        self.numbers = vec![Moves::default(); new.len()];
        let same_tags = tags(text) == tags(&self.text);
        let text = untagged(text);
        let known = self.words.contains(&text);
        let token = is_opaque(&text) && self.words.iter().all(|word| is_opaque(word));
        if !known {
            if self.words.len() == MAX_WORDS {
                self.words.remove(0);
            }
            self.words.push(text);
        }
        self.moves >= MIN_MOVES && same_tags && (known || token)
    }
}

impl Hand {
    fn is_trusted(&self, at: Instant) -> bool {
        let recent = at.saturating_duration_since(self.broke) < BREAKS_COUNT_FOR;
        self.good > if recent { self.breaks } else { 0 }
    }

    /// Processes a changed value. Returns whether it changed by the elapsed time.
    fn goes_to(&mut self, now: Option<TimeValue>, at: Instant) -> bool {
        let was_trusted = self.is_trusted(at);
        self.shows = now;
        if !self.fits(now, at) {
            self.breaks(now, was_trusted, at);
            return false;
        }
        self.good = self.good.saturating_add(1);
        if self.anchor.is_some_and(|(_, since)| at.saturating_duration_since(since) > ANCHOR) {
            self.anchor = now.map(|now| (now, at));
        }
        was_trusted
    }

    /// Processes an unchanged value.
    fn rests(&mut self, at: Instant) -> bool {
        let was_trusted = self.is_trusted(at);
        if !was_trusted || self.fits(self.shows, at) {
            return true;
        }
        self.breaks(self.shows, true, at);
        false
    }

    fn fits(&self, now: Option<TimeValue>, at: Instant) -> bool {
        let (Some((begin, since)), Some(now)) = (self.anchor, now) else { return false };
        begin.kind == now.kind && fits(begin, now, at.saturating_duration_since(since).as_secs_f64())
    }

    fn breaks(&mut self, now: Option<TimeValue>, was_trusted: bool, at: Instant) {
        if at.saturating_duration_since(self.broke) >= BREAKS_COUNT_FOR {
            self.breaks = 0;
        }
        self.breaks = (self.breaks + u32::from(was_trusted)).min(MAX_BREAKS);
        self.broke = at;
        self.good = 0;
        self.anchor = now.map(|now| (now, at));
    }
}

impl Moves {
    fn take(&mut self, old: f64, new: f64, law: Law) -> bool {
        let (moved, known) = (new - old, *self);
        self.times = self.times.saturating_add(1);
        self.largest = self.largest.max(moved.abs());
        self.rose |= moved > 0.0;
        self.fell |= moved < 0.0;
        let resets = moved < 0.0 && !known.fell && known.times >= GROWS;
        let jumps = known.times >= JUDGED && moved.abs() > JUMP * known.largest;
        if known.times >= MIN_MOVES && (resets || jumps) {
            // It must prove again that it changes continuously.
            self.times = 0;
            return false;
        }
        known.times >= MIN_MOVES && (law != Law::Wavering || (known.rose && known.fell))
    }
}

/// Returns whether a clock that showed `begin` may show `now` after this many seconds.
fn fits(begin: TimeValue, now: TimeValue, passed: f64) -> bool {
    let units: &[f64] = if begin.kind == Kind::Number { &[1.0, 1e3, 1e6, 1e9] } else { &[1.0] };
    let moved = now.value - begin.value;
    let is_near = |unit: f64, direction: f64| {
        let off = moved * direction / unit - passed;
        // A time of day wraps around twice a day.
        let off = if begin.kind == Kind::Time { (off + 21_600.0).rem_euclid(43_200.0) - 21_600.0 } else { off };
        off.abs() <= if unit == 1.0 { SLACK + passed * 0.05 } else { FINE_SLACK + passed * 0.25 }
    };
    units.iter().any(|unit| is_near(*unit, 1.0) || is_near(*unit, -1.0))
}

fn moment(text: &str) -> Option<TimeValue> {
    if text.contains('<') { time_value(&untagged(text)) } else { time_value(text) }
}

/// Returns the unit of an age, in seconds.
fn resolution(text: &str, kind: Kind) -> f64 {
    let text = untagged(text).to_ascii_lowercase();
    let smallest = text.split(|c: char| !c.is_ascii_alphabetic()).filter_map(|word| match word {
        "ms" | "s" | "sec" | "secs" | "second" | "seconds" => Some(1.0),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60.0),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3600.0),
        "d" | "day" | "days" => Some(86_400.0),
        _ => None,
    });
    let coarsest = match kind {
        // The unit, if any, is outside of the text: hardly less than a second.
        Kind::Number => 1.0,
        Kind::Time => 60.0,
        Kind::Date | Kind::Length => 86_400.0,
    };
    smallest.fold(f64::INFINITY, f64::min).min(coarsest)
}

/// Returns the tags of a markup text.
fn tags(text: &str) -> Vec<&str> {
    text.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default()).collect()
}

/// Splits a text into numbers and the texts between them.
fn pieces(text: &str) -> (Vec<&str>, Vec<f64>) {
    if let Ok(number) = text.trim_matches('"').parse::<f64>() {
        return (Vec::new(), vec![number]);
    }
    let (mut between, mut numbers) = (Vec::new(), Vec::new());
    let mut rest = text;
    // Numbers in tags are part of names.
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit() || c == '<') {
        if rest[at..].starts_with('<') {
            let end = rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
            between.push(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let end = rest[at..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |end| at + end);
        let end = at + rest[at..end].trim_end_matches('.').len();
        let Ok(number) = rest[at..end].parse() else { break };
        between.push(&rest[..at]);
        numbers.push(number);
        rest = &rest[end..];
    }
    between.push(rest);
    (between, numbers)
}
