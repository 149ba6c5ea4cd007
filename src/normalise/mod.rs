//! From a representation to what is compared.
//!
//! ```text
//! Representation ──▶ Rules::meaning ──▶ Digest of what matters
//! ```
//!
//! Two representations with one meaning are the same news: the difference is never a reason to wake a client.

mod charset;
mod pointer;
mod rules;

pub use charset::text_of;
pub use pointer::{ParsePointerError, Pointer};
pub use rules::{ParseRuleError, Rules, Selector, TextPattern};
