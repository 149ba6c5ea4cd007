//! How it grows.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Case, Measured};
use crate::bed::Bed;
use crate::document::document;
use crate::peers::{Setup, WATCHED, sungrazer};
use crate::plot::Plot;
use crate::publisher::{Publisher, Way};
use crate::report::Table;
use crate::sightings::percentile;
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "growth",
    title: "How it grows",
    about: "One thing grows, the others stay. Changes come by the hook, a few a second. Both axes of the plots are in powers of \
            ten; the broken line is what would be in proportion from the first point on, and a flat one costs nothing more. \
            CPU is Sungrazer's in the whole window, fetches included.",
    run,
};

/// What a point of a curve is measured with.
#[derive(Clone, Copy)]
struct Scale {
    resources: usize,
    streams: usize,
    bytes: usize,
}

const SMALL: Scale = Scale { resources: 1, streams: 100, bytes: 1_000 };

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let resources =
            [1, 10, 100, 1_000].map(|resources| (resources, Scale { resources, streams: resources.max(100), ..SMALL }));
        let streams = [10, 100, 1_000, 10_000].map(|streams| (streams, Scale { streams, ..SMALL }));
        let bytes = [1_000, 10_000, 100_000, 1_000_000].map(|bytes| (bytes, Scale { bytes, ..SMALL }));
        vec![
            curve(bed, "resources", &resources).await,
            curve(bed, "streams", &streams).await,
            curve(bed, "bytes", &bytes).await,
        ]
    })
}

async fn curve(bed: &Bed, what: &str, scales: &[(usize, Scale)]) -> Table {
    let columns = ["memory, MB", "p50 ms", "CPU ms a change", "CPU µs an event"];
    let mut table = Table::plain(&format!("With the number of {what}"), what, &columns);
    for _ in 0..bed.runs {
        for (x, scale) in scales {
            table.add(&x.to_string(), &measure(bed, *scale).await);
        }
    }
    for (column, name) in [(0, "memory"), (1, "time"), (2, "cpu")] {
        let points = scales.iter().enumerate().map(|(row, (x, _))| (*x as f64, table.median(row, column)));
        let points: Vec<_> = points.filter(|(_, figure)| figure.is_finite() && *figure > 0.0).collect();
        if points.is_empty() {
            continue;
        }
        table.plots.push(Plot {
            name: format!("{what}-{name}"),
            title: format!("{} by {what}", columns[column]),
            x: what.to_owned(),
            y: columns[column].to_owned(),
            points,
        });
    }
    table
}

async fn measure(bed: &Bed, scale: Scale) -> [f64; 4] {
    bed.backend.clear();
    let paths: Vec<String> = (0..scale.resources).map(|number| format!("{WATCHED}/{number}")).collect();
    for path in &paths {
        bed.backend.put(path, 0, "application/json", "", &document(0, scale.bytes));
    }
    let peer = sungrazer(bed, Setup::default(), bed.backend.address);
    let target = Target { paths: paths.clone(), ..Target::new(peer.address, WATCHED) };
    let streams = Streams::open(&target, scale.streams).await;
    sleep(Duration::from_secs(1)).await;
    streams.sightings.reset();
    let mut publisher = Publisher::new(peer.control, Way::Hook(&bed.backend)).await;
    let changes = bed.window(Duration::from_secs(6)).as_secs_f64() as u32 * 10;
    let began = Instant::now();
    let cpu = peer.process.cpu();
    for n in 1..=changes {
        let path = &paths[n as usize % paths.len()];
        publisher.publish(path, n, &document(n, scale.bytes)).await;
        sleep_until(began + Duration::from_millis(100) * n).await;
    }
    let last = streams.sightings.all_reach(changes, scale.streams / scale.resources.min(scale.streams));
    let _ = timeout(Duration::from_secs(10), last).await;
    let cpu = peer.process.cpu() - cpu;
    let events = streams.sightings.events.get() as f64;
    let delays = streams.sightings.delays(&publisher.sent());
    let memory = peer.process.memory() / 1e6;
    streams.check();
    streams.close().await;
    [memory, percentile(&delays, 0.5), cpu * 1e3 / f64::from(changes), cpu * 1e6 / events]
}
