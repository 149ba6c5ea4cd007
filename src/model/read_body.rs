//! The body of a request that only reads, although its method is not GET.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};

use super::Taken;

/// The format of a body, as configured for its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodySyntax {
    /// JSON-RPC or a similar format: objects that name a method.
    JsonRpc,
    /// GraphQL over HTTP.
    GraphQl,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Any format.
    Whole,
}

/// A value of a request that its response repeats, such as the `id` of JSON-RPC. Requests that differ only in such
/// values share one resource: a fetch sends a number in place of the value, and each client receives its own value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EchoSlot {
    /// The position of the member in a batch, from 1. It is also the number that the fetch sends.
    pub member: usize,
    /// The index of the path at which the response repeats the value.
    pub path: usize,
    /// The notation of the value: a JSON string, a JSON number, or a form field, which implies neither.
    pub spelling: EchoSpelling,
}

/// The notation of an echoed value in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EchoSpelling {
    /// A JSON string.
    Text,
    /// A JSON number.
    Number,
    /// A field of a form.
    Field,
}

/// The position of a client-specific value in a response body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoPlace {
    /// The range of the JSON value, including its quotes.
    pub range: Range<usize>,
    /// The index of the request's echoed value that belongs there.
    pub slot: usize,
    /// Whether the value is a string.
    pub is_text: bool,
}

/// The body of a request that only reads, as a part of the resource key.
///
/// Two bodies are equal if their methods, formats and canonical forms are equal. The sent bodies may differ in notation
/// but have the same meaning.
pub struct ReadBody {
    /// `POST` or `QUERY`.
    pub method: Method,
    /// The format of the body.
    pub syntax: BodySyntax,
    /// A short name of the body for operators: method or operation names.
    pub name: Box<str>,
    /// The canonical form, equal for all bodies that request the same.
    pub canonical: Box<[u8]>,
    /// The body sent on behalf of all clients of the resource. It contains nothing that the canonical form does not.
    pub shared: Bytes,
    /// The body sent for clients whose credentials are part of the key: it contains the ignored values of the first
    /// such client.
    pub own: Option<Bytes>,
    /// Whether the body is a batch. The response to a batch is an array.
    pub is_batch: bool,
    /// The paths of echoed values, as lists of keys.
    pub echo_paths: Box<[Box<[Box<str>]>]>,
    /// The echoed values of this request.
    pub echo_slots: Box<[EchoSlot]>,
    /// For a QUERY that may be sent as POST: whether the application is known to need that. Shared by all bodies of a
    /// route.
    pub as_post: Option<Arc<AtomicBool>>,
    /// The memory reserved for the body.
    pub memory: Taken,
}

impl ReadBody {
    /// Returns the method that fetches use.
    pub fn sent_by(&self) -> &Method {
        let is_post = self.as_post.as_ref().is_some_and(|as_post| as_post.load(Ordering::Relaxed));
        if is_post { &Method::POST } else { &self.method }
    }

    /// Returns whether a response with `status` may mean only that the application does not support QUERY: the same
    /// body can then be sent by POST.
    pub fn may_need_post(&self, status: StatusCode) -> bool {
        self.as_post.is_some() && matches!(status.as_u16(), 400 | 404 | 405 | 501) && *self.sent_by() != Method::POST
    }

    /// Records that the application answered a POST after it had refused the QUERY.
    pub fn needs_post(&self) {
        if let Some(as_post) = &self.as_post {
            as_post.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the body that a fetch sends. `named` means that the key holds the credentials of one client.
    pub fn sent(&self, named: bool) -> &Bytes {
        self.own.as_ref().filter(|_| named).unwrap_or(&self.shared)
    }
}

impl PartialEq for ReadBody {
    fn eq(&self, other: &Self) -> bool {
        self.method == other.method && self.syntax == other.syntax && self.canonical == other.canonical
    }
}

impl Eq for ReadBody {}

impl Hash for ReadBody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.method.hash(state);
        self.syntax.hash(state);
        self.canonical.hash(state);
    }
}

/// Shows the name and the length of the body, never its content.
impl fmt::Debug for ReadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} bytes)", self.method, self.name, self.canonical.len())
    }
}
