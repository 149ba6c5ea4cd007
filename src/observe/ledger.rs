//! The tables behind an observer, all of them bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::exchange::{Exchange, Form};
use super::paths::Paths;
use super::rhythm::{News, Rhythm};
use super::shape::{Shape, Sort};
use super::sketch::{Distinct, Recent};
use super::tally::{Tally, count};
use crate::probe::cursor;

/// Patterns that are counted one by one.
const MAX_PATTERNS: usize = 512;

/// Clients and what each asks for that are kept in mind; twice as many at most.
const RHYTHMS: usize = 8192;

/// The same of what is asked for by anybody.
const RESOURCES: usize = 4096;

/// Answers whose places are kept, to be compared with the next ones.
const SHAPES: usize = 512;

/// A larger answer is watched by no route that does not say so.
const MAX_BODY: u64 = 8 << 20;

/// Values of a parameter or a cookie that are kept to see whether one comes again.
const VALUES: usize = 24;

/// Parameters and cookies of one client's requests for one path.
const PARAMETERS: usize = 16;

/// Answers that are kept to see whether they depend on who asks.
const GIVEN: usize = 12;

/// The pattern of what cannot be counted one by one.
pub(super) const OTHERS: &str = "(others)";

#[derive(Debug)]
pub(super) struct Ledger {
    paths: Paths,
    /// By method and pattern.
    pub(super) tallies: HashMap<(String, String), Tally>,
    rhythms: Recent<Rhythm>,
    /// Who asks for what, whatever the values of parameters.
    parameters: Recent<Vec<Parameter>>,
    resources: Recent<Resource>,
    shapes: Recent<Shape>,
    pub(super) clients: Distinct,
    pub(super) first: Option<Duration>,
    pub(super) last: Duration,
    last_write: Option<Duration>,
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) unread: u64,
}

/// A parameter of one client's requests for one path.
#[derive(Clone, Debug, Default)]
struct Parameter {
    name: u64,
    values: Vec<u64>,
    fresh: u32,
    again: u32,
}

/// Something that is polled, by whomever.
#[derive(Clone, Debug, Default)]
struct Resource {
    last: Option<Duration>,
    /// The last answers, and to which identity, the newest last.
    given: VecDeque<(u64, u64)>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            paths: Paths::default(),
            tallies: HashMap::new(),
            rhythms: Recent::new(RHYTHMS),
            parameters: Recent::new(RHYTHMS / 2),
            resources: Recent::new(RESOURCES),
            shapes: Recent::new(SHAPES),
            clients: Distinct::default(),
            first: None,
            last: Duration::ZERO,
            last_write: None,
            requests: 0,
            bytes: 0,
            unread: 0,
        }
    }
}

/// What a request asks for, as fingerprints.
struct Asked {
    /// Who asks.
    client: u64,
    /// For what.
    target: u64,
    /// Both.
    by_client: u64,
}

impl Ledger {
    /// Whether the places of this answer are worth looking at: the client has asked for it before, and was given another.
    pub(super) fn wants_shape(&self, exchange: &Exchange) -> bool {
        let asked = self.asked(exchange);
        self.rhythms.get(asked.by_client).is_some_and(|rhythm| rhythm.seen && rhythm.content != exchange.answer.content)
    }

    pub(super) fn note(&mut self, exchange: &Exchange, shape: Option<Shape>) {
        self.requests += 1;
        self.bytes += exchange.answer.bytes.unwrap_or_default();
        self.first.get_or_insert(exchange.at);
        self.last = self.last.max(exchange.at);
        let fresh = self.fresh_values(exchange);
        let asked = self.asked(exchange);
        self.clients.add(asked.client);
        let pattern = self.paths.pattern(&exchange.path).unwrap_or_else(|| OTHERS.to_owned());
        let key = self.key_of(&exchange.method, pattern);
        let tally = self.tallies.entry(key).or_default();
        overall(tally, exchange, &fresh);
        if is_out_of_the_question(exchange) {
            return;
        }
        let rhythm = self.rhythms.entry(asked.by_client);
        let interval = rhythm.ask(exchange.at);
        let before = self.shapes.get(asked.by_client);
        let turn = Turn::of(rhythm, exchange, shape.as_ref().zip(before));
        if let Some(shape) = shape {
            *self.shapes.entry(asked.by_client) = shape.kept();
        }
        let was_poll = rhythm.polls;
        rhythm.polls |= rhythm.is_regular();
        if !rhythm.polls {
            rhythm.pending.add(exchange, turn.news);
            if !matches!(exchange.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
                self.last_write = Some(exchange.at);
            }
            return;
        }
        let pending = std::mem::take(&mut rhythm.pending);
        let usual = rhythm.interval().map(Duration::from_secs_f32);
        if !was_poll {
            tally.polls.take(pending);
        }
        poll(tally, exchange, &turn, interval.zip(usual), self.last_write);
        tally.polls.clients.add(asked.client);
        watch(tally, &mut self.resources, exchange, asked.target, usual);
    }

