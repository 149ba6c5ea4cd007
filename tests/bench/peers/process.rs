//! A server that is measured: its processes, their memory and their time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server. Stopped when dropped, with all that it started.
pub struct Process {
    child: Child,
    name: String,
    /// Seconds of CPU by thread, also of those that have ended.
    used: RefCell<HashMap<PathBuf, f64>>,
}

impl Process {
    /// Starts `command`, whose output goes to a file in `folder`, and waits until all of `listen` accept.
    pub fn start(name: &str, command: &mut Command, folder: &Path, listen: &[SocketAddr]) -> Self {
        let log = folder.join("log");
        let out = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let mut process = Self { child, name: name.to_owned(), used: RefCell::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        for address in listen {
            while TcpStream::connect(address).is_err() {
                let gone = process.child.try_wait().unwrap();
                if gone.is_some() || Instant::now() > deadline {
                    let said = fs::read_to_string(&log).unwrap_or_default();
                    panic!("{name} does not listen at {address}; it said: {said}");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        process
    }

    /// Seconds of CPU that it has used.
    pub fn cpu(&self) -> f64 {
        let mut used = self.used.borrow_mut();
        for pid in self.pids() {
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                used.extend(seconds(&thread.path()).map(|seconds| (thread.path(), seconds)));
            }
        }
        used.values().sum()
    }

    /// Resident bytes; what several processes share counts once.
    pub fn memory(&self) -> f64 {
        let of = |pid: &u32| -> Option<u64> {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = text.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        self.pids().iter().filter_map(of).sum::<u64>() as f64 * 1024.0
    }

    /// It and its descendants.
    fn pids(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some((pid, (parent, _))) = pid.and_then(|pid| Some((pid, stat(&entry.path().join("stat"))?))) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = found.get(at) {
            found.extend(children.get(pid).into_iter().flatten().copied().collect::<Vec<_>>());
            at += 1;
        }
        found
    }
}

/// Seconds of CPU that a thread has used, to the nanosecond where the kernel counts these.
fn seconds(thread: &Path) -> Option<f64> {
    let exact = fs::read_to_string(thread.join("schedstat")).ok();
    let exact = exact.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    // What `getconf CLK_TCK` says on every Linux that this runs on.
    exact.map(|exact| exact / 1e9).or_else(|| Some(stat(&thread.join("stat"))?.1 as f64 / 100.0))
}

/// The parent of a process or thread, and the time that it has used, in clock ticks (proc(5)).
fn stat(file: &Path) -> Option<(u32, u64)> {
    let text = fs::read_to_string(file).ok()?;
    let fields: Vec<&str> = text[text.rfind(')')? + 2..].split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((fields.get(1)?.parse().ok()?, ticks))
}

impl Drop for Process {
    fn drop(&mut self) {
        let pids = self.pids();
        let _ = signal("TERM", &pids[..1]);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("{} does not stop; it is killed", self.name);
                let _ = signal("KILL", &pids);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn signal(name: &str, pids: &[u32]) -> io::Result<()> {
    Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .map(drop)
}
