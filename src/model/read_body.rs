//! The body of a request that only reads, though its method is not GET.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};

use super::Taken;

/// What such a body is written in, by the word of its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodySyntax {
    /// JSON-RPC, or something like it: objects that name a method.
    JsonRpc,
    /// GraphQL over HTTP.
    GraphQl,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything.
    Whole,
}

/// A value of a request that comes back in its answer, such as the `id` of JSON-RPC. Requests that differ in nothing else ask for
/// one resource: in fetches a number stands in its place, and each client is given its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EchoSlot {
    /// Of which member of a batch it is, from 1; the number that stands in its place.
    pub member: usize,
    /// By which of the paths it is found, in the member of the answer.
    pub path: usize,
    /// How it is written: as a JSON string, as a number, or as a field of a form, which says neither.
    pub spelling: EchoSpelling,
}

/// How a value that comes back is written in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EchoSpelling {
    /// A JSON string.
    Text,
    /// A JSON number.
    Number,
    /// A field of a form.
    Field,
}

/// Where in a body a value stands that is another for each client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoPlace {
    /// The JSON value, with its quotes.
    pub range: Range<usize>,
    /// Which of the request's values belongs there.
    pub slot: usize,
    /// Whether it is a string.
    pub is_text: bool,
}

/// What a request that only reads asks for in its body, as a part of the key of its resource.
///
/// Two are equal if their methods and their canonical forms are. What is sent may be spelled otherwise, in ways that mean the same.
pub struct ReadBody {
    /// `POST` or `QUERY`.
    pub method: Method,
    /// What it is written in.
    pub syntax: BodySyntax,
    /// What it asks for, in a few words that tell operators of which body this is: names of methods or operations.
    pub name: Box<str>,
    /// One spelling for all bodies that ask for the same.
    pub canonical: Box<[u8]>,
    /// As it is sent for whoever shares the resource: made of nothing that the canonical form does not hold.
    pub shared: Bytes,
    /// As it is sent for clients whose credentials the key holds: with the ignored values of the first of them.
    pub own: Option<Bytes>,
    /// Whether it is a batch, which is answered by an array.
    pub is_batch: bool,
    /// Where values come back, as paths of keys.
    pub echo_paths: Box<[Box<[Box<str>]>]>,
    /// Which do.
    pub echo_slots: Box<[EchoSlot]>,
    /// Of a QUERY that may be sent as POST: whether the application is known to need that. All bodies of a route share it.
    pub as_post: Option<Arc<AtomicBool>>,
    /// The memory for all of that.
    pub memory: Taken,
}

impl ReadBody {
    /// The method by which it is sent.
    pub fn sent_by(&self) -> &Method {
        let is_post = self.as_post.as_ref().is_some_and(|as_post| as_post.load(Ordering::Relaxed));
        if is_post { &Method::POST } else { &self.method }
    }

    /// Whether an application that answers `status` to it may only not know QUERY, and be sent the same by POST.
    pub fn may_need_post(&self, status: StatusCode) -> bool {
        self.as_post.is_some() && matches!(status.as_u16(), 400 | 404 | 405 | 501) && *self.sent_by() != Method::POST
    }

    /// The application has answered by POST what it refused by QUERY.
    pub fn needs_post(&self) {
        if let Some(as_post) = &self.as_post {
            as_post.store(true, Ordering::Relaxed);
        }
    }

    /// What a fetch sends. `named` means that the key holds the credentials of one client.
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

/// Shows which body it is, never what it holds.
impl fmt::Debug for ReadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} bytes)", self.method, self.name, self.canonical.len())
    }
}
