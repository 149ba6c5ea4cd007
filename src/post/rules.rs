//! The rules of a route for request bodies that only read, and their result.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http::Method;

use super::form::{self, Field, FormRead};
use super::glob::Glob;
use super::graphql::{self, PersistedQueries};
use super::json_rpc;
use super::members::{self, Edits};
use crate::json::{Document, KeepAll, Kind, Value, canonical};
use crate::model::{BodySyntax, EchoSlot, EchoSpelling, Owner, ReadBody, Taken};
use crate::normalise::{Pointer, Token};

/// The maximum size of an inspected body, in bytes.
pub const MAX_BODY: u64 = 64 * 1024;

/// The set of bodies that only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// JSON-RPC bodies that call only these methods.
    JsonRpc(Vec<Glob>),
    /// GraphQL queries with these names, or all queries.
    GraphQl(Vec<Glob>, bool),
    /// Forms with these fields.
    Form(Vec<FormRead>),
    /// All bodies.
    Whole,
}

/// The rules of a route for request bodies.
#[derive(Debug)]
pub struct ReadRules {
    reads: Reads,
    echo: Vec<Pointer>,
    ignore: Vec<Pointer>,
    persisted: PersistedQueries,
    /// Whether the application is known to accept by POST the bodies that it refuses by QUERY.
    as_post: Arc<AtomicBool>,
}

/// The inspected parts of a request with a body.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'a> {
    /// `POST`, or `QUERY`.
    pub method: &'a Method,
    /// The query of its URL.
    pub query: Option<&'a str>,
    /// Its `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// Its body.
    pub body: &'a [u8],
}

/// A client's request that only reads, with its body.
#[derive(Debug)]
pub struct BodyRead {
    /// The part of the resource key.
    pub body: Arc<ReadBody>,
    /// The values echoed to this client, by slot: JSON values or form fields.
    pub echoed: Box<[Box<str>]>,
    /// The body as received.
    pub raw: Bytes,
}

impl ReadRules {
    /// Creates rules for bodies that are among `reads`. The response repeats the values at `echo`, in each member of a
    /// batch. The values at `ignore` do not distinguish requests.
    pub fn new(reads: Reads, echo: Vec<Pointer>, ignore: Vec<Pointer>) -> Self {
        Self { reads, echo, ignore, persisted: PersistedQueries::default(), as_post: Arc::default() }
    }

