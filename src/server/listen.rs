//! Listening sockets: inherited, or bound before anything else starts, so that errors are reported at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use pingora::listeners::TcpSocketOptions;
use pingora::protocols::TcpKeepalive;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::StartError;

/// The length of the accept queue.
const BACKLOG: i32 = 4096;

/// Returns the socket options. The kernel detects dead peers: after a minute of silence it probes the connection and
/// closes it if there is no response.
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

/// The names of inherited sockets in `LISTEN_FDNAMES`.
pub(super) const PUBLIC: &str = "listen";
pub(super) const ADMIN: &str = "admin";
pub(super) const REDIRECT: &str = "redirect";

/// Sockets inherited from systemd or from a previous process (`sd_listen_fds(3)`).
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, TcpListener)>,
    /// Whether only one socket was inherited, which needs no specific name.
    alone: bool,
}

impl Inherited {
    /// Reads the inherited sockets from the environment. Must be called once, before anything else opens files.
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

    /// Takes the socket named `name` or bound to `address`. A single inherited socket is always used for clients,
    /// whatever its name.
    fn take(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let at = |wanted: &dyn Fn(&(String, TcpListener)) -> bool| self.sockets.iter().position(wanted);
        let index = at(&|(_, listener)| listener.local_addr().is_ok_and(|local| local == address))
            .or_else(|| at(&|(known, _)| known == name))
            .or_else(|| at(&|(known, _)| self.alone && name == PUBLIC && known != ADMIN && known != REDIRECT))?;
        Some(self.sockets.remove(index).1)
    }

    /// Closes the sockets that match no listener, and logs a warning.
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

/// Returns the socket for `address`, inherited or newly bound, and its actual address.
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

/// Returns whether a socket bound to `given` satisfies `address`, where port 0 matches any port.
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

/// Returns the error for an `address` that cannot be used, with a hint.
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
        // These are systemd's default names.
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
