//! Writes the suggested configuration with a comment for each line.

use std::fmt::Write as _;
use std::time::Duration;

use super::caching_findings::coding;
use super::query::{Varying, Verdict};
use super::{CachingFindings, Finding, Report, Sample};
use crate::explain::Rule;

/// Facts besides the report.
#[derive(Clone, Debug)]
pub struct Facts<'f> {
    /// The probed URL without credentials.
    pub url: &'f str,
    /// Scheme, host and port of the application; `None` if the target file names it already.
    pub upstream: Option<&'f str>,
    /// Whether the application's certificate was not verified.
    pub insecure: bool,
    /// The path.
    pub path: &'f str,
    /// The query, if there is one.
    pub query: Option<&'f str>,
    /// The rule for the body with which the URL was requested, as in a route's `post`; `None` for a GET.
    pub post: Option<&'f str>,
    /// The differences in the query of a second URL of the same poll, if one was given.
    pub varying: Option<&'f [Varying]>,
    /// The time of the probe, for display.
    pub when: &'f str,
    /// The length of the pauses.
    pub every: Duration,
    /// The fetches.
    pub samples: &'f [Sample],
    /// The number of failed fetches, and the last failure.
    pub failed: (usize, Option<&'f str>),
    /// The size of the gzipped body, in bytes.
    pub gzipped: usize,
    /// The head of the response to a request that accepts compressed bodies.
    pub encoded: Option<&'f http::HeaderMap>,
    /// Whether credentials were sent, and whether the response without them has the same meaning.
    pub without_credentials: Option<AnonymousResult>,
    /// The default maximum size of a body.
    pub max_body: u64,
}

/// The application's response without a part of the request, such as credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymousResult {
    /// The same.
    Same,
    /// A different one.
    Other,
    /// This status.
    Refused(u16),
}

/// Returns the complete output of a probe: a configuration with comments, including the application if it must be
/// named.
pub fn route_block(facts: &Facts<'_>, report: &Report, hazards: &CachingFindings) -> String {
    let mut block = Block { out: String::new() };
    let query = Verdict::of(facts);
    block.summary(facts, report, hazards);
    block.upstream(facts);
    block.route(facts, report, hazards, &query);
    block.choices(facts, &query);
    block.open_questions(facts, report, hazards, query.open);
    block.out
}

pub(super) struct Block {
    pub(super) out: String,
}

/// The column of trailing comments.
const COLUMN: usize = 36;

/// The width of comments.
const WIDTH: usize = 118;

impl Block {
    /// Writes a comment over as many lines as necessary.
    pub(super) fn comment(&mut self, first: &str, text: &str) {
        let mut line = format!("# {first}");
        let indent = line.chars().count();
        for word in text.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.chars().count() > indent {
                self.out.push_str(line.trim_end());
                self.out.push('\n');
                line = format!("#{}", " ".repeat(indent - 1));
            }
            if !line.ends_with(' ') {
                line.push(' ');
            }
            line.push_str(&visible(word));
        }
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// Writes a line with a trailing comment.
    pub(super) fn line(&mut self, code: &str, why: &str) {
        let _ = writeln!(self.out, "{code:<COLUMN$} # {}", visible(why));
    }

    fn summary(&mut self, facts: &Facts<'_>, report: &Report, hazards: &CachingFindings) {
        let times = report.back_to_back + 1;
        self.comment(
            "",
            &format!(
                "{} probed {}: {times} fetches in direct succession, {} more every {}.",
                facts.url,
                facts.when,
                report.spaced,
                humantime::format_duration(facts.every)
            ),
        );
        self.out.push_str("#\n");
        if let Some(last) = facts.samples.last() {
            self.comment("Answer    ", &answer(facts, last));
        }
        for text in &hazards.caching {
            self.comment("Caching   ", text);
        }
        for text in &hazards.sharing {
            self.comment("Hazard    ", text);
        }
        if let (failed @ 1.., Some(how)) = facts.failed {
            self.comment("Hazard    ", &format!("{failed} fetches failed: {how}"));
        }
        if let Some(fallback) = &report.fallback {
            self.comment("Hazard    ", fallback);
        }
        let pairs = report.back_to_back + report.spaced;
        let changes = match report.differing {
            0 => format!("none: all {} fetches brought the same bytes", report.fetches),
            differing if report.is_silent() && report.ignored.is_empty() => {
                format!(
                    "{differing} of {pairs} fetches brought other bytes with the same meaning: Sungrazer is silent by itself"
                )
            }
            differing if report.is_silent() => {
                format!("{differing} of {pairs} fetches brought other bytes; with the rules below, none is a change")
            }
            differing => format!(
                "{differing} of {pairs} fetches brought other bytes; with the rules below, {} still are changes, {} of them in direct succession, at {}",
                report.loud,
                report.loud_back_to_back,
                report.left.join(", ")
            ),
        };
        self.comment("Changes   ", &changes);
        self.out.push('\n');
    }

