//! The browser script, and how it gets into pages.
//!
//! ```text
//! js/*.js ─ assembled ─▶ Script ─▶ GET {prefix}/shim.js, compressed, named by its hash
//!                           │
//! a page's headers ─ Policy::judge ─▶ Tag ─▶ Injector: HTML in, HTML with the tag out, piece by piece
//!                           └─▶ Ledger: which directive stood in the way, for operators
//! ```
//!
//! Nothing here opens a socket: bytes and headers come in as arguments.

mod inject;
mod ledger;
mod policy;
mod script;
mod validator;

pub use inject::{Injector, Tag};
pub use ledger::{Ledger, Sighting};
pub use policy::{Effect, Obstacle, Policy, Verdict, demands_integrity};
pub use script::{Coding, Script};
pub use validator::{Asked, Tagger, original_of};

/// The script, and what is known of the pages that it was meant for.
#[derive(Debug)]
pub struct Shims {
    /// The script.
    pub script: Script,
    /// What stood in its way.
    pub ledger: Ledger,
}

impl Shims {
    /// The script, and no page yet.
    pub fn new() -> Self {
        Self { script: Script::new(), ledger: Ledger::default() }
    }
}

impl Default for Shims {
    fn default() -> Self {
        Self::new()
    }
}
