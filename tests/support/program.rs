//! The server, as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::within;

/// The built program.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sungrazer"));
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
    pub ready: String,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Program {
    pub async fn start(args: &[&str]) -> Self {
        let mut child = command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(ready) = within("the ready line", lines.next_line()).await.unwrap() else {
            let mut log = String::new();
            child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
            panic!("no ready line; it said: {log}");
        };
        let address = |name: &str| {
            let (_, rest) = ready.split_once(&format!("{name}=http://")).unwrap_or_else(|| panic!("{ready}"));
            rest.split([' ', ',']).next().unwrap().parse().unwrap()
        };
        let (listen, admin) = (address("listen"), address("admin"));
        Self { child, address: listen, admin, ready }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end. Returns the exit code and the log.
    pub async fn wait(mut self) -> (Option<i32>, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let mut log = String::new();
        let (status, _) =
            within("the program to end", async { tokio::join!(self.child.wait(), stderr.read_to_string(&mut log)) })
                .await;
        (status.unwrap().code(), log)
    }
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
