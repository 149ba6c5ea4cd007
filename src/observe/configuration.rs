//! Writes a configuration for the report, with a comment for each line.

use std::fmt::Write;

use super::report::{Advice, PatternReport, Report, VolatilePart};

/// The text of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteText {
    /// Its path.
    pub path: String,
    /// The lines with their comments.
    pub text: String,
}

/// The column of trailing comments.
const COLUMN: usize = 36;

/// The maximum number of routes.
const MAX_ROUTES: usize = 50;

/// Returns a complete file. `upstream` is the application's URL, if known.
pub fn configuration(report: &Report, upstream: Option<&str>) -> String {
    let mut text = format!(
        "# Made of {} requests that were seen in {}: {} of them are polls.\n# Estimates, not promises. Read what is left open, then try it: sungrazer check, sungrazer\n\n",
        report.totals.requests,
        super::text::time(report.seconds),
        report.totals.polls,
    );
    text.push_str("[upstream]\n");
    match upstream {
        Some(url) => line(&mut text, &format!("url = {}", quoted(url)), "the application"),
        None => line(
            &mut text,
            "url = \"http://127.0.0.1:8000\"",
            "the application: a log does not say where it is, so write it here",
        ),
    }
    for route in routes(report) {
        text.push('\n');
        text.push_str(&route.text);
    }
    for left in report.polls.iter().filter(|one| one.advice == Advice::Leave) {
        let _ = write!(text, "\n# Not watched: {} {}\n", left.method, left.path);
        for why in &left.why {
            let _ = writeln!(text, "#   {why}");
        }
        if let Some(sends) = left.sends.as_ref().filter(|sends| sends.looks_like_a_read) {
            let _ = writeln!(text, "#   it looks like a read: a route for it would say\n#   {}", post(sends));
        }
    }
    text
}

/// Returns the routes, more specific ones first, followed by their pages.
pub fn routes(report: &Report) -> Vec<RouteText> {
    let mut wanted: Vec<&PatternReport> = report.polls.iter().filter(|one| one.advice != Advice::Leave).collect();
    wanted.truncate(MAX_ROUTES);
    wanted.sort_by_key(|one| {
        let stars = one.path.matches('*').count();
        (stars, std::cmp::Reverse(one.path.len()), one.path.clone())
    });
    let mut found: Vec<RouteText> =
        wanted.into_iter().map(|one| RouteText { path: one.path.clone(), text: route(one) }).collect();
    let mut pages =
        String::from("# The pages, and everything else: the browser script follows what they poll.\n[[route]]\n");
    line(&mut pages, "path = \"/**\"", "stands last: the first route that matches wins");
    line(&mut pages, "shim = \"learn\"", "pages as they are; their timers fire when there is news");
    found.push(RouteText { path: "/**".to_owned(), text: pages });
    found
}

fn route(poll: &PatternReport) -> String {
    let mut text = String::new();
    let clients =
        if poll.clients == 1 { "1 client polls".to_owned() } else { format!("{} clients poll", poll.clients) };
    let same =
        poll.same.map_or_else(String::new, |same| format!("; {} of the answers said nothing new", percent(same)));
    let _ = writeln!(text, "# {clients} this about every {}{same}.", super::text::time(poll.interval));
    text.push_str("[[route]]\n");
    line(&mut text, &format!("path = {}", quoted(&poll.path)), "as it was seen; \"*\" is one segment");
    if poll.advice == Advice::Tick {
        line(&mut text, "fetch = false", "Sungrazer never asks for this itself, but tells pages when to ask:");
        for why in &poll.why {
            let _ = writeln!(text, "{:<COLUMN$} # {why}", "");
        }
        if poll.is_page {
            line(&mut text, "shim = \"learn\"", "it is a page, which is given the browser script");
        }
        return text;
    }
    line(
        &mut text,
        &format!("every = {}", period(poll.every_ms)),
        &format!("an answer took about {}", super::text::time(poll.took)),
    );
    line(
        &mut text,
        &format!("every_max = {}", period(poll.every_max_ms)),
        "while nothing changes: no later than today, and no more requests",
    );
    if !poll.ignore_query.is_empty() {
        let names = std::iter::once("_").chain(poll.ignore_query.iter().map(String::as_str)).map(quoted);
        let names = names.collect::<Vec<_>>().join(", ");
        line(&mut text, &format!("ignore_query = [{names}]"), "another one in each request");
    }
    ignored(&mut text, &poll.volatile);
    if poll.is_page {
        line(&mut text, "shim = \"learn\"", "it is a page, which is given the browser script");
    } else {
        line(&mut text, "# hold = \"25s\"", "for programs: each of their polls waits for a change");
    }
    if poll.identities > 1 {
        let said = match poll.answers {
            "same" => "were given the same whenever they asked together",
            "different" => "are given different answers",
            _ => "never asked at the same time",
        };
        let names: Vec<&str> = poll.split_by.iter().take(4).map(|one| one.name.as_str()).collect();
        let _ = writeln!(text, "# {} identities (told apart by {}) {said}.", poll.identities, names.join(", "));
        if poll.answers == "same" {
            line(
                &mut text,
                "# audience = \"public\"",
                "only if everybody may see it: one fetch serves all, without credentials",
            );
        }
    }
    text
}

/// Writes the volatile parts; uncertain ones as comments.
fn ignored(text: &mut String, volatile: &[VolatilePart]) {
    let usable = |part: &&VolatilePart| !part.place.ends_with('*') && !part.place.is_empty();
    let certain = |part: &&VolatilePart| part.looks_like != "unknown" && usable(part);
    let mut lists = Vec::new();
    for key in ["json", "css"] {
        let places: Vec<String> =
            volatile.iter().filter(certain).filter(|part| part.key == key).map(|part| quoted(&part.place)).collect();
        if !places.is_empty() {
            lists.push(format!("{key} = [{}]", places.join(", ")));
        }
    }
    if !lists.is_empty() {
        line(text, &format!("ignore = {{ {} }}", lists.join(", ")), "clocks and tokens: no news by themselves");
    }
    for part in volatile.iter().filter(|part| !certain(part)).take(4) {
        let _ = writeln!(
            text,
            "# Often another: {} ({} times). News, or noise? sungrazer probe tells.",
            visible(&part.place),
            part.changes
        );
    }
}

fn post(sends: &super::report::Sends) -> String {
    let names: Vec<String> = sends.names.iter().map(|name| quoted(name)).collect();
    match sends.kind {
        "form" | "whole" => "post = { kind = \"whole\" }".to_owned(),
        kind => format!("post = {{ kind = \"{kind}\", reads = [{}] }}", names.join(", ")),
    }
}

fn period(milliseconds: u64) -> String {
    match milliseconds % 1000 {
        0 => format!("\"{}s\"", milliseconds / 1000),
        _ => format!("\"{milliseconds}ms\""),
    }
}

fn line(text: &mut String, code: &str, why: &str) {
    let _ = writeln!(text, "{code:<COLUMN$} # {why}");
}

/// Returns a basic string (TOML 1.0).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns a text that is safe in a comment.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
