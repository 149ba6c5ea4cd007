//! Starts the server from a configuration, and stops it again.
//!
//! ```text
//! Config ─ Server::start ─▶ bound listeners ─▶ pingora Service<ConnectionApp> + admin ─ Server::stop ─▶ all gone
//!                              ReloadableState ◀─ Reloader: another Config takes its place
//! ```
//!
//! Everything runs in the caller's runtime. pingora's own `Server` is not used: it would start one runtime per service,
//! and sleep for a fixed time before it stops.

mod descriptors;
#[cfg(feature = "otel")]
mod export;
mod handover;
mod listen;
mod redirect;
mod reload;
mod reloadable;

pub use handover::Failed as HandOverFailed;
pub use listen::Inherited;
pub use reload::ConfigSource;

use std::hash::RandomState;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, PoisonError};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use socket2::Socket;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::descriptors::FdBudget;
use self::listen::{ADMIN, PUBLIC, REDIRECT, listen, listener_options, refuse};
use self::reload::Reloader;
use self::reloadable::ReloadableState;
use crate::admin::{self, Api};
use crate::clock;
use crate::config::Config;
use crate::config::reload::ReloadPlan;
use crate::deliver::StreamLimiter;
use crate::hub::Hub;
use crate::observe::Observer;
use crate::poll::{FileWatch, WatchedFiles};
use crate::proxy::{
    Bindings, Bodies, ConnectionApp, FIRST_REQUEST_GRACE, Gateway, Heads, Hints, MAX_DOCTORS, PassiveObserver, Replies,
    RequestLimits, WriteLog,
};
use crate::shim::ShimState;
use crate::telemetry::{AccessLog, AccessLogTarget, Metrics};
use crate::tls::{Certificate, Unusable};
use crate::upstream::UpstreamHandle;

