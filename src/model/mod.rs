//! Plain types shared by all modules; no I/O, no clock.
//!
//! ```text
//! ResourceKey ── names ──▶ one upstream representation, shared by its audience
//! Representation ── becomes ──▶ Snapshot (Version + encoded forms)
//! Update ── is ──▶ a message from a resource to its subscribers
//! ```

mod address_bucket;
mod coding;
mod context;
mod digest;
mod encoding_cache;
pub mod entity;
pub mod fields;
mod frame;
mod header_edits;
mod key;
mod media;
mod ration;
mod read_body;
mod representation;
mod secret;
pub mod share;
mod snapshot;
mod update;
mod version;

pub use address_bucket::{AddressBucket, address_text};
pub use coding::{Coded, Form};
pub use context::RequestContext;
pub use digest::Digest;
pub use encoding_cache::{EncodingCache, EncodingKey, PatchKey};
pub use frame::{Chunk, CompressedFrame, Frame};
pub use header_edits::{HeaderEdit, HeaderEdits};
pub use key::{Identity, Origin, ResourceKey, RouteId, Scheme};
pub use media::{Kind, MediaType};
pub use ration::{Ration, Taken};
pub use read_body::{BodySyntax, EchoPlace, EchoSlot, EchoSpelling, ReadBody};
pub use representation::{Representation, Validators};
pub use secret::Secret;
pub use share::Owner;
pub use snapshot::{Marks, Snapshot};
pub use update::{BodyForm, DeltaKind, DeltaRequest, EndReason, ParseDeltaKindError, Update};
pub use version::{ParseVersionError, ResumeFrom, Version};
