//! What was found, in numbers and sentences.

use std::cmp::Reverse;
use std::time::Duration;

use serde::Serialize;

use super::exchange::Form;
use super::ledger::{Ledger, OTHERS};
use super::tally::{Tally, Uploads};
use crate::probe::cursor;

/// What an observer has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How long it has watched, in seconds.
    pub seconds: f64,
    /// Over all.
    pub totals: Totals,
    /// What is polled, by pattern; what most requests are for comes first.
    pub polls: Vec<PatternReport>,
    /// Patterns with the most requests that are no polls.
    pub others: Vec<OtherReport>,
    /// What else should be known.
    pub remarks: Vec<String>,
}

/// Numbers over all patterns.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Requests.
    pub requests: u64,
    /// Those that are polls.
    pub polls: u64,
    /// Clients, as far as they can be told apart.
    pub clients: u64,
    /// Bytes of answers.
    pub bytes: u64,
    /// Bytes of answers to polls.
    pub poll_bytes: u64,
    /// What came and could not be understood.
    pub unread: u64,
    /// Polls that reach the application in a day, today and with push.
    pub polls_per_day: TodayThen<u64>,
    /// Bytes that clients are sent in answer to them in a day.
    pub bytes_per_day: TodayThen<u64>,
}

/// Something as it is, and as it would be.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TodayThen<T> {
    /// As it was seen.
    pub today: T,
    /// As it would be with the configuration that belongs to this report; an estimate.
    pub then: T,
}

/// Polls of one pattern.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PatternReport {
    /// Their method.
    pub method: String,
    /// As a route is written.
    pub path: String,
    /// All requests.
    pub requests: u64,
    /// Those that are polls.
    pub polls: u64,
    /// Clients that poll.
    pub clients: u64,
    /// How often one of them does, in seconds.
    pub interval: f64,
    /// How long an answer takes, in seconds.
    pub took: f64,
    /// Bytes of an answer.
    pub bytes: u64,
    /// The share of answers that were those of before; `None` if there were none to compare.
    pub same: Option<f64>,
    /// The share of those that differ in nothing but what changes by itself.
    pub noise: Option<f64>,
    /// Answers that said something new.
    pub changes: u64,
    /// Those that came behind a request that may have caused them.
    pub changes_after_writes: u64,
    /// How late clients learn of a change, in seconds: on average, and at worst.
    pub late: TodayThen<f64>,
    /// At worst.
    pub late_at_worst: TodayThen<f64>,
    /// Requests that reach the application in a day.
    pub requests_per_day: TodayThen<u64>,
    /// Bytes that clients are sent in a day.
    pub bytes_per_day: TodayThen<u64>,
    /// What changes in it by itself, or at least often.
    pub volatile: Vec<VolatilePart>,
    /// Different credentials.
    pub identities: u64,
    /// What makes them different.
    pub split_by: Vec<Credential>,
    /// Whether different identities are given the same: `"same"`, `"different"` or `"unknown"`.
    pub answers: &'static str,
    /// Parameters that are only there to get past caches.
    pub ignore_query: Vec<String>,
    /// What to do about it.
    pub advice: Advice,
    /// Why, where it is not to be fetched.
    pub why: Vec<String>,
    /// For a poll that is no GET: what it sends, and whether that looks like a read.
    pub sends: Option<Sends>,
    /// How often to fetch it, in milliseconds, and how far to back off.
    pub every_ms: u64,
    /// How far to back off.
    pub every_max_ms: u64,
    /// Whether it is a page, which the script is put into.
    pub is_page: bool,
}

/// A place that changes.
#[derive(Clone, Debug, Serialize)]
pub struct VolatilePart {
    /// The place, as `ignore` names it.
    pub place: String,
    /// `json` or `css`.
    pub key: &'static str,
    /// `"clock"`, `"token"` or `"unknown"`.
    pub looks_like: &'static str,
    /// In how many answers it was another than before.
    pub changes: u64,
}

/// Something by which clients are told apart.
#[derive(Clone, Debug, Serialize)]
pub struct Credential {
    /// The name of a header, or of a cookie behind `cookie:`.
    pub name: String,
    /// How many different values.
    pub values: u64,
}

/// What is to be done about a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Advice {
    /// Fetch it and push it.
    #[default]
    Push,
    /// Tell its page when to ask.
    Tick,
    /// Let it pass.
    Leave,
}

