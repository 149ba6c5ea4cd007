//! The goals that are stated as ratios, measured in one run, side by side. `cargo bench --bench ratios`
//!
//! A machine that is busy, or slow, is so for both sides of a ratio: their samples are taken by turns.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

mod corpora;
mod subject;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use subject::{Subject, fresh, parse, parse_html, rules, with_one_field_changed};
use sungrazer::diff::delta;
use sungrazer::explain::explain;
use sungrazer::model::{DeltaKind, Digest, Representation};
use sungrazer::normalise::Rules;

const SAMPLES: usize = 41;

/// How long one sample takes, at least, so that the clock's own steps do not matter.
const SAMPLE: Duration = Duration::from_millis(4);

fn sample(work: &mut dyn FnMut(), times: u32) -> f64 {
    let began = Instant::now();
    (0..times).for_each(|_| work());
    began.elapsed().as_secs_f64() / f64::from(times)
}

fn times_for(work: &mut dyn FnMut()) -> u32 {
    let mut times = 1;
    loop {
        let began = Instant::now();
        (0..times).for_each(|_| work());
        if began.elapsed() >= SAMPLE || times >= 1 << 20 {
            return times;
        }
        times *= 2;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The medians of what `ours` and `theirs` take, in seconds, and of their ratios.
fn compared(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> (f64, f64, f64) {
    let (our_times, their_times) = (times_for(&mut ours), times_for(&mut theirs));
    let pairs: Vec<(f64, f64)> =
        (0..SAMPLES).map(|_| (sample(&mut ours, our_times), sample(&mut theirs, their_times))).collect();
    let ours = median(pairs.iter().map(|(ours, _)| *ours).collect());
    let theirs = median(pairs.iter().map(|(_, theirs)| *theirs).collect());
    (ours, theirs, median(pairs.iter().map(|(ours, theirs)| ours / theirs).collect()))
}

#[derive(Default)]
struct Table {
    missed: usize,
}

impl Table {
    fn ratio(&mut self, what: &str, most: f64, (ours, theirs, ratio): (f64, f64, f64)) {
        let met = ratio <= most;
        self.missed += usize::from(!met);
        let verdict = if met { "" } else { " **missed**" };
        println!("| {what} | {} | {} | {ratio:.2} | {most}{verdict} |", time(ours), time(theirs));
    }
}

fn time(seconds: f64) -> String {
    match seconds * 1e9 {
        ns if ns < 1e4 => format!("{ns:.0} ns"),
        ns if ns < 1e7 => format!("{:.0} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// A fetch that brings the same bytes again, against a plain hash of them. What a fetch costs whatever the size is taken off
/// by nothing: for the small document it is most of it.
fn unchanged(table: &mut Table) {
    for (kind, content_type, text) in subject::corpora() {
        let held = fresh(content_type, &text);
        let again = fresh(content_type, &text);
        let measured = compared(
            || assert!(black_box(&held).same(black_box(&again))),
            || {
                black_box(Digest::of(black_box(text.as_bytes())));
            },
        );
        table.ratio(&format!("unchanged {kind}, {} bytes: decision / hash", text.len()), 2.0, measured);
    }
}

fn whole_fetch(table: &mut Table) {
    for (kind, content_type, text) in subject::corpora().into_iter().filter(|(_, _, text)| text.len() > 50_000) {
        let mut subject = Subject::new(content_type, &text);
        let again: Representation = fresh(content_type, &text);
        let measured = compared(
            || {
                black_box(subject.fetch(black_box(again.clone())));
            },
            || {
                black_box(Digest::of(black_box(text.as_bytes())));
            },
        );
        table.ratio(&format!("unchanged {kind}, {} bytes: whole fetch / hash", text.len()), 2.0, measured);
    }
}

fn one_field(table: &mut Table) {
    let base = corpora::json(100_000, 1);
    let target = with_one_field_changed(&base);
    let (held, representation) = (fresh("application/json", &base), fresh("application/json", &target));
    let none = Rules::default();
    let decide = || {
        assert!(!held.same(&representation));
        black_box(none.meaning(black_box(&representation), representation.digest()));
        let patch = delta(DeltaKind::JsonPatch, black_box(&base), black_box(&target)).unwrap();
        assert!(patch.len() < 100);
    };
    let both = || {
        black_box((parse(black_box(&base)), parse(black_box(&target))));
    };
    table.ratio("100 KB of JSON, one field: decision and JSON Patch / parsing both", 1.5, compared(decide, both));
    let decide_and_explain = || {
        decide();
        black_box(explain(&held, &representation, &none));
    };
    table.ratio("… with the explanation for /api/why", 1.5, compared(decide_and_explain, both));
}

fn ignoring(table: &mut Table) {
    let rules = rules();
    let text = corpora::json(100_000, 1);
    let representation = fresh("application/json", &text);
    let content = representation.digest();
    let measured = compared(
        || {
            black_box(rules.meaning(black_box(&representation), content));
        },
        || {
            black_box(parse(black_box(&text)));
        },
    );
    table.ratio("ignore rules on 100 KB of JSON / one parse (serde_json)", 1.0, measured);
    let text = corpora::html(300_000, 1);
    let representation = fresh("text/html; charset=utf-8", &text);
    let content = representation.digest();
    let measured = compared(
        || {
            black_box(rules.meaning(black_box(&representation), content));
        },
        || {
            black_box(parse_html(black_box(&text)));
        },
    );
    table.ratio("ignore rules on 300 KB of HTML / one parse (lol_html)", 1.0, measured);
}

fn main() -> ExitCode {
    // `cargo test --benches` asks whether it runs at all.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    println!("| what | ours | theirs | ratio | goal |\n| --- | --- | --- | --- | --- |");
    let mut table = Table::default();
    unchanged(&mut table);
    whole_fetch(&mut table);
    one_field(&mut table);
    ignoring(&mut table);
    let (base, target) = corpora::head_insert(600, 1);
    let patch = delta(DeltaKind::JsonPatch, &base, &target).unwrap();
    let operations = String::from_utf8_lossy(&patch).matches("\"op\":").count();
    let met = operations <= 3 && patch.len() < 1024;
    println!(
        "\ninsert at the head of 600 items ({} bytes): {operations} operation(s), {} bytes (goal: 3, 1024){}",
        target.len(),
        patch.len(),
        if met { "" } else { " **missed**" }
    );
    if met && table.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
