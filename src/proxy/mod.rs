//! The public listener: accepts requests and decides how to answer them.
//!
//! ```text
//! pingora Service<ConnectionApp> ─▶ HTTP/1.x: our own task a connection ─┬▶ Gateway::decide ─▶ Verdict
//!                       └─▶ HTTP/2: pingora's task a stream ─────┘     │
//!        ┌─────────────────────┬───────────────────┬──────────────────┘
//!     Proxy                  Answer              HoldStream, Socket   Tunnel
//!  relay: plain GETs     from memory        deliver: held on the     upgrades, the backend's
//!  pingora HttpProxy:                       bare connection          own event streams
//!  all the rest (PassthroughProxy)
//! ```
//!
//! Nothing is ever held inside pingora's `HttpProxy`, where a held client would cost tens of kilobytes instead of a
//! few.

mod connection;
mod gateway;
mod passthrough;
mod request;
mod watched;

pub use connection::bindings::Bindings;
pub use connection::service::{ConnectionApp, ConnectionOptions};
pub use connection::shutdown::{FIRST_REQUEST_GRACE, serve_gracefully};
pub use gateway::{Gateway, GatewayOptions, PassiveObserver};
pub use passthrough::pingora::PassthroughProxy;
pub use request::client_hints::Hints;
pub use request::forwarded::TrustedProxies;
pub use request::head::Heads;
pub use request::limits::{RequestLimitOptions, RequestLimits};
pub use watched::body::Bodies;
pub use watched::doctor::MAX_DOCTORS;
pub use watched::replies::Replies;
pub use watched::writes::WriteLog;
