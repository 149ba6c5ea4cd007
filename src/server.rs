//! Assembly: from a configuration to listeners that accept, and back to nothing.
//!
//! ```text
//! Config ─ Server::start ─▶ bound listeners ─▶ pingora Service<Front> + admin ─ Server::stop ─▶ all gone
//! ```
//!
//! Everything runs in the caller's runtime. pingora's own `Server` is not used: it would start a runtime a service, and
//! sleep through a fixed time before it stops.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora::protocols::TcpKeepalive;
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Api};
use crate::clock;
use crate::config::{Config, RouteOptions};
use crate::deliver::{self, Delivery, Streams};
use crate::hub::Hub;
use crate::poll::{Budget, FileWatch, Watched};
use crate::proxy::{Front, Site, Writes};
use crate::resource::Pulse;
use crate::route::{Route, Table};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be had.
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
}

/// A server that accepts.
pub struct Server {
    site: Arc<Site>,
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    tls: bool,
    drain: Duration,
    /// pingora's accept loops end when this becomes true.
    shutdown: watch::Sender<bool>,
    admin_stop: CancellationToken,
    services: Vec<JoinHandle<()>>,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// pingora reads into our own buffers, and a small answer leaves in one packet: with its default read buffer a held
/// client would cost 64 KiB more.
const WRITE_BUFFER: usize = 1460;

impl Server {
    /// Binds the listeners and starts to accept. Must be called in a runtime; all tasks run there.
    ///
    /// # Errors
    /// If a listener cannot be had.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let sockets: Vec<(SocketAddr, Socket)> =
            config.server.listen.iter().copied().map(bind).collect::<Result<_, _>>()?;
        let admin_socket = config.server.admin.as_ref().map(|admin| bind(admin.listen)).transpose()?;
        let metrics = Arc::new(Metrics::new());
        let (routes, watched) = table(config.routes, &metrics);
        let now = clock::now();
        let site = Arc::new(Site {
            upstream: Arc::new(Upstream::new(config.upstream)),
            routes: ArcSwap::from_pointee(routes),
            hub: Arc::new(Hub::new(config.hub, clock::seed())),
            budget: Budget::new(config.budget),
            streams: Streams::new(config.streams, now),
            habits: Arc::default(),
            writes: Writes::new(now),
            metrics,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            options: config.site,
        });
        let (shutdown, watching) = watch::channel(false);
        let mut services = Vec::new();
        let mut fds = Fds::new();
        let mut service = Service::new("public".to_owned(), Front::new(Arc::clone(&site), config.front));
        let listen: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
        for (address, socket) in sockets {
            let options = listener_options();
            let endpoint = ListenerConfig::tcp(address.to_string()).tcp_socket_options(options);
            service.add_listener(endpoint.l4_buffer(L4BufferSettings::new(0, WRITE_BUFFER)));
            // pingora takes sockets that are bound already, as it does in an upgrade.
            fds.add(address.to_string(), socket.into_raw_fd());
        }
        let fds = Arc::new(Mutex::new(fds));
        let acceptors = std::thread::available_parallelism().map_or(1, usize::from);
        services.push(tokio::spawn(async move { service.start_service(Some(fds), watching, acceptors).await }));
        if let Some(files) = FileWatch::new(watched) {
            services.push(tokio::spawn(files.run()));
        }
        let admin_stop = CancellationToken::new();
        let mut admin = None;
        if let (Some(options), Some((address, socket))) = (config.server.admin, admin_socket) {
            let api = Arc::new(Api { site: Arc::clone(&site), token: options.token });
            let listener = TcpListener::from_std(socket.into()).map_err(|error| refuse(address, error))?;
            services.push(tokio::spawn(admin::serve(listener, api, admin_stop.clone())));
            admin = Some(address);
        }
        let tls = config.server.tls.is_some();
        Ok(Self { site, listen, admin, tls, drain: config.server.drain, shutdown, admin_stop, services })
    }

    /// What the listeners serve.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Where clients come in; real ports, also where 0 was asked for.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where operators come in.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The line that says that both listeners accept.
    pub fn ready_line(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let listen: Vec<String> = self.listen.iter().map(|address| format!("{scheme}://{address}")).collect();
        let admin = self.admin.map_or_else(|| "off".to_owned(), |address| format!("http://{address}"));
        format!("sungrazer ready listen={} admin={admin}", listen.join(","))
    }

    /// Stops: no new connections, streams are asked to leave one by one, requests in flight are finished. Returns when
    /// all are gone or the configured time is over.
    pub async fn stop(self) {
        self.site.stopping.cancel();
        // The receivers are the accept loops; without one there is nothing to stop.
        let _ = self.shutdown.send(true);
        self.site.streams.drain(clock::now(), self.drain);
        self.site.tasks.close();
        let gone = timeout(self.drain, self.site.tasks.wait()).await;
        self.site.stopped.cancel();
        if gone.is_err() {
            tracing::warn!(streams = self.site.streams.len(), "not everybody left within the drain time");
        }
        self.admin_stop.cancel();
        for service in self.services {
            service.abort();
        }
    }
}

/// Routes, joined to their metrics and to deliveries that exist, and the files that concern them.
fn table(routes: Vec<RouteOptions>, metrics: &Metrics) -> (Table, Vec<Watched>) {
    let mut watched = Vec::new();
    let routes = routes.into_iter().map(|options| {
        let chosen = |delivery: &&&'static dyn Delivery| options.transports.contains(&delivery.name());
        let pulse = Arc::new(Pulse::new(clock::now()));
        watched.push(Watched { globs: options.watch_files, pulse: Arc::clone(&pulse) });
        Arc::new(Route {
            metrics: metrics.route(&options.plan.route),
            transports: deliver::ALL.iter().filter(chosen).copied().collect(),
            websocket: options.transports.contains(&"websocket"),
            iframe: options.transports.contains(&"iframe"),
            long_poll: options.transports.contains(&"long-poll"),
            tick_on: options.tick_on,
            id: options.id,
            pattern: options.pattern,
            methods: options.methods,
            plan: options.plan,
            variant: options.variant,
            deliver: options.deliver,
            hold: options.hold,
            fetch: options.fetch,
            shim: options.shim,
            refresh_on: options.refresh_on,
            pulse,
            learned: Arc::default(),
        })
    });
    let table = Table::new(routes.collect());
    (table, watched)
}

/// A dead peer is noticed by the kernel, on a stream of either version: after a minute of silence it is probed, and
/// given up when it does not answer.
fn listener_options() -> TcpSocketOptions {
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

fn bind(address: SocketAddr) -> Result<(SocketAddr, Socket), StartError> {
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

fn refuse(address: SocketAddr, error: io::Error) -> StartError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => " (is another sungrazer running? --listen and --admin choose other addresses)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege: choose a higher one)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address)",
        _ => "",
    };
    StartError::Listen { address, error, hint }
}
