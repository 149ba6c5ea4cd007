//! Converts the file's structure to the options of each feature.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::file::{self, Audience, AudienceName, Balance, File, Transport, Upstreams};
use super::post::{Post, PostKind};
use super::read::{Step, Tree};
use super::value::{Every, Parsed, Switch};
use crate::deliver;
use crate::files;
use crate::hub;
use crate::model::{Digest, RouteId, Secret};
use crate::normalise::{Pointer, Rules};
use crate::poll::{BudgetOptions, Effort, ScheduleOptions, WatchConfig};
use crate::post::{Glob, ReadRules, Reads};
use crate::proxy::{ConnectionOptions, GatewayOptions, RequestLimitOptions, TrustedProxies};
use crate::resource::HistoryOptions;
use crate::route::{Audience as Shared, Pattern, Shim, VariantOptions, WritePattern};
use crate::telemetry::AccessLogTarget;
use crate::tls;
use crate::upstream::{self, ApplicationOptions, ApplicationsOptions, HostMode, ReplicasOptions};

/// The complete configuration of the process.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners.
    pub server: ServerOptions,
    /// The gateway of the public listener.
    pub gateway: GatewayOptions,
    /// The protocols of the public listener.
    pub front: ConnectionOptions,
    /// The applications behind the gateway.
    pub upstream: ApplicationsOptions,
    /// The target of the access log.
    pub access: AccessLogTarget,
    /// The limits on watched resources.
    pub hub: hub::Options,
    /// The limits on requests of clients.
    pub limits: RequestLimitOptions,
    /// The limits on held clients.
    pub streams: deliver::StreamsOptions,
    /// The routes, in order.
    pub routes: Vec<RouteOptions>,
    /// The digest of the text from which all of this was read.
    pub written: Digest,
    /// Whether all traffic is forwarded and only observed.
    pub observes: bool,
    /// Warnings about settings that most likely do not have the intended effect.
    pub warnings: Option<Diagnostics>,
}

/// The listeners.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The addresses for clients.
    pub listen: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: Option<AdminOptions>,
    /// The address of the listener that redirects plain HTTP to TLS.
    pub redirect: Option<SocketAddr>,
    /// The target port of the redirect, if it is not the first of `listen`.
    pub redirect_port: Option<u16>,
    /// TLS for clients.
    pub tls: Option<tls::Files>,
    /// How long draining may take.
    pub drain: Duration,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// Its address.
    pub listen: SocketAddr,
    /// The token that operators must send.
    pub token: Option<Secret>,
}

/// One route, before it is joined with metrics and learned facts.
#[derive(Clone, Debug)]
pub struct RouteOptions {
    /// A digest of everything below and of the upstream: a route that a reload leaves unchanged keeps its id.
    pub id: RouteId,
    /// The paths that it matches.
    pub pattern: Pattern,
    /// The methods that it matches.
    pub methods: Vec<http::Method>,
    /// How its resources are watched.
    pub plan: Arc<WatchConfig>,
    /// The request properties that split its resources.
    pub variant: VariantOptions,
    /// The rules for bodies of POST requests that only read.
    pub post: Option<Arc<ReadRules>>,
    /// The timing of its streams.
    pub deliver: deliver::Options,
    /// Its stream formats.
    pub transports: Vec<&'static str>,
    /// How long plain polls are held.
    pub hold: Option<Duration>,
    /// The requests that trigger a fetch.
    pub refresh_on: Vec<WritePattern>,
    /// The response headers that name groups.
    pub groups: Arc<[http::HeaderName]>,
    /// The files that trigger a fetch when they change.
    pub watch_files: Vec<globset::Glob>,
    /// Whether Sungrazer may fetch its URLs itself.
    pub fetch: bool,
    /// The watched URLs that trigger a tick when they change.
    pub tick_on: Vec<Arc<str>>,
    /// Whether its pages receive the browser script.
    pub shim: Shim,
}

/// How long a resource is kept after its last client left, for clients that reconnect.
const LINGER: Duration = Duration::from_secs(10);

/// The maximum age of a response from memory, and the delay before a retry, if no interval is configured.
const USUAL: Duration = Duration::from_secs(1);

