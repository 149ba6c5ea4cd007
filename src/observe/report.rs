//! The report: numbers and sentences.

use std::cmp::Reverse;
use std::time::Duration;

use serde::Serialize;

use super::exchange::Form;
use super::ledger::{Ledger, OTHERS};
use super::tally::{Tally, Uploads};
use crate::probe::cursor;

/// The report of an observer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The duration of the observation in seconds.
    pub seconds: f64,
    /// The totals.
    pub totals: Totals,
    /// The polled patterns, those with the most requests first.
    pub polls: Vec<PatternReport>,
    /// The patterns with the most requests that are not polls.
    pub others: Vec<OtherReport>,
    /// Further remarks.
    pub remarks: Vec<String>,
}

/// Totals over all patterns.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// The number of requests.
    pub requests: u64,
    /// The number of polls.
    pub polls: u64,
    /// The number of clients that can be distinguished.
    pub clients: u64,
    /// Bytes of responses.
    pub bytes: u64,
    /// Bytes of responses to polls.
    pub poll_bytes: u64,
    /// The number of requests that could not be parsed.
    pub unread: u64,
    /// Polls that reach the application per day, today and with push.
    pub polls_per_day: TodayThen<u64>,
    /// Response bytes for polls per day.
    pub bytes_per_day: TodayThen<u64>,
}

/// A value today and with push.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TodayThen<T> {
    /// The observed value.
    pub today: T,
    /// The estimated value with the configuration of this report.
    pub then: T,
}

/// The polls of one pattern.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PatternReport {
    /// The method.
    pub method: String,
    /// The path in the syntax of routes.
    pub path: String,
    /// The number of all requests.
    pub requests: u64,
    /// The number of polls.
    pub polls: u64,
    /// The number of polling clients.
    pub clients: u64,
    /// The polling interval of one client in seconds.
    pub interval: f64,
    /// The duration of a response in seconds.
    pub took: f64,
    /// The size of a response in bytes.
    pub bytes: u64,
    /// The fraction of responses equal to the previous one; `None` if none could be compared.
    pub same: Option<f64>,
    /// The fraction of responses that differ only in volatile parts.
    pub noise: Option<f64>,
    /// The number of changed responses.
    pub changes: u64,
    /// The number of changes after a request that may have caused them.
    pub changes_after_writes: u64,
    /// The average delay in seconds until clients learn of a change.
    pub late: TodayThen<f64>,
    /// The maximum of that delay.
    pub late_at_worst: TodayThen<f64>,
    /// Requests that reach the application per day.
    pub requests_per_day: TodayThen<u64>,
    /// Response bytes per day.
    pub bytes_per_day: TodayThen<u64>,
    /// The parts that change by themselves or often.
    pub volatile: Vec<VolatilePart>,
    /// The number of different credentials.
    pub identities: u64,
    /// The properties that make them different.
    pub split_by: Vec<Credential>,
    /// Whether different identities receive the same: `"same"`, `"different"` or `"unknown"`.
    pub answers: &'static str,
    /// The cache-busting parameters.
    pub ignore_query: Vec<String>,
    /// The suggestion.
    pub advice: Advice,
    /// The reasons against fetching.
    pub why: Vec<String>,
    /// For a poll that is not a GET: its body, and whether it looks like a read.
    pub sends: Option<Sends>,
    /// The fetch interval in milliseconds.
    pub every_ms: u64,
    /// The maximum interval in milliseconds.
    pub every_max_ms: u64,
    /// Whether it is a page that the script is injected into.
    pub is_page: bool,
}

/// A location that changes.
#[derive(Clone, Debug, Serialize)]
pub struct VolatilePart {
    /// The location in the syntax of `ignore`.
    pub place: String,
    /// `json` or `css`.
    pub key: &'static str,
    /// `"clock"`, `"token"` or `"unknown"`.
    pub looks_like: &'static str,
    /// The number of responses in which it differed from the previous one.
    pub changes: u64,
}

/// A property that distinguishes clients.
#[derive(Clone, Debug, Serialize)]
pub struct Credential {
    /// The name of a header, or of a cookie after `cookie:`.
    pub name: String,
    /// The number of different values.
    pub values: u64,
}

/// The suggestion for a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Advice {
    /// Fetch it and push it.
    #[default]
    Push,
    /// Send ticks to its page.
    Tick,
    /// Forward it unchanged.
    Leave,
}

/// The bodies of polls with another method.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sends {
    /// `"json-rpc"`, `"graphql"`, `"form"` or `"whole"`.
    pub kind: &'static str,
    /// Names of methods, operations or fields.
    pub names: Vec<String>,
    /// Whether it looks like a read.
    pub looks_like_a_read: bool,
}

/// The requests of a pattern that are not polls.
#[derive(Clone, Debug, Serialize)]
pub struct OtherReport {
    /// The method.
    pub method: String,
    /// The path in the syntax of routes.
    pub path: String,
    /// The number of requests.
    pub requests: u64,
    /// Bytes of their responses.
    pub bytes: u64,
}

/// The maximum number of reported patterns.
const MAX_REPORTED: usize = 100;

/// The maximum number of other requests in the report.
const MAX_OTHERS: usize = 10;

/// The number of additional fetches after a change before the interval is back to normal.
const FETCHES_AFTER_CHANGE: f64 = 3.0;

/// The minimum number of polls for statements about their differences.
const ENOUGH: u64 = 5;

/// Words in paths that indicate an action, for any method.
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

    /// Returns the time that the exchanges of a log span.
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

    /// Decides whether it may be fetched.
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

    /// Estimates the effect of push.
    fn estimate(&mut self, tally: &Tally, scale: f64) {
        let polls = &tally.polls;
        let interval = self.interval.max(0.05);
        // Polls before their recognition are assumed to have been like later ones.
        let known = polls.intervals.number().max(1) as f64;
        let active = polls.watched.as_secs_f64() * (polls.requests as f64 / known).max(1.0);
        // The average number of clients that poll one resource at a time.
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
            // A page with ticks polls when it is told to, and at its own interval otherwise.
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

/// Rounds to two significant digits, as in routes.
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

/// Prefixes of names of reads.
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
