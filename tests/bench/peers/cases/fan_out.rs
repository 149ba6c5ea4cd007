//! A change, on its way to many.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Case, Measured};
use crate::bed::{Bed, now};
use crate::document::document;
use crate::peers::{Peer, Pusher, WATCHED};
use crate::publisher::Publisher;
use crate::report::Table;
use crate::sightings::percentile;
use crate::streams::Streams;

pub const CASE: Case = Case {
    name: "fan-out",
    title: "Fan-out of a change",
    about: "One resource of 1 KiB, watched by so many SSE streams. nchan and pushpin are posted each state; Sungrazer's backend \
            changes and its hook is posted, so that its fetch of the backend is part of the time and of the CPU. Times are from \
            the post to the arrival at a client; the clients run on the same cores. *Bare socket writes* is a program that \
            writes to all sockets in turn and does nothing else. At saturation the next state is posted when the one before \
            it has arrived everywhere; with four in flight, when the fourth before it has, so that a server can send several \
            at once, or leave out those that are outdated, as Sungrazer does.",
    run,
};

const ALL: [Pusher; 4] = [Pusher::Sungrazer, Pusher::Nchan, Pusher::Pushpin, Pusher::BareWrites];

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        vec![
            steady(bed, 1_000, 10.0).await,
            steady(bed, 10_000, 1.0).await,
            saturated(bed, 1_000).await,
            saturated(bed, 10_000).await,
        ]
    })
}

async fn open(bed: &Bed, pusher: Pusher, count: usize) -> (Peer, Streams) {
    bed.backend.put(WATCHED, 0, "application/json", "", &document(0, 1024));
    let peer = pusher.start(bed);
    let streams = Streams::open(&pusher.target(&peer), count).await;
    sleep(Duration::from_millis(500)).await;
    (peer, streams)
}

/// So many states a second.
async fn steady(bed: &Bed, count: usize, rate: f64) -> Table {
    let title = format!("{count} streams, {rate} changes a second");
    let columns = ["p50 ms", "p99 ms", "events a second", "CPU seconds a million events", "events that arrived"];
    let mut table = Table::compared(&title, "server", &columns);
    for _ in 0..bed.runs {
        for pusher in ALL {
            let (peer, streams) = open(bed, pusher, count).await;
            let mut publisher = Publisher::new(peer.control, pusher.way(bed)).await;
            let changes = (rate * bed.window(Duration::from_secs(12)).as_secs_f64()) as u32;
            streams.sightings.reset();
            let cpu = peer.process.cpu();
            let began = Instant::now();
            for n in 1..=changes {
                publisher.publish(WATCHED, n, &document(n, 1024)).await;
                tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(n) / rate)).await;
            }
            let _ = timeout(Duration::from_secs(20), streams.sightings.all_reach(changes, count)).await;
            let seconds = began.elapsed().as_secs_f64();
            let cpu = peer.process.cpu() - cpu;
            let events = streams.sightings.events.get() as f64;
            let delays = streams.sightings.delays(&publisher.sent());
            let arrived = events / f64::from(changes) / count as f64;
            let times = (percentile(&delays, 0.5), percentile(&delays, 0.99));
            table.add(pusher.name(), &[times.0, times.1, events / seconds, cpu / events * 1e6, arrived]);
            streams.check();
            streams.close().await;
        }
    }
    table
}

/// As fast as they arrive.
async fn saturated(bed: &Bed, count: usize) -> Table {
    let columns = [
        "events a second",
        "p50 ms",
        "p99 ms",
        "CPU seconds a million events",
        "events a second, four in flight",
        "CPU seconds a million events, four in flight",
        "events that arrived, four in flight",
    ];
    let mut table = Table::compared(&format!("{count} streams, at saturation"), "server", &columns);
    for _ in 0..bed.runs {
        for pusher in ALL {
            let (peer, streams) = open(bed, pusher, count).await;
            let mut publisher = Publisher::new(peer.control, pusher.way(bed)).await;
            let mut n = 0;
            let one = press(bed, &peer, &streams, &mut publisher, &mut n, 1).await;
            let four = press(bed, &peer, &streams, &mut publisher, &mut n, 4).await;
            table.add(pusher.name(), &[one.rate, one.p50, one.p99, one.cpu, four.rate, four.cpu, four.arrived]);
            streams.check();
            streams.close().await;
        }
    }
    table
}

struct Pressed {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
    /// Of what was published; the rest was outdated when it could have been sent.
    arrived: f64,
}

/// Publishes whenever all but the last `ahead` states have arrived everywhere.
async fn press(
    bed: &Bed,
    peer: &Peer,
    streams: &Streams,
    publisher: &mut Publisher<'_>,
    n: &mut u32,
    ahead: u32,
) -> Pressed {
    let sightings = &streams.sightings;
    sightings.reset();
    let first = *n;
    let cpu = peer.process.cpu();
    let began = now();
    let deadline = Instant::now() + bed.window(Duration::from_secs(6));
    while Instant::now() < deadline {
        *n += 1;
        publisher.publish(WATCHED, *n, &document(*n, 1024)).await;
        if *n >= first + ahead {
            let arrived = sightings.all_reach(*n + 1 - ahead, streams.count);
            if timeout(Duration::from_secs(20), arrived).await.is_err() {
                eprintln!("!! state {n} has not arrived everywhere");
                break;
            }
        }
    }
    let _ = timeout(Duration::from_secs(20), sightings.all_reach(*n, streams.count)).await;
    let seconds = (now() - began) as f64 / 1e6;
    let cpu = peer.process.cpu() - cpu;
    let events = sightings.events.get() as f64;
    let delays = sightings.delays(&publisher.sent());
    Pressed {
        rate: events / seconds,
        p50: percentile(&delays, 0.5),
        p99: percentile(&delays, 0.99),
        cpu: cpu / events * 1e6,
        arrived: events / (f64::from(*n - first) * streams.count as f64),
    }
}