/// Builds the options from `file`, which has been checked.
pub(super) fn build(file: &File, text: &str, tree: &Tree<'_>, found: &mut Diagnostics) -> Config {
    let mut refuse = |path: &[Step<'_>], message: String, help: &str| {
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message,
            span: tree.span(path),
            label: "this".to_owned(),
            help: Some(help.to_owned()),
        });
    };
    let server = &file.server;
    let token = server.admin_token.as_deref().and_then(|text| match secret(text) {
        Ok(secret) => Some(secret),
        Err(error) => {
            refuse(
                &[Step::Key("server"), Step::Key("admin_token")],
                format!("admin_token {text:?}: {error}"),
                "\"env:NAME\" names a variable of the environment, \"file:PATH\" a file",
            );
            None
        }
    });
    if let Some(written) = &server.tls
        && let Err(error) = tls::Certificate::read(&files(written))
    {
        refuse(
            &[Step::Key("server"), Step::Key("tls")],
            format!("tls: {error}"),
            "cert is the certificate chain in PEM, the leaf first, and key is its private key",
        );
    }
    let upstream = applications(&file.upstream, |number, error| {
        let path = [Some(Step::Key("upstream")), number.map(Step::Index), Some(Step::Key("tls"))];
        let path: Vec<_> = path.into_iter().flatten().collect();
        refuse(&path, format!("upstream.tls: {error}"), "ca, cert and key are files in PEM");
    });
    let admin = match &server.admin.value {
        Switch::Off => None,
        Switch::On(listen) => Some(AdminOptions { listen: listen.0, token }),
    };
    let write_timeout = server.write_timeout.value.0;
    let config = Config {
        server: ServerOptions {
            listen: server.listen.0.iter().map(|address| address.value.0).collect(),
            admin,
            redirect: match &server.redirect.value {
                Switch::Off => None,
                Switch::On(listen) => Some(listen.0),
            },
            redirect_port: server.redirect_port,
            tls: server.tls.as_ref().map(files),
            drain: server.drain.value.0,
        },
        gateway: GatewayOptions {
            prefix: server.prefix.value.0.clone(),
            trusted: TrustedProxies::new(server.trusted_proxies.iter().map(|network| network.value.0).collect()),
            purge_from: server.purge_from.iter().map(|network| network.value.0).collect(),
            keepalive: server.keepalive.value.0,
            head_timeout: server.head_timeout.value.0,
            write_timeout,
        },
        front: ConnectionOptions { h2c: server.h2c },
        upstream,
        access: server.access_log.value.clone(),
        hub: hub::Options {
            max_resources: server.max_resources,
            max_resources_per_identity: server.max_resources_per_identity,
            max_resources_per_address: server.max_resources_per_address,
            max_history_bytes: server.max_history_bytes.value.0,
        },
        limits: RequestLimitOptions {
            max_rate_per_address: server.max_request_rate_per_address,
            max_body: server.max_request_body.as_ref().map(|size| size.value.0),
        },
        streams: deliver::StreamsOptions {
            max_streams: server.max_streams,
            max_streams_per_address: server.max_streams_per_address,
        },
        routes: file.route.iter().filter_map(|route| build_route(route, &file.upstream, write_timeout)).collect(),
        written: Digest::of_parts([text.as_bytes()]),
        observes: false,
        warnings: None,
    };
    if server.mode == file::Mode::Observe { config.observing() } else { config }
}

impl Config {
    /// Returns the same configuration in observe mode: all traffic is forwarded, and nothing is answered, held,
    /// injected or fetched, not even to test which host name the application expects.
    #[must_use]
    pub fn observing(mut self) -> Self {
        self.observes = true;
        let replicas = self.upstream.iter_mut().flat_map(|application| &mut application.replicas.replicas);
        for replica in replicas.filter(|replica| replica.host == HostMode::Auto) {
            replica.host = HostMode::Preserve;
        }
        self
    }
}

/// Builds all applications. `refuse` is told of TLS settings that cannot be used, with the number of the application
/// among several.
fn applications(upstreams: &Upstreams, mut refuse: impl FnMut(Option<usize>, tls::Unusable)) -> ApplicationsOptions {
    let mut general = None;
    let mut special = Vec::new();
    for (number, upstream) in upstreams.iter() {
        let tls = upstream_tls(upstream).unwrap_or_else(|error| {
            refuse(number, error);
            tls::Outgoing::default()
        });
        let application = application(upstream, &tls);
        match &upstream.path {
            Some(path) => special.push((path.value.clone(), application)),
            None => general = Some(application),
        }
    }
    let general = general.unwrap_or_else(|| application(&file::Upstream::default(), &tls::Outgoing::default()));
    ApplicationsOptions { general, special }
}

