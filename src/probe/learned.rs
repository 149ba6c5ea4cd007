//! A part that was learned to change by itself, and whether it goes on as it did.
//!
//! A rule says where to look; the law says what may be there. Each spot that the rule means is judged by itself: one that
//! has stood still is no noise, whatever those beside it do.

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

/// How the values of a part go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// With the clock, all the time.
    Clock,
    /// With the clock, in steps: an age in whole minutes.
    Length,
    /// As they like, as long as they move, and are of the kind that they were.
    Free,
}

/// Where a rule's values stand.
#[derive(Clone, Debug)]
enum Place {
    Json(Pointer),
    /// Elements, attributes or stretches of text.
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
    /// Fetches in a row in which nothing stood there.
    missing: u32,
    /// When it was last looked at.
    seen: Option<Instant>,
}

/// More values than this are not followed one by one.
const MAX_SPOTS: usize = 256;

/// So many fetches in a row in which nothing stands there end it.
const MAX_MISSING: u32 = 3;

/// A spot that has not moved for so long stands still, or for so many fetches if those are rare.
const REST: Duration = Duration::from_secs(10);
const REST_FETCHES: u32 = 3;

/// How much more or less than the time that passed a clock may show, in seconds.
const SLACK: f64 = 1.15;

/// The same for those that count milliseconds or less: an answer may have taken so much longer than another.
const FINE_SLACK: f64 = 0.3;

/// A clock is compared with where it stood so long ago at most.
const ANCHOR: Duration = Duration::from_secs(30);

/// A number is out of the ordinary when it moves by so many times as much as it ever did.
const JUMP: f64 = 8.0;