    /// Returns the default content type of such bodies.
    pub fn content_type(&self) -> &'static str {
        match &self.reads {
            Reads::Form(_) => "application/x-www-form-urlencoded",
            Reads::JsonRpc(_) | Reads::GraphQl(..) | Reads::Whole => "application/json",
        }
    }

    /// Returns the read that `posted` requests, if it certainly only reads. `memory` accounts for it.
    pub fn read(&self, posted: Posted<'_>, memory: Taken) -> Option<BodyRead> {
        if posted.body.is_empty() || posted.body.len() as u64 > MAX_BODY {
            return None;
        }
        let content_type = ContentType::parse(posted.content_type)?;
        if form::is_overridden(posted.query, &[]) {
            return None;
        }
        match &self.reads {
            Reads::JsonRpc(reads) => {
                let document = json(&content_type, posted.body)?;
                if form::is_overridden(posted.query, &["method"]) {
                    return None;
                }
                let names = json_rpc::names(document.root(), reads)?;
                self.of_json(posted, BodySyntax::JsonRpc, &document, &names.join(", "), memory)
            }
            Reads::GraphQl(reads, all) => {
                let document = json(&content_type, posted.body)?;
                if form::is_overridden(posted.query, &graphql::IN_QUERY) {
                    return None;
                }
                let name = graphql::name(document.root(), reads, *all, &self.persisted)?;
                let name = if name.is_empty() { "query" } else { &name };
                self.of_json(posted, BodySyntax::GraphQl, &document, name, memory)
            }
            Reads::Form(reads) => {
                let text = content_type.is_form().then(|| std::str::from_utf8(posted.body).ok()).flatten()?;
                let fields = form::fields(text)?;
                let name = form::name(&fields, posted.query, reads)?;
                Some(self.of_form(posted, text, &fields, BodySyntax::Form, &name, memory))
            }
            Reads::Whole => Some(self.whole(posted, &content_type, memory)),
        }
    }

    /// Handles any body. Values are ignored only if all parsers read the body alike; otherwise the whole body counts.
    fn whole(&self, posted: Posted<'_>, content_type: &ContentType<'_>, memory: Taken) -> BodyRead {
        if self.echo.is_empty() && self.ignore.is_empty() {
            return as_it_is(posted, BodySyntax::Whole, memory);
        }
        let text = std::str::from_utf8(posted.body).ok();
        if let Some(text) = text.filter(|_| content_type.is_form())
            && let Some(fields) = form::fields(text)
        {
            return self.of_form(posted, text, &fields, BodySyntax::Whole, "form", memory);
        }
        let document = json(content_type, posted.body);
        match document.filter(|document| document.root().is_container()) {
            Some(document) => {
                // The body has been parsed once, so it can be parsed again.
                let name = posted.method.as_str().to_owned();
                let plain = || as_it_is(posted, BodySyntax::Whole, Taken::nothing(Arc::default(), Owner::default()));
                self.of_json(posted, BodySyntax::Whole, &document, &name, memory).unwrap_or_else(plain)
            }
            None => as_it_is(posted, BodySyntax::Whole, memory),
        }
    }

    fn of_json(
        &self,
        posted: Posted<'_>,
        syntax: BodySyntax,
        document: &Document<'_>,
        name: &str,
        memory: Taken,
    ) -> Option<BodyRead> {
        let root = document.root();
        let is_batch = syntax == BodySyntax::JsonRpc && root.kind() == Kind::Array;
        let members: Vec<Value<'_>> = if is_batch { root.items().collect() } else { vec![root] };
        let (mut shared, mut own) = (Edits::default(), Edits::default());
        let (mut slots, mut echoed) = (Vec::new(), Vec::new());
        for (at, member) in members.iter().enumerate() {
            for (path, pointer) in self.echo.iter().enumerate() {
                let Some(value) = members::find(*member, pointer).into_iter().next() else { continue };
                let (spelling, stand_in) = match value.kind() {
                    Kind::String => (EchoSpelling::Text, format!("\"{}\"", at + 1)),
                    Kind::Number => (EchoSpelling::Number, (at + 1).to_string()),
                    _ => continue,
                };
                shared.replace(value, stand_in.clone());
                own.replace(value, stand_in);
                slots.push(EchoSlot { member: at + 1, path, spelling });
                echoed.push(value.raw().into());
            }
            for value in self.ignore.iter().flat_map(|pointer| members::find(*member, pointer)) {
                shared.replace(value, members::neutral(value).to_owned());
            }
        }
        let text = shared.apply(document.text());
        let mut canonical_form = Vec::with_capacity(text.len());
        canonical(Document::parse(&text).ok()?.root(), &KeepAll, &(), &mut canonical_form);
        let own = own.apply(document.text());
        let body = ReadBody {
            method: posted.method.clone(),
            syntax,
            name: name.into(),
            canonical: canonical_form.into(),
            own: (own != text).then(|| own.into()),
            shared: text.into(),
            is_batch,
            echo_paths: self.echo_paths(),
            echo_slots: slots.into(),
            as_post: None,
            memory,
        };
        Some(BodyRead { body: Arc::new(body), echoed: echoed.into(), raw: Bytes::copy_from_slice(posted.body) })
    }

    fn of_form(
        &self,
        posted: Posted<'_>,
        text: &str,
        fields: &[Field],
        syntax: BodySyntax,
        name: &str,
        memory: Taken,
    ) -> BodyRead {
        let is_named =
            |pointer: &Pointer, field: &Field| matches!(pointer.tokens(), [Token::Name(name)] if *name == field.name);
        let (mut slots, mut echoed) = (Vec::new(), Vec::new());
        let (mut shared, mut own) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
        let mut done = 0;
        for field in fields {
            let echo = self.echo.iter().position(|pointer| is_named(pointer, field));
            let is_ignored = self.ignore.iter().any(|pointer| is_named(pointer, field));
            let before = &text[done..field.range.start];
            let value = &text[field.range.clone()];
            done = field.range.end;
            shared.extend([before, if echo.is_some() || is_ignored { "1" } else { value }]);
            own.extend([before, if echo.is_some() { "1" } else { value }]);
            if let Some(path) = echo {
                slots.push(EchoSlot { member: 1, path, spelling: EchoSpelling::Field });
                echoed.push(field.value.as_str().into());
            }
        }
        let rest = &text[done..];
        shared.push_str(rest);
        own.push_str(rest);
        let body = ReadBody {
            method: posted.method.clone(),
            syntax,
            name: name.into(),
            canonical: shared.as_bytes().into(),
            own: (own != shared).then(|| own.into()),
            shared: shared.into(),
            is_batch: false,
            echo_paths: self.echo_paths(),
            echo_slots: slots.into(),
            as_post: None,
            memory,
        };
        BodyRead { body: Arc::new(body), echoed: echoed.into(), raw: Bytes::copy_from_slice(posted.body) }
    }

    fn echo_paths(&self) -> Box<[Box<[Box<str>]>]> {
        let name = |token: &Token| match token {
            Token::Name(name) => name.as_str().into(),
            Token::Any => "*".into(),
        };
        self.echo.iter().map(|pointer| pointer.tokens().iter().map(name).collect()).collect()
    }
}

