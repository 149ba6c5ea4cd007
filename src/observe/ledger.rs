//! The bounded tables behind an observer.

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

/// The maximum number of patterns that are counted individually.
const MAX_PATTERNS: usize = 512;

/// Half the maximum number of combinations of a client and a URL.
const RHYTHMS: usize = 8192;

/// The same for URLs independent of the client.
const RESOURCES: usize = 4096;

/// The maximum number of responses whose locations are kept for comparison.
const SHAPES: usize = 512;

/// The default `max_body`: larger responses are only watched if a route says so.
const MAX_BODY: u64 = 8 << 20;

/// The maximum number of values of a parameter or cookie that are kept to detect a repetition.
const VALUES: usize = 24;

/// The maximum number of parameters and cookies of one client for one path.
const PARAMETERS: usize = 16;

/// The maximum number of responses that are kept to detect a dependency on the client.
const GIVEN: usize = 12;

/// The pattern of requests that cannot be counted individually.
pub(super) const OTHERS: &str = "(others)";

#[derive(Debug)]
pub(super) struct Ledger {
    paths: Paths,
    /// By method and pattern.
    pub(super) tallies: HashMap<(String, String), Tally>,
    rhythms: Recent<Rhythm>,
    /// Clients and URLs, independent of the values of parameters.
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

/// A polled URL, for all clients.
#[derive(Clone, Debug, Default)]
struct Resource {
    last: Option<Duration>,
    /// The last responses with their identities, the newest last.
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

/// The target of a request, as fingerprints.
struct Asked {
    /// The client.
    client: u64,
    /// The URL.
    target: u64,
    /// Both combined.
    by_client: u64,
}

impl Ledger {
    /// Returns whether the locations in this response should be examined: the client has requested the URL before, and
    /// received another response.
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

    /// Returns the URL and the client as fingerprints. A parameter or cookie that had a different value in each request
    /// so far identifies nothing.
    fn asked(&self, exchange: &Exchange) -> Asked {
        let known = self.parameters.get(place_of(exchange));
        let is_fresh =
            |name: u64| known.is_some_and(|known| known.iter().any(|one| one.name == name && one.is_fresh()));
        // Requests at different cursor positions are the same poll.
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

    /// Returns the parameters and cookies of this request whose values never repeat.
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
    /// Returns the key under which a request is counted. Patterns without polls are evicted in favour of others.
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
    /// Returns whether its values hardly ever repeat.
    fn is_fresh(&self) -> bool {
        self.fresh >= 3 && self.again * 8 < self.fresh
    }

    /// Records a value. Returns whether the values never repeat.
    fn take(&mut self, value: u64) -> bool {
        match self.values.contains(&value) {
            true => self.again = self.again.saturating_add(1),
            false => {
                // The first value has no predecessor to compare with.
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

/// The names of parameters and cookies that never repeat.
#[derive(Default)]
struct Fresh {
    parameters: Vec<String>,
    credentials: Vec<String>,
}

/// A response compared with the previous one.
struct Turn {
    news: News,
    noise: bool,
    consumed: bool,
    places: Option<Vec<(String, Sort)>>,
}

impl Turn {
    /// Compares a response with the previous one. `shapes` are their shapes.
    fn of(rhythm: &mut Rhythm, exchange: &Exchange, shapes: Option<(&Shape, &Shape)>) -> Self {
        let answer = &exchange.answer;
        if answer.status >= 500 {
            // A failed response says nothing about the state.
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

/// Counts how long a resource is polled by all clients, and whether all receive the same.
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
    // Log lines are in the order in which requests ended.
    let last = own.last.replace(own.last.unwrap_or_default().max(exchange.at));
    tally.polls.watched += last.map_or(Duration::ZERO, |last| exchange.at.saturating_sub(last).min(longest));
    let (Some(content), Some(identity)) = (exchange.answer.content, exchange.identity) else { return };
    let given = &mut resources.entry(print(&(target, "given"))).given;
    // Compares with responses to other identities since this identity last received the same response: if those differ,
    // the response depends on the client, and if they are equal it may not.
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

/// Updates the counts for every request.
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

/// Returns whether a request cannot be a poll worth pushing.
fn is_out_of_the_question(exchange: &Exchange) -> bool {
    matches!(exchange.answer.form, Form::Asset | Form::Stream)
        || matches!(exchange.method.as_str(), "OPTIONS" | "HEAD" | "CONNECT")
}

/// Updates the counts for a poll.
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

/// Returns the key for the parameters of one client's requests.
fn place_of(exchange: &Exchange) -> u64 {
    print(&(exchange.client, &exchange.method, &exchange.path))
}

/// Returns a fingerprint of fingerprints and other non-secret data.
fn print<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