fn application(upstream: &file::Upstream, tls: &tls::Outgoing) -> ApplicationOptions {
    ApplicationOptions {
        replicas: replicas(upstream, tls),
        budget: BudgetOptions { max_fetches: upstream.max_fetches, max_fetch_rate: upstream.max_fetch_rate },
        effort: Effort(upstream.effort.value.0),
    }
}

/// Identifies the applications that `route` may fetch from: the same route in front of another application is a
/// different route.
fn behind(route: &file::Route, upstreams: &Upstreams) -> Vec<u8> {
    let identity = |upstream: &file::Upstream| {
        let headers = (&upstream.request_headers, &upstream.response_headers);
        serde_json::to_vec(&(&upstream.url, upstream.host, &upstream.effort, headers)).unwrap_or_default()
    };
    let mut behind = upstreams.general().map(identity).unwrap_or_default();
    // The browser script may follow any URL through a route that learns.
    let learns = matches!(route.shim, file::Shim::Learn(_));
    let reaches = |path: &Pattern| learns || route.path.as_ref().is_some_and(|own| own.value.overlaps(path));
    for (path, upstream) in upstreams.special().filter(|(path, _)| reaches(&path.value)) {
        behind.extend(path.text.bytes().chain(identity(upstream)));
    }
    behind
}

fn replicas(upstream: &file::Upstream, tls: &tls::Outgoing) -> ReplicasOptions {
    let host = match upstream.host {
        file::Host::Auto => HostMode::Auto,
        file::Host::Preserve => HostMode::Preserve,
        file::Host::Upstream => HostMode::Upstream,
    };
    let replica = |url: &Parsed<upstream::Address>| upstream::Options {
        address: url.value.clone(),
        host,
        connect_timeout: upstream.connect_timeout.value.0,
        fetch_timeout: upstream.fetch_timeout.value.0,
        keepalive: upstream.keepalive,
        tls: tls.clone(),
        request_headers: upstream.request_headers.edits(),
        response_headers: upstream.response_headers.edits(),
    };
    ReplicasOptions {
        replicas: upstream.url.iter().flat_map(|urls| &urls.0).map(replica).collect(),
        balance: match upstream.balance {
            Balance::RoundRobin => upstream::Balance::RoundRobin,
            Balance::LeastConnections => upstream::Balance::LeastConnections,
        },
        health_path: upstream.health_path.as_ref().map(|path| path.value.0.clone()),
        health_every: upstream.health_every.value.0,
    }
}

fn files(written: &file::TlsFiles) -> tls::Files {
    tls::Files { cert: written.cert.clone().into(), key: written.key.clone().into() }
}

fn upstream_tls(upstream: &file::Upstream) -> Result<tls::Outgoing, tls::Unusable> {
    let written = upstream.tls.clone().unwrap_or_default();
    let client = match (written.cert, written.key) {
        (Some(cert), Some(key)) => Some(tls::Files { cert: cert.into(), key: key.into() }),
        _ => None,
    };
    tls::Outgoing::read(written.server_name, written.verify, written.ca.map(Into::into), client)
}

