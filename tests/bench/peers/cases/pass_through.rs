//! Requests that are none of Sungrazer's business.

use std::time::Duration;

use super::{Case, Measured};
use crate::bed::Bed;
use crate::load::load;
use crate::peers::{self, Setup, sungrazer};
use crate::report::Table;

pub const CASE: Case = Case {
    name: "pass-through",
    title: "Requests that pass through",
    about: "64 connections that are kept, each asking again when it was answered; behind the proxy an nginx that serves a file. \
            Every proxy has two workers or threads and keeps its connections to that nginx. *Bare pingora* is a proxy of \
            nothing but the library under Sungrazer; with the *same fields* it tells the application from whom a request \
            comes, as Sungrazer does: `X-Forwarded-For`, `-Host` and `-Proto`, `Forwarded` and `CDN-Loop`. CPU is the proxy's own.",
    run,
};

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let origin = peers::origin(bed, &[("1k", 1024), ("100k", 100 * 1024)]);
        let mut tables = Vec::new();
        for (title, path) in [("1 KiB", "/1k"), ("100 KiB", "/100k")] {
            let columns = ["requests a second", "p50 ms", "p99 ms", "CPU µs a request"];
            let mut table = Table::compared(title, "proxy", &columns);
            for _ in 0..bed.runs {
                for name in
                    ["Sungrazer", "bare pingora", "bare pingora, same fields", "nginx", "haproxy", "none: direct"]
                {
                    let upstream = origin.address;
                    let proxy = match name {
                        "Sungrazer" => Some(sungrazer(bed, Setup::default(), upstream)),
                        "bare pingora" => Some(peers::bare(bed, "bare-pingora", Some(upstream), &[])),
                        "bare pingora, same fields" => {
                            Some(peers::bare(bed, "bare-pingora", Some(upstream), &["--tells"]))
                        }
                        "nginx" => Some(peers::nginx_proxy(bed, upstream)),
                        "haproxy" => Some(peers::haproxy(bed, upstream)),
                        _ => None,
                    };
                    let address = proxy.as_ref().map_or(upstream, |proxy| proxy.address);
                    let process = proxy.as_ref().map(|proxy| &proxy.process);
                    let load = load(address, path, 64, bed.window(Duration::from_secs(6)), process).await;
                    let cpu = if process.is_some() { load.cpu } else { f64::NAN };
                    table.add(name, &[load.rate, load.p50, load.p99, cpu]);
                }
            }
            tables.push(table);
        }
        tables
    })
}
