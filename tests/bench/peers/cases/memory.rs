//! What a client costs that is held and waits.

use std::time::Duration;

use tokio::time::sleep;

use super::{Case, Measured};
use crate::bed::Bed;
use crate::connection::Tls;
use crate::document::document;
use crate::peers::{self, Peer, Pusher, Setup, WATCHED, sungrazer};
use crate::report::Table;
use crate::streams::{Form, Streams, Target};

pub const CASE: Case = Case {
    name: "memory",
    title: "Memory of an idle stream",
    about: "Resident memory (PSS) of all processes of the server, before and after so many SSE streams are open and a \
            resource of 1 KiB was delivered to each, divided by their number. *After a wave* means that all left and came \
            back. pushpin is measured at 1,000 only in `--quick`. The kernel's own memory, the same for all, is not in it.",
    run,
};

/// How long memory is left alone before it is read.
const SETTLE: Duration = Duration::from_millis(1500);

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move { vec![table(bed, 1_000).await, table(bed, 10_000).await] })
}

async fn table(bed: &Bed, count: usize) -> Table {
    let title = format!("{count} streams, kB each");
    let columns = ["once open", "after a wave of reconnects", "CPU seconds to open them all"];
    let mut table = Table::compared(&title, "server", &columns);
    let tls = Tls::new();
    for _ in 0..bed.runs {
        bed.backend.put(WATCHED, 1, "application/json", "", &document(1, 1024));
        for pusher in [Pusher::Sungrazer, Pusher::Nchan, Pusher::Pushpin] {
            if pusher == Pusher::Pushpin && count > 1_000 && bed.quick {
                continue;
            }
            let peer = pusher.start(bed);
            let target = pusher.target(&peer);
            table.add(pusher.name(), &of(&peer, &target, count).await);
        }
        let folder = bed.folder("tls");
        let peer = sungrazer(bed, Setup::default().tls(&tls, &folder), bed.backend.address);
        let target = Target { form: Form::Tls(tls.clone()), ..Target::new(peer.address, WATCHED) };
        table.add("Sungrazer, TLS", &of(&peer, &target, count).await);
        let peer = sungrazer(bed, Setup::default().server("h2c = true"), bed.backend.address);
        let target = Target { form: Form::H2(50), ..Target::new(peer.address, WATCHED) };
        table.add("Sungrazer, HTTP/2, 50 streams a connection", &of(&peer, &target, count).await);
        let peer = peers::nchan_that_listens(bed, 2, "http2");
        let target = Target { form: Form::H2(50), ..Target::new(peer.address, "/sub") };
        table.add("nchan, HTTP/2, 50 streams a connection", &of(&peer, &target, count).await);
    }
    table
}

async fn of(peer: &Peer, target: &Target, count: usize) -> [f64; 3] {
    // One stream first, so that what is made once is not counted.
    let first = Streams::open(target, 1).await;
    sleep(SETTLE).await;
    let (before, cpu) = (peer.process.memory(), peer.process.cpu());
    let each = |memory: f64| (memory - before) / count as f64 / 1000.0;
    let streams = Streams::open(target, count).await;
    let cpu = peer.process.cpu() - cpu;
    sleep(SETTLE).await;
    let opened = each(peer.process.memory());
    streams.close().await;
    sleep(SETTLE).await;
    let streams = Streams::open(target, count).await;
    sleep(SETTLE).await;
    let again = each(peer.process.memory());
    streams.close().await;
    first.close().await;
    [opened, again, cpu]
}
