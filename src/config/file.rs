//! The configuration file as it is written. The comments of keys are their descriptions in the reference and the schema.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::post::{Post, post_example};
pub(super) use super::upstream::{Balance, Host, Upstream, UpstreamTls, Upstreams};
use super::value::{
    Every, FieldName, ListenAddress, MethodName, Network, OneOrMany, Parsed, PathGlob, Period, Prefix, SitePath, Size,
    Switch,
};
use crate::normalise::{Pointer, Selector, TextPattern};
use crate::route::{Pattern, WritePattern};
use crate::telemetry::AccessLogTarget;

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The listeners, and the limits for all routes.
    pub server: Server,
    /// The application behind this proxy; or several, each `[[upstream]]` with the `path` that it is for, and one without.
    pub upstream: Upstreams,
    /// What is watched. The first route that matches a request wins; a request that matches none passes through.
    pub route: Vec<Route>,
}

/// `[server]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Public listener: the address and port for clients, or a list of them. Port 0 takes a free port; the ready line names
    /// it.
    pub listen: OneOrMany<ListenAddress>,
    /// Admin listener: the address and port of the dashboard, metrics and health, or `"off"`.
    pub admin: Parsed<Switch<ListenAddress>>,
    /// The token that operators send as `Authorization: Bearer …`. Required if `admin` is not a loopback address.
    /// `"env:NAME"` and `"file:PATH"` are read whenever the configuration is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "env:SUNGRAZER_ADMIN_TOKEN")]
    pub admin_token: Option<String>,
    /// The certificate chain and key, in PEM, for TLS on `listen`, with HTTP/2 by ALPN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Address that redirects plain HTTP to `listen`, which then speaks TLS, or `"off"`; usually port 80. A port chosen for
    /// 0 is logged.
    pub redirect: Parsed<Switch<ListenAddress>>,
    /// The port of the redirect's target, if clients reach `listen` by another port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 443)]
    pub redirect_port: Option<u16>,
    /// HTTP/2 without TLS on `listen`, for clients that know it beforehand, such as another proxy.
    pub h2c: bool,
    /// `"push"`, or `"observe"`: everything passes as it is, nothing is answered, held, injected or fetched, and `/api/observed` and
    /// the dashboard tell what push would save. A change takes a restart.
    pub mode: Mode,
    /// Everything of Sungrazer's own on the public listener lives below this path.
    pub prefix: Parsed<Prefix>,
    /// Addresses or networks whose `X-Forwarded-*` and `Forwarded` are trusted.
    pub trusted_proxies: Vec<Parsed<Network>>,
    /// Addresses or networks whose `PURGE` and `BAN` requests are answered as by a cache: the named resources are fetched
    /// at once. Such requests from other addresses pass through.
    pub purge_from: Vec<Parsed<Network>>,
    /// Where each request is logged, as one JSON object per line: `"stdout"`, `"stderr"`, a file, or `"off"`. The file is
    /// opened again whenever the configuration is read.
    pub access_log: Parsed<AccessLogTarget>,
    /// Maximum number of held clients. It is limited to three quarters of the available file descriptors; if that matters,
    /// the log says so at start.
    pub max_streams: usize,
    /// Maximum number of held clients of one address, or of one IPv6 network of 64 bits.
    pub max_streams_per_address: usize,
    /// Requests per second that one address, or one IPv6 network of 64 bits, may make, on average over ten seconds; more are
    /// answered with 429 and `Retry-After`. Without it there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 50)]
    pub max_request_rate_per_address: Option<usize>,
    /// Maximum size of a request's body; a larger one is answered with 413. Without it there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "10MiB")]
    pub max_request_body: Option<Parsed<Size>>,
    /// Maximum number of watched resources.
    pub max_resources: usize,
    /// Maximum number of watched resources of clients with the same credentials.
    pub max_resources_per_identity: usize,
    /// Maximum number of watched resources that were first requested from one address, or from one IPv6 network of 64 bits.
    pub max_resources_per_address: usize,
    /// Maximum size of all stored bodies. Beyond it, no history is kept and no further resource is watched. One client may
    /// use two thirds of it, one network three quarters.
    pub max_history_bytes: Parsed<Size>,
    /// Time after which an idle client connection is closed.
    pub keepalive: Parsed<Period>,
    /// Time within which a client must send the complete head of a request.
    pub head_timeout: Parsed<Period>,
    /// Time within which a client must accept written data before it is disconnected.
    pub write_timeout: Parsed<Period>,
    /// Time that clients have to disconnect when the server stops.
    pub drain: Parsed<Period>,
}