/// The reason why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
        /// A remedy.
        hint: &'static str,
    },
    /// The admin listener is reachable from other machines and requires no token.
    #[error(
        "the admin listener's socket, which was handed over, listens at {0}: other machines reach it, and it asks for no token \
         (write admin_token = \"env:NAME\" under [server], or let the socket listen on 127.0.0.1)"
    )]
    OpenAdmin(SocketAddr),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] Unusable),
    /// The access log cannot be written.
    #[error("cannot write the access log to {}: {error}", to.display())]
    AccessLog {
        /// The file.
        to: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// A running server.
pub struct Server {
    running: Arc<ReloadableState>,
    reloader: Arc<Reloader>,
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    tls: bool,
    /// Copies of the listening sockets, for a process that takes over.
    sockets: Vec<(&'static str, Socket)>,
    /// pingora's accept loops end when this becomes true.
    shutdown: watch::Sender<bool>,
    admin_stop: CancellationToken,
    /// The task that serves the admin listener.
    operators: Option<JoinHandle<()>>,
    services: Vec<JoinHandle<()>>,
    /// The task that exports spans.
    exporting: Option<JoinHandle<()>>,
}

impl Server {
    /// Inherits or binds the listeners and starts to accept. Must be called within a runtime; all tasks run there.
    /// `source` is the origin of `config`, and is read again when it changes.
    ///
    /// # Errors
    /// Returns [`StartError`] if a listener cannot be bound, or if a certificate or the access log cannot be used.
    pub fn start(config: Config, source: &ConfigSource, mut inherited: Inherited) -> Result<Self, StartError> {
        let admin_socket =
            config.server.admin.as_ref().map(|admin| listen(ADMIN, admin.listen, &mut inherited)).transpose()?;
        if let (Some(options), Some((at, _))) = (&config.server.admin, &admin_socket)
            && options.token.is_none()
            && !at.ip().is_loopback()
        {
            return Err(StartError::OpenAdmin(*at));
        }
        let public = config.server.listen.iter().map(|address| listen(PUBLIC, *address, &mut inherited));
        let sockets = public.collect::<Result<Vec<_>, _>>()?;
        let redirect = config.server.redirect.map(|address| listen(REDIRECT, address, &mut inherited)).transpose()?;
        inherited.close();
        let mut copies = Vec::new();
        let named = sockets.iter().map(|socket| (PUBLIC, socket));
        let others = [(ADMIN, &admin_socket), (REDIRECT, &redirect)];
        let others = others.into_iter().filter_map(|(name, socket)| Some((name, socket.as_ref()?)));
        for (name, (address, socket)) in named.chain(others) {
            copies.push((name, socket.try_clone().map_err(|error| refuse(*address, error))?));
        }
        let allowance = FdBudget::acquire(&config);
        let certificate = config.server.tls.as_ref().map(Certificate::read).transpose()?.map(Arc::new);
        let gateway = Arc::new(gateway(&config, allowance));
        log_requests(&gateway.access, &config.access)?;
        let running = Arc::new(ReloadableState::new(
            Arc::clone(&gateway),
            &config,
            admin_socket.as_ref().map(|at| at.0),
            allowance,
        ));
        running.route(&config.routes, &ReloadPlan::default());
        gateway.metrics.config_read();
        let reloader = Arc::new(Reloader::new(source.clone(), config.clone(), Arc::clone(&running)));
        let always = watch_static_files(source, &reloader, certificate.as_ref());

        let (shutdown, watching) = watch::channel(false);
        let mut fds = Fds::new();
        let mut service = Service::new(
            "public".to_owned(),
            ConnectionApp::new(Arc::clone(&gateway), config.front, allowance.connections),
        );
        let listen: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
        for (address, socket) in sockets {
            let mut endpoint = ListenerConfig::tcp(address.to_string())
                .tcp_socket_options(listener_options())
                // Sungrazer reads into its own buffers and writes with few calls. With pingora's buffers a held client
                // would cost 66 kB more.
                .l4_buffer(L4BufferSettings::unbuffered());
            if let Some(certificate) = &certificate {
                endpoint = endpoint.tls(certificate.settings()?);
            }
            service.add_listener(endpoint);
            // pingora accepts sockets that are already bound, as in its own upgrades.
            fds.add(address.to_string(), socket.into_raw_fd());
        }
        let fds = Arc::new(Mutex::new(fds));
        let acceptors = std::thread::available_parallelism().map_or(1, usize::from);
        let accepting = async move { service.start_service(Some(fds), watching, acceptors).await };
        let mut services = vec![tokio::spawn(accepting), tokio::spawn(Arc::clone(&reloader).follow())];
        services.extend(always.map(|watch| tokio::spawn(Arc::clone(&reloader).watch(watch))));
        let admin_stop = CancellationToken::new();
        let redirect_at = redirect.as_ref().map(|(address, _)| *address);
        if let Some((address, socket)) = redirect {
            info!(%address, "plain HTTP is redirected");
            let listener = TcpListener::from_std(socket.into()).map_err(|error| refuse(address, error))?;
            let port = config.server.redirect_port.or(listen.first().map(SocketAddr::port)).unwrap_or_default();
            let (stopping, tasks) = (gateway.stopping.clone(), gateway.tasks.clone());
            services.push(tokio::spawn(redirect::serve(listener, port, allowance.redirects, stopping, tasks)));
        }
        let exporting = export(&gateway.access);
        let (mut admin, mut operators) = (None, None);
        if let (Some(_), Some((address, socket))) = (config.server.admin, admin_socket) {
            let reload = Arc::clone(&reloader) as Arc<dyn admin::Reload>;
            let api = Arc::new(Api { gateway, reload, token: Arc::clone(&running.token), started: clock::wall() });
            let listener = TcpListener::from_std(socket.into()).map_err(|error| refuse(address, error))?;
            operators = Some(tokio::spawn(admin::serve(listener, api, allowance.operators, admin_stop.clone())));
            admin = Some(address);
        }
        let tls = certificate.is_some();
        Ok(Self {
            running,
            reloader,
            listen,
            admin,
            redirect: redirect_at,
            tls,
            sockets: copies,
            shutdown,
            admin_stop,
            operators,
            services,
            exporting,
        })
    }

    /// Returns the gateway that the listeners serve.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.running.gateway
    }

    /// Returns the client addresses, with real ports in place of 0.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Returns the address of the admin listener.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns the address of the listener that redirects plain HTTP to TLS.
    pub fn redirect(&self) -> Option<SocketAddr> {
        self.redirect
    }

    /// Triggers a reload of the configuration.
    pub fn reload(&self) {
        self.reloader.changed.notify_one();
    }

    /// Starts the program again on the same sockets, and returns its process id when it accepts connections. This
    /// process can then stop without a gap in listening. The admin listener is left to the new process at once, because
    /// this one would report that it is stopping.
    ///
    /// # Errors
    /// Returns an error if the new process does not report readiness. Nothing has changed then, nor if this future is
    /// dropped.
    pub async fn hand_over(&mut self) -> Result<u32, HandOverFailed> {
        let copy = |(name, socket): &(&'static str, Socket)| Ok((*name, socket.try_clone()?.into()));
        let sockets = self.sockets.iter().map(copy).collect::<io::Result<Vec<_>>>()?;
        let pid = handover::hand_over(sockets).await?;
        self.stop_admin().await;
        Ok(pid)
    }

    /// Finishes pending requests on the admin listener and closes it.
    async fn stop_admin(&mut self) {
        self.admin_stop.cancel();
        if let Some(operators) = self.operators.take() {
            // A panic in the task must not prevent the server from stopping.
            let _ = operators.await;
        }
    }

    /// Returns the URL of the application for a browser on this machine.
    pub fn page(&self) -> Option<String> {
        let scheme = if self.tls { "https" } else { "http" };
        self.listen.first().map(|address| format!("{scheme}://{}/", reachable(*address)))
    }

    /// Returns the URL of the dashboard, if it is enabled.
    pub fn dashboard(&self) -> Option<String> {
        self.admin.map(|address| format!("http://{}/", reachable(address)))
    }

    /// Returns the line that announces that both listeners accept.
    pub fn ready_line(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let listen: Vec<String> = self.listen.iter().map(|address| format!("{scheme}://{address}")).collect();
        let admin = self.admin.map_or_else(|| "off".to_owned(), |address| format!("http://{address}"));
        format!("sungrazer ready listen={} admin={admin}", listen.join(","))
    }

    /// Stops the server: it accepts no new connections, drains streams one by one, and finishes requests in flight.
    /// Returns when all have ended or the configured time is over.
    pub async fn stop(mut self) {
        let gateway = Arc::clone(&self.running.gateway);
        let patience = *self.running.drain.lock().unwrap_or_else(PoisonError::into_inner);
        gateway.stopping.cancel();
        self.sockets.clear();
        // The accept loops hold the receivers; without them there is nothing to stop.
        let _ = self.shutdown.send(true);
        gateway.streams.drain(clock::now(), patience);
        gateway.tasks.close();
        let gone = timeout(patience, async {
            // A connection that was just accepted is not a tracked task yet, but it holds a receiver.
            let _ = timeout(FIRST_REQUEST_GRACE, self.shutdown.closed()).await;
            gateway.tasks.wait().await;
        })
        .await;
        gateway.stopped.cancel();
        if gone.is_err() {
            let (streams, all) = (gateway.streams.len(), gateway.tasks.len());
            let others = all.saturating_sub(streams);
            warn!(
                streams,
                others,
                "not everybody left within the drain time: what stayed is cut off; others are requests in flight and connections of the application's own"
            );
        }
        let access = Arc::clone(&gateway.access);
        // A slow log reader must not block other tasks.
        let _ = tokio::task::spawn_blocking(move || access.close()).await;
        if let Some(exporting) = self.exporting.take() {
            let _ = exporting.await;
        }
        self.stop_admin().await;
        self.running.watch_files(Vec::new());
        for service in self.services {
            service.abort();
        }
    }
}

/// Returns an address at which this machine reaches a listener. A wildcard address cannot be opened itself.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}

fn gateway(config: &Config, allowance: FdBudget) -> Gateway {
    let now = clock::now();
    Gateway {
        upstream: Arc::new(UpstreamHandle::new(&config.upstream)),
        access: Arc::default(),
        routes: ArcSwap::default(),
        hub: Arc::new(Hub::new(config.hub, clock::seed())),
        replies: Replies::default(),
        requests: RequestLimits::new(config.limits),
        heads: Heads::default(),
        bodies: Bodies::default(),
        streams: StreamLimiter::new(allowance.clamp(config.streams), now),
        habits: Arc::default(),
        agents: RandomState::new(),
        writes: WriteLog::new(now),
        bindings: Bindings::default(),
        hints: Hints::default(),
        shim: ShimState::new(),
        passive: config.observes.then(|| PassiveObserver { observer: Observer::new(RandomState::new()), began: now }),
        metrics: Arc::new(Metrics::new()),
        circles: Once::new(),
        doctors: Semaphore::new(MAX_DOCTORS),
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
        stopped: CancellationToken::new(),
        options: ArcSwap::from_pointee(config.gateway.clone()),
    }
}

/// Directs the access log to `to`.
fn log_requests(access: &AccessLog, to: &AccessLogTarget) -> Result<(), StartError> {
    access.set(to).map_err(|error| match to {
        AccessLogTarget::File(path) => StartError::AccessLog { to: path.clone(), error },
        _ => StartError::AccessLog { to: PathBuf::from("its thread"), error },
    })
}

/// Exports requests as spans, if the environment names a collector.
#[cfg(feature = "otel")]
fn export(access: &AccessLog) -> Option<JoinHandle<()>> {
    let (spans, exporter) = export::Exporter::from_env()?;
    access.set_exporter(Some(Arc::new(spans)));
    Some(tokio::spawn(exporter.run()))
}

#[cfg(not(feature = "otel"))]
fn export(_access: &AccessLog) -> Option<JoinHandle<()>> {
    None
}

/// Watches the configuration file and the certificate.
fn watch_static_files(
    source: &ConfigSource,
    reloader: &Arc<Reloader>,
    certificate: Option<&Arc<Certificate>>,
) -> Option<FileWatch> {
    let mut always = Vec::new();
    if let Some(path) = &source.path {
        let reloader = Arc::clone(reloader);
        let changed = Arc::new(move || reloader.changed.notify_one());
        always.push(WatchedFiles { globs: literal(path).into_iter().collect(), changed });
    }
    if let Some(certificate) = certificate {
        let files = certificate.files();
        let globs = [&files.cert, &files.key].into_iter().filter_map(|path| literal(path)).collect();
        let certificate = Arc::clone(certificate);
        let changed = Arc::new(move || match certificate.read_again() {
            Ok(()) => info!("the certificate was read again"),
            Err(error) => error!("{error}; the certificate of before stays in force"),
        });
        always.push(WatchedFiles { globs, changed });
    }
    FileWatch::new(always)
}

/// Returns a glob that matches exactly one path, whatever characters the path contains.
fn literal(path: &Path) -> Option<globset::Glob> {
    let path = std::path::absolute(path).ok()?;
    globset::Glob::new(&globset::escape(path.to_str()?)).ok()
}
