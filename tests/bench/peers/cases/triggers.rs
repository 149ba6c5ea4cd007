//! How soon an update is there when the reason to fetch is seen, at a long interval.

use std::fs;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Case, Measured};
use crate::bed::{Bed, now};
use crate::connection::{ask, connect, post};
use crate::document::document;
use crate::peers::{Setup, WATCHED, sungrazer};
use crate::report::Table;
use crate::sightings::percentile;
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "triggers",
    title: "From the cause to the event",
    about: "Interval 30 s, SSE. *Write*: from the moment a client begins to send a POST through Sungrazer; *file*: from the moment \
            before a watched file is replaced by renaming. The backend's own time for a POST is measured in the same run, \
            directly.",
    run,
};

const TIMES: u32 = 40;

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let columns = ["event p50 ms", "event p99 ms", "the backend's own answer, ms"];
        let mut table = Table::plain("every = \"30s\"", "cause", &columns);
        for _ in 0..bed.runs {
            for count in [1, 500] {
                table.add(&format!("write, {count} streams"), &write(bed, count).await);
            }
            table.add("file, 1 stream", &file(bed).await);
        }
        vec![table]
    })
}

async fn write(bed: &Bed, count: usize) -> [f64; 3] {
    bed.backend.clear();
    bed.backend.put(WATCHED, 0, "application/json", "", &document(0, 1024));
    let peer = sungrazer(bed, Setup::route("every = \"30s\""), bed.backend.address);
    let streams = Streams::open(&Target::new(peer.address, WATCHED), count).await;
    let mut through = connect(peer.address, 0, None).await.unwrap();
    let mut direct = connect(bed.backend.address, 0, None).await.unwrap();
    let (mut sent, mut own) = (std::collections::HashMap::new(), Vec::new());
    sleep(Duration::from_millis(500)).await;
    streams.sightings.reset();
    for n in 1..=TIMES {
        let request = post(WATCHED, "Content-Type: application/json\r\n", &document(n, 1024));
        sent.insert(n, now());
        ask(&mut through, &request, |_| {}).await.unwrap();
        let _ = timeout(Duration::from_secs(5), streams.sightings.all_reach(n, count)).await;
        let began = now();
        ask(&mut direct, &post("/elsewhere", "", ""), |_| {}).await.unwrap();
        own.push((now() - began) as f64 / 1000.0);
        // Behind the gap between fetches that writes cause, and the second fetch that follows the first.
        sleep(Duration::from_millis(150)).await;
    }
    let delays = streams.sightings.delays(&sent);
    own.sort_by(f64::total_cmp);
    streams.check();
    streams.close().await;
    [percentile(&delays, 0.5), percentile(&delays, 0.99), percentile(&own, 0.5)]
}

async fn file(bed: &Bed) -> [f64; 3] {
    bed.backend.clear();
    bed.backend.put(WATCHED, 0, "application/json", "", &document(0, 1024));
    let folder = bed.folder("watched");
    let (path, new) = (folder.join("data.json"), folder.join("data.json.new"));
    fs::write(&path, "0").unwrap();
    let setup = Setup::route(&format!("every = \"30s\"\nwatch_files = [{path:?}]"));
    let peer = sungrazer(bed, setup, bed.backend.address);
    let streams = Streams::open(&Target::new(peer.address, WATCHED), 1).await;
    sleep(Duration::from_millis(500)).await;
    streams.sightings.reset();
    let mut replaced = std::collections::HashMap::new();
    for n in 1..=TIMES {
        bed.backend.put(WATCHED, n, "application/json", "", &document(n, 1024));
        replaced.insert(n, now());
        fs::write(&new, n.to_string()).unwrap();
        fs::rename(&new, &path).unwrap();
        if timeout(Duration::from_secs(5), streams.sightings.all_reach(n, 1)).await.is_err() {
            eprintln!("!! the event after {n} replacements does not come");
        }
        sleep(Duration::from_millis(150)).await;
    }
    let delays = streams.sightings.delays(&replaced);
    streams.check();
    streams.close().await;
    [percentile(&delays, 0.5), percentile(&delays, 0.99), f64::NAN]
}