    fn route(&mut self, facts: &Facts<'_>, report: &Report, hazards: &CachingFindings, query: &Verdict) {
        self.out.push_str("[[route]]\n");
        self.line(
            &format!("path = {}", quoted(&escaped_path(facts.path))),
            "this path alone; \"*\" is one segment, \"**\" any rest",
        );
        let took = median(facts.samples.iter().map(|sample| sample.took));
        let every = pace(took);
        self.line(
            &format!("every = {}", quoted(&humantime::format_duration(every).to_string())),
            &format!("how often to fetch while somebody watches; an answer took {}", shown_time(took)),
        );
        if let Some(post) = facts.post {
            self.line(&format!("post = {post}"), "only if it changes nothing: Sungrazer asks this by itself");
        }
        if !query.busters.is_empty() {
            let others = query.busters.iter().map(String::as_str).filter(|name| *name != "_");
            let names = std::iter::once("_").chain(others).map(quoted);
            let names = names.collect::<Vec<_>>().join(", ");
            let why = match (query.tried, query.busters.iter().any(|name| name.contains('#'))) {
                (true, false) => "another one in each URL, and without it the answer is the same",
                (true, true) => "another one in each URL (\"#\" is any number), and without it the answer is the same",
                (false, true) => "only there to get past caches, \"#\" being any number without a name",
                (false, false) => "only there to get past caches",
            };
            self.line(&format!("ignore_query = [{names}]"), why);
        }
        if let Some(name) = &query.cursor {
            self.line(
                "fetch = false",
                &format!("\"{name}\" looks like a cursor: the answer is for one client alone, who is told to ask"),
            );
        }
        if !hazards.vary.is_empty() {
            let names: Vec<String> =
                USUAL_VARY.iter().copied().chain(hazards.vary.iter().map(String::as_str)).map(quoted).collect();
            self.line(&format!("vary = [{}]", names.join(", ")), "the answer says that it varies by these");
        }
        let largest = facts.samples.iter().map(|sample| sample.representation.body.len() as u64).max().unwrap_or(0);
        if largest > facts.max_body / 2 {
            let size = (2 * largest).div_ceil(1 << 20);
            self.line(
                &format!("max_body = \"{size}MiB\""),
                "twice what the answer has now; a larger one is not watched",
            );
        }
        for key in ["json", "css", "regex"] {
            self.rules(key, report);
        }
    }

    /// Writes the rules of one kind, with undecided ones as comments.
    fn rules(&mut self, key: &str, report: &Report) {
        let of_key = |finding: &&Finding| finding.rule.as_ref().is_some_and(|rule| rule.key() == key);
        let sure: Vec<&Finding> = report.ignored.iter().filter(of_key).collect();
        let open: Vec<&Finding> = report.undecided.iter().filter(of_key).collect();
        if sure.is_empty() && open.is_empty() {
            return;
        }
        let lead = if sure.is_empty() { "# " } else { "" };
        let _ = writeln!(self.out, "{lead}ignore.{key} = [");
        let text = |finding: &Finding| finding.rule.as_ref().map_or_else(String::new, entry);
        for finding in sure {
            self.line(&format!("    {},", text(finding)), &finding.why);
        }
        for finding in open {
            self.line(&format!("#   {},", text(finding)), &format!("undecided: {}", finding.why));
        }
        let _ = writeln!(self.out, "{lead}]");
    }

