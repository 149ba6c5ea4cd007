//! The report as text.

use std::fmt::Write;

use super::configuration::percent;
use super::report::{Advice, PatternReport, Report, TodayThen};

/// The maximum width of a path in the table.
const PATH: usize = 36;

/// The maximum number of rows of the table.
const MAX_ROWS: usize = 20;

/// Returns only the table, with at most `rows` rows, for display during the observation.
pub fn table(report: &Report, rows: usize) -> String {
    let totals = &report.totals;
    let mut text = format!(
        "{} seen: {} requests of {} clients, {}; {} of them polls\n",
        time(report.seconds),
        count(totals.requests),
        count(totals.clients),
        size(totals.bytes),
        count(totals.polls)
    );
    if report.polls.is_empty() {
        text.push_str("Nothing is polled so far: a poll is known by its fourth request.\n");
        return text;
    }
    let _ = writeln!(
        text,
        "\n{:<PATH$} {:>7} {:>7} {:>6} {:>17} {:>21}",
        "polled", "clients", "every", "same", "late", "requests a day"
    );
    for poll in report.polls.iter().take(rows.min(MAX_ROWS)) {
        let _ = writeln!(text, "{}", row(poll));
    }
    if report.polls.len() > rows.min(MAX_ROWS) {
        let _ = writeln!(text, "and {} more", report.polls.len() - rows.min(MAX_ROWS));
    }
    text
}

fn row(poll: &PatternReport) -> String {
    let name = format!("{} {}", poll.method, poll.path);
    format!(
        "{:<PATH$} {:>7} {:>7} {:>6} {:>17} {:>21}",
        shortened(&name, PATH),
        count(poll.clients),
        time(poll.interval),
        poll.same.map_or_else(|| "?".to_owned(), percent),
        format!("{} → {}", time(poll.late.today), time(poll.late.then)),
        format!("{} → {}", count(poll.requests_per_day.today), count(poll.requests_per_day.then)),
    )
}

/// Returns the complete report.
pub fn text(report: &Report) -> String {
    let mut text = table(report, MAX_ROWS);
    for poll in &report.polls {
        details(&mut text, poll);
    }
    if !report.polls.is_empty() {
        let TodayThen { today, then } = report.totals.polls_per_day;
        let bytes = report.totals.bytes_per_day;
        let _ = writeln!(
            text,
            "\nIn a day: {} polls reach the application, with push about {}; clients are sent {}, with push about {}.",
            count(today),
            count(then),
            size(bytes.today),
            size(bytes.then)
        );
    }
    if report.totals.unread > 0 {
        let _ = writeln!(text, "{} lines could not be read.", count(report.totals.unread));
    }
    for remark in &report.remarks {
        let _ = writeln!(text, "Note: {remark}.");
    }
    text
}

fn details(text: &mut String, poll: &PatternReport) {
    let _ = writeln!(text, "\n{} {}", poll.method, poll.path);
    let mut say = |name: &str, what: &str| {
        let _ = writeln!(text, "    {name:<14}{what}");
    };
    say(
        "polled",
        &format!(
            "{} times by {} clients, each about every {}; an answer took {} and had {}",
            count(poll.polls),
            count(poll.clients),
            time(poll.interval),
            time(poll.took),
            size(poll.bytes)
        ),
    );
    let noise = poll
        .noise
        .filter(|noise| *noise > 0.0)
        .map_or_else(String::new, |noise| format!(", {} differed in clocks or tokens alone", percent(noise)));
    if let Some(same) = poll.same {
        say(
            "answers",
            &format!("{} were those of before{noise}; {} said something new", percent(same), count(poll.changes)),
        );
    }
    say(
        "late",
        &format!(
            "today {}, at worst {}; with push {}, at worst {}",
            time(poll.late.today),
            time(poll.late_at_worst.today),
            time(poll.late.then),
            time(poll.late_at_worst.then)
        ),
    );
    if poll.changes_after_writes > 0 {
        say("writes", &format!("{} changes came behind a write that passed by", count(poll.changes_after_writes)));
    }
    for part in &poll.volatile {
        let looks = match part.looks_like {
            "clock" => "a clock",
            "token" => "a token",
            _ => "news, or noise",
        };
        say("changes", &format!("{} in {} answers: {looks}", part.place, count(part.changes)));
    }
    if poll.identities > 1 {
        let names = poll.split_by.iter().take(5).map(|one| format!("{} ({} values)", one.name, one.values));
        let answers = match poll.answers {
            "same" => "they are given the same",
            "different" => "they are given different answers",
            _ => "they never asked at the same time",
        };
        let names = names.collect::<Vec<_>>().join(", ");
        say("identities", &format!("{}, told apart by {names}; {answers}", count(poll.identities)));
    }
    if !poll.ignore_query.is_empty() {
        say("past caches", &poll.ignore_query.join(", "));
    }
    if let Some(sends) = &poll.sends {
        let looks = if sends.looks_like_a_read { "looks like a read" } else { "may be a write" };
        say("sends", &format!("{} {}: {looks}", sends.kind, sends.names.join(", ")));
    }
    for why in &poll.why {
        say(if poll.advice == Advice::Tick { "not fetched" } else { "not watched" }, why);
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

pub(super) fn time(seconds: f64) -> String {
    match seconds * 1000.0 {
        ms if ms < 1.0 => "0 s".to_owned(),
        ms if ms < 995.0 => format!("{ms:.0} ms"),
        ms if ms < 9950.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms < 120_000.0 => format!("{:.0} s", ms / 1000.0),
        ms if ms < 7_200_000.0 => format!("{:.0} min", ms / 60_000.0),
        ms => format!("{:.0} h", ms / 3_600_000.0),
    }
}

fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.0} k", number as f64 / 1e3),
        _ => format!("{:.1} M", number as f64 / 1e6),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
