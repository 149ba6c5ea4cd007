//! Hands the listening sockets over to a new process of the program, without a gap in listening.
//!
//! ```text
//! SIGUSR2 ─▶ spawn the program as it is on disk now, with the sockets (LISTEN_FDS) ─▶ it says READY=1 ─▶ drain, exit
//!                                                                  └ it ends, or is silent ─▶ kill it, go on as before
//! ```

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::time::timeout;

/// The first descriptor number of inherited sockets (`sd_listen_fds(3)`).
const FIRST: i32 = 3;

/// How long the new process may take until it accepts connections.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// The reason why the new process did not take over. The old process continues.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It could not be started.
    #[error("the new process cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It ended before it accepted; its log says why.
    #[error("the new process ended before it accepted")]
    Ended,
    /// It did not report readiness in time.
    #[error("the new process did not accept within {HANDOVER_TIMEOUT:?}")]
    Silent,
}

/// Starts the program again with `sockets`, each with its name, and waits until the new process accepts connections.
/// Returns its process id.
///
/// # Errors
/// Returns [`Failed`] if the new process does not report readiness. It is killed then, and also if this future is
/// dropped.
pub(super) async fn hand_over(sockets: Vec<(&'static str, OwnedFd)>) -> Result<u32, Failed> {
    let told_at = env::temp_dir().join(format!("sungrazer-{}-{:08x}.ready", std::process::id(), crate::clock::seed()));
    let socket = UnixDatagram::bind(&told_at)?;
    let told_at = NotifySocket(told_at);
    let command = command(sockets, &told_at.0)?;
    Successor::start(command)?.await_ready(&socket, HANDOVER_TIMEOUT).await
}

/// The socket file on which the new process reports readiness. Dropping it removes the file.
struct NotifySocket(PathBuf);

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // Errors are ignored: the file is private to this process.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn command(sockets: Vec<(&'static str, OwnedFd)>, told_at: &Path) -> io::Result<Command> {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let mut command = Command::new(program()?);
    command
        .args(env::args_os().skip(1))
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env_remove("LISTEN_PID")
        .env("NOTIFY_SOCKET", told_at);
    let mappings = sockets.into_iter().zip(FIRST..).map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
    Ok(command)
}

/// Returns the path of the program on disk, which may differ from the running one.
fn program() -> io::Result<PathBuf> {
    let path = env::current_exe()?.into_os_string().into_vec();
    let path = path.strip_suffix(b" (deleted)").map(<[u8]>::to_vec).unwrap_or(path);
    Ok(PathBuf::from(OsString::from_vec(path)))
}

/// The new process until it accepts connections. If it never does, it is killed: left behind with the sockets, it would
/// hold connections in its queue without answering them.
struct Successor(Option<Child>);

impl Successor {
    fn start(command: Command) -> io::Result<Self> {
        Ok(Self(Some(tokio::process::Command::from(command).spawn()?)))
    }

    async fn await_ready(mut self, socket: &UnixDatagram, patience: Duration) -> Result<u32, Failed> {
        let (Some(child), mut message) = (self.0.as_mut(), [0; 512]) else { return Err(Failed::Ended) };
        let Some(pid) = child.id() else { return Err(Failed::Ended) };
        let ready = async {
            loop {
                let read = socket.recv(&mut message).await?;
                if message[..read].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        let failed = tokio::select! {
            ready = timeout(patience, ready) => match ready {
                Ok(Ok(())) => {
                    // The new process is independent now. If it ends before this one, the runtime reaps it.
                    self.0 = None;
                    return Ok(pid);
                }
                Ok(Err(error)) => Failed::Start(error),
                Err(_) => Failed::Silent,
            },
            _ = child.wait() => Failed::Ended,
        };
        // The kill fails if the process has already ended, which is fine.
        let _ = child.kill().await;
        Err(failed)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // The runtime reaps the process.
            let _ = child.start_kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn succeed(program: &str, arguments: &[&str], patience: Duration) -> (u32, Result<u32, Failed>) {
        let (socket, _other) = UnixDatagram::pair().expect("sockets");
        let mut command = Command::new(program);
        command.args(arguments);
        let successor = Successor::start(command).expect("a process");
        let pid = successor.0.as_ref().and_then(Child::id).expect("its number");
        (pid, successor.await_ready(&socket, patience).await)
    }

    #[tokio::test]
    async fn a_process_that_does_not_come_to_accept_is_not_left_behind() {
        let (pid, result) = succeed("sleep", &["600"], Duration::from_millis(50)).await;
        assert!(matches!(result, Err(Failed::Silent)), "{result:?}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is there still");
        let (pid, result) = succeed("true", &[], Duration::from_secs(60)).await;
        assert!(matches!(result, Err(Failed::Ended)), "{result:?}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is there still");
    }
}
