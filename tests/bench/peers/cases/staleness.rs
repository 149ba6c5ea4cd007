//! The whole point: how much is asked, sent and waited for, by the way that clients come.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Case, Measured};
use crate::bed::Bed;
use crate::connection::{ask, connect, post};
use crate::document::document;
use crate::peers::{self, Setup, WATCHED, sungrazer};
use crate::pollers::Pollers;
use crate::report::Table;
use crate::sightings::{Sightings, percentile};
use crate::streams::{Streams, Target};

pub const CASE: Case = Case {
    name: "staleness",
    title: "500 clients of a resource that changes every five seconds",
    about: "The resource has 1 KiB. Each client polls every second, or is held. Staleness is the time from a change to the \
            moment at which a client has it, for each client and change. Where it says *written*, the change is a POST that \
            passes through the same server, as a user's action does; else it happens behind the server's back. Sungrazer's \
            route has `every = \"1s\"`; held polls have `hold = \"25s\"`.",
    run,
};

const CLIENTS: usize = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    None,
    Nginx,
    Sungrazer { hold: bool },
}

#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    server: Server,
    streams: bool,
    written: bool,
}

const fn way(name: &'static str, server: Server, streams: bool, written: bool) -> Way {
    Way { name, server, streams, written }
}

const PLAIN: Server = Server::Sungrazer { hold: false };
const HELD: Server = Server::Sungrazer { hold: true };

const WAYS: [Way; 7] = [
    way("polled directly", Server::None, false, false),
    way("polled through nginx's microcache", Server::Nginx, false, false),
    way("polled through Sungrazer", PLAIN, false, false),
    way("held polls through Sungrazer", HELD, false, false),
    way("SSE through Sungrazer", PLAIN, true, false),
    way("held polls through Sungrazer, written", HELD, false, true),
    way("SSE through Sungrazer, written", PLAIN, true, true),
];

fn run(bed: &Bed) -> Measured<'_> {
    Box::pin(async move {
        let columns =
            ["requests a second at the backend", "kB a second to clients", "staleness p50 ms", "staleness p99 ms"];
        let mut table = Table::compared("500 clients", "how they come", &columns);
        for _ in 0..bed.runs {
            for way in WAYS {
                table.add(way.name, &measure(bed, way).await);
            }
        }
        vec![table]
    })
}

async fn measure(bed: &Bed, way: Way) -> [f64; 4] {
    bed.backend.clear();
    bed.backend.put(WATCHED, 0, "application/json", "", &document(0, 1024));
    let upstream = bed.backend.address;
    let peer = match way.server {
        Server::None => None,
        Server::Nginx => Some(peers::nginx_cache(bed, upstream)),
        Server::Sungrazer { hold } => {
            let hold = if hold { "hold = \"25s\"\n" } else { "" };
            Some(sungrazer(bed, Setup::route(&format!("every = \"1s\"\n{hold}")), upstream))
        }
    };
    let address = peer.as_ref().map_or(upstream, |peer| peer.address);
    let clients = Clients::come(way, address).await;
    // Everybody polls, and is known for it.
    sleep(Duration::from_millis(2500)).await;
    let sightings = clients.sightings();
    sightings.reset();
    let gets = bed.backend.gets();
    let began = Instant::now();
    let window = bed.window(Duration::from_secs(30));
    // A change at 1.7 s, and others every 5 s: at no round moment of anybody's interval.
    let mut n = 0;
    let mut at = began + Duration::from_millis(1700);
    while at + Duration::from_millis(2500) < began + window {
        sleep_until(at).await;
        n += 1;
        if way.written {
            let mut socket = connect(address, n as usize, None).await.unwrap();
            let request = post(WATCHED, "Content-Type: application/json\r\n", &document(n, 1024));
            ask(&mut socket, &request, |_| {}).await.unwrap();
        } else {
            bed.backend.put(WATCHED, n, "application/json", "", &document(n, 1024));
        }
        at += Duration::from_millis(5013);
    }
    sleep_until(began + window).await;
    let seconds = began.elapsed().as_secs_f64();
    let asked = (bed.backend.gets() - gets) as f64 / seconds;
    let sent = sightings.bytes.get() as f64 / seconds / 1000.0;
    let delays = sightings.delays(&bed.backend.changed());
    if delays.len() != CLIENTS * n as usize {
        eprintln!("!! {} sightings of {} changes: {:?}", delays.len(), n, sightings.errors.borrow());
    }
    clients.leave().await;
    [asked, sent, percentile(&delays, 0.5), percentile(&delays, 0.99)]
}

enum Clients {
    Polling(Pollers),
    Held(Streams),
}

impl Clients {
    async fn come(way: Way, address: SocketAddr) -> Self {
        if way.streams {
            Self::Held(Streams::open(&Target::new(address, WATCHED), CLIENTS).await)
        } else {
            Self::Polling(Pollers::begin(address, WATCHED, CLIENTS, Duration::from_secs(1)))
        }
    }

    fn sightings(&self) -> Rc<Sightings> {
        match self {
            Self::Polling(pollers) => Rc::clone(&pollers.sightings),
            Self::Held(streams) => Rc::clone(&streams.sightings),
        }
    }

    async fn leave(self) {
        if let Self::Held(streams) = self {
            streams.close().await;
        }
    }
}
