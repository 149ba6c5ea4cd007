//! Sungrazer beside what people would use instead, on one machine and in one run. `tests/bench/run`
//!
//! ```text
//! cases ─ start ─▶ peers (sungrazer, nginx, nchan, pushpin, haproxy, bare programs) ─ asked by ─ streams, load, pollers
//!   │                 └─ in front of ─▶ backend (this process), told by cases when to change        │
//!   └──────────── figures of several runs ─▶ report (Markdown, JSON), plot (SVG) ◀── sightings ──────┘
//! ```
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod backend;
mod bare;
mod bed;
mod cases;
mod connection;
mod document;
mod load;
mod peers;
mod plot;
mod pollers;
mod process;
mod publisher;
mod report;
mod sightings;
mod streams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Sungrazer beside nginx, nchan, pushpin and haproxy, and writes docs/internals/benchmarks.md.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    bare: Option<Bare>,
    /// The cases to run; all if none is named
    cases: Vec<String>,
    /// Short windows: to see that it works, not to be quoted
    #[arg(long)]
    quick: bool,
    /// Runs of each case; figures are their medians
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The program to measure
    #[arg(long, default_value = "target/release/sungrazer")]
    sungrazer: PathBuf,
    /// Where benchmarks.md, benchmarks.json and the plots go
    #[arg(long, default_value = "docs/internals")]
    into: PathBuf,
}

/// The least that could do the job, to compare with.
#[derive(Debug, Subcommand)]
enum Bare {
    /// A proxy that is nothing but pingora
    #[command(name = "bare-pingora", hide = true)]
    Pingora {
        listen: SocketAddr,
        upstream: SocketAddr,
        /// Tells the upstream from whom requests come
        #[arg(long)]
        tells: bool,
    },
    /// Answers all who ask the same, in one write
    #[command(name = "bare-answers", hide = true)]
    Answers {
        listen: SocketAddr,
        /// How much
        #[arg(long)]
        bytes: usize,
    },
    /// Writes what is posted to all who are connected, one socket after the other
    #[command(name = "bare-writes", hide = true)]
    Writes { listen: SocketAddr },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.bare {
        Some(Bare::Pingora { listen, upstream, tells }) => bare::pingora(listen, upstream, tells),
        Some(Bare::Answers { listen, bytes }) => bare::answers(listen, bytes),
        Some(Bare::Writes { listen }) => bare::writes(listen),
        None => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> ExitCode {
    let unknown: Vec<&String> =
        arguments.cases.iter().filter(|name| !cases::ALL.iter().any(|case| case.name == **name)).collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = cases::ALL.iter().map(|case| case.name).collect();
        eprintln!("There is no case called {unknown:?}. There are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    let bed = bed::Bed::new(arguments.sungrazer.clone(), arguments.quick, arguments.runs.max(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut book = report::Book::open(&arguments.into);
    for case in cases::ALL {
        if !arguments.cases.is_empty() && !arguments.cases.iter().any(|name| name == case.name) {
            continue;
        }
        eprintln!("== {}: {}", case.name, case.title);
        let tables = tokio::task::LocalSet::new().block_on(&runtime, (case.run)(&bed));
        for table in &tables {
            println!("{}", table.markdown());
        }
        book.write(case, tables, &bed);
    }
    ExitCode::SUCCESS
}
