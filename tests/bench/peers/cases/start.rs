//! What it costs to have it there, before anybody comes.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Case, Measured};
use crate::bed::Bed;
use crate::peers::Pusher;
use crate::report::Table;

pub const CASE: Case = Case {
    name: "start",
    title: "Started, and idle",
    about: "From before the process is started until all its listeners accept, tried every millisecond; and resident memory \
            (PSS) of all processes of the server a second later. Nobody has asked for anything but that. Ten starts a run.",
    run,
};

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let mut table = Table::compared("Started", "server", &["ms until it accepts", "MB when idle"]);
        for _ in 0..bed.runs * 10 {
            for pusher in [Pusher::Sungrazer, Pusher::Nchan, Pusher::Pushpin] {
                let began = Instant::now();
                let peer = pusher.start(bed);
                let ready = began.elapsed();
                sleep(Duration::from_secs(1)).await;
                table.add(pusher.name(), &[ready.as_secs_f64() * 1e3, peer.process.memory() / 1e6]);
            }
        }
        vec![table]
    })
}
