//! The targets of `tests/fuzz`, for a moment and without coverage: inputs are made of the seeds, the same ones each time.
//! `SUNGRAZER_FUZZ_ROUNDS` says how many; `tests/fuzz/run` looks much further.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "fuzz/src/targets.rs"]
mod targets;

use targets::{TARGETS, Target};

/// Inputs of the slowest target.
const ROUNDS: usize = 20;

/// Made inputs that others are made of in turn.
const POOL: usize = 64;

const LONGEST: usize = 2000;

/// What parsers have a special eye on.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u00",
    "\\ud800",
    "\\",
    "null",
    "-0",
    "1e999",
    "<",
    ">",
    "</",
    "<!--",
    "-->",
    "<td>",
    "<tr>",
    "<script>",
    "=",
    "'",
    "/",
    "~1",
    "*",
    "**",
    "%2f",
    "&",
    "?",
    "\0",
    "\n--\n",
    "\r\n",
    "😀",
    "é",
    "\u{301}",
    " ",
    "12:00:01",
    "7 s ago",
    "[[route]]",
];

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn changed(input: &mut Vec<u8>, other: &[u8], rng: &mut fastrand::Rng) {
    let at = rng.usize(..=input.len());
    let end = (at + rng.usize(..12)).min(input.len());
    match rng.u8(..8) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => drop(input.drain(at..end)),
        3 => {
            let part = input[at..end].to_vec();
            let into = rng.usize(..=input.len());
            input.splice(into..into, part);
        }
        4 => {
            let from = rng.usize(..=other.len());
            let until = rng.usize(from..=other.len().min(from + 40));
            input.splice(at..end, other[from..until].iter().copied());
        }
        5 => {
            let digit = rng.digit(10) as u8;
            input.splice(at..at, [digit]);
        }
        _ => drop(input.splice(at..at, WORDS[rng.usize(..WORDS.len())].bytes())),
    }
    input.truncate(LONGEST);
}

fn fuzz(target: &Target, rounds: usize) {
    let mut pool = seeds(target.name);
    let known = pool.len();
    let mut rng = fastrand::Rng::with_seed(5);
    for seed in &pool {
        (target.run)(seed);
    }
    for round in 0..rounds * target.speed {
        let from = if rng.bool() { rng.usize(..known) } else { rng.usize(..pool.len()) };
        let (mut input, other) = (pool[from].clone(), pool[rng.usize(..pool.len())].clone());
        for _ in 0..rng.usize(1..6) {
            changed(&mut input, &other, &mut rng);
        }
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            panic!("{}, round {round}: b\"{}\"", target.name, input.escape_ascii());
        }
        if pool.len() < known + POOL {
            pool.push(input);
        } else {
            let at = rng.usize(known..pool.len());
            pool[at] = input;
        }
    }
}

#[test]
fn what_reads_what_others_wrote_keeps_its_laws() {
    let rounds = std::env::var("SUNGRAZER_FUZZ_ROUNDS").ok().map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let only = std::env::var("SUNGRAZER_FUZZ_TARGET").ok();
    for target in TARGETS.iter().filter(|target| only.as_deref().is_none_or(|only| only == target.name)) {
        fuzz(target, rounds);
    }
}
