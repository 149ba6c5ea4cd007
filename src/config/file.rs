//! The file as it is written. Every comment here is what the reference and the schema say of the key.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{
    FieldName, ListenAddress, MethodName, Network, OneOrMany, Parsed, PathGlob, Period, Prefix, SitePath, Size, Switch,
};
use crate::normalise::{Pointer, Selector, TextPattern};
use crate::route::{Pattern, WritePattern};
use crate::telemetry::AccessLogTarget;
use crate::upstream::Address;

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The listeners, and what holds for all routes.
    pub server: Server,
    /// The application behind this proxy.
    pub upstream: Upstream,
    /// What is watched. The first route that matches a request wins; a request that matches none passes through.
    pub route: Vec<Route>,
}

/// `[server]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where clients come in: an address and a port, or a list of them. Port 0 takes a free port; the ready line names it.
    pub listen: OneOrMany<ListenAddress>,
    /// Where operators come in (health, metrics, dashboard), or `"off"`.
    pub admin: Parsed<Switch<ListenAddress>>,
    /// What operators must send as `Authorization: Bearer …`. Required once `admin` is not a loopback address.
    /// `"env:NAME"` and `"file:PATH"` are read whenever the configuration is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "env:SUNGRAZER_ADMIN_TOKEN")]
    pub admin_token: Option<String>,
    /// The certificate chain and key, in PEM, with which `listen` speaks TLS; HTTP/2 by ALPN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Where plain HTTP is answered with a redirect to `listen`, which then speaks TLS, or `"off"`; usually port 80. Which one port 0
    /// became is logged.
    pub redirect: Parsed<Switch<ListenAddress>>,
    /// The port that clients are sent to, if it is not the one of `listen`: another one may be published in its place.
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
    /// Addresses or networks whose `X-Forwarded-*` and `Forwarded` are believed.
    pub trusted_proxies: Vec<Parsed<Network>>,
    /// Addresses or networks from which `PURGE` and `BAN` are answered here, as a cache would: what they name is fetched at once.
    /// Those of others are passed on.
    pub purge_from: Vec<Parsed<Network>>,
    /// Where each request is logged, as one JSON object a line: `"stdout"`, `"stderr"`, a file, or `"off"`. A file is opened
    /// anew whenever the configuration is read again.
    pub access_log: Parsed<AccessLogTarget>,
    /// Clients that are held at a time, in all; no more than three quarters of the file descriptors that the process may have,
    /// which it says at start if it matters.
    pub max_streams: usize,
    /// Clients that are held at a time, from one address, or one network of 64 bits of IPv6.
    pub max_streams_per_address: usize,
    /// Resources that are watched at a time, in all.
    pub max_resources: usize,
    /// Resources that are watched at a time for clients with the same credentials.
    pub max_resources_per_identity: usize,
    /// Resources that are watched at a time because clients at one address asked for them first; an IPv6 network of 64 bits
    /// counts as one address.
    pub max_resources_per_address: usize,
    /// The bodies that are kept for all resources together. Beyond that no past is kept, and no further resource is watched. One
    /// client may have two thirds of it, one network three quarters.
    pub max_history_bytes: Parsed<Size>,
    /// How long an idle connection is kept.
    pub keepalive: Parsed<Period>,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Parsed<Period>,
    /// How long a client may take to accept what is written to it, before it is given up.
    pub write_timeout: Parsed<Period>,
    /// How long clients may take to leave when the server stops.
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

/// `[upstream]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Where the application is: `http://`, `https://` or `unix:`; or a list, if it runs several times. Required, here or as
    /// `--upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "http://127.0.0.1:8000")]
    pub url: Option<OneOrMany<Address>>,
    /// How requests are spread over several: `"round-robin"`, one after the other, or `"least-connections"`, to the one with
    /// the fewest under way. A resource is fetched on one of them until that one fails.
    pub balance: Balance,
    /// What to ask each of them to know that it is well; 400 or above means that it is not. Without it, one that did not
    /// answer is asked no more until it accepts connections again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_path: Option<Parsed<SitePath>>,
    /// How often.
    pub health_every: Parsed<Period>,
    /// `"preserve"`: the application sees the `Host` that the client sent. `"upstream"`: it sees its own, in `Host`,
    /// `X-Forwarded-Host` and `Forwarded`, and, where they name this site, in `Origin`, `Referer` and `Destination`; in
    /// `Location`, `Content-Location`, `Refresh` and `Link` clients see the site's. `"auto"`: as `"preserve"`, until the
    /// application refuses a request for another host than its own that it serves for its own; the log says so once.
    pub host: Host,
    /// The longest wait for a connection.
    pub connect_timeout: Parsed<Period>,
    /// The longest wait for the whole answer to a fetch.
    pub fetch_timeout: Parsed<Period>,
    /// Fetches in flight at a time, a hard cap over all resources. One client may have two thirds of it, one network three quarters.
    pub max_fetches: usize,
    /// Fetches in any one second, a hard cap over all resources, which clients and networks share in the same way.
    pub max_fetch_rate: usize,
    /// Idle connections to the application that are kept.
    pub keepalive: usize,
    /// How TLS is spoken to an `https` application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// `upstream.tls`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// The certificates, in PEM, of those whose signature is trusted, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "ca.pem")]
    pub ca: Option<String>,
    /// The name that is asked for (SNI) and checked, if it is not the one in `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "app.example")]
    pub server_name: Option<String>,
    /// The certificate chain, in PEM, that is shown to an application that asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "client.pem")]
    pub cert: Option<String>,
    /// Its private key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "client-key.pem")]
    pub key: Option<String>,
    /// `false`: the application's certificate is not checked, and anybody on the way can pretend to be it.
    pub verify: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { ca: None, server_name: None, cert: None, key: None, verify: true }
    }
}

