//! What it costs to have it there, before anybody comes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Case, Measured};
use crate::bed::Bed;
use crate::peers::Pusher;
use crate::report::Table;

pub const CASE: Case = Case {
    name: "start",
    title: "Started, and idle",
    about: "From before the process is started, with its configuration written, until it has answered a first request, tried from \
            the moment at which all its listeners accept; and resident memory (PSS) of all processes of the server a second \
            later. Ten starts a run.",
    run,
};

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let mut table = Table::compared("Started", "server", &["ms until it answers", "MB when idle"]);
        for _ in 0..bed.runs * 10 {
            for pusher in [Pusher::Sungrazer, Pusher::Nchan, Pusher::Pushpin] {
                let began = Instant::now();
                let peer = pusher.start(bed);
                let address = peer.address;
                // Whoever stands behind it answers on this thread.
                tokio::task::spawn_blocking(move || {
                    while !answers(address) {
                        assert!(began.elapsed() < PATIENCE, "{address} does not answer");
                    }
                })
                .await
                .unwrap();
                let answered = began.elapsed();
                sleep(Duration::from_secs(1)).await;
                table.add(pusher.name(), &[answered.as_secs_f64() * 1e3, peer.process.memory() / 1e6]);
            }
        }
        vec![table]
    })
}

/// Some accept before what stands behind them does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for an answer, whatever it says.
fn answers(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream.read(&mut [0; 16]).is_ok_and(|read| read > 0)
}
