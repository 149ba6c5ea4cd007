//! The server, as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::within;

/// The built program.
pub fn command() -> Command {
    command_of(env!("CARGO_BIN_EXE_sungrazer"))
}

fn command_of(path: &str) -> Command {
    let mut command = Command::new(path);
    command.kill_on_drop(true).env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub async fn run(args: &[&str]) -> Output {
    within("the program to end", command().args(args).output()).await.unwrap()
}

/// A running server.
pub struct Program {
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
    logging: JoinHandle<()>,
    pub ready: String,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Program {
    pub async fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[]).await
    }

    /// Starts it with these variables in its environment, and no others.
    pub async fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(command(), args, variables).await
    }

    /// Starts the program that is at `path`.
    pub async fn start_as(path: &str, args: &[&str]) -> Self {
        Self::spawn(command_of(path), args, &[]).await
    }

    async fn spawn(mut command: Command, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .args(args)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<u8>>>::default();
        let mut stderr = child.stderr.take().unwrap();
        let logging = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = stderr.read(&mut piece).await {
                    log.lock().unwrap().extend_from_slice(&piece[..read]);
                }
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(ready) = within("the ready line", lines.next_line()).await.unwrap() else {
            within("the end of the log", logging).await.unwrap();
            panic!("no ready line; it said: {}", String::from_utf8_lossy(&log.lock().unwrap()));
        };
        let address = |name: &str| {
            let (_, rest) = ready.split_once(&format!("{name}=http://")).unwrap_or_else(|| panic!("{ready}"));
            rest.split([' ', ',']).next().unwrap().parse().unwrap()
        };
        let (listen, admin) = (address("listen"), address("admin"));
        Self { child, log, logging, address: listen, admin, ready }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// The first line of the log that contains `text`, once there is one.
    pub async fn log_line(&self, text: &str) -> String {
        super::eventually(&format!("{text:?} in the log"), || self.log().contains(text)).await;
        self.log().lines().find(|line| line.contains(text)).unwrap().to_owned()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// Waits for its end. Returns the exit code and the log.
    pub async fn wait(mut self) -> (Option<i32>, String) {
        let status = within("the program to end", self.child.wait()).await.unwrap();
        within("the end of the log", &mut self.logging).await.unwrap();
        (status.code(), self.log())
    }
}

/// Sends a signal to a process that a test has started.
pub fn signal(pid: u32, name: &str) {
    assert!(std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// A file in a folder of its own that goes with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let unique = format!("sungrazer-test-{}-{name}-{:x}", std::process::id(), sungrazer::clock::seed());
        let folder = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