/// How requests are spread over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// To the one with the fewest requests under way.
    LeastConnections,
}

/// Which `Host` the application is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// The client's, unless the application is seen to refuse that.
    #[default]
    Auto,
    /// The client's.
    Preserve,
    /// The application's own.
    Upstream,
}

/// `[[route]]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Which paths: `*` is one segment, or a part of one; `**` is any rest. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Parsed<Pattern>>,
    /// Which methods. Only `GET` is ever asked by Sungrazer itself.
    pub methods: Vec<Parsed<MethodName>>,
    /// How often to fetch while somebody watches. A page with the browser script that asks more often itself is fetched as
    /// often; one that asks less often is not fetched more often for long, unless that finds something.
    pub every: Parsed<Period>,
    /// How far to back off while nothing changes. For pages with the browser script, as far as their own interval, if that is
    /// longer. With the value of `every`, fetches are always made at that.
    pub every_max: Parsed<Period>,
    /// How long a plain poll waits for a change, or `"off"`.
    pub hold: Parsed<Switch<Period>>,
    /// Who shares one fetch: `"credentials"`, those whose cookies, authorization and headers of the application's own are
    /// equal; `"public"`, everybody, and fetches carry no credentials; or those who agree in some cookies and headers.
    pub audience: Audience,
    /// Request headers that split a resource and are sent to the application.
    pub vary: Vec<Parsed<FieldName>>,
    /// Query parameters that never split a resource, such as cache busters. Fetches do not carry them. `#` in a name stands
    /// for digits: `"#"` is a parameter that is a bare number.
    pub ignore_query: Vec<String>,
    /// Request headers that identify nobody, such as those of a tracing agent that is not known here: their values, which may
    /// differ with each request, keep no clients apart, and fetches do not carry them.
    pub ignore_headers: Vec<Parsed<FieldName>>,
    /// Parts whose change alone is no change. They are still delivered, with the next real one.
    pub ignore: Ignore,
    /// In which forms the route's URLs can be held. `"sse"` is the stream below `prefix`, too, which routes with `shim`
    /// offer in any case.
    pub transports: Vec<Transport>,
    /// Requests through the proxy after which to fetch at once, as `"METHOD /path"`; `[]` for none. A pattern of nothing but
    /// wildcards leaves out writes that have never changed what pages with the browser script follow.
    pub refresh_on: Vec<Parsed<WritePattern>>,
    /// Response headers that name the groups a response belongs to, by which purges and `POST /api/refresh?group=` find it.
    pub groups: Vec<Parsed<FieldName>>,
    /// At most one triggered fetch in this time; the last trigger is always served.
    pub refresh_gap: Parsed<Period>,
    /// Files or globs whose change on disk means: fetch now.
    pub watch_files: Vec<Parsed<PathGlob>>,
    /// How much of the past is kept for clients that come back.
    pub history: History,
    /// The longest silence on a stream.
    pub heartbeat: Parsed<Period>,
    /// A stream is ended, resumably, after about this long.
    pub max_age: Parsed<Period>,
    /// When clients are asked to come back; each stream is told a moment of its own near it.
    pub retry: Parsed<Period>,
    /// A larger response is passed through and not watched.
    pub max_body: Parsed<Size>,
    /// `false`: Sungrazer never asks for this itself; what triggers a look elsewhere then tells the page to ask.
    pub fetch: bool,
    /// Watched URLs whose change is such a trigger too.
    pub tick_on: Vec<Parsed<SitePath>>,
    /// Whether the browser script is put into this route's pages: `true`, and it follows what routes name, or `"learn"`,
    /// and it follows any URL that the page polls.
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
    /// Regular expressions; what they match is cut out of text.
    pub regex: Vec<Parsed<TextPattern>>,
}

/// `history`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Versions, the newest included.
    pub versions: usize,
    /// Bytes of their bodies.
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

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            balance: Balance::RoundRobin,
            health_path: None,
            health_every: written("5s"),
            host: Host::Auto,
            connect_timeout: written("2s"),
            fetch_timeout: written("10s"),
            max_fetches: 32,
            max_fetch_rate: 100,
            keepalive: 128,
            tls: None,
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            path: None,
            methods: vec![written("GET")],
            every: written("1s"),
            every_max: written("30s"),
            hold: written("off"),
            audience: Audience::Named(AudienceName::Credentials),
            vary: ["accept", "accept-language", "x-requested-with"].map(written).to_vec(),
            ignore_query: vec!["_".to_owned()],
            ignore_headers: Vec::new(),
            ignore: Ignore::default(),
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
fn written<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> Parsed<T> {
    #[allow(clippy::expect_used, reason = "the texts are those above")]
    Parsed::parse(text).expect("a default can be read")
}
