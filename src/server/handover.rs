//! Gives the listening sockets to a new process of the program, without a moment in which nobody listens.
//!
//! ```text
//! SIGUSR2 ─▶ spawn the program as it is on disk now, with the sockets (LISTEN_FDS) ─▶ it says READY=1 ─▶ drain, exit
//!                                                                  └ it ends, or is silent ─▶ go on as before
//! ```

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// The first descriptor that is handed over (`sd_listen_fds(3)`).
const FIRST: i32 = 3;

/// How long the new process may take until it accepts.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the new process did not take over. The old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It could not be started.
    #[error("the new process cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It ended before it accepted; its log says why.
    #[error("the new process ended before it accepted")]
    Ended,
    /// It did not say that it accepts.
    #[error("the new process did not accept within {PATIENCE:?}")]
    Silent,
}

/// Starts the program anew with `sockets`, each with its name, and waits until it accepts. Returns its process id.
///
/// # Errors
/// If it does not come to accept.
pub(super) async fn hand_over(sockets: Vec<(&'static str, OwnedFd)>) -> Result<u32, Failed> {
    let told_at = env::temp_dir().join(format!("sungrazer-{}-{:08x}.ready", std::process::id(), crate::clock::seed()));
    let socket = UnixDatagram::bind(&told_at)?;
    let result = match start(sockets, &told_at) {
        Ok(child) => await_ready(child, &socket).await,
        Err(error) => Err(error.into()),
    };
    // It was ours alone; whether it could be removed changes nothing.
    let _ = std::fs::remove_file(&told_at);
    result
}

fn start(sockets: Vec<(&'static str, OwnedFd)>, told_at: &PathBuf) -> io::Result<Child> {
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
    command.spawn()
}

/// The program as it is on disk now, which may be another than the one that runs.
fn program() -> io::Result<PathBuf> {
    let path = env::current_exe()?.into_os_string().into_vec();
    let path = path.strip_suffix(b" (deleted)").map(<[u8]>::to_vec).unwrap_or(path);
    Ok(PathBuf::from(OsString::from_vec(path)))
}

async fn await_ready(mut child: Child, socket: &UnixDatagram) -> Result<u32, Failed> {
    let pid = child.id();
    // A process that ends is noticed by whoever waits for it; a thread does that, and is not waited for if all is well.
    let ended = tokio::task::spawn_blocking(move || child.wait());
    let ready = async {
        let mut message = [0; 512];
        loop {
            let read = socket.recv(&mut message).await?;
            if message[..read].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok::<(), io::Error>(());
            }
        }
    };
    tokio::select! {
        ready = timeout(PATIENCE, ready) => match ready {
            Ok(ready) => ready.map(|()| pid).map_err(Failed::Start),
            Err(_) => Err(Failed::Silent),
        },
        _ = ended => Err(Failed::Ended),
    }
}