    /// What is asked for, and by whom. A parameter or a cookie that was another one in each request so far tells nobody and
    /// nothing from others.
    fn asked(&self, exchange: &Exchange) -> Asked {
        let known = self.parameters.get(place_of(exchange));
        let is_fresh =
            |name: u64| known.is_some_and(|known| known.iter().any(|one| one.name == name && one.is_fresh()));
        // Wherever a client has read to, it is the same poll.
        let parameters = exchange.parameters.iter().filter(|(name, _, is_buster)| !is_buster && !cursor(name));
        let parameters = parameters.map(|(name, value, _)| (print(&(name, "?")), *value));
        let mut target: Vec<_> = parameters.filter(|(name, _)| !is_fresh(*name)).collect();
        target.sort_unstable();
        let credentials = exchange.credentials.iter().map(|(name, value)| (print(&(name, ":")), *value));
        let mut own: Vec<_> = credentials.filter(|(name, _)| !is_fresh(*name)).collect();
        own.sort_unstable();
        let upload = exchange.upload.as_ref().map(|upload| upload.print);
        let target = print(&(&exchange.method, &exchange.path, target, upload));
        let client = print(&(exchange.client, own));
        Asked { client, target, by_client: print(&(client, target)) }
    }

    /// The parameters and cookies of this request whose values never come again.
    fn fresh_values(&mut self, exchange: &Exchange) -> Fresh {
        let mut fresh = Fresh::default();
        if exchange.parameters.is_empty() && exchange.credentials.is_empty() {
            return fresh;
        }
        let known = self.parameters.entry(place_of(exchange));
        let mut take = |name: u64, value| {
            let at = known.iter().position(|one| one.name == name);
            let at = at.or_else(|| {
                (known.len() < PARAMETERS).then(|| known.push(Parameter { name, ..Parameter::default() }))?;
                Some(known.len() - 1)
            });
            at.is_some_and(|at| known[at].take(value))
        };
        for (name, value, _) in exchange.parameters.iter().filter(|(_, _, is_buster)| !is_buster) {
            if take(print(&(name, "?")), *value) {
                fresh.parameters.push(name.clone());
            }
        }
        for (name, value) in &exchange.credentials {
            if take(print(&(name, ":")), *value) {
                fresh.credentials.push(name.clone());
            }
        }
        fresh
    }
    /// Where requests are counted. What nobody polls makes room for what somebody may.
    fn key_of(&mut self, method: &str, pattern: String) -> (String, String) {
        let key = (method.to_owned(), pattern);
        if self.tallies.contains_key(&key) || self.tallies.len() < MAX_PATTERNS {
            return key;
        }
        let now = self.last;
        let is_idle = |tally: &Tally| tally.polls.requests == 0 && now.saturating_sub(tally.last).as_secs() > 60;
        let gone: Vec<_> =
            self.tallies.iter().filter(|(_, tally)| is_idle(tally)).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.tallies.remove(key);
        }
        if gone.is_empty() { (String::new(), OTHERS.to_owned()) } else { key }
    }

    pub(super) fn entries(&self) -> usize {
        let names = |tally: &Tally| {
            tally.polls.credentials.len() + tally.polls.places.len() + tally.busters.len() + tally.parameters.len()
        };
        self.paths.len()
            + self.tallies.values().map(names).sum::<usize>()
            + self.tallies.len()
            + self.rhythms.len()
            + self.parameters.len()
            + self.resources.len()
            + self.shapes.len()
    }
}

impl Parameter {
    /// Whether its values hardly ever come again.
    fn is_fresh(&self) -> bool {
        self.fresh >= 3 && self.again * 8 < self.fresh
    }

    /// Takes in a value. Returns whether it is one of those that never come again.
    fn take(&mut self, value: u64) -> bool {
        match self.values.contains(&value) {
            true => self.again = self.again.saturating_add(1),
            false => {
                // The first is no other than any before.
                self.fresh = self.fresh.saturating_add(u32::from(!self.values.is_empty()));
                if self.values.len() == VALUES {
                    self.values.remove(0);
                }
                self.values.push(value);
            }
        }
        self.is_fresh()
    }
}

/// Names of what never repeats.
#[derive(Default)]
struct Fresh {
    parameters: Vec<String>,
    credentials: Vec<String>,
}

/// An answer beside the one before.
struct Turn {
    news: News,
    noise: bool,
    consumed: bool,
    places: Option<Vec<(String, Sort)>>,
}

impl Turn {
    /// `shapes` are those of the answer and of the one before.
    fn of(rhythm: &mut Rhythm, exchange: &Exchange, shapes: Option<(&Shape, &Shape)>) -> Self {
        let answer = &exchange.answer;
        if answer.status >= 500 {
            // That it failed says nothing about what there is.
            return Self { news: News::Unknown, noise: false, consumed: false, places: None };
        }
        let news = rhythm.answer(answer.content, answer.bytes, answer.status == 304);
        let places = shapes.filter(|_| news == News::Other).and_then(|(new, old)| {
            let differing = new.differing(old)?;
            Some(differing.into_iter().map(|(name, sort)| (name.to_owned(), sort)).collect::<Vec<_>>())
        });
        let noise = places
            .as_ref()
            .is_some_and(|places| !places.is_empty() && places.iter().all(|(_, sort)| *sort != Sort::Plain));
        let consumed = match answer.status {
            304 => false,
            _ => rhythm.turn(news, answer.content, answer.bytes),
        };
        Self { news, noise, consumed, places }
    }
}

