//! The public listener: who answers a request, and how.
//!
//! ```text
//! pingora Service<Front> ─▶ HTTP/1.x: our own task a connection ─┬▶ Site::decide ─▶ Verdict
//!                       └─▶ HTTP/2: pingora's task a stream ─────┘     │
//!        ┌─────────────────────┬───────────────────┬──────────────────┘
//!     Proxy                  Answer              Stream, Poll         Tunnel
//!  relay: plain GETs     from memory        deliver: held on the     upgrades, the backend's
//!  pingora HttpProxy:                       bare connection          own event streams
//!  all the rest (Phases)
//! ```
//!
//! Nothing is ever held inside pingora's `HttpProxy`: there a held client costs tens of kilobytes, here a few.

mod bindings;
mod busy;
mod clients;
mod decide;
mod desk;
mod doctor;
mod doors;
mod endpoints;
mod forward;
mod front;
mod gather;
mod h1;
mod h2;
mod head;
mod hints;
mod hold;
mod identity;
mod inject;
mod learn;
mod leave;
mod observe;
mod own_header;
mod pace;
mod phases;
mod plain;
mod purge;
mod reference;
mod relay;
mod replies;
mod request;
mod site;
mod stream;
mod strict;
mod tunnel;
mod under_way;
mod validators;
mod visit;
mod writes;

pub use bindings::Bindings;
pub use doctor::MOST_DOCTORS;
pub use forward::TrustedProxies;
pub use front::{Front, FrontOptions};
pub use head::Heads;
pub use hints::Hints;
pub use leave::{FIRST_REQUEST, serve_until};
pub use phases::Phases;
pub use replies::Replies;
pub use site::{Site, SiteOptions};
pub use writes::Writes;
