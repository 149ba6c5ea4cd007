//! Sockets that listen: inherited, or bound before anything is started, so that what cannot be had is said at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use pingora::listeners::TcpSocketOptions;
use pingora::protocols::TcpKeepalive;
use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// A dead peer is noticed by the kernel, on a stream of either version: after a minute of silence it is probed, and
/// given up when it does not answer.
pub(super) fn listener_options() -> TcpSocketOptions {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(60),
    });
    options
}

/// What the sockets that a process hands to the next are called, in `LISTEN_FDNAMES`.
pub(super) const PUBLIC: &str = "listen";
pub(super) const ADMIN: &str = "admin";
pub(super) const REDIRECT: &str = "redirect";

/// Sockets that somebody opened for us: systemd, or the process whose place we take (`sd_listen_fds(3)`).
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, TcpListener)>,
}

impl Inherited {
    /// Those that the environment tells of. To be asked once, before anything else opens files.
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut fds = ListenFd::from_env();
        let sockets = (0..fds.len()).filter_map(|index| {
            let name = names.next().unwrap_or_default();
            fds.take_tcp_listener(index).ok().flatten().map(|listener| (name, listener))
        });
        Self { sockets: sockets.collect() }
    }

    /// The socket that is called `name`, or listens at `address`; and if sockets have no telling names, any for `name`.
    fn take(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let at = |wanted: &dyn Fn(&(String, TcpListener)) -> bool| self.sockets.iter().position(wanted);
        let index = at(&|(_, listener)| listener.local_addr().is_ok_and(|local| local == address))
            .or_else(|| at(&|(known, _)| known == name))
            .or_else(|| at(&|(known, _)| name == PUBLIC && known != ADMIN && known != REDIRECT))?;
        Some(self.sockets.remove(index).1)
    }
}

/// The socket for `address`: an inherited one, or one that is bound now. Returns the address that it has.
pub(super) fn listen(
    name: &str,
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<(SocketAddr, Socket), StartError> {
    let mut had = || -> io::Result<(SocketAddr, Socket)> {
        let socket = match inherited.take(name, address) {
            Some(listener) => Socket::from(listener),
            None => bind(address)?,
        };
        socket.set_nonblocking(true)?;
        let real = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((real, socket))
    };
    had().map_err(|error| refuse(address, error))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Why `address` cannot be had, and what to do about it.
pub(super) fn refuse(address: SocketAddr, error: io::Error) -> StartError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => " (is another sungrazer running? --listen and --admin choose other addresses)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege: choose a higher one)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address)",
        _ => "",
    };
    StartError::Listen { address, error, hint }
}
