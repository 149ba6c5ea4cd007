//! Servers that others wrote, as they are installed: nginx, HAProxy, and any that is started like them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::backend::dead_port;
use super::program::Scratch;
use super::within;

/// A server that runs until this is dropped.
pub struct Peer {
    pub address: SocketAddr,
    /// Where it has its files.
    pub scratch: Scratch,
    _running: Child,
}

/// All that nginx needs to be told before it serves anything. Files are below FOLDER.
const NGINX: &str = "
daemon off;
master_process off;
error_log stderr;
pid FOLDER/pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path FOLDER/1;
    proxy_temp_path FOLDER/2;
    fastcgi_temp_path FOLDER/3;
    uwsgi_temp_path FOLDER/4;
    scgi_temp_path FOLDER/5;
    AROUND
    server { listen ADDRESS; root FOLDER; INSIDE }
}
";

const HAPROXY: &str = "
global
    stats socket FOLDER/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
";

/// nginx with one server that has `inside`, and with `around` beside it. In both, FOLDER is its folder.
pub async fn nginx(around: &str, inside: &str) -> Peer {
    let text = NGINX.replace("AROUND", around).replace("INSIDE", inside);
    serve("nginx", &text, |folder, config, _| {
        vec!["-p".into(), folder, "-e".into(), "stderr".into(), "-c".into(), config]
    })
    .await
}

/// HAProxy with these sections behind its defaults; what says `bind ADDRESS` is where it listens.
pub async fn haproxy(sections: &str) -> Peer {
    serve("haproxy", &format!("{HAPROXY}{sections}"), |_, config, _| {
        vec!["-q".into(), "-db".into(), "-f".into(), config]
    })
    .await
}

/// A server with the configuration `text`, in which FOLDER is its folder and ADDRESS where it listens; `args` makes arguments of the
/// folder, the file, and the address.
pub async fn serve(program: &str, text: &str, args: impl Fn(String, String, SocketAddr) -> Vec<String>) -> Peer {
    let (scratch, address) = (Scratch::new(program), dead_port().await);
    let folder = scratch.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let config = scratch.write("config", &text.replace("FOLDER", folder).replace("ADDRESS", &address.to_string()));
    let running = spawn(program, &args(folder.to_owned(), config, address));
    listens(program, address).await;
    Peer { address, scratch, _running: running }
}

/// Starts a program that is installed. It ends when what this returns is dropped.
pub fn spawn<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Child {
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until somebody listens at `address`.
pub async fn listens(what: &str, address: SocketAddr) {
    within(&format!("{what} to listen"), async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
