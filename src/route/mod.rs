//! Compiled routes: which requests are ours, and under which key.
//!
//! ```text
//! request ──▶ Table::find ──▶ Route ──▶ Route::key ──▶ ResourceKey
//!                               └── Learned: what answers have taught about single paths
//! ```

mod client;
mod path;
mod path_knowledge;
mod pattern;
mod table;
mod unsteady;
mod variant;

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

/// The method that reads by its body (RFC 10008).
pub const QUERY: &str = "QUERY";

/// Whether the browser script is injected into a route's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shim {
    /// No.
    #[default]
    Off,
    /// Yes, and it may follow what routes name.
    Configured,
    /// Yes, and it may follow any URL that the page polls.
    Learn,
}

impl Route {
    /// Whether requests by `method` are this route's.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.contains(method) || self.post.is_some() && *method == Method::POST
    }

    /// Whether a request by `method` may be one that reads by its body.
    pub fn reads_bodies(&self, method: &Method) -> bool {
        *method == Method::POST && self.post.is_some() || method.as_str() == QUERY && self.methods.contains(method)
    }

    /// How a resource is watched that is asked for with `body`, or without one. What reads by the word of the route need not be
    /// found out to be safe.
    pub fn watch_for(&self, body: Option<&ReadBody>) -> &Arc<WatchConfig> {
        if body.is_some() { &self.watch_bodies } else { &self.watch }
    }

    /// Whether its URLs can be followed on the stream below the prefix. Pages with the browser script need that.
    pub fn offers_stream(&self) -> bool {
        self.shim != Shim::Off || self.transports.iter().any(|delivery| delivery.name() == "sse")
    }

    /// The request headers by which an answer on one of its URLs is chosen by us, whatever the backend says.
    pub fn negotiates(&self) -> Option<&'static str> {
        match (self.transports.is_empty(), self.long_poll) {
            (true, false) => None,
            (true, true) => Some("Prefer"),
            (false, false) => Some("Accept"),
            (false, true) => Some("Accept, Prefer"),
        }
    }
}

/// What a route was configured to be.
#[derive(Clone, Debug)]
pub struct Route {
    /// Tells it from other routes.
    pub id: RouteId,
    /// Which paths it takes.
    pub pattern: Pattern,
    /// Which methods.
    pub methods: Vec<Method>,
    /// How its resources are watched.
    pub watch: Arc<WatchConfig>,
    /// How those are that are asked for with a body.
    pub watch_bodies: Arc<WatchConfig>,
    /// Which bodies of POST requests only read.
    pub post: Option<Arc<ReadRules>>,
    /// What splits them.
    pub variant: VariantOptions,
    /// How its streams are held.
    pub deliver: deliver::Options,
    /// In which forms, on their own URLs.
    pub transports: Vec<&'static dyn StreamFormat>,
    /// Whether their URLs can be followed over a WebSocket.
    pub websocket: bool,
    /// Whether in a forever frame.
    pub iframe: bool,
    /// Whether by `Prefer: wait`.
    pub long_poll: bool,
    /// Watched URLs whose change is a reason to ask for this.
    pub tick_on: Vec<Arc<str>>,
    /// How long a plain poll is held.
    pub hold: Option<Duration>,
    /// Whether we may ask for its resources ourselves.
    pub fetch: bool,
    /// Whether its pages are given the browser script.
    pub shim: Shim,
    /// After which requests to fetch, or to tell pages to ask.
    pub refresh_on: Vec<WritePattern>,
    /// Response headers that name the groups of its resources.
    pub groups: Arc<[http::HeaderName]>,
    /// What happens to all of its resources at once.
    pub events: Arc<RouteEvents>,
    /// Where it is counted.
    pub metrics: Arc<RouteMetrics>,
    /// What answers have taught.
    pub knowledge: Arc<PathKnowledge>,
    /// Headers that keep a client apart from itself.
    pub unsteady: Arc<Unsteady>,
}
