//! What all cases stand on: how long they measure, how often, and where files go.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::backend::Backend;

pub struct Bed {
    pub sungrazer: PathBuf,
    pub quick: bool,
    pub runs: usize,
    pub scratch: PathBuf,
    pub backend: Backend,
    started: Cell<usize>,
}

impl Bed {
    pub fn new(sungrazer: PathBuf, quick: bool, runs: usize) -> Self {
        let scratch = std::env::temp_dir().join(format!("sungrazer-bench-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        Self { sungrazer, quick, runs, scratch, backend: Backend::start(), started: Cell::new(0) }
    }

    /// How long a window of measurement is: `full`, or a third of it.
    pub fn window(&self, full: Duration) -> Duration {
        if self.quick { full / 3 } else { full }
    }

    /// A folder of its own for the next server.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.started.set(self.started.get() + 1);
        let folder = self.scratch.join(format!("{}-{name}", self.started.get()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// An address at which nobody listens.
pub fn vacant() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Microseconds since this program began.
pub fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_micros() as u64
}
