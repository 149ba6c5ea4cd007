//! Clients that ask again and again, as pages do.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::{ask, connect, get};
use crate::document::Scanner;
use crate::sightings::Sightings;

/// Polls that go on until this is dropped.
pub struct Pollers {
    pub sightings: Rc<Sightings>,
    _tasks: JoinSet<()>,
}

impl Pollers {
    /// `count` clients, each of which asks again `every` so often or, if its answer takes longer, so long after it. They
    /// begin at moments of their own.
    pub fn begin(address: SocketAddr, path: &str, count: usize, every: Duration) -> Self {
        let sightings = Rc::new(Sightings::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            // Browsers say who they are; that tells clients apart that share an address.
            let request = get(path, &format!("User-Agent: client {number}\r\n"));
            let phase = every.mul_f64(number as f64 / count as f64);
            tasks.spawn_local(poll(address, number, request, phase, every, Rc::clone(&sightings)));
        }
        Self { sightings, _tasks: tasks }
    }
}

async fn poll(
    address: SocketAddr,
    number: usize,
    request: String,
    phase: Duration,
    every: Duration,
    sightings: Rc<Sightings>,
) {
    sleep(phase).await;
    let mut known = 0;
    loop {
        let Ok(mut socket) = connect(address, number, None).await else {
            sightings.failed("no connection".to_owned());
            sleep(every).await;
            continue;
        };
        loop {
            let asked = Instant::now();
            let mut scanner = Scanner::default();
            let answer = ask(&mut socket, &request, |bytes| {
                scanner.scan(bytes, |n| sightings.saw(&mut known, n));
            });
            match answer.await {
                Ok((head, bytes)) => {
                    sightings.got(bytes);
                    if head.closes {
                        break;
                    }
                }
                Err(error) => {
                    sightings.failed(error.to_string());
                    break;
                }
            }
            let took = asked.elapsed();
            sleep_until(asked + if took < every { every } else { took + every }).await;
        }
    }
}
