//! Assembly: from a configuration to listeners that accept, and back to nothing.
//!
//! ```text
//! Config ─ Server::start ─▶ bound listeners ─▶ pingora Service<ConnectionApp> + admin ─ Server::stop ─▶ all gone
//!                              ReloadableState ◀─ Reloader: another Config takes its place
//! ```
//!
//! Everything runs in the caller's runtime. pingora's own `Server` is not used: it would start a runtime a service, and
//! sleep through a fixed time before it stops.

mod descriptors;
#[cfg(feature = "otel")]
mod export;
mod handover;
mod listen;
mod redirect;
mod reload;

pub use handover::Failed as HandOverFailed;
pub use listen::Inherited;
pub use reload::ConfigSource;

use std::collections::HashMap;
use std::hash::RandomState;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, Once, PoisonError};
use std::time::Duration;

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
use crate::admin::{self, Api, Token};
use crate::clock;
use crate::config::reload::ReloadPlan;
use crate::config::{Config, RouteOptions};
use crate::deliver::{self, StreamFormat, StreamLimiter};
use crate::hub::Hub;
use crate::observe::Observer;
use crate::poll::{FetchLimiter, FileWatch, WatchedFiles};
use crate::proxy::{
    Bindings, ConnectionApp, FIRST_REQUEST_GRACE, Gateway, Heads, Hints, MAX_DOCTORS, PassiveObserver, Replies,
    WriteLog,
};
use crate::resource::{RouteEvents, Trigger};
use crate::route::{Route, Table};
use crate::shim::ShimState;
use crate::telemetry::{AccessLog, AccessLogTarget, Metrics};
use crate::tls::{Certificate, Unusable};
use crate::upstream::{Replicas, UpstreamHandle};

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
    /// Other machines reach the admin listener, and it asks for nothing.
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
        /// Where.
        to: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A server that accepts.
pub struct Server {
    running: Arc<ReloadableState>,
    reloader: Arc<Reloader>,
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    tls: bool,
    /// Copies of the listening sockets, for a process that takes our place.
    sockets: Vec<(&'static str, Socket)>,
    /// pingora's accept loops end when this becomes true.
    shutdown: watch::Sender<bool>,
    admin_stop: CancellationToken,
    /// Serves the admin listener.
    operators: Option<JoinHandle<()>>,
    services: Vec<JoinHandle<()>>,
    /// Sends spans.
    exporting: Option<JoinHandle<()>>,
}

/// What a reload can change.
struct ReloadableState {
    gateway: Arc<Gateway>,
    /// Watches the files of routes.
    files: StdMutex<Option<JoinHandle<()>>>,
    drain: StdMutex<Duration>,
    /// What operators must know.
    token: Arc<Token>,
    /// Where operators come in.
    admin: Option<SocketAddr>,
    /// What the system allows, whatever is configured.
    allowance: FdBudget,
}

impl Server {
    /// Takes or binds the listeners and starts to accept. Must be called in a runtime; all tasks run there. `source` is
    /// where `config` came from, and is read again when it changes.
    ///
    /// # Errors
    /// If a listener cannot be had, or a certificate cannot be used.
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
                // We read into buffers of our own, and write what is to go together in one go: with pingora's a held
                // client would cost 66 kB more.
                .l4_buffer(L4BufferSettings::unbuffered());
            if let Some(certificate) = &certificate {
                endpoint = endpoint.tls(certificate.settings()?);
            }
            service.add_listener(endpoint);
            // pingora takes sockets that are bound already, as it does in an upgrade.
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

    /// What the listeners serve.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.running.gateway
    }

    /// Where clients come in; real ports, also where 0 was asked for.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where operators come in.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where clients that do not speak TLS are sent on.
    pub fn redirect(&self) -> Option<SocketAddr> {
        self.redirect
    }

    /// Has the configuration read again.
    pub fn reload(&self) {
        self.reloader.changed.notify_one();
    }