    fn open_questions(&mut self, facts: &Facts<'_>, report: &Report, hazards: &CachingFindings, mut open: Vec<String>) {
        if report.undecided.iter().any(|finding| finding.rule.is_some()) {
            open.push("Whether what is commented out above is news. As it stands, it is.".to_owned());
        }
        for finding in report.undecided.iter().filter(|finding| finding.rule.is_none()) {
            open.push(match finding.name.as_str() {
                "" => finding.why.clone(),
                name => format!("{name}: {}", finding.why),
            });
        }
        open.push(match facts.without_credentials {
            Some(AnonymousResult::Same) => "Who may share a fetch. Without the credentials that were given, the answer was the same: if it is so for everybody, audience = \"public\" makes one fetch serve all.".to_owned(),
            Some(AnonymousResult::Other) => "Who may share a fetch. Without the credentials that were given, the answer was another one, so it stays audience = \"credentials\"; if it depends on some cookie or header only, name that.".to_owned(),
            Some(AnonymousResult::Refused(status)) => format!("Who may share a fetch. Without the credentials that were given, the answer was {status}, so it stays audience = \"credentials\"; probe with another user's to see whether theirs is the same."),
            None if hazards.private => "Who may share a fetch. The answer says that it is not for everybody, so it stays audience = \"credentials\".".to_owned(),
            None => "Who may share a fetch. No credentials were given, so whether the answer depends on them was not tried: give them with -H. If it is the same for everybody, audience = \"public\" makes one fetch serve all.".to_owned(),
        });
        if report.unsaid_json && report.ignored.iter().all(|finding| !matches!(finding.rule, Some(Rule::Json(_)))) {
            open.push("The answer is JSON, but its type does not say so: it is compared as text unless ignore.json has a rule.".to_owned());
        }
        let page = facts
            .samples
            .last()
            .map(|sample| String::from_utf8_lossy(&sample.representation.body).to_ascii_lowercase());
        if page.is_some_and(|page| page.contains("type=\"password\"") || page.contains("type=password")) {
            open.push(
                "Whether this is the page that was meant: it has a field for a password, as sign-in pages do."
                    .to_owned(),
            );
        }
        open.push("What changes more rarely than was fetched, such as a date at midnight.".to_owned());
        self.out.push('\n');
        self.out.push_str("# Not decided:\n");
        for text in open {
            self.comment("- ", &text);
        }
    }
}

const USUAL_VARY: [&str; 3] = ["accept", "accept-language", "x-requested-with"];

/// Describes the response in one line.
fn answer(facts: &Facts<'_>, last: &Sample) -> String {
    let sizes = || facts.samples.iter().map(|sample| sample.representation.body.len());
    let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
    let size = if shown_size(least) == shown_size(most) {
        shown_size(most)
    } else {
        format!("{} to {}", shown_size(least), shown_size(most))
    };
    let media_type = last
        .headers
        .get(http::header::CONTENT_TYPE)
        .map_or("no Content-Type".into(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let coded = match facts.encoded.and_then(coding) {
        Some(coding) => format!("the application sends {coding} to who takes it"),
        None => "which the application does not compress".to_owned(),
    };
    format!(
        "{}, {media_type}, {size}; {} with gzip, {coded}",
        last.representation.status.as_u16(),
        shown_size(facts.gzipped)
    )
}

/// Returns a fetch interval that does not keep the application busy.
fn pace(took: Duration) -> Duration {
    let least = Duration::from_secs(1);
    let tenfold = Duration::from_secs((took * 10).as_secs());
    least.max(tenfold).min(Duration::from_secs(30))
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn shown_time(time: Duration) -> String {
    match time.as_secs_f64() * 1000.0 {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 2000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

fn shown_size(bytes: usize) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Escapes wildcards in a path.
fn escaped_path(path: &str) -> String {
    path.replace('*', "%2A")
}

fn entry(rule: &Rule) -> String {
    match rule {
        // Single-quoted TOML strings need no escaping of backslashes.
        Rule::Regex(text) if !text.contains(['\'', '\n']) && !text.chars().any(char::is_control) => format!("'{text}'"),
        rule => quoted(rule.text()),
    }
}

/// Returns a quoted TOML string.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// Replaces control characters, so that text of the application can neither end a comment nor control the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