/// `mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What changes is pushed.
    #[default]
    Push,
    /// Everything passes, and is observed.
    Observe,
}

/// `tls`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, in PEM.
    #[schemars(example = "cert.pem")]
    pub cert: String,
    /// The private key, in PEM.
    #[schemars(example = "key.pem")]
    pub key: String,
}

/// `[[route]]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Which paths: `*` is one segment, or a part of one; `**` is any rest. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Parsed<Pattern>>,
    /// Which methods. Sungrazer itself asks by `GET`, by `QUERY` (RFC 10008) if it is one of these, and by `POST` as far as `post`
    /// allows.
    pub methods: Vec<Parsed<MethodName>>,
    /// Fetch interval while somebody watches: `"auto"`, as short as `effort` allows, between 250ms and `every_max`; or a duration. If
    /// a page with the browser script polls faster than this, Sungrazer matches it. With a duration, if all such pages poll more
    /// slowly, Sungrazer slows down to them, unless faster fetches keep finding changes.
    pub every: Parsed<Every>,
    /// Upper limit of the interval. With a duration for `every`, the interval grows up to it while nothing changes. For pages with
    /// the browser script, their own interval if that is longer. Set it equal to `every` for a fixed interval.
    pub every_max: Parsed<Period>,
    /// How long a plain poll of a known page waits for a change, or `"off"`.
    pub hold: Parsed<Switch<Period>>,
    /// Which clients share one fetch. `"credentials"`: those with equal cookies, authorization and application-specific
    /// headers. `"public"`: all; fetches carry no credentials. A table: those with equal values of the named cookies and
    /// headers.
    pub audience: Audience,
    /// Request headers that separate resources and are sent to the application.
    pub vary: Vec<Parsed<FieldName>>,
    /// Query parameters that never separate resources, such as cache busters. Fetches do not carry them. `#` in a name
    /// stands for digits: `"#"` is a parameter that is a bare number.
    pub ignore_query: Vec<String>,
    /// Request headers that identify nobody, such as those of an unknown tracing agent. Their values, which may differ with
    /// each request, separate no clients, and fetches do not carry them.
    pub ignore_headers: Vec<Parsed<FieldName>>,
    /// Which `POST` requests only read: they are watched like a `GET`, with their body in the key. All others pass through.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = post_example())]
    pub post: Option<Post>,
    /// Parts whose change alone is no change. They are still delivered, with the next real one.
    pub ignore: Ignore,
    /// `"learn"`, the default where `shim = "learn"`: what changes by itself, such as clocks, counters and tokens, is learned while it
    /// is fetched, and hurries no page and wakes no stream; clients have it at their own pace. `"off"`, the default elsewhere: all that
    /// changes is news, but for `ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"learn")]
    pub noise: Option<Noise>,
    /// Whether identities that received the same content over several versions are fetched in turn while nothing changes. Each is
    /// still fetched by itself at least every `every_max`, and receives what its own fetches returned.
    pub cohorts: bool,
    /// In which forms the route's URLs can be held. `"sse"` is the stream below `prefix`, too, which routes with `shim`
    /// offer in any case.
    pub transports: Vec<Transport>,
    /// Requests through the proxy that trigger a fetch at once, as `"METHOD /path"`; `[]` for none. A pattern of wildcards
    /// alone excludes writes that have never changed what pages with the browser script follow.
    pub refresh_on: Vec<Parsed<WritePattern>>,
    /// Response headers that name the groups of a response, for purges and `POST /api/refresh?group=`.
    pub groups: Vec<Parsed<FieldName>>,
    /// Minimum time between two triggered fetches. The last trigger is always served.
    pub refresh_gap: Parsed<Period>,
    /// Files or globs whose change on disk triggers a fetch.
    pub watch_files: Vec<Parsed<PathGlob>>,
    /// How many old versions are kept for clients that reconnect.
    pub history: History,
    /// Maximum silence on a stream.
    pub heartbeat: Parsed<Period>,
    /// Maximum age of a stream. It ends, resumably, after this time and up to a fifth more.
    pub max_age: Parsed<Period>,
    /// Delay after which clients reconnect. Each stream gets a random value between this and twice this.
    pub retry: Parsed<Period>,
    /// Maximum decoded size of a watched response. A larger response passes through and is not watched.
    pub max_body: Parsed<Size>,
    /// `false`: Sungrazer never fetches this itself. What would trigger a fetch then tells the page to ask.
    pub fetch: bool,
    /// Watched URLs whose change is such a trigger, too.
    pub tick_on: Vec<Parsed<SitePath>>,
    /// Whether this route's pages get the browser script. `true`: it follows URLs that match a route. `"learn"`: it follows
    /// any URL that the page polls.
    pub shim: Shim,
}

