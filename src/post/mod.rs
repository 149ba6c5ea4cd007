//! Whether a request that is no GET only reads, by the word of its route; and how its answer is given to others who ask the same.
//!
//! ```text
//! method, query, content type, body ─▶ ReadRules::read ─▶ BodyRead: ReadBody (in the key) + what is echoed to this client
//!                                          └ None: not certainly a read; it passes through as it came
//! answer ─▶ check_answer ─▶ where values stand that are others for each client ─▶ restore ─▶ this client's answer
//! ```
//!
//! Whether a body only reads is decided as the strictest reader of its format would: what two readers could take for different
//! things (members that occur twice, a parameter of the query that overrides one of the body) is not certain. Nothing here panics,
//! and what it costs is bounded by the size of the body.

mod answer;
mod form;
mod glob;
mod graphql;
mod json_rpc;
mod members;
mod rules;
#[cfg(test)]
mod tests;

pub use answer::{check_answer, restore};
pub use form::{FormRead, ParseFormReadError};
pub use glob::Glob;
pub use rules::{BodyRead, MAX_BODY, Posted, ReadRules, Reads, query};