    /// Starts the program anew, on the same sockets, and returns its process id when it accepts: then this one can stop,
    /// and at no moment did nobody listen. Operators, who would be told that this one stops, are left to the new one at once.
    ///
    /// # Errors
    /// If it does not come to accept. Then nothing has changed, nor has it when this is not waited for to its end.
    pub async fn hand_over(&mut self) -> Result<u32, HandOverFailed> {
        let copy = |(name, socket): &(&'static str, Socket)| Ok((*name, socket.try_clone()?.into()));
        let sockets = self.sockets.iter().map(copy).collect::<io::Result<Vec<_>>>()?;
        let pid = handover::hand_over(sockets).await?;
        self.stop_admin().await;
        Ok(pid)
    }

    /// Answers whoever has asked on the admin listener, and leaves it.
    async fn stop_admin(&mut self) {
        self.admin_stop.cancel();
        if let Some(operators) = self.operators.take() {
            // It ends by itself; had it panicked, that would be no reason not to stop.
            let _ = operators.await;
        }
    }

    /// What to open in a browser on this machine to see the application.
    pub fn page(&self) -> Option<String> {
        let scheme = if self.tls { "https" } else { "http" };
        self.listen.first().map(|address| format!("{scheme}://{}/", reachable(*address)))
    }

    /// What to open for the dashboard, if it is not off.
    pub fn dashboard(&self) -> Option<String> {
        self.admin.map(|address| format!("http://{}/", reachable(address)))
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
    pub async fn stop(mut self) {
        let gateway = Arc::clone(&self.running.gateway);
        let patience = *self.running.drain.lock().unwrap_or_else(PoisonError::into_inner);
        gateway.stopping.cancel();
        self.sockets.clear();
        // The receivers are the accept loops; without one there is nothing to stop.
        let _ = self.shutdown.send(true);
        gateway.streams.drain(clock::now(), patience);
        gateway.tasks.close();
        let gone = timeout(patience, async {
            // A connection that is accepted and did not come to us yet is none of our tasks; it has a receiver.
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
        // Whoever reads the log may be slow, and must not hold up what else goes on.
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

/// An address at which this machine reaches a listener: one that takes all addresses has none that can be opened.
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
        upstream: Arc::new(UpstreamHandle::new(Replicas::new(config.upstream.clone()))),
        access: Arc::default(),
        routes: ArcSwap::default(),
        hub: Arc::new(Hub::new(config.hub, clock::seed())),
        limiter: FetchLimiter::new(config.budget),
        replies: Replies::default(),
        heads: Heads::default(),
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

impl ReloadableState {
    fn new(gateway: Arc<Gateway>, config: &Config, admin: Option<SocketAddr>, allowance: FdBudget) -> Self {
        let token = config.server.admin.as_ref().and_then(|admin| admin.token.clone());
        let (files, drain) = (StdMutex::default(), StdMutex::new(config.server.drain));
        Self { gateway, files, drain, token: Arc::new(Token::new(token)), admin, allowance }
    }

    /// Asks operators for what `config` says. The listener stays where it is until a restart: if other machines reach it, it
    /// does so behind the token of before, however open the one may be that waits.
    fn ask_for_token(&self, config: &Config) {
        let (Some(options), Some(here)) = (&config.server.admin, self.admin) else { return };
        if options.token.is_some() || here.ip().is_loopback() {
            self.token.set(options.token.clone());
        }
    }

    /// Puts `config` in force, as `plan` says.
    fn apply(&self, config: &Config, plan: &ReloadPlan) {
        let gateway = &self.gateway;
        *self.drain.lock().unwrap_or_else(PoisonError::into_inner) = config.server.drain;
        if *gateway.replicas().options() != config.upstream {
            gateway.upstream.replace(Replicas::new(config.upstream.clone()));
        }
        self.ask_for_token(config);
        if **gateway.options.load() != config.gateway {
            gateway.options.store(Arc::new(config.gateway.clone()));
        }
        gateway.hub.set_options(config.hub);
        gateway.streams.set_options(self.allowance.clamp(config.streams));
        gateway.limiter.set_options(config.budget);
        let before = gateway.routes.load_full();
        self.route(&config.routes, plan);
        // The new table is in force: who is sent away finds the new routes.
        for route in before.iter().filter(|route| plan.removed.contains(&route.id)) {
            route.events.close();
        }
        for resource in gateway.hub.resources().iter().filter(|resource| plan.removed.contains(&resource.key().route)) {
            resource.close();
        }
    }

    /// Makes the route table anew. Routes that are kept stay the objects that they are, with what they have learned.
    fn route(&self, options: &[RouteOptions], plan: &ReloadPlan) {
        // Where all is only observed, no route takes anything.
        let options = if self.gateway.passive.is_some() { &[] } else { options };
        let before = self.gateway.routes.load_full();
        let known: HashMap<_, _> = before.iter().map(|route| (route.id, route)).collect();
        let kept = |options: &RouteOptions| {
            plan.kept.contains(&options.id).then(|| known.get(&options.id).map(|route| Arc::clone(route))).flatten()
        };
        let mut watched = Vec::new();
        let routes = options.iter().map(|options| {
            let route = kept(options).unwrap_or_else(|| Arc::new(route(options, &self.gateway.metrics)));
            let route_events = Arc::clone(&route.events);
            let changed = Arc::new(move || route_events.publish(Trigger::File, clock::now()));
            watched.push(WatchedFiles { globs: options.watch_files.clone(), changed });
            route
        });
        let table = Table::new(routes.collect());
        self.gateway.routes.store(Arc::new(table));
        self.watch_files(watched);
    }

    fn watch_files(&self, watched: Vec<WatchedFiles>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = files.take() {
            before.abort();
        }
        *files = FileWatch::new(watched).map(|watch| tokio::spawn(watch.run()));
    }
}

/// Has requests logged where `to` says.
fn log_requests(access: &AccessLog, to: &AccessLogTarget) -> Result<(), StartError> {
    access.set(to).map_err(|error| match to {
        AccessLogTarget::File(path) => StartError::AccessLog { to: path.clone(), error },
        _ => StartError::AccessLog { to: PathBuf::from("its thread"), error },
    })
}

/// Has requests exported as spans, if the environment says where to.
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

/// Watches the file of the configuration, and the certificate's.
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

/// A glob that takes one path, whatever characters it has.
fn literal(path: &Path) -> Option<globset::Glob> {
    let path = std::path::absolute(path).ok()?;
    globset::Glob::new(&globset::escape(path.to_str()?)).ok()
}

/// A route, joined to its metrics and to deliveries that exist.
fn route(options: &RouteOptions, metrics: &Metrics) -> Route {
    let chosen = |delivery: &&&'static dyn StreamFormat| options.transports.contains(&delivery.name());
    let metrics = metrics.route(&options.plan.route);
    metrics.set_interval(options.plan.schedule.every);
    Route {
        metrics,
        transports: deliver::ALL.iter().filter(chosen).copied().collect(),
        websocket: options.transports.contains(&"websocket"),
        iframe: options.transports.contains(&"iframe"),
        long_poll: options.transports.contains(&"long-poll"),
        tick_on: options.tick_on.clone(),
        id: options.id,
        pattern: options.pattern.clone(),
        methods: options.methods.clone(),
        watch: Arc::clone(&options.plan),
        variant: options.variant.clone(),
        deliver: options.deliver,
        hold: options.hold,
        fetch: options.fetch,
        shim: options.shim,
        groups: Arc::clone(&options.groups),
        refresh_on: options.refresh_on.clone(),
        events: Arc::new(RouteEvents::new(clock::now())),
        knowledge: Arc::default(),
        unsteady: Arc::default(),
    }
}
