//! Polls that are answered from memory.

use std::time::Duration;

use super::{Case, Measured};
use crate::bed::Bed;
use crate::document::document;
use crate::load::load;
use crate::peers::{self, Setup, WATCHED, sungrazer};
use crate::report::Table;

pub const CASE: Case = Case {
    name: "polls",
    title: "Polls answered from memory",
    about: "64 connections poll one resource as fast as they are answered. Sungrazer fetches it every second; nginx keeps it \
            for a second, with `proxy_cache_lock` and `proxy_cache_background_update`. *Bare answers* is a program on the \
            runtime under Sungrazer that parses nothing, and answers whatever comes in one write.",
    run,
};

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let mut tables = Vec::new();
        for (title, size) in [("1 KiB", 1024), ("100 KiB", 100 * 1024)] {
            let columns =
                ["requests a second", "p50 ms", "p99 ms", "CPU µs a request", "requests a second at the backend"];
            let mut table = Table::compared(title, "server", &columns);
            bed.backend.put(WATCHED, 1, "application/json", "", &document(1, size));
            for _ in 0..bed.runs {
                for name in ["Sungrazer", "nginx, microcache", "bare answers"] {
                    let server = match name {
                        "Sungrazer" => {
                            sungrazer(bed, Setup::route("every = \"1s\"\nevery_max = \"1s\""), bed.backend.address)
                        }
                        "nginx, microcache" => peers::nginx_cache(bed, bed.backend.address),
                        _ => peers::bare(bed, "bare-answers", None, &["--bytes", &size.to_string()]),
                    };
                    let window = bed.window(Duration::from_secs(6));
                    let gets = bed.backend.gets();
                    let load = load(server.address, WATCHED, 64, window, Some(&server.process)).await;
                    // The warming up counts, too.
                    let asked = (bed.backend.gets() - gets) as f64 / (window.as_secs_f64() * 4.0 / 3.0);
                    table.add(name, &[load.rate, load.p50, load.p99, load.cpu, asked]);
                }
            }
            tables.push(table);
        }
        tables
    })
}
