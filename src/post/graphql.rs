//! GraphQL over HTTP: a body whose document is one query.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use apollo_parser::Parser;
use apollo_parser::cst::{CstNode, Definition, Directive, OperationDefinition};
use ring::digest::{SHA256, digest};

use super::glob::Glob;
use super::members::{member, text};
use crate::json::{Kind, Value};

/// The maximum nesting of selections; applications allow less.
const MAX_DEPTH: usize = 64;

/// The maximum number of tokens in a document.
const MAX_TOKENS: usize = 16_384;

/// The supported members of a body. Other members may refer to a document stored elsewhere.
const MEMBERS: [&str; 4] = ["query", "variables", "operationName", "extensions"];

/// The directives that split a response into several parts.
const INCREMENTAL: [&str; 2] = ["defer", "stream"];

/// The known documents that clients omit after the application has stored them, by SHA-256 (Apollo, "automatic
/// persisted queries"). Holds only queries that passed through here. Bounded.
#[derive(Debug, Default)]
pub(super) struct PersistedQueries(Mutex<HashMap<[u8; 32], String>>);

const MAX_PERSISTED: usize = 4096;

/// The URL parameters that an application may use in place of the body.
pub(super) const IN_QUERY: [&str; 8] =
    ["query", "operationName", "variables", "extensions", "id", "documentId", "doc_id", "queryId"];

/// Returns the name of the query in `body`, if it is one of `reads` and the body requests nothing else.
pub(super) fn name(body: Value<'_>, reads: &[Glob], all: bool, persisted: &PersistedQueries) -> Option<String> {
    if body.kind() != Kind::Object {
        return None;
    }
    let known = |key: Value<'_>| key.as_str().is_some_and(|key| MEMBERS.contains(&&*key));
    if !body.members().all(|(key, _)| known(key)) {
        return None;
    }
    let asked = match member(body, "operationName") {
        None => None,
        Some(name) if name.kind() == Kind::Null => None,
        Some(name) => Some(name.as_str()?),
    };
    let hash = match member(body, "extensions") {
        None => None,
        Some(extensions) if extensions.kind() == Kind::Null => None,
        Some(extensions) if extensions.kind() == Kind::Object => match member(extensions, "persistedQuery") {
            None => None,
            Some(persisted) => Some(hash(persisted)?),
        },
        Some(_) => return None,
    };
    let name = match (text(body, "query"), hash) {
        (Some(document), None) => query_name(&document)?,
        (Some(document), Some(hash)) => {
            if digest(&SHA256, document.as_bytes()).as_ref() != hash {
                return None;
            }
            let name = query_name(&document)?;
            persisted.record(hash, &name);
            name
        }
        (None, Some(hash)) if member(body, "query").is_none() => persisted.find(hash)?,
        _ => return None,
    };
    if asked.is_some_and(|asked| asked != name) {
        return None;
    }
    (all || !name.is_empty() && reads.iter().any(|read| read.matches(&name))).then_some(name)
}

/// Returns the hash in `extensions.persistedQuery`.
fn hash(persisted: Value<'_>) -> Option<[u8; 32]> {
    let text = text(persisted, "sha256Hash").filter(|text| text.len() == 64)?;
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(hash)
}

impl PersistedQueries {
    fn record(&self, hash: [u8; 32], name: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_PERSISTED && !known.contains_key(&hash) {
            // Clients send an unknown document again, in full.
            known.clear();
        }
        known.insert(hash, name.to_owned());
    }

    fn find(&self, hash: [u8; 32]) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }
}

/// Returns the name of the only operation of `document`, empty if it is anonymous. Returns `None` unless the document
/// is a query with a single response.
fn query_name(document: &str) -> Option<String> {
    let parsed = Parser::new(document).recursion_limit(MAX_DEPTH).token_limit(MAX_TOKENS).parse();
    if parsed.errors().next().is_some() {
        return None;
    }
    let document = parsed.document();
    let mut only: Option<OperationDefinition> = None;
    for definition in document.definitions() {
        match definition {
            Definition::OperationDefinition(operation) if only.is_none() => only = Some(operation),
            Definition::FragmentDefinition(_) => {}
            _ => return None,
        }
    }
    let only = only?;
    // An operation without a keyword is a query.
    if only.operation_type().is_some_and(|kind| kind.query_token().is_none()) {
        return None;
    }
    let is_incremental =
        |directive: Directive| directive.name().is_none_or(|name| INCREMENTAL.contains(&name.text().as_str()));
    if document.syntax().descendants().filter_map(Directive::cast).any(is_incremental) {
        return None;
    }
    Some(only.name().map(|name| name.text().to_string()).unwrap_or_default())
}
