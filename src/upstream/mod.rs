//! The backend: where it is, how to connect to it, and how to look at it.
//!
//! ```text
//! Replicas ──▶ one of them: an Upstream
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
pub use decode::Decoder;
pub use error::{ConnectError, ExchangeError, describe_connect, summarize};
pub use exchange::{FullResponse, Incoming};
pub use handle::UpstreamHandle;
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
use crate::model::Origin;
use crate::tls::Outgoing;

/// How to reach the backend, or one replica of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it is.
    pub address: Address,
    /// Which `Host` it is given.
    pub host: HostMode,
    /// The longest wait for a connection, TLS handshake included.
    pub connect_timeout: Duration,
    /// The longest wait for a whole answer to a fetch.
    pub fetch_timeout: Duration,
    /// Idle connections that are kept.
    pub keepalive: usize,
    /// How TLS is spoken.
    pub tls: Outgoing,
}

/// Interim answers (RFC 9110 section 15.2) that may come before the final one.
const MAX_INTERIM: usize = 16;

/// A request is about to be made on `stream`: what is to be known of it.
pub fn expect(stream: &Stream, expected: Expected) -> Option<Arc<Line>> {
    let line = Line::of(stream.get_proxy_digest());
    line.inspect(|line| line.expect(expected))
}

/// The same, for one that is made by pingora's means.
pub fn ask_on(stream: Stream, expected: Expected) -> HttpSession {
    expect(&stream, expected);
    HttpSession::new(stream)
}

/// A backend that may close an idle connection at the moment in which a request is sent on it loses that request, if it
/// is one that may not be sent twice. The shortest idle time that common servers allow is 2 s.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The backend, or one replica of it.
pub struct Upstream {
    options: Options,
    resolver: Resolver,
    transport: TransportConnector,
    idle: Arc<IdlePool>,
    naming: Arc<Naming>,
    health: Health,
    /// Requests under way.
    busy: AtomicUsize,
}

impl Upstream {
    /// A backend that nobody has connected to yet.
    pub fn new(options: Options) -> Self {
        let naming = Arc::new(Naming::new(options.host));
        Self::replica(options, naming)
    }

    /// One of several that are called alike.
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

    /// How it is reached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether it answers, as far as anybody has noticed.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether it may be given requests.
    pub fn is_available(&self) -> bool {
        self.health.is_available()
    }

    /// How many requests it has under way.
    pub fn in_flight(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many addresses are worth trying for one request.
    pub fn attempts(&self) -> usize {
        self.resolver.known()
    }

    /// Where to connect to now.
    ///
    /// # Errors
    /// If the backend's name cannot be resolved.
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

    /// The address that [`Upstream::peer`] gave last does not accept: the next one is to be tried.
    pub fn unreachable(&self) {
        self.resolver.rotate();
    }

    /// A connection that [`Upstream::keep`] was given, if the backend has not closed it, as far as is known.
    pub fn idle(&self) -> Option<Stream> {
        self.idle_of(None)
    }

    /// The same, of those that are `owner`'s alone.
    fn idle_of(&self, owner: Option<u64>) -> Option<Stream> {
        let stream = self.idle.take(owner)?;
        if let Some(line) = Line::of(stream.get_proxy_digest()) {
            line.reuse();
        }
        Some(stream)
    }

    /// Keeps a connection that nobody uses any more for a while, if all that was asked on it has been answered. Must be called
    /// in a runtime.
    pub fn keep(&self, connection: Stream) {
        if connection.as_any().downcast_ref::<Connection>().is_some_and(Connection::is_idle) {
            self.idle.put(connection);
        }
    }

    /// A new connection of one's own.
    ///
    /// # Errors
    /// If no address of the backend accepts.
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

    /// A new connection for one of the protocols `alpn`, on which nobody judges what comes.
    ///
    /// # Errors
    /// If the backend does not accept.
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

    /// Whether anything is changed in requests and responses so that they fit the other side.
    pub fn rewrites(&self) -> bool {
        self.naming.is_own()
    }

    /// What must be changed in a request of a client of `site` to make it fit for the backend.
    pub fn request_rewrites(&self, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
        if self.rewrites() { naming::inward(&self.options.address, headers, site) } else { Vec::new() }
    }

    /// What must be changed in a response so that where it names the backend it names the site, which the client knows
    /// as `site`.
    pub fn response_rewrites(&self, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
        let address = &self.options.address;
        if self.rewrites() {
            naming::outward(address, headers, site)
        } else {
            naming::without_port(address, headers, site)
        }
    }

    /// Whether [`Upstream::response_rewrites`] might be any.
    pub fn may_rewrite(&self, headers: &HeaderMap) -> bool {
        self.rewrites() || naming::leads_elsewhere(headers)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.options.address.to_string()).finish_non_exhaustive()
    }
}
