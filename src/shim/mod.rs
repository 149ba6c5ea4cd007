//! The browser script and its injection into pages.
//!
//! ```text
//! js/*.js ─ assembled ─▶ Script ─▶ GET {prefix}/shim.js, compressed, named by its hash
//!                           │
//! a page's headers ─ Policy::judge ─▶ Tag ─▶ Injector: HTML in, HTML with the tag out, piece by piece
//!                           └─▶ InjectionStats: which directive stood in the way, for operators
//! ```
//!
//! This module opens no sockets: bytes and headers come in as arguments.

mod etag_codec;
mod inject;
mod injection_stats;
mod policy;
mod script;

pub use etag_codec::{EtagCodec, UpstreamValidators, original_of};
pub use inject::{Injector, Tag};
pub use injection_stats::{InjectionStats, PolicyHit};
pub use policy::{Effect, Obstacle, Policy, PolicyDecision, demands_integrity};
pub use script::{Coding, Script};

/// The script and the statistics of its injection.
#[derive(Debug)]
pub struct ShimState {
    /// The script.
    pub script: Script,
    /// The statistics.
    pub injections: InjectionStats,
}

impl ShimState {
    /// Creates the script with empty statistics.
    pub fn new() -> Self {
        Self { script: Script::new(), injections: InjectionStats::default() }
    }
}

impl Default for ShimState {
    fn default() -> Self {
        Self::new()
    }
}
