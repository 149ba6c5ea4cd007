//! The report, as text and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::Examined;
use super::findings::Verdict;
use super::remedies::{Fault, PRODUCTS, lines};

/// The width of lines.
const WIDTH: usize = 118;

/// The column at which a trial's description begins.
const COLUMN: usize = 24;

/// Returns the report as text.
pub(super) fn text(examined: &Examined) -> String {
    let mut text = format!("{}{}/\n\n", examined.url, examined.prefix);
    let named: Vec<String> = examined.path.iter().map(|found| format!("{} ({})", found.name, found.evidence)).collect();
    let path = if named.is_empty() { "nobody who says so".to_owned() } else { named.join(", ") };
    entry(&mut text, "on the way", &path);
    for trial in &examined.findings.trials {
        entry(&mut text, trial.name, &trial.text);
    }
    text.push('\n');
    if examined.findings.list.is_empty() {
        text.push_str("Nothing was found to be wrong.\n");
    }
    for finding in &examined.findings.list {
        wrapped(&mut text, "* ", "  ", &finding.text);
    }
    let fixes = fixes(examined);
    for fix in &fixes {
        let _ = writeln!(text, "\n{}:", fix.product);
        for (fault, lines) in &fix.lines {
            let _ = writeln!(text, "    # {}", fault.purpose());
            for line in lines {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    let mut all = fixes.iter().flat_map(|fix| &fix.lines).flat_map(|(_, lines)| lines);
    if all.any(|line| ["SUNGRAZER", "NAME", "ARN"].iter().any(|name| line.contains(name))) {
        text.push_str("\nSUNGRAZER stands for the address at which it listens, NAME and ARN for names of your own.\n");
    }
    let _ = writeln!(text, "\n{}", sentence(examined));
    text
}

fn sentence(examined: &Examined) -> String {
    let over = if examined.h2 { "HTTP/2" } else { "HTTP/1.1" };
    match examined.verdict {
        Verdict::Streams => format!("Streams work (over {over}, which browsers speak here)."),
        Verdict::LongPolls => {
            format!("Streams do not work, but polls can be held (over {over}, which browsers speak here).")
        }
        Verdict::Nothing => format!("Neither streams nor held polls work (over {over}, which browsers speak here)."),
    }
}

fn entry(text: &mut String, name: &str, what: &str) {
    wrapped(text, &format!("{name:<COLUMN$}"), &" ".repeat(COLUMN), what);
}

fn wrapped(text: &mut String, first: &str, then: &str, what: &str) {
    let mut line = first.to_owned();
    for word in what.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.trim() != first.trim() {
            let _ = writeln!(text, "{}", line.trim_end());
            then.clone_into(&mut line);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// The configuration for one product.
struct Fix {
    product: &'static str,
    lines: Vec<(Fault, Vec<String>)>,
}

/// Returns the remedies for the recognised intermediaries, or for all known products if none was recognised.
fn fixes(examined: &Examined) -> Vec<Fix> {
    let faults: BTreeSet<Fault> = examined.findings.list.iter().filter_map(|finding| finding.fault).collect();
    if faults.is_empty() {
        return Vec::new();
    }
    let has_lines = |product: &&'static str| !lines(product, Fault::Buffering).is_empty();
    let known: Vec<&'static str> = examined.path.iter().map(|found| found.name).filter(has_lines).collect();
    let products = if known.is_empty() { PRODUCTS.to_vec() } else { known };
    let filled = |line: &&str| line.replace("PREFIX", &examined.prefix);
    let of = |product: &'static str| {
        // A line that repairs two faults is printed once.
        let mut said = BTreeSet::new();
        let mut new = |fault: Fault| -> Vec<String> {
            lines(product, fault).iter().filter(|line| said.insert(**line)).map(filled).collect()
        };
        let all = faults.iter().map(|fault| (*fault, new(*fault)));
        Fix { product, lines: all.filter(|(_, lines)| !lines.is_empty()).collect() }
    };
    products.into_iter().map(of).collect()
}

/// Returns the report as JSON.
pub(super) fn json(examined: &Examined) -> Value {
    let path: Vec<Value> =
        examined.path.iter().map(|found| json!({"name": found.name, "evidence": found.evidence})).collect();
    let trials: Vec<Value> = examined
        .findings
        .trials
        .iter()
        .map(|trial| {
            json!({"name": trial.name, "works": trial.works, "text": trial.text, "cut_after": trial.cut.map(|cut| cut.as_secs_f64())})
        })
        .collect();
    let findings: Vec<Value> = examined
        .findings
        .list
        .iter()
        .map(|finding| json!({"fault": finding.fault.map(name), "text": finding.text}))
        .collect();
    let fixes: Vec<Value> = fixes(examined)
        .iter()
        .map(|fix| {
            let lines: Vec<&String> = fix.lines.iter().flat_map(|(_, lines)| lines).collect();
            json!({"for": fix.product, "lines": lines})
        })
        .collect();
    let verdict = match examined.verdict {
        Verdict::Streams => "streams",
        Verdict::LongPolls => "long-polls",
        Verdict::Nothing => "nothing",
    };
    json!({
        "url": examined.url,
        "prefix": examined.prefix,
        "verdict": verdict,
        "http2": examined.h2,
        "path": path,
        "trials": trials,
        "findings": findings,
        "fixes": fixes,
    })
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Buffering => "buffering",
        Fault::Compression => "compression",
        Fault::Idle => "idle",
        Fault::Caching => "caching",
        Fault::WebSocket => "websocket",
        Fault::OldHttp => "http10",
        Fault::Host => "host",
    }
}