/// Counts for how long something is polled, whoever does, and whether all are given the same.
fn watch(
    tally: &mut Tally,
    resources: &mut Recent<Resource>,
    exchange: &Exchange,
    target: u64,
    usual: Option<Duration>,
) {
    let longest = usual.unwrap_or_default() * 2;
    let identity = exchange.identity.unwrap_or_default();
    let own = resources.entry(print(&(target, identity)));
    // A log has its lines in the order in which requests ended.
    let last = own.last.replace(own.last.unwrap_or_default().max(exchange.at));
    tally.polls.watched += last.map_or(Duration::ZERO, |last| exchange.at.saturating_sub(last).min(longest));
    let (Some(content), Some(identity)) = (exchange.answer.content, exchange.identity) else { return };
    let given = &mut resources.entry(print(&(target, "given"))).given;
    // What was given to others since this identity was last given the same: if that is something else, the answer depends on who
    // asks, and if it is the same it may not.
    let same = given.iter().rposition(|(other, whose)| (*other, *whose) == (content, identity));
    if same.is_some_and(|at| given.iter().skip(at).any(|(other, whose)| *whose != identity && *other != content)) {
        tally.polls.unlike += 1;
    } else if given.back().is_some_and(|(other, whose)| *whose != identity && *other == content) {
        tally.polls.alike += 1;
    }
    if given.len() == GIVEN {
        given.pop_front();
    }
    given.push_back((content, identity));
}

/// What is counted of every request.
fn overall(tally: &mut Tally, exchange: &Exchange, fresh: &Fresh) {
    let answer = &exchange.answer;
    tally.requests += 1;
    tally.bytes += answer.bytes.unwrap_or_default();
    tally.last = exchange.at;
    if answer.form != Form::Unknown {
        tally.form = answer.form;
    }
    match answer.status {
        304 => {}
        300..400 => tally.redirects += 1,
        401 | 403 => tally.refused += 1,
        400.. => tally.failed += 1,
        _ => {}
    }
    tally.private += u64::from(answer.private);
    tally.streams += u64::from(answer.form == Form::Stream);
    tally.too_large += u64::from(answer.bytes.is_some_and(|bytes| bytes > MAX_BODY));
    if let Some(took) = exchange.took {
        tally.took.add(took);
    }
    for (name, _, is_buster) in &exchange.parameters {
        count(if *is_buster { &mut tally.busters } else { &mut tally.parameters }, name);
    }
    fresh.parameters.iter().for_each(|name| count(&mut tally.fresh, name));
    fresh.credentials.iter().for_each(|name| count(&mut tally.renewed, name));
    if let Some(upload) = &exchange.upload {
        tally.uploads.add(upload);
    }
}

/// Whether a request can be no poll that anybody would want to be pushed.
fn is_out_of_the_question(exchange: &Exchange) -> bool {
    matches!(exchange.answer.form, Form::Asset | Form::Stream)
        || matches!(exchange.method.as_str(), "OPTIONS" | "HEAD" | "CONNECT")
}

/// What is counted of a poll.
fn poll(
    tally: &mut Tally,
    exchange: &Exchange,
    turn: &Turn,
    interval: Option<(Duration, Duration)>,
    wrote: Option<Duration>,
) {
    let answer = &exchange.answer;
    let bytes = answer.bytes.unwrap_or_default();
    let polls = &mut tally.polls;
    polls.requests += 1;
    polls.bytes += bytes;
    polls.sets_cookies += u64::from(answer.sets_cookies);
    polls.consumed += u64::from(turn.consumed);
    if let Some(identity) = exchange.identity {
        polls.identities.add(identity);
    }
    for (name, value) in &exchange.credentials {
        polls.credential(name, *value);
    }
    let Some((interval, usual)) = interval else { return };
    polls.intervals.add(interval);
    let took = exchange.took.unwrap_or_default();
    polls.held += u64::from(took > Duration::from_secs(2) && took * 10 > usual * 7);
    match turn.news {
        News::Unknown => return,
        News::Same => {
            polls.compared += 1;
            polls.same += 1;
            return;
        }
        News::Other => polls.compared += 1,
    }
    if let Some(places) = &turn.places {
        polls.looked_into += 1;
        places.iter().for_each(|(name, sort)| polls.place(name, *sort));
    }
    if turn.noise {
        polls.noise += 1;
        return;
    }
    polls.changes += 1;
    polls.change_bytes += bytes;
    polls.late.add(interval.min(usual * 4));
    polls.after_write += u64::from(wrote.is_some_and(|wrote| wrote + interval >= exchange.at));
}

/// Where parameters of one client's requests stand.
fn place_of(exchange: &Exchange) -> u64 {
    print(&(exchange.client, &exchange.method, &exchange.path))
}

/// A fingerprint of fingerprints, and of what is no secret.
fn print<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