/// What polls by another method send.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sends {
    /// `"json-rpc"`, `"graphql"`, `"form"` or `"whole"`.
    pub kind: &'static str,
    /// Names of methods, operations or fields.
    pub names: Vec<String>,
    /// Whether it looks like a read.
    pub looks_like_a_read: bool,
}

/// Requests of a pattern that are no polls.
#[derive(Clone, Debug, Serialize)]
pub struct OtherReport {
    /// Their method.
    pub method: String,
    /// As a route is written.
    pub path: String,
    /// How many.
    pub requests: u64,
    /// Bytes of their answers.
    pub bytes: u64,
}

/// As many patterns are reported.
const MAX_REPORTED: usize = 100;

/// Other requests that are reported.
const MAX_OTHERS: usize = 10;

/// The fetches that a change is followed by before a resource is fetched as rarely as before.
const FETCHES_AFTER_CHANGE: f64 = 3.0;

/// Fewer polls say nothing about how often each is one of a kind.
const ENOUGH: u64 = 5;

/// Words of paths behind which something is done, whatever the method.
const DEEDS: [&str; 12] = [
    "logout",
    "signout",
    "logoff",
    "delete",
    "remove",
    "destroy",
    "pop",
    "consume",
    "ack",
    "dequeue",
    "unsubscribe",
    "reset",
];

impl Report {
    pub(super) fn of(ledger: &Ledger, lasting: Duration) -> Self {
        let seconds = lasting.as_secs_f64();
        let scale = if seconds > 0.0 { 86_400.0 / seconds } else { 0.0 };
        let mut report = Self { seconds, ..Self::default() };
        for ((method, path), tally) in &ledger.tallies {
            if tally.polls.requests > 0 {
                report.polls.push(PatternReport::of(method, path, tally, scale));
            } else {
                let (method, path) = (method.clone(), path.clone());
                report.others.push(OtherReport { method, path, requests: tally.requests, bytes: tally.bytes });
            }
        }
        let name = |method: &str, path: &str| (method.to_owned(), path.to_owned());
        report.polls.sort_by_cached_key(|one| (Reverse(one.polls), name(&one.method, &one.path)));
        report.others.sort_by_cached_key(|one| (Reverse(one.requests), name(&one.method, &one.path)));
        report.totals = Totals {
            requests: ledger.requests,
            polls: report.polls.iter().map(|one| one.polls).sum(),
            clients: ledger.clients.count(),
            bytes: ledger.bytes,
            poll_bytes: ledger.tallies.values().map(|tally| tally.polls.bytes).sum(),
            unread: ledger.unread,
            polls_per_day: sum(&report.polls, |one| one.requests_per_day),
            bytes_per_day: sum(&report.polls, |one| one.bytes_per_day),
        };
        report.remark(ledger);
        report.polls.truncate(MAX_REPORTED);
        report.others.truncate(MAX_OTHERS);
        report
    }

    fn remark(&mut self, ledger: &Ledger) {
        let (refused, failed) = ledger
            .tallies
            .values()
            .fold((0, 0), |(refused, failed), tally| (refused + tally.refused, failed + tally.failed));
        if (refused + failed) * 2 > ledger.requests && ledger.requests >= ENOUGH {
            self.remarks.push(format!(
                "{} of {} requests were refused or failed: if the application only serves its own host name, write host = \"upstream\" under [upstream]",
                refused + failed,
                ledger.requests
            ));
        }
        if ledger.tallies.keys().any(|(_, path)| path == OTHERS) {
            self.remarks.push(format!(
                "{OTHERS} are requests for more patterns than are counted one by one, or for paths that no route takes"
            ));
        }
        if self.seconds < 60.0 && ledger.requests > 0 {
            self.remarks.push("less than a minute was seen: numbers per day are no more than a guess".to_owned());
        }
    }

    /// How long the exchanges of a log lasted.
    pub(super) fn lasting(ledger: &Ledger) -> Duration {
        ledger.first.map_or(Duration::ZERO, |first| ledger.last.saturating_sub(first))
    }
}