/// `audience`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Audience {
    /// Those with the same credentials, or everybody.
    Named(AudienceName),
    /// Those who agree in these.
    Selected(SelectedAudience),
}

/// An audience with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudienceName {
    /// Those with the same credentials.
    Credentials,
    /// Everybody.
    Public,
}

/// Those who agree in some cookies and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SelectedAudience {
    /// Names of cookies.
    pub cookies: Vec<String>,
    /// Names of request headers.
    pub headers: Vec<Parsed<FieldName>>,
}

/// `ignore`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ignore {
    /// JSON Pointers in which `*` stands for any key or index.
    pub json: Vec<Parsed<Pointer>>,
    /// CSS selectors; `sel@attr` for one attribute.
    pub css: Vec<Parsed<Selector>>,
    /// Regular expressions; their matches are cut out of text.
    pub regex: Vec<Parsed<TextPattern>>,
}

/// `noise`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Noise {
    /// It is learned what changes by itself.
    Learn,
    /// Nothing is learned.
    Off,
}

/// `history`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Number of versions, including the newest.
    pub versions: usize,
    /// Total size of their bodies.
    pub bytes: Parsed<Size>,
}

/// A form in which a client can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Server-sent events.
    Sse,
    /// `Prefer: wait`.
    LongPoll,
    /// Records, one a line.
    Ndjson,
    /// Records, one a JSON text sequence (RFC 7464).
    JsonSeq,
    /// WebSocket, `sungrazer.v1`.
    Websocket,
    /// `multipart/x-mixed-replace`.
    Multipart,
    /// The forever frame.
    Iframe,
}

impl Transport {
    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::LongPoll => "long-poll",
            Self::Ndjson => "ndjson",
            Self::JsonSeq => "json-seq",
            Self::Websocket => "websocket",
            Self::Multipart => "multipart",
            Self::Iframe => "iframe",
        }
    }

    const ALL: [Self; 7] =
        [Self::Sse, Self::LongPoll, Self::Ndjson, Self::JsonSeq, Self::Websocket, Self::Multipart, Self::Iframe];
}

/// `shim`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Shim {
    /// Whether it is put in.
    Given(bool),
    /// It is put in, and learns.
    Learn(LearnWord),
}

/// `"learn"`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LearnWord {
    /// `"learn"`
    Learn,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: OneOrMany(vec![written("127.0.0.1:8080")]),
            admin: written("127.0.0.1:9090"),
            admin_token: None,
            tls: None,
            redirect: written("off"),
            redirect_port: None,
            h2c: false,
            mode: Mode::Push,
            prefix: written("/.sungrazer"),
            trusted_proxies: Vec::new(),
            purge_from: ["127.0.0.1", "::1"].map(written).to_vec(),
            access_log: written("off"),
            max_streams: 10_000,
            max_streams_per_address: 1000,
            max_request_rate_per_address: None,
            max_request_body: None,
            max_resources: 10_000,
            max_resources_per_identity: 500,
            max_resources_per_address: 5000,
            max_history_bytes: written("256MiB"),
            keepalive: written("60s"),
            head_timeout: written("15s"),
            write_timeout: written("30s"),
            drain: written("10s"),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            path: None,
            methods: vec![written("GET")],
            every: written("auto"),
            every_max: written("30s"),
            hold: written("off"),
            audience: Audience::Named(AudienceName::Credentials),
            vary: ["accept", "accept-language", "x-requested-with"].map(written).to_vec(),
            ignore_query: vec!["_".to_owned()],
            ignore_headers: Vec::new(),
            post: None,
            ignore: Ignore::default(),
            noise: None,
            cohorts: true,
            transports: Transport::ALL.to_vec(),
            refresh_on: vec![written("* /**")],
            groups: ["cache-groups", "surrogate-key", "xkey", "x-cache-tags"].map(written).to_vec(),
            refresh_gap: written("50ms"),
            watch_files: Vec::new(),
            history: History::default(),
            heartbeat: written("15s"),
            max_age: written("10m"),
            retry: written("2s"),
            max_body: written("8MiB"),
            fetch: true,
            tick_on: Vec::new(),
            shim: Shim::Given(false),
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { versions: 64, bytes: written("4MiB") }
    }
}

/// A default, which is written as a user would write it. That all of them can be read is tested.
pub(super) fn written<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> Parsed<T> {
    #[allow(clippy::expect_used, reason = "the texts are those above")]
    Parsed::parse(text).expect("a default can be read")
}
