//! `[upstream]`, or several `[[upstream]]`, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::file::written;
use super::headers::Headers;
use super::value::{OneOrMany, Parsed, Percent, Period, SitePath};
use crate::route::Pattern;
use crate::upstream::Address;

/// One application, or several for different paths.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Upstreams {
    /// `[upstream]`
    One(Box<Upstream>),
    /// `[[upstream]]`
    Several(Vec<Upstream>),
}

/// Reads `[upstream]`. The tables of `[[upstream]]` are read one by one, so that mistakes have their places.
impl<'de> Deserialize<'de> for Upstreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(Self::One)
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::One(Box::default())
    }
}

impl Upstreams {
    /// Returns all of them in the order of the file, with their numbers among several.
    pub fn iter(&self) -> impl Iterator<Item = (Option<usize>, &Upstream)> {
        let (one, several) = match self {
            Self::One(one) => (Some(&**one), &[][..]),
            Self::Several(several) => (None, &several[..]),
        };
        let several = several.iter().enumerate().map(|(index, upstream)| (Some(index), upstream));
        one.into_iter().map(|one| (None, one)).chain(several)
    }

    /// Returns the one without a path.
    pub fn general(&self) -> Option<&Upstream> {
        self.iter().map(|(_, upstream)| upstream).find(|upstream| upstream.path.is_none())
    }

    /// Returns the one without a path, which is added if it is missing.
    pub fn general_mut(&mut self) -> &mut Upstream {
        match self {
            Self::One(one) => one,
            Self::Several(several) => {
                let at = several.iter().position(|upstream| upstream.path.is_none());
                let at = at.unwrap_or_else(|| {
                    several.push(Upstream::default());
                    several.len() - 1
                });
                &mut several[at]
            }
        }
    }

    /// Returns those with a path.
    pub fn special(&self) -> impl Iterator<Item = (&Parsed<Pattern>, &Upstream)> {
        self.iter().filter_map(|(_, upstream)| Some((upstream.path.as_ref()?, upstream)))
    }
}

/// `[upstream]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Which paths it is for, as in routes, if there are several `[[upstream]]`; the one without is for all others. The most
    /// specific pattern wins: the one with more segments, then the one that does not end in `**`, then the one with more text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/api/**")]
    pub path: Option<Parsed<Pattern>>,
    /// The application's address: `http://`, `https://` or `unix:`; a list if it runs several times. Required, here or as
    /// `--upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "http://127.0.0.1:8000")]
    pub url: Option<OneOrMany<Address>>,
    /// How requests are distributed to several addresses: `"round-robin"`, in turn, or `"least-connections"`, to the one
    /// with the fewest pending requests. A resource is fetched from one of them until that one fails.
    pub balance: Balance,
    /// Health-check path, requested from each address; a status of 400 or above marks it unhealthy. Without it, an address
    /// that did not answer is not used until it accepts connections again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_path: Option<Parsed<SitePath>>,
    /// Interval of health checks.
    pub health_every: Parsed<Period>,
    /// The `Host` that the application sees. `"preserve"`: the client's. `"upstream"`: the application's own, in `Host`,
    /// `X-Forwarded-Host` and `Forwarded`, and, where they name this site, in `Origin`, `Referer` and `Destination`; in
    /// `Location`, `Content-Location`, `Refresh` and `Link` clients see the site's. `"auto"`: as `"preserve"`, until the
    /// application refuses a request for another host that it serves for its own; the log says so once.
    pub host: Host,
    /// Maximum time to establish a connection.
    pub connect_timeout: Parsed<Period>,
    /// Maximum duration of a fetch, including the response's body.
    pub fetch_timeout: Parsed<Period>,
    /// Maximum number of fetches in flight, for all resources. One client may use two thirds of it, one network three
    /// quarters.
    pub max_fetches: usize,
    /// Maximum number of fetches per second, for all resources, with the same shares for clients and networks.
    pub max_fetch_rate: usize,
    /// Share of one worker's time of the application that fetches of one resource may use with `every = "auto"`, measured by its
    /// response times. All resources together may use five times as much.
    pub effort: Parsed<Percent>,
    /// Maximum number of idle connections to the application.
    pub keepalive: usize,
    /// Headers that each request for the application gets or loses, whoever makes it: clients, or Sungrazer for a fetch.
    pub request_headers: Headers,
    /// Headers that each response of the application gets or loses on its way to clients: those that pass, those from memory, and
    /// streams on a resource's own URL.
    pub response_headers: Headers,
    /// TLS settings for an `https` application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// `upstream.tls`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// The certificates, in PEM, of trusted authorities, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "ca.pem")]
    pub ca: Option<String>,
    /// The name that is sent (SNI) and verified, if it is not the one in `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "app.example")]
    pub server_name: Option<String>,
    /// The client certificate chain, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "client.pem")]
    pub cert: Option<String>,
    /// The private key of the client certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "client-key.pem")]
    pub key: Option<String>,
    /// `false`: the application's certificate is not verified, and anybody on the path can impersonate it.
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

impl Default for Upstream {
    fn default() -> Self {
        Self {
            path: None,
            url: None,
            balance: Balance::RoundRobin,
            health_path: None,
            health_every: written("5s"),
            host: Host::Auto,
            connect_timeout: written("2s"),
            fetch_timeout: written("10s"),
            max_fetches: 32,
            max_fetch_rate: 100,
            effort: written("1%"),
            keepalive: 128,
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            tls: None,
        }
    }
}