/// What a body can be looked for values in.
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
    /// A part that `rule` means, whose values were found to be of this `nature`. `None` if that says nothing of how they go on.
    pub(super) fn new(rule: Rule, nature: Volatility) -> Option<Self> {
        let law = match nature {
            Volatility::Clock | Volatility::Age | Volatility::Countdown => Law::Clock,
            Volatility::Duration => Law::Length,
            Volatility::Counter | Volatility::Token | Volatility::Noise | Volatility::Measure => Law::Free,
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

    /// The same, of which nothing has been seen.
    pub(super) fn afresh(&self) -> Self {
        Self { spots: BTreeMap::new(), missing: 0, seen: None, ..self.clone() }
    }

    /// Whether it is to be noise no more: nothing stands there.
    pub(super) fn is_over(&self) -> bool {
        self.missing >= MAX_MISSING
    }

    /// Takes in what stands there in a fetch that began at `at`. Whether that is what was to be expected.
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

    /// A fetch that began at `at` brought the same as the one before. Whether that is what was to be expected.
    pub(super) fn rests(&mut self, at: Instant) -> bool {
        let (law, rest) = (self.law, self.rest(at));
        self.spots.values_mut().map(|spot| spot.rests(law, rest, at)).filter(|expected| !expected).count() == 0
    }

    /// All that stands there has been told.
    pub(super) fn told(&mut self) {
        self.spots.values_mut().for_each(|spot| spot.silent = false);
    }

    /// How long a spot may stand still, given that it is looked at now.
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

/// Adds what `rules` cut, by number.
fn number(rules: &Rules, text: &str, outline: Option<&Outline<'_>>, found: &mut BTreeMap<String, String>) {
    let cuts = rules.cuts(text, outline);
    for (at, cut) in cuts.iter().take(MAX_SPOTS + 1).enumerate() {
        found.insert(format!("{at:04}"), text[cut.clone()].to_owned());
    }
}

/// One of the places that a rule means.
#[derive(Clone, Debug)]
struct Spot {
    text: String,
    /// When it last moved, how often it did, and whether that has been told to nobody.
    moved: Instant,
    moves: u32,
    silent: bool,
    clock: Hand,
    numbers: Vec<Moves>,
    /// What it has said, if that is no number.
    words: Vec<String>,
}

/// A clock, as far as it is one.
#[derive(Clone, Copy, Debug)]
struct Hand {
    /// Where it stood once, and what it shows now.
    anchor: Option<(TimeValue, Instant)>,
    shows: Option<TimeValue>,
    /// How often in a row it went as a clock does.
    good: u32,
    /// How often it did not, although it had before; and when last.
    breaks: u32,
    broke: Instant,
}

/// How one number of a spot has moved.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    times: u32,
    largest: f64,
    /// Whether it went down, ever.
    fell: bool,
}

/// So often a spot has to have moved before more of that is nothing new.
const MIN_MOVES: u32 = 2;

/// From so many on it is known how far a number moves; those in direct succession say little of that.
const JUDGED: u32 = 5;

/// From so many on, a number that only ever grew counts something.
const GROWS: u32 = 3;

const MAX_WORDS: usize = 8;

/// A clock that broke has to go right some more times for each that it did, within some time.
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
        if law == Law::Free {
            self.rests(law, rest, at);
        }
        let same_tags = tags(&text) == tags(&self.text);
        let expected = match law {
            Law::Clock => {
                // What counts something may look like a clock for a while.
                let moves_on = self.moves_on(&text);
                (self.clock.goes_to(moment(&text), at) || moves_on) && same_tags
            }
            Law::Length => self.grows(&text, at) && same_tags,
            Law::Free => self.moves_on(&text),
        };
        self.moves = self.moves.saturating_add(1);
        self.moved = at;
        self.silent = expected;
        self.text = text;
        expected
    }

    /// It says the same as before.
    fn rests(&mut self, law: Law, rest: Duration, at: Instant) -> bool {
        let still = at.saturating_duration_since(self.moved);
        match law {
            Law::Clock => self.clock.rests(at) || !self.silent,
            Law::Length => true,
            Law::Free if self.moves > 0 && still > rest => {
                // What moves from here on is news again, until it has moved some more.
                let was_silent = self.silent;
                *self = Self::new(std::mem::take(&mut self.text), at);
                !was_silent
            }
            Law::Free => true,
        }
    }

    /// An age: has grown by no more than the time that passed, and what it is counted in.
    fn grows(&self, text: &str, at: Instant) -> bool {
        let (Some(was), Some(is)) = (moment(&self.text), moment(text)) else { return false };
        let passed = at.saturating_duration_since(self.moved).as_secs_f64() * 1.05 + SLACK;
        was.kind == is.kind && is.value > was.value && is.value - was.value <= passed + resolution(text)
    }

    fn moves_on(&mut self, text: &str) -> bool {
        let ((was, old), (is, new)) = (pieces(&self.text), pieces(text));
        if was == is && self.numbers.len() == new.len() && !new.is_empty() {
            let pairs = self.numbers.iter_mut().zip(old.into_iter().zip(new));
            return pairs
                .filter(|(_, (old, new))| old != new)
                .fold(true, |expected, (moves, (old, new))| moves.take(old, new) && expected);
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

    /// It shows something else: as much more, or less, as time has passed?
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

    /// It shows the same as before.
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
    fn take(&mut self, old: f64, new: f64) -> bool {
        let (moved, known) = (new - old, *self);
        self.times = self.times.saturating_add(1);
        self.largest = self.largest.max(moved.abs());
        self.fell |= moved < 0.0;
        let resets = moved < 0.0 && !known.fell && known.times >= GROWS;
        let jumps = known.times >= JUDGED && moved.abs() > JUMP * known.largest;
        if known.times >= MIN_MOVES && (resets || jumps) {
            // It has to show anew that it moves all the time.
            self.times = 0;
            return false;
        }
        known.times >= MIN_MOVES
    }
}

/// Whether a clock that showed `begin` may show `now` after so many seconds.
fn fits(begin: TimeValue, now: TimeValue, passed: f64) -> bool {
    let units: &[f64] = if begin.kind == Kind::Number { &[1.0, 1e3, 1e6, 1e9] } else { &[1.0] };
    let moved = now.value - begin.value;
    let is_near = |unit: f64, direction: f64| {
        let off = moved * direction / unit - passed;
        // Twice a day it begins anew.
        let off = if begin.kind == Kind::Time { (off + 21_600.0).rem_euclid(43_200.0) - 21_600.0 } else { off };
        off.abs() <= if unit == 1.0 { SLACK + passed * 0.05 } else { FINE_SLACK + passed * 0.25 }
    };
    units.iter().any(|unit| is_near(*unit, 1.0) || is_near(*unit, -1.0))
}

fn moment(text: &str) -> Option<TimeValue> {
    if text.contains('<') { time_value(&untagged(text)) } else { time_value(text) }
}

/// The unit in which an age is counted, in seconds.
fn resolution(text: &str) -> f64 {
    let text = untagged(text).to_ascii_lowercase();
    let smallest = text.split(|c: char| !c.is_ascii_alphabetic()).filter_map(|word| match word {
        "ms" | "s" | "sec" | "secs" | "second" | "seconds" => Some(1.0),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60.0),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3600.0),
        "d" | "day" | "days" => Some(86_400.0),
        _ => None,
    });
    smallest.fold(f64::INFINITY, f64::min).min(86_400.0)
}

/// What of markup is no text.
fn tags(text: &str) -> Vec<&str> {
    text.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default()).collect()
}

/// What stands between the numbers of a text, and the numbers.
fn pieces(text: &str) -> (Vec<&str>, Vec<f64>) {
    if let Ok(number) = text.trim_matches('"').parse::<f64>() {
        return (Vec::new(), vec![number]);
    }
    let (mut between, mut numbers) = (Vec::new(), Vec::new());
    let mut rest = text;
    // Numbers in tags are names.
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
