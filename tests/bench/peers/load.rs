//! Requests as fast as they are answered, over connections that are kept.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::bed::now;
use crate::connection::{ask, connect, get};
use crate::process::Process;
use crate::sightings::percentile;

/// What a load came to.
#[derive(Debug)]
pub struct Load {
    /// Requests a second.
    pub rate: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// Microseconds of the server's CPU, a request.
    pub cpu: f64,
}

#[derive(Default)]
struct Counts {
    /// Microseconds, each.
    times: RefCell<Vec<f64>>,
    measuring: Cell<bool>,
    wrong: Cell<u64>,
}

/// Loads `address` from `connections` for `window`, after a third of that to warm up.
pub async fn load(
    address: SocketAddr,
    path: &str,
    connections: usize,
    window: Duration,
    server: Option<&Process>,
) -> Load {
    let counts = Rc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (counts, request) = (Rc::clone(&counts), get(path, ""));
        tasks.spawn_local(async move {
            loop {
                let Ok(mut socket) = connect(address, number, None).await else { continue };
                loop {
                    let began = now();
                    let Ok((head, _)) = ask(&mut socket, &request, |_| {}).await else {
                        counts.wrong.set(counts.wrong.get() + 1);
                        break;
                    };
                    if counts.measuring.get() {
                        counts.times.borrow_mut().push((now() - began) as f64);
                    }
                    counts.wrong.set(counts.wrong.get() + u64::from(head.status != 200));
                    if head.closes {
                        break;
                    }
                }
            }
        });
    }
    tokio::time::sleep(window / 3).await;
    let cpu = server.map_or(0.0, Process::cpu);
    let began = now();
    counts.measuring.set(true);
    tokio::time::sleep(window).await;
    counts.measuring.set(false);
    let seconds = (now() - began) as f64 / 1e6;
    let cpu = server.map_or(0.0, Process::cpu) - cpu;
    tasks.shutdown().await;
    if counts.wrong.get() > 0 {
        eprintln!("!! {} answers were none, or wrong", counts.wrong.get());
    }
    let mut times = counts.times.take();
    times.sort_by(f64::total_cmp);
    let answered = times.len() as f64;
    Load {
        rate: answered / seconds,
        p50: percentile(&times, 0.5) / 1000.0,
        p99: percentile(&times, 0.99) / 1000.0,
        cpu: cpu * 1e6 / answered,
    }
}
