//! Compiled routes: match requests and compute resource keys.
//!
//! ```text
//! request ──▶ Table::find ──▶ Route ──▶ Route::key ──▶ ResourceKey
//!                               └── PathKnowledge: facts about single paths, learned from responses
//! ```

mod by_path;
mod client;
mod path;
mod path_knowledge;
mod pattern;
mod table;
mod unsteady;
mod variant;

pub use by_path::ByPath;
pub use client::{Client, Hop, X_FORWARDED_FOR, X_REAL_IP, node};
pub use path::{Target, is_unambiguous};
pub use path_knowledge::{Asked, PathFacts, PathKnowledge};
pub use pattern::{ParsePatternError, ParseWritePatternError, Pattern, WritePattern};
pub use table::Table;
pub use unsteady::Unsteady;
pub use variant::{Audience, RESUME_PARAMETER, ResourceRequest, VariantOptions};

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::deliver::{self, StreamFormat};
use crate::model::{ReadBody, RouteId};
use crate::poll::WatchConfig;
use crate::post::ReadRules;
use crate::resource::RouteEvents;
use crate::telemetry::RouteMetrics;

/// The method that reads with a body (RFC 10008).
pub const QUERY: &str = "QUERY";

/// Whether the browser script is injected into a route's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shim {
    /// The script is not injected.
    #[default]
    Off,
    /// The script is injected, and may subscribe to URLs of routes.
    Configured,
    /// The script is injected, and may subscribe to any URL that the page polls.
    Learn,
}

impl Route {
    /// Returns whether the route handles requests with `method`.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.contains(method) || self.post.is_some() && *method == Method::POST
    }

    /// Returns whether a request with `method` may be a read with a body.
    pub fn reads_bodies(&self, method: &Method) -> bool {
        *method == Method::POST && self.post.is_some() || method.as_str() == QUERY && self.methods.contains(method)
    }

    /// Returns the watch settings for a resource with `body`, or without one. A read by the rules of the route needs no
    /// observation to be considered safe.
    pub fn watch_for(&self, body: Option<&ReadBody>) -> &Arc<WatchConfig> {
        if body.is_some() { &self.watch_bodies } else { &self.watch }
    }

    /// Returns whether its URLs can be subscribed to on the stream below the prefix. Pages with the browser script need
    /// that.
    pub fn offers_stream(&self) -> bool {
        self.shim != Shim::Off || self.transports.iter().any(|delivery| delivery.name() == "sse")
    }

    /// Returns the request headers by which this server selects the response on the route's URLs, independent of the
    /// backend.
    pub fn negotiates(&self) -> Option<&'static str> {
        match (self.transports.is_empty(), self.long_poll) {
            (true, false) => None,
            (true, true) => Some("Prefer"),
            (false, false) => Some("Accept"),
            (false, true) => Some("Accept, Prefer"),
        }
    }
}

/// A configured route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its identifier.
    pub id: RouteId,
    /// The paths that it matches.
    pub pattern: Pattern,
    /// The methods that it matches.
    pub methods: Vec<Method>,
    /// How its resources are watched.
    pub watch: Arc<WatchConfig>,
    /// The watch settings for resources with a body.
    pub watch_bodies: Arc<WatchConfig>,
    /// The rules for bodies of POST requests that only read.
    pub post: Option<Arc<ReadRules>>,
    /// The request properties that split its resources.
    pub variant: VariantOptions,
    /// The timing of its streams.
    pub deliver: deliver::Options,
    /// The stream formats on its own URLs.
    pub transports: Vec<&'static dyn StreamFormat>,
    /// Whether its URLs can be subscribed to over a WebSocket.
    pub websocket: bool,
    /// Whether its URLs can be subscribed to in a forever frame.
    pub iframe: bool,
    /// Whether its URLs support `Prefer: wait`.
    pub long_poll: bool,
    /// Watched URLs that trigger a tick when they change.
    pub tick_on: Vec<Arc<str>>,
    /// How long a plain poll is held.
    pub hold: Option<Duration>,
    /// Whether Sungrazer may fetch its resources itself.
    pub fetch: bool,
    /// Whether its pages receive the browser script.
    pub shim: Shim,
    /// The requests that trigger a fetch or a tick.
    pub refresh_on: Vec<WritePattern>,
    /// Response headers that name the groups of its resources.
    pub groups: Arc<[http::HeaderName]>,
    /// The events of all its resources.
    pub events: Arc<RouteEvents>,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
    /// The facts learned from responses.
    pub knowledge: Arc<PathKnowledge>,
    /// Request headers that change with each request of a client.
    pub unsteady: Arc<Unsteady>,
}
