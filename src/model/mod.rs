//! The plain types that everything else speaks of; no I/O, no clock.
//!
//! ```text
//! ResourceKey ── names ──▶ one upstream representation, shared by all who may see it
//! Representation ── becomes ──▶ Snapshot (Version + encoded forms)
//! Update ── is ──▶ what a resource tells its subscribers
//! ```

mod coding;
mod context;
mod digest;
pub mod entity;
pub mod fields;
mod frame;
mod key;
mod media;
mod memo;
mod network;
mod ration;
mod representation;
mod secret;
pub mod share;
mod snapshot;
mod update;
mod version;

pub use coding::{Coded, Form};
pub use context::RequestContext;
pub use digest::Digest;
pub use frame::{Chunk, Frame, Packed};
pub use key::{Identity, Origin, ResourceKey, RouteId, Scheme};
pub use media::{Kind, MediaType};
pub use memo::{Memo, MemoKey, PatchKey};
pub use network::{Network, address_text};
pub use ration::{Ration, Taken};
pub use representation::{Representation, Validators};
pub use secret::Secret;
pub use share::Owner;
pub use snapshot::{Marks, Snapshot};
pub use update::{Ask, DeltaKind, EndReason, ParseDeltaKindError, Shape, Update};
pub use version::{Claim, ParseVersionError, Version};
