//! Sockets that listen, bound before anything is started, so that what cannot be had is said at once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

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

/// Binds `address`. Returns the address that it became, and the socket.
pub(super) fn bind(address: SocketAddr) -> Result<(SocketAddr, Socket), StartError> {
    let bound = || -> io::Result<(SocketAddr, Socket)> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let real = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((real, socket))
    };
    bound().map_err(|error| refuse(address, error))
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
