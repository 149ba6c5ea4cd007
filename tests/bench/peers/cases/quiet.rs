//! A thousand resources of which nothing is to be told.

use std::time::Duration;

use tokio::time::sleep;

use super::{Case, Measured};
use crate::bed::Bed;
use crate::document::document;
use crate::peers::{Setup, WATCHED, sungrazer};
use crate::report::Table;
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "quiet",
    title: "A thousand quiet resources",
    about: "1,000 resources of 1 KiB with one stream each, none of which changes: `every = \"1s\"`, `every_max = \"10s\"` (`\"4s\"` with \
            `--quick`), measured when the intervals have grown to that, which takes ten times as long. With the default, \
            30 s, there are a third as many fetches.",
    run,
};

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let columns = ["requests a resource and every_max at the backend", "% of a core", "CPU µs a fetch"];
        let mut table = Table::plain("1,000 quiet resources", "server", &columns);
        for _ in 0..bed.runs {
            let longest = if bed.quick { 4 } else { 10 };
            let paths: Vec<String> = (0..1_000).map(|number| format!("{WATCHED}/{number}")).collect();
            bed.backend.clear();
            for path in &paths {
                bed.backend.put(path, 1, "application/json", "", &document(1, 1024));
            }
            let setup = Setup::route(&format!("every = \"1s\"\nevery_max = \"{longest}s\""));
            let peer = sungrazer(bed, setup, bed.backend.address);
            let target = Target { paths, ..Target::new(peer.address, WATCHED) };
            let streams = Streams::open(&target, 1_000).await;
            let longest = Duration::from_secs(longest);
            sleep(longest * 11).await;
            let (gets, cpu) = (bed.backend.gets(), peer.process.cpu());
            sleep(longest * 2).await;
            let (fetches, cpu) = ((bed.backend.gets() - gets) as f64, peer.process.cpu() - cpu);
            let share = cpu / (longest * 2).as_secs_f64() * 100.0;
            table.add("Sungrazer", &[fetches / 1_000.0 / 2.0, share, cpu * 1e6 / fetches]);
            streams.check();
            streams.close().await;
        }
        vec![table]
    })
}
