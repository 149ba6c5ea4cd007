//! Sockets that listen: inherited, or bound before anything is started, so that what cannot be had is said at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use pingora::listeners::TcpSocketOptions;
use pingora::protocols::TcpKeepalive;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

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
    /// Whether it was one alone, which then needs no telling name.
    alone: bool,
}

impl Inherited {
    /// Those that the environment tells of. To be asked once, before anything else opens files.
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut fds = ListenFd::from_env();
        let sockets = (0..fds.len()).filter_map(|index| {
            let name = names.next().unwrap_or_default();
            match fds.take_tcp_listener(index) {
                Ok(listener) => Some((name, listener?)),
                Err(error) => {
                    warn!(name, "a socket that was handed over cannot be used: {error}");
                    None
                }
            }
        });
        let sockets: Vec<_> = sockets.collect();
        let alone = sockets.len() == 1;
        Self { sockets, alone }
    }

    /// The socket that is called `name`, or listens at `address`; and if there is one alone, whatever it is called, that one
    /// for clients.
    fn take(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let at = |wanted: &dyn Fn(&(String, TcpListener)) -> bool| self.sockets.iter().position(wanted);
        let index = at(&|(_, listener)| listener.local_addr().is_ok_and(|local| local == address))
            .or_else(|| at(&|(known, _)| known == name))
            .or_else(|| at(&|(known, _)| self.alone && name == PUBLIC && known != ADMIN && known != REDIRECT))?;
        Some(self.sockets.remove(index).1)
    }

    /// Closes those that nobody took, and says so.
    pub(super) fn close(self) {
        for (name, listener) in self.sockets {
            let address = listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
            warn!(
                name,
                address,
                "a socket that was handed over is not used, and is closed: its address is none that is configured, and its name is none of {PUBLIC}, {ADMIN} and {REDIRECT}, or that one has another"
            );
        }
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
            Some(listener) => {
                let given = listener.local_addr()?;
                if !is_meant(address, given) {
                    warn!(
                        name,
                        "a socket was handed over that listens at {given}, where the configuration says {address}: the \
                         socket decides; let both say the same (ListenStream= in the unit of systemd)"
                    );
                }
                Socket::from(listener)
            }
            None => bind(address)?,
        };
        socket.set_nonblocking(true)?;
        let real = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((real, socket))
    };
    had().map_err(|error| refuse(address, error))
}

/// Whether a socket at `given` is what `address` asks for, where port 0 is any.
fn is_meant(address: SocketAddr, given: SocketAddr) -> bool {
    address.ip() == given.ip() && (address.port() == given.port() || address.port() == 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(names: &[&str]) -> Inherited {
        let socket = |name: &&str| ((*name).to_owned(), TcpListener::bind("127.0.0.1:0").expect("a socket"));
        Inherited { sockets: names.iter().map(socket).collect(), alone: names.len() == 1 }
    }

    #[test]
    fn a_socket_is_taken_for_what_it_is() {
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
        // As systemd calls them unless it is told otherwise.
        let mut usual = inherited(&["sungrazer-admin.socket", "sungrazer.socket", "extra.socket"]);
        assert!(usual.take(PUBLIC, elsewhere).is_none() && usual.take(ADMIN, elsewhere).is_none());
        let address = usual.sockets[1].1.local_addr().expect("its address");
        let taken = usual.take(PUBLIC, address).expect("the one at that address");
        assert_eq!((taken.local_addr().expect("its address"), usual.sockets.len()), (address, 2));
        assert!(usual.take(PUBLIC, elsewhere).is_none());
        let mut named = inherited(&["admin", "listen"]);
        assert!(named.take(PUBLIC, elsewhere).is_some() && named.take(ADMIN, elsewhere).is_some());
    }

    #[test]
    fn one_socket_alone_is_for_clients_unless_it_says_otherwise() {
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
        let mut one = inherited(&["sungrazer.socket"]);
        assert!(one.take(ADMIN, elsewhere).is_none() && one.take(PUBLIC, elsewhere).is_some());
        assert!(inherited(&["admin"]).take(PUBLIC, elsewhere).is_none());
    }
}