fn sum(polls: &[PatternReport], of: impl Fn(&PatternReport) -> TodayThen<u64>) -> TodayThen<u64> {
    polls
        .iter()
        .map(of)
        .fold(TodayThen::default(), |all, one| TodayThen { today: all.today + one.today, then: all.then + one.then })
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

impl PatternReport {
    fn of(method: &str, path: &str, tally: &Tally, scale: f64) -> Self {
        let polls = &tally.polls;
        let interval = polls.intervals.median().unwrap_or_default();
        let took = tally.took.median().unwrap_or_default();
        let mut report = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            requests: tally.requests,
            polls: polls.requests,
            clients: polls.clients.count(),
            interval: interval.as_secs_f64(),
            took: took.as_secs_f64(),
            bytes: polls.bytes / polls.requests.max(1),
            same: share(polls.same, polls.compared),
            noise: share(polls.noise, polls.compared),
            changes: polls.changes,
            changes_after_writes: polls.after_write,
            volatile: volatile(tally),
            identities: polls.identities.count(),
            split_by: split_by(tally),
            answers: match (polls.alike, polls.unlike) {
                (0, 0) => "unknown",
                (_, 0) => "same",
                _ => "different",
            },
            ignore_query: tally.busters.keys().filter(|name| *name != "_").cloned().collect(),
            sends: (method != "GET").then(|| Sends::of(path, tally)),
            is_page: tally.form == Form::Page,
            ..Self::default()
        };
        report.judge(tally);
        report.estimate(tally, scale);
        report
    }

    /// Whether it may be fetched.
    fn judge(&mut self, tally: &Tally) {
        let polls = &tally.polls;
        let most = |part: u64| part * 2 > tally.requests;
        let leave = [
            (self.path == OTHERS || self.method.is_empty(), "no single route takes these"),
            (self.method != "GET", "only GET is fetched"),
            (tally.streams > 0, "the application streams it itself, and that passes through"),
            (
                polls.held * 2 > polls.requests,
                "these are long polls: the application holds them itself, and they pass through",
            ),
            (tally.too_large > 0, "it is larger than what a route takes unless it says otherwise (max_body)"),
            (most(tally.refused), "most of these requests are refused (401 or 403)"),
            (most(tally.failed), "most of these requests fail"),
            (most(tally.redirects), "most of these requests are redirected"),
            (tally.form == Form::Picture && polls.changes == 0, "it is a picture that never changed"),
        ];
        self.why.extend(leave.iter().filter(|(holds, _)| *holds).map(|(_, why)| (*why).to_owned()));
        if !self.why.is_empty() {
            self.advice = Advice::Leave;
            return;
        }
        for name in tally.parameters.keys().filter(|name| cursor(name)) {
            self.why.push(format!("\"{name}\" looks like a cursor: the answer is for one client alone"));
        }
        for name in tally.fresh.keys().filter(|name| !cursor(name)) {
            if self.same.is_some_and(|same| same > 0.2) || self.noise.is_some_and(|noise| noise > 0.5) {
                self.ignore_query.push(name.clone());
            } else {
                self.why.push(format!("\"{name}\" is another one in each request, and so is the answer"));
            }
        }
        if polls.requests >= ENOUGH && polls.sets_cookies * 5 >= polls.requests * 4 {
            self.why.push("each answer sets a cookie: the session is renewed by the page's own polls".to_owned());
        }
        for name in tally.renewed.keys() {
            self.why.push(format!("{name} is another one in each request: whoever fetches would use it up"));
        }
        if polls.consumed >= 2 && polls.consumed * 3 >= polls.changes {
            self.why.push("what it answers is gone with the next request: it looks like a queue".to_owned());
        }
        let word = |segment: &str| segment.to_ascii_lowercase();
        if let Some(deed) = self.path.split(['/', '.', '-', '_']).map(word).find(|word| DEEDS.contains(&word.as_str()))
        {
            self.why.push(format!("\"{deed}\" in its path says that it does something"));
        }
        self.advice = if self.why.is_empty() { Advice::Push } else { Advice::Tick };
    }

    /// What push would change.
    fn estimate(&mut self, tally: &Tally, scale: f64) {
        let polls = &tally.polls;
        let interval = self.interval.max(0.05);
        // What came before it was known for polls is taken to have been as what came then.
        let known = polls.intervals.number().max(1) as f64;
        let active = polls.watched.as_secs_f64() * (polls.requests as f64 / known).max(1.0);
        // How many clients poll one resource at a time, on average.
        let sharers = (polls.requests as f64 * interval / active.max(interval)).max(1.0);
        let least = (self.took * 10.0).max(1.0).min(interval);
        let back_off = (interval * 2.0 / sharers).clamp(least, interval);
        self.every_ms = milliseconds(least);
        self.every_max_ms = milliseconds(back_off).max(self.every_ms);
        let per_day = |number: f64| (number * scale).round().max(0.0) as u64;
        let requests = polls.requests as f64;
        let changes = polls.changes as f64;
        let (then, bytes) = match self.advice {
            Advice::Push => {
                let fetches = active / back_off + changes / sharers * FETCHES_AFTER_CHANGE;
                (fetches.min(requests), polls.change_bytes)
            }
            // A page asks when it is told to, and at its own interval where nobody tells.
            Advice::Tick | Advice::Leave => (requests, polls.bytes),
        };
        self.requests_per_day = TodayThen { today: per_day(requests), then: per_day(then) };
        self.bytes_per_day = TodayThen { today: per_day(polls.bytes as f64), then: per_day(bytes as f64) };
        let late = polls.late.mean().map_or(interval, |late| late.as_secs_f64());
        let worst = polls.late.longest().as_secs_f64().max(interval);
        let at_once = if polls.changes > 0 { polls.after_write as f64 / changes } else { 0.0 };
        let fetched = at_once * self.took + (1.0 - at_once) * (back_off / 2.0 + self.took);
        let (mean, worst_then) = match self.advice {
            Advice::Push => (fetched.min(late / 2.0 + self.took), (back_off + self.took).min(worst + self.took)),
            Advice::Tick => (at_once * self.took + (1.0 - at_once) * (late / 2.0 + self.took), worst + self.took),
            Advice::Leave => (late / 2.0 + self.took, worst + self.took),
        };
        self.late = TodayThen { today: late / 2.0 + self.took, then: mean };
        self.late_at_worst = TodayThen { today: worst + self.took, then: worst_then };
    }
}

