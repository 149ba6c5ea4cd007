//! `post` of a route: which bodies of requests only read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Parsed;
use crate::normalise::Pointer;

/// What is shown of `post` where nothing is written.
pub(super) fn post_example() -> serde_json::Value {
    serde_json::json!({ "kind": "json-rpc", "reads": ["torrent-get", "session-*"], "echo": ["/tag"], "ignore": [] })
}

/// `post`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Post {
    /// What the bodies are.
    #[schemars(example = "json-rpc")]
    pub kind: PostKind,
    /// Which of them only read: for `"json-rpc"` names of methods; for `"graphql"` names of operations, or `"queries"` for all
    /// queries; for `"form"` fields with their values, such as `"action=list"`. `*` stands for anything.
    #[serde(default)]
    #[schemars(example = ["torrent-get", "session-*"])]
    pub reads: Vec<String>,
    /// JSON Pointers, in each member of a batch, to values that come back in the answer: requests that differ in nothing else are
    /// one, and each client is given its own. For `"json-rpc"` they are `["/id"]` if nothing is said. Of a form, `"/name"` is a
    /// field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<Vec<Parsed<Pointer>>>,
    /// JSON Pointers to parts of the body that make no difference, such as a counter of the page. Of a form, `"/name"` is a field.
    #[serde(default)]
    pub ignore: Vec<Parsed<Pointer>>,
}

/// What bodies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PostKind {
    /// JSON-RPC, or objects like it that name a `method`.
    JsonRpc,
    /// GraphQL over HTTP.
    Graphql,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything: whatever is posted to this route only reads.
    Whole,
}