/// Returns the read that a QUERY (RFC 10008) requests; the method itself only reads. The whole body counts unless
/// `rules` also recognise it; such a request may be sent as POST.
pub fn query(posted: Posted<'_>, rules: Option<&ReadRules>, memory: Taken) -> Option<BodyRead> {
    let nothing = || Taken::nothing(Arc::default(), Owner::default());
    if let Some(rules) = rules.filter(|rules| rules.read(posted, nothing()).is_some()) {
        let mut read = rules.read(posted, memory)?;
        if let Some(body) = Arc::get_mut(&mut read.body) {
            body.as_post = Some(Arc::clone(&rules.as_post));
        }
        return Some(read);
    }
    let fits = !posted.body.is_empty() && posted.body.len() as u64 <= MAX_BODY;
    fits.then(|| as_it_is(posted, BodySyntax::Whole, memory))
}

fn as_it_is(posted: Posted<'_>, syntax: BodySyntax, memory: Taken) -> BodyRead {
    let raw = Bytes::copy_from_slice(posted.body);
    let body = ReadBody {
        method: posted.method.clone(),
        syntax,
        name: posted.method.as_str().into(),
        canonical: posted.body.into(),
        shared: raw.clone(),
        own: None,
        is_batch: false,
        echo_paths: Box::default(),
        echo_slots: Box::default(),
        as_post: None,
        memory,
    };
    BodyRead { body: Arc::new(body), echoed: Box::default(), raw }
}

/// Parses `body` as JSON. Returns `None` if parsers could read it differently.
fn json<'b>(content_type: &ContentType<'_>, body: &'b [u8]) -> Option<Document<'b>> {
    if !content_type.may_be_json(body) {
        return None;
    }
    let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    members::is_unambiguous(document.root()).then_some(document)
}

/// The declared type of a body.
#[derive(Clone, Debug)]
struct ContentType<'a>(Option<&'a str>);

impl<'a> ContentType<'a> {
    /// Parses `value`. Returns `None` if it declares a charset other than UTF-8 or US-ASCII.
    fn parse(value: Option<&'a [u8]>) -> Option<Self> {
        let Some(value) = value else { return Some(Self(None)) };
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let is_utf8 = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_matches('"');
            !name.trim().eq_ignore_ascii_case("charset")
                || ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        };
        parts.all(is_utf8).then_some(Self(Some(essence)))
    }

    fn is_form(&self) -> bool {
        self.0.is_some_and(|essence| essence.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    }

    /// Returns whether all parsers take `body` for JSON. Many clients declare JSON as a form by mistake; the body must
    /// then be meaningless as a form.
    fn may_be_json(&self, body: &[u8]) -> bool {
        let Some(essence) = self.0 else { return true };
        let essence = essence.to_ascii_lowercase();
        let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
        if self.is_form() {
            return !body.iter().any(|byte| b"&=;%".contains(byte));
        }
        essence == "text/plain" || subtype.split(['+', '-', '.']).any(|word| matches!(word, "json" | "jsonrequest"))
    }
}
