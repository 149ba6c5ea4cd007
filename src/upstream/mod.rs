//! The backend: its address, connections to it, and fetches from it.
//!
//! ```text
//! UpstreamHandle ─ path ─▶ Application ──▶ Replicas ──▶ one of them: an Upstream
//!
//! Address (url) ──▶ Resolver ──▶ HttpPeer ──▶ Connection ◀─▶ IdlePool
//!                                                 ├─▶ ReplicaGuard::lend      (pingora's HttpProxy)
//!                                                 ├─▶ Upstream::fetch   (fetches)
//!                                                 └─▶ Upstream::connect (tunnels, relayed requests)
//! ```

mod address;
mod availability;
mod connection;
mod decode;
mod error;
mod exchange;
mod fetch;
mod handle;
mod health;
mod hint;
mod idle_pool;
mod lend;
mod naming;
mod replicas;
mod resolve;

pub use address::{Address, HostMode, ParseAddressError};
pub use availability::Health;
pub use connection::{Expected, Line};
pub use decode::{Decoder, Undecoded};
pub use error::{ConnectError, ExchangeError, describe_connect, summarize};
pub use exchange::{FullResponse, Incoming};
pub use handle::{Application, ApplicationOptions, Applications, ApplicationsOptions, UpstreamHandle};
pub use naming::{Rewrite, rewrite};
pub use replicas::{Balance, ReplicaGuard, Replicas, ReplicasOptions};

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::{ALPN, Stream};
use pingora::upstreams::peer::HttpPeer;

use self::connection::Connection;
use self::idle_pool::IdlePool;
use self::naming::Naming;
use self::resolve::Resolver;
use crate::model::{HeaderEdits, Origin};
use crate::tls::Outgoing;

/// The connection settings of the backend, or of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The address.
    pub address: Address,
    /// The `Host` to send.
    pub host: HostMode,
    /// The connection timeout, including the TLS handshake.
    pub connect_timeout: Duration,
    /// The timeout for a complete response to a fetch.
    pub fetch_timeout: Duration,
    /// The maximum number of idle connections.
    pub keepalive: usize,
    /// The TLS settings.
    pub tls: Outgoing,
    /// The changes to the headers of all requests.
    pub request_headers: HeaderEdits,
    /// The changes to the headers of all responses for clients.
    pub response_headers: HeaderEdits,
}

/// The maximum number of interim responses (RFC 9110 section 15.2) before the final one.
const MAX_INTERIM: usize = 16;

/// Announces a request on `stream`. Returns the line of the connection.
pub fn expect(stream: &Stream, expected: Expected) -> Option<Arc<Line>> {
    let line = Line::of(stream.get_proxy_digest());
    line.inspect(|line| line.expect(expected))
}

/// Announces a request on `stream`, and returns a pingora session for it.
pub fn ask_on(stream: Stream, expected: Expected) -> HttpSession {
    expect(&stream, expected);
    HttpSession::new(stream)
}

/// The idle timeout of connections. A backend that closes an idle connection at the moment when a request is sent loses
/// that request, if it must not be repeated. The shortest idle timeout among common servers is 2 s.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The backend, or one replica of it.
pub struct Upstream {
    options: Options,
    resolver: Resolver,
    transport: TransportConnector,
    idle: Arc<IdlePool>,
    naming: Arc<Naming>,
    health: Health,
    /// The number of requests in flight.
    busy: AtomicUsize,
}

impl Upstream {
    /// Creates a backend without connections.
    pub fn new(options: Options) -> Self {
        let naming = Arc::new(Naming::new(options.host));
        Self::replica(options, naming)
    }

    /// Creates one of several replicas that share a name.
    fn replica(options: Options, naming: Arc<Naming>) -> Self {
        Self {
            resolver: Resolver::new(options.address.clone(), options.connect_timeout),
            transport: TransportConnector::new(Some(ConnectorOptions::new(options.keepalive))),
            idle: IdlePool::new(options.keepalive),
            naming,
            health: Health::new(options.address.to_string()),
            busy: AtomicUsize::new(0),
            options,
        }
    }

