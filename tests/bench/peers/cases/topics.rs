//! The case that Axway published for its Streams.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Case, Measured};
use crate::bed::Bed;
use crate::document::topic;
use crate::peers::{Setup, WATCHED, sungrazer};
use crate::publisher::{Publisher, Way};
use crate::report::Table;
use crate::sightings::percentile;
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "topics",
    title: "3,000 clients of 100 topics",
    about: "The case that Axway publishes for its Streams: 3,000 clients, each of one of 100 topics of 50 KB, of which a fifth is \
            renewed every 500 ms. There, on a cluster: 5,455 events a second, p99 21 ms. Here the application, Sungrazer and \
            all clients share the cores of one machine; clients are sent JSON Patches; each renewal is told to the hook, and \
            times are from there to the arrival at a client.",
    run,
};

const TOPICS: usize = 100;
const CLIENTS: usize = 3_000;
const SIZE: usize = 50_000;
const PERIOD: Duration = Duration::from_millis(500);

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let columns = ["events a second", "p50 ms", "p99 ms", "kB an event", "CPU µs an event", "events that arrived"];
        let mut table = Table::plain("3,000 clients, 100 topics of 50 KB", "deltas", &columns);
        for _ in 0..bed.runs {
            for (name, headers) in [("JSON Patch", "Prefer: delta=json-patch\r\n"), ("none: whole topics", "")] {
                table.add(name, &measure(bed, headers).await);
            }
        }
        vec![table]
    })
}

async fn measure(bed: &Bed, headers: &str) -> [f64; 6] {
    bed.backend.clear();
    let paths: Vec<String> = (0..TOPICS).map(|number| format!("{WATCHED}/{number}")).collect();
    for path in &paths {
        bed.backend.put(path, 0, "application/json", "", &topic(0, 0, SIZE));
    }
    let peer = sungrazer(bed, Setup::default(), bed.backend.address);
    let target = Target { paths: paths.clone(), headers: headers.to_owned(), ..Target::new(peer.address, WATCHED) };
    let streams = Streams::open(&target, CLIENTS).await;
    sleep(Duration::from_millis(500)).await;
    let mut publisher = Publisher::new(peer.control, Way::Hook(&bed.backend)).await;
    streams.sightings.reset();
    let rounds = bed.window(Duration::from_secs(15)).as_millis() / PERIOD.as_millis();
    let began = Instant::now();
    let cpu = peer.process.cpu();
    let mut n = 0;
    for round in 1..=rounds as usize {
        for path in &paths {
            // Topics do not change all at once, but one after the other.
            sleep_until(began + PERIOD * n / TOPICS as u32).await;
            n += 1;
            publisher.publish(path, n, &topic(n, round, SIZE)).await;
        }
    }
    sleep_until(began + PERIOD * n / TOPICS as u32).await;
    let seconds = began.elapsed().as_secs_f64();
    let events = streams.sightings.events.get() as f64;
    let cpu = peer.process.cpu() - cpu;
    let bytes = streams.sightings.bytes.get() as f64;
    // The last ones are still on their way.
    sleep(Duration::from_millis(500)).await;
    let arrived = streams.sightings.events.get() as f64 / f64::from(n) / (CLIENTS / TOPICS) as f64;
    let delays = streams.sightings.delays(&publisher.sent());
    streams.check();
    streams.close().await;
    let (p50, p99) = (percentile(&delays, 0.5), percentile(&delays, 0.99));
    [events / seconds, p50, p99, bytes / events / 1000.0, cpu / events * 1e6, arrived]
}
