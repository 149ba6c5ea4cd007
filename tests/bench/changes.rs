//! What it costs to find out whether there is a change, and to say it. `cargo bench --bench changes`
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

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use subject::{Subject, fresh, parse, rules};
use sungrazer::diff;
use sungrazer::model::{DeltaKind, Digest};
use sungrazer::normalise::Rules;

fn unchanged(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unchanged");
    for (kind, content_type, text) in subject::corpora() {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let name = format!("{kind}/{}", text.len());
        group.bench_with_input(BenchmarkId::new("look", &name), &text, |bencher, text| {
            let mut subject = Subject::new(content_type, text);
            bencher.iter_batched(
                || fresh(content_type, text),
                |again| subject.fetch(black_box(again)),
                criterion::BatchSize::SmallInput,
            );
        });
        group.bench_with_input(BenchmarkId::new("hash", &name), &text, |bencher, text| {
            bencher.iter(|| Digest::of(black_box(text.as_bytes())));
        });
    }
}

fn one_field(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one field of JSON");
    for bytes in [1_000, 100_000, 1_000_000] {
        let base = corpora::json(bytes, 1);
        let target = subject::with_one_field_changed(&base);
        group.throughput(Throughput::Bytes(2 * base.len() as u64));
        let representation = fresh("application/json", &target);
        let none = Rules::default();
        group.bench_function(BenchmarkId::new("decision and JSON Patch", bytes), |bencher| {
            bencher.iter(|| {
                let content = representation.digest();
                let meaning = none.meaning(black_box(&representation), content);
                (meaning, diff::delta(DeltaKind::JsonPatch, black_box(&base), black_box(&target)).unwrap())
            });
        });
        group.bench_function(BenchmarkId::new("parse both", bytes), |bencher| {
            bencher.iter(|| (parse(black_box(&base)), parse(black_box(&target))));
        });
        for kind in [DeltaKind::MergePatch, DeltaKind::Splice] {
            group.bench_function(BenchmarkId::new(kind.as_str(), bytes), |bencher| {
                bencher.iter(|| diff::delta(kind, black_box(&base), black_box(&target)).ok());
            });
        }
    }
}

fn lists(criterion: &mut Criterion) {
    let (base, target) = corpora::head_insert(600, 1);
    criterion.bench_function("insert at the head of 600 items", |bencher| {
        bencher.iter(|| diff::delta(DeltaKind::JsonPatch, black_box(&base), black_box(&target)).unwrap());
    });
}

fn ignoring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ignore rules");
    for (kind, content_type, text) in subject::corpora() {
        let (rules, representation) = (rules(), fresh(content_type, &text));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("meaning", format!("{kind}/{}", text.len())), |bencher| {
            bencher.iter(|| rules.meaning(black_box(&representation), representation.digest()));
        });
    }
    let text = corpora::json(100_000, 1);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("one parse/json/100000", |bencher| bencher.iter(|| parse(black_box(&text))));
    let text = corpora::html(300_000, 1);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("one parse/html/300000", |bencher| bencher.iter(|| subject::parse_html(black_box(&text))));
}

fn splices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("splice");
    for (kind, bytes, base) in [
        ("html", 300_000, corpora::html(300_000, 1)),
        ("html on one line", 300_000, corpora::html(300_000, 1).replace('\n', " ")),
        ("text", 100_000, corpora::text(100_000, 1)),
    ] {
        let target = subject::with_some_words_changed(&base);
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(kind, |bencher| {
            bencher.iter(|| diff::delta(DeltaKind::Splice, black_box(&base), black_box(&target)).unwrap());
        });
    }
    // Nothing in common: the most that any client can be made to wait.
    for (kind, base, target) in [
        (DeltaKind::Splice, corpora::text(1_000_000, 1), corpora::text(1_000_000, 2)),
        (DeltaKind::JsonPatch, corpora::json(1_000_000, 1), corpora::json(1_000_000, 2)),
    ] {
        group.bench_function(BenchmarkId::new("unlike", kind.as_str()), |bencher| {
            bencher.iter(|| diff::delta(kind, black_box(&base), black_box(&target)).ok());
        });
    }
}

criterion_group!(benches, unchanged, one_field, lists, ignoring, splices);
criterion_main!(benches);