/// As routes say it: no more than two digits that mean anything.
fn milliseconds(seconds: f64) -> u64 {
    let all = (seconds * 1000.0).round().max(50.0) as u64;
    let unit = match all {
        0..1000 => 50,
        1000..10_000 => 500,
        _ => 1000,
    };
    (all + unit / 2) / unit * unit
}

fn volatile(tally: &Tally) -> Vec<VolatilePart> {
    let polls = &tally.polls;
    let often = |changes: u64| changes >= 3 && changes * 2 >= polls.looked_into;
    let mut found: Vec<_> = polls
        .places
        .iter()
        .filter(|(_, seen)| often(seen.changes))
        .map(|(place, seen)| VolatilePart {
            place: place.clone(),
            key: if place.starts_with('/') { "json" } else { "css" },
            looks_like: match seen.is_noise() {
                true if seen.clocks >= seen.tokens => "clock",
                true => "token",
                false => "unknown",
            },
            changes: seen.changes,
        })
        .collect();
    found.sort_by_key(|part| Reverse(part.changes));
    found
}

fn split_by(tally: &Tally) -> Vec<Credential> {
    let all = tally.polls.credentials.iter();
    let mut found: Vec<_> =
        all.map(|(name, values)| Credential { name: name.clone(), values: values.count() }).collect();
    found.sort_by_key(|one| Reverse(one.values));
    found
}

/// Beginnings of names of what is read.
const READS: [&str; 18] = [
    "get",
    "list",
    "read",
    "fetch",
    "query",
    "search",
    "find",
    "poll",
    "status",
    "stat",
    "info",
    "show",
    "view",
    "load",
    "count",
    "check",
    "describe",
    "session-get",
];

impl Sends {
    fn of(path: &str, tally: &Tally) -> Self {
        let Uploads { rpc, graphql, fields, other, mutations } = &tally.uploads;
        let (kind, names) = match (rpc.is_empty(), graphql.is_empty(), fields.is_empty()) {
            (false, _, _) => ("json-rpc", rpc),
            (_, false, _) => ("graphql", graphql),
            (_, _, false) if *other == 0 => ("form", fields),
            _ => ("whole", fields),
        };
        let names: Vec<String> = names.keys().cloned().collect();
        let last = |name: &str| name.rsplit(['.', '/', ':']).next().unwrap_or_default().to_ascii_lowercase();
        let is_read = |name: &str| READS.iter().any(|word| last(name).contains(word));
        let by_name = match kind {
            "json-rpc" => names.iter().all(|name| is_read(name)),
            "graphql" => *mutations == 0,
            _ => is_read(path),
        };
        let same = tally.polls.compared > 0 && tally.polls.same * 2 >= tally.polls.compared;
        Self { kind, names, looks_like_a_read: by_name || (same && *mutations == 0) }
    }
}