    /// Returns the settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the health of the backend as observed by requests and health checks.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Returns whether it may receive requests.
    pub fn is_available(&self) -> bool {
        self.health.is_available()
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the number of addresses worth trying for one request.
    pub fn attempts(&self) -> usize {
        self.resolver.known()
    }

    /// Returns the peer to connect to now.
    ///
    /// # Errors
    /// Returns an error if the backend's name cannot be resolved.
    pub async fn peer(&self) -> Result<HttpPeer, ConnectError> {
        let tls = self.options.address.is_tls();
        let own = self.options.address.host().unwrap_or_default();
        let sni = self.options.tls.server_name.clone().unwrap_or_else(|| own.to_owned());
        let mut peer = match &self.options.address {
            Address::Unix { path } => HttpPeer::new_uds(path, false, String::new())
                .map_err(|error| ConnectError::new(&self.options.address, error))?,
            Address::Tcp { host, .. } => match self.resolver.resolve().await {
                Ok(address) => HttpPeer::new(address, tls, sni),
                Err(error) => return Err(ConnectError::Resolve { host: host.clone(), error }),
            },
        };
        peer.options.connection_timeout = Some(self.options.connect_timeout);
        peer.options.total_connection_timeout = Some(self.options.connect_timeout);
        peer.options.idle_timeout = Some(IDLE_TIMEOUT);
        peer.options.verify_cert = self.options.tls.verify;
        peer.options.verify_hostname = self.options.tls.verify;
        peer.options.ca.clone_from(&self.options.tls.ca);
        peer.client_cert_key.clone_from(&self.options.tls.client);
        Ok(peer)
    }

    /// Reports that the address last returned by [`Upstream::peer`] does not accept connections, so that the next one
    /// is tried.
    pub fn unreachable(&self) {
        self.resolver.rotate();
    }

    /// Returns an idle connection from [`Upstream::keep`], unless the backend is known to have closed it.
    pub fn idle(&self) -> Option<Stream> {
        self.idle_of(None)
    }

    /// The same for connections that are restricted to `owner`.
    fn idle_of(&self, owner: Option<u64>) -> Option<Stream> {
        let stream = self.idle.take(owner)?;
        if let Some(line) = Line::of(stream.get_proxy_digest()) {
            line.reuse();
        }
        Some(stream)
    }

    /// Keeps an unused connection for a while, if all requests on it have been answered. Must be called within a
    /// runtime.
    pub fn keep(&self, connection: Stream) {
        if connection.as_any().downcast_ref::<Connection>().is_some_and(Connection::is_idle) {
            self.idle.put(connection);
        }
    }

    /// Opens a new connection for exclusive use.
    ///
    /// # Errors
    /// Returns an error if no address of the backend accepts.
    pub async fn connect(&self) -> Result<Stream, ConnectError> {
        let mut attempt = 1;
        loop {
            let peer = self.peer().await?;
            match self.connect_to(&peer).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    self.unreachable();
                    if attempt >= self.attempts() {
                        return Err(ConnectError::new(&self.options.address, error));
                    }
                    attempt += 1;
                }
            }
        }
    }

    /// Opens a new connection for one of the protocols `alpn`, without validation of responses.
    ///
    /// # Errors
    /// Returns an error if the backend does not accept.
    pub async fn connect_raw(&self, alpn: ALPN) -> Result<Stream, ConnectError> {
        let mut peer = self.peer().await?;
        peer.options.alpn = alpn;
        let stream = self.transport.new_stream(&peer).await;
        stream.map_err(|error| ConnectError::new(&self.options.address, error))
    }

    async fn connect_to(&self, peer: &HttpPeer) -> pingora::Result<Stream> {
        let stream = self.transport.new_stream(peer).await?;
        Ok(Box::new(Connection::new(stream)?))
    }

    /// Returns whether names in requests and responses are rewritten.
    pub fn rewrites(&self) -> bool {
        self.naming.is_own()
    }

    /// Returns the rewrites that adapt a request of a client of `site` to the backend.
    pub fn request_rewrites(&self, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
        if self.rewrites() { naming::inward(&self.options.address, headers, site) } else { Vec::new() }
    }

    /// Returns the rewrites that replace the backend's name in a response by the name under which the client knows
    /// `site`.
    pub fn response_rewrites(&self, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
        let address = &self.options.address;
        if self.rewrites() {
            naming::outward(address, headers, site)
        } else {
            naming::without_port(address, headers, site)
        }
    }

    /// Returns whether [`Upstream::response_rewrites`] may return any rewrites.
    pub fn may_rewrite(&self, headers: &HeaderMap) -> bool {
        self.rewrites() || naming::leads_elsewhere(headers)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.options.address.to_string()).finish_non_exhaustive()
    }
}
