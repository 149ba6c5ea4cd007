//! How often the backend is asked, however many watch.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Case, Measured};
use crate::bed::{Bed, now};
use crate::document::document;
use crate::peers::{Setup, WATCHED, sungrazer};
use crate::report::Table;
use crate::sightings::percentile;
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "looks",
    title: "One fetch for all",
    about: "A resource of 1 KiB that changes once a second, fetched every second (`every = \"1s\"`). Times are from the end of \
            the backend's answer that brought a change to its arrival at a client. A *herd* is all clients of a resource that \
            come back at once, 2,000 connections being opened at a time.",
    run,
};

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move { vec![one_fetch(bed).await, herd(bed).await] })
}

const ROUTE: &str = "every = \"1s\"\nevery_max = \"1s\"";

async fn one_fetch(bed: &Bed) -> Table {
    let columns = ["requests a second at the backend", "p50 ms", "p99 ms"];
    let mut table = Table::plain("Streams of one resource", "streams", &columns);
    for _ in 0..bed.runs {
        for count in [1, 50, 500] {
            bed.backend.clear();
            bed.backend.put(WATCHED, 0, "application/json", "", &document(0, 1024));
            let peer = sungrazer(bed, Setup::route(ROUTE), bed.backend.address);
            let streams = Streams::open(&Target::new(peer.address, WATCHED), count).await;
            sleep(Duration::from_millis(500)).await;
            streams.sightings.reset();
            let gets = bed.backend.gets();
            let changes = bed.window(Duration::from_secs(30)).as_secs() as u32;
            let began = Instant::now();
            for n in 1..=changes {
                bed.backend.put(WATCHED, n, "application/json", "", &document(n, 1024));
                sleep_until(began + Duration::from_millis(1_000) * n).await;
            }
            let asked = (bed.backend.gets() - gets) as f64 / began.elapsed().as_secs_f64();
            let delays = streams.sightings.delays(&bed.backend.told());
            table.add(&count.to_string(), &[asked, percentile(&delays, 0.5), percentile(&delays, 0.99)]);
            streams.check();
            streams.close().await;
        }
    }
    table
}

async fn herd(bed: &Bed) -> Table {
    let columns =
        ["ms until all have the state", "requests at the backend meanwhile", "requests expected of one client"];
    let mut table = Table::plain("A herd", "clients", &columns);
    for _ in 0..bed.runs {
        for count in [1, 5_000] {
            bed.backend.clear();
            bed.backend.put(WATCHED, 1, "application/json", "", &document(1, 1024));
            let peer = sungrazer(bed, Setup::route(ROUTE), bed.backend.address);
            let target = Target::new(peer.address, WATCHED);
            let one = Streams::open(&target, 1).await;
            let streams = Streams::open(&target, count).await;
            streams.close().await;
            sleep(Duration::from_millis(200)).await;
            let (gets, began) = (bed.backend.gets(), now());
            let streams = Streams::open_many(&target, count, 2_000).await;
            let _ = timeout(Duration::from_secs(20), streams.sightings.all_reach(1, count)).await;
            let took = (now() - began) as f64 / 1000.0;
            let asked = (bed.backend.gets() - gets) as f64;
            table.add(&count.to_string(), &[took, asked, (took / 1000.0).ceil()]);
            streams.check();
            streams.close().await;
            one.close().await;
        }
    }
    table
}
