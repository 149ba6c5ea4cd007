//! Decides by the rules of its route whether a request other than a GET only reads, and shares its response.
//!
//! ```text
//! method, query, content type, body ─▶ ReadRules::read ─▶ BodyRead: ReadBody (in the key) + values echoed to the client
//!                                          └ None: not certainly a read: the request passes through unchanged
//! answer ─▶ check_answer ─▶ positions of client-specific values ─▶ restore ─▶ this client's response
//! ```
//!
//! The decision follows the strictest parser of the format: a body that two parsers could read differently (duplicate
//! members, a query parameter that overrides one of the body) is not certainly a read. Nothing here panics, and the
//! cost is bounded by the size of the body.

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