fn build_route(route: &file::Route, upstreams: &Upstreams, write_timeout: Duration) -> Option<RouteOptions> {
    let effort = Effort(upstreams.general()?.effort.value.0);
    let pattern = route.path.as_ref()?.value.clone();
    let audience = match &route.audience {
        Audience::Named(AudienceName::Credentials) => Shared::Credentials,
        Audience::Named(AudienceName::Public) => Shared::Public,
        Audience::Selected(selected) => Shared::Selected {
            cookies: selected.cookies.clone(),
            headers: selected.headers.iter().map(|name| name.value.0.clone()).collect(),
        },
    };
    let ignored: Vec<_> = route.ignore_headers.iter().map(|name| name.value.0.clone()).collect();
    let plan = WatchConfig {
        route: pattern.as_str().into(),
        schedule: ScheduleOptions {
            every: match route.every.value {
                Every::Auto => USUAL.min(route.every_max.value.0),
                Every::At(period) => period.0,
            },
            every_max: route.every_max.value.0,
            refresh_gap: route.refresh_gap.value.0,
            effort: (route.every.value == Every::Auto).then_some(effort),
        },
        rules: Arc::new(Rules::new(
            route.ignore.json.iter().map(|pointer| pointer.value.clone()).collect(),
            route.ignore.css.iter().map(|selector| selector.value.clone()).collect(),
            route.ignore.regex.iter().map(|pattern| pattern.value.clone()).collect(),
        )),
        history: HistoryOptions { versions: route.history.versions, bytes: route.history.bytes.value.0 },
        max_body: route.max_body.value.0,
        linger: LINGER,
        verify_safe: matches!(route.shim, file::Shim::Learn(_)),
        ignored: ignored.clone(),
        noise: learns_noise(route).then(Arc::default),
        cohorts: route.cohorts.then(Arc::default),
    };
    let written = serde_json::to_vec(route).unwrap_or_default();
    let [a, b, c, d, e, f, g, h, ..] = Digest::of_parts([&written[..], &behind(route, upstreams)]).to_bytes();
    Some(RouteOptions {
        id: RouteId(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        pattern,
        methods: route.methods.iter().map(|method| method.value.0.clone()).collect(),
        plan: Arc::new(plan),
        variant: VariantOptions {
            audience,
            vary: route.vary.iter().map(|name| name.value.0.clone()).collect(),
            ignore_query: route.ignore_query.clone(),
            ignore_headers: ignored.clone(),
        },
        post: route.post.as_ref().and_then(read_rules).map(Arc::new),
        deliver: deliver::Options {
            heartbeat: route.heartbeat.value.0,
            max_age: route.max_age.value.0,
            retry: route.retry.value.0,
            write_timeout,
        },
        transports: route.transports.iter().copied().map(Transport::as_str).collect(),
        hold: match &route.hold.value {
            Switch::Off => None,
            Switch::On(hold) => Some(hold.0),
        },
        refresh_on: route.refresh_on.iter().map(|pattern| pattern.value.clone()).collect(),
        groups: route.groups.iter().map(|name| name.value.0.clone()).collect(),
        watch_files: route.watch_files.iter().map(|glob| glob.value.0.clone()).collect(),
        fetch: route.fetch,
        tick_on: route.tick_on.iter().map(|path| path.value.0.as_str().into()).collect(),
        shim: match route.shim {
            file::Shim::Given(false) => Shim::Off,
            file::Shim::Given(true) => Shim::Configured,
            file::Shim::Learn(_) => Shim::Learn,
        },
    })
}

/// Builds the rules of `post`, if they are valid.
fn read_rules(post: &Post) -> Option<ReadRules> {
    let globs = || post.reads.iter().map(|read| Glob::new(read)).collect();
    let reads = match post.kind {
        PostKind::JsonRpc => Reads::JsonRpc(globs()),
        PostKind::Graphql => Reads::GraphQl(globs(), post.reads.iter().any(|read| read == ALL_QUERIES)),
        PostKind::Form => Reads::Form(post.reads.iter().map(|read| read.parse()).collect::<Result<_, _>>().ok()?),
        PostKind::Whole => Reads::Whole,
    };
    let pointers = |written: &[Parsed<Pointer>]| written.iter().map(|pointer| pointer.value.clone()).collect();
    let echo = match (&post.echo, post.kind) {
        (Some(echo), _) => pointers(echo),
        (None, PostKind::JsonRpc) => "/id".parse().into_iter().collect(),
        (None, _) => Vec::new(),
    };
    Some(ReadRules::new(reads, echo, pointers(&post.ignore)))
}

/// The value that allows all GraphQL queries.
const ALL_QUERIES: &str = "queries";

/// Returns whether noise is learned for the route's resources.
fn learns_noise(route: &file::Route) -> bool {
    match route.noise {
        Some(noise) => noise == file::Noise::Learn,
        None => matches!(route.shim, file::Shim::Learn(_)),
    }
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("the environment has no {0}")]
    Unset(String),
    #[error("cannot read {path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("the token is empty")]
    Empty,
    #[error("the token is not one line of printable ASCII")]
    Unprintable,
}

/// Reads a secret: `env:NAME`, `file:PATH`, or itself.
fn secret(text: &str) -> Result<Secret, SecretError> {
    let value = if let Some(name) = text.strip_prefix("env:") {
        let value = std::env::var(name).map_err(|_| SecretError::Unset(name.to_owned()))?;
        Zeroizing::new(value.into_bytes())
    } else if let Some(path) = text.strip_prefix("file:") {
        files::secret(Path::new(path)).map_err(|error| SecretError::Unreadable { path: path.to_owned(), error })?
    } else {
        Zeroizing::new(text.as_bytes().to_vec())
    };
    match value.trim_ascii() {
        b"" => Err(SecretError::Empty),
        // The token is compared with a header value.
        token if token.iter().all(|byte| (b' '..=b'~').contains(byte)) => Ok(Secret::new(token)),
        _ => Err(SecretError::Unprintable),
    }
}
