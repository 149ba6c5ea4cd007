//! A thousand writes a second.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Case, Measured};
use crate::bed::Bed;
use crate::connection::{ask, connect, post};
use crate::document::document;
use crate::load::load;
use crate::peers::{Setup, WATCHED, sungrazer};
use crate::report::Table;
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "storm",
    title: "A storm of writes",
    about: "1,000 POSTs a second pass through while 10 resources are watched by 10 streams each and 32 connections load the server \
            with GETs that pass through, too. By turns every write is a reason to fetch (`refresh_on`'s default), and none is \
            (`refresh_on = []`).",
    run,
};

const RESOURCES: usize = 10;
const WRITERS: usize = 10;

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let columns = [
            "requests a second that pass through",
            "writes a second",
            "fetches a second and resource",
            "CPU µs a request",
        ];
        let mut table = Table::compared("1,000 writes a second", "a write is", &columns);
        for _ in 0..bed.runs {
            for (name, keys) in [("a reason to fetch", ""), ("none", "refresh_on = []\n")] {
                table.add(name, &measure(bed, keys).await);
            }
        }
        vec![table]
    })
}

async fn measure(bed: &Bed, keys: &str) -> [f64; 4] {
    bed.backend.clear();
    let paths: Vec<String> = (0..RESOURCES).map(|number| format!("{WATCHED}/{number}")).collect();
    for path in &paths {
        bed.backend.put(path, 1, "application/json", "", &document(1, 1024));
    }
    bed.backend.put("/plain", 1, "application/json", "", &document(1, 1024));
    let setup = Setup::route(&format!("every = \"30s\"\n{keys}"));
    let peer = sungrazer(bed, setup, bed.backend.address);
    let target = Target { paths, ..Target::new(peer.address, WATCHED) };
    let streams = Streams::open(&target, RESOURCES * 10).await;
    let window = bed.window(Duration::from_secs(9));
    let mut writers = JoinSet::new();
    let (gets, posts, began) = (bed.backend.gets(), bed.backend.posts(), Instant::now());
    for number in 0..WRITERS {
        let address = peer.address;
        writers.spawn_local(async move {
            let mut socket = connect(address, number, None).await.unwrap();
            for count in 0.. {
                let due = Duration::from_micros(1_000) * (count * WRITERS + number) as u32;
                sleep_until(began + due).await;
                // Each is another one: what is repeated as it is would be taken for a poll.
                let body = format!("{{\"text\":\"{number}.{count}\"}}");
                ask(&mut socket, &post("/posts", "Content-Type: application/json\r\n", &body), |_| {}).await.unwrap();
            }
        });
    }
    let load = load(peer.address, "/plain", 32, window, Some(&peer.process)).await;
    let seconds = began.elapsed().as_secs_f64();
    let fetches = (bed.backend.gets() - gets) as f64 / seconds / RESOURCES as f64;
    let written = (bed.backend.posts() - posts) as f64 / seconds;
    writers.shutdown().await;
    streams.check();
    streams.close().await;
    [load.rate, written, fetches, load.cpu]
}
