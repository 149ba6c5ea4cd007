//! Computes the resource key of a request.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::hash::BuildHasher;
use std::sync::Arc;

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, FORWARDED, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use tokio::time::Instant;

use super::client::{Client, X_FORWARDED_FOR, X_REAL_IP};
use super::path_knowledge::{Asked, PathFacts};
use super::{Route, Target};
use crate::deliver::{self, StreamFormat};
use crate::model::{Digest, Identity, ReadBody, RequestContext, ResourceKey, Secret, address_text, fields};

/// The query parameter that replaces `Last-Event-ID` for clients that cannot send it.
pub const RESUME_PARAMETER: &str = "last_event_id";

/// The clients that share one fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Clients with the same credentials: cookies, authorization, and every header that is not known to be neutral.
    #[default]
    Credentials,
    /// All clients. Fetches carry no credentials.
    Public,
    /// Clients with the same values of these cookies and headers.
    Selected {
        /// Cookie names.
        cookies: Vec<String>,
        /// Header names.
        headers: Vec<HeaderName>,
    },
}

/// The request properties that split a route's resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantOptions {
    /// The audience.
    pub audience: Audience,
    /// Request headers that split resources, in addition to the credentials.
    pub vary: Vec<HeaderName>,
    /// Query parameters that do not split resources.
    pub ignore_query: Vec<String>,
    /// Request headers that do not identify a client, in addition to the known ones.
    pub ignore_headers: Vec<HeaderName>,
}

/// The parts of a request that determine its key.
#[derive(Clone, Copy, Debug)]
pub struct ResourceRequest<'a> {
    /// The client.
    pub client: &'a Client,
    /// The target.
    pub target: Target<'a>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, if the method is not GET.
    pub body: Option<&'a Arc<ReadBody>>,
}

impl Route {
    /// Returns the canonical form of `target`.
    pub fn canonical(&self, target: Target<'_>) -> String {
        target.canonical(&self.variant.ignore_query)
    }

    /// Returns the name under which path knowledge is kept: one per body.
    pub fn known_as(&self, asked: &ResourceRequest<'_>) -> String {
        let canonical = self.canonical(asked.target);
        match asked.body {
            None => canonical,
            // A target contains no space.
            Some(body) => {
                format!("{canonical} {}", Digest::of_parts([body.method.as_str().as_bytes(), &body.canonical]))
            }
        }
    }

    /// Returns the key of the requested resource. With `stream`, the request asks to be held: the stream types in its
    /// `Accept` and the resume parameter are for this server and not for the backend.
    pub fn key(&self, asked: &ResourceRequest<'_>, facts: &PathFacts, stream: bool) -> ResourceKey {
        let ResourceRequest { client, target, headers, body } = *asked;
        let mut split: Vec<HeaderName> = self.variant.vary.iter().cloned().chain(facts.vary_names()).collect();
        if headers.contains_key(CONTENT_TYPE) {
            // Some applications use it as the desired response type on requests without a body.
            split.push(CONTENT_TYPE);
        }
        split.retain(fields::may_vary_key);
        let audience = if facts.private.is_some() { &Audience::Credentials } else { &self.variant.audience };
        let identity = match audience {
            Audience::Credentials => {
                // A header that may identify a client is part of its identity, which splits the resource already.
                split.retain(|name| fields::is_neutral(name) || self.variant.ignore_headers.contains(name));
                Identity::full(self.all_credentials(headers, &split, client.hop.believed))
            }
            Audience::Public => Identity::selected(Vec::new()),
            Audience::Selected { cookies, headers: names } => Identity::selected(selected(headers, cookies, names)),
        };
        let named = identity.is_of_one_client();
        if named {
            // A fetch with a client's credentials repeats every header to which an application may bind a session. Such
            // a resource is not shared anyway.
            split.extend(fields::OF_CLIENT.iter().cloned());
        }
        split.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        split.dedup();
        let variant = split.into_iter().map(|name| {
            let told = if named { client.told(&name, headers) } else { None };
            if let Some(told) = told {
                return (name, told);
            }
            let value = match combined_value(headers, &name) {
                // A missing `Accept` accepts everything (RFC 9110 section 12.5.1).
                None if name == ACCEPT => Some(HeaderValue::from_static("*/*")),
                Some(_) if stream && name == ACCEPT => Some(without_streams(headers)),
                // A client's own statement about its address is not trusted; the backend receives the known address.
                _ if name == FORWARDED => HeaderValue::from_str(&client.forwarded()).ok(),
                _ if name == X_FORWARDED_FOR || name == X_REAL_IP => {
                    client.address.and_then(|address| HeaderValue::from_str(&address_text(address)).ok())
                }
                value => value,
            };
            let value = value.map(|mut value| {
                value.set_sensitive(!fields::is_neutral(&name));
                value
            });
            (name, value)
        });
        let mut ignored = Cow::Borrowed(&self.variant.ignore_query);
        if stream {
            ignored.to_mut().push(RESUME_PARAMETER.to_owned());
        }
        ResourceKey {
            route: self.id,
            origin: client.origin.clone(),
            target: target.canonical(&ignored).into(),
            variant: variant.collect(),
            context: RequestContext::of(headers, &client.origin, named, body.is_some()),
            identity,
            body: body.cloned(),
        }
    }
}

impl Route {
    /// Returns the facts that apply to a client that sends this request.
    pub fn facts(&self, asked: &ResourceRequest<'_>, now: Instant) -> PathFacts {
        let name = OnceCell::new();
        let who = || self.asked(asked.client, name.get_or_init(|| self.known_as(asked)), asked.headers);
        self.knowledge.facts(asked.target.path, who, now)
    }

    /// Returns the client and `target` in the form by which facts are distinguished.
    pub fn asked<'a>(&self, client: &Client, target: &'a str, headers: &HeaderMap) -> Asked<'a> {
        // Headers that a tracing agent adds do not make another client.
        let own =
            headers.iter().filter(|(name, _)| !fields::is_neutral(name) && !self.variant.ignore_headers.contains(name));
        let own: Vec<(&str, &[u8])> = own.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let browser = (client.address, headers.get(USER_AGENT), headers.get(AUTHORIZATION));
        let hasher = self.knowledge.hasher();
        Asked { target, identity: hasher.hash_one(own), browser: hasher.hash_one(browser) }
    }

    /// Returns whether a fetch for this client omits something by which the backend might identify it.
    pub fn strips_credentials(&self, headers: &HeaderMap, facts: &PathFacts) -> bool {
        // Usually there is no such header, and nothing needs to be computed.
        if facts.private.is_some() || headers.keys().all(fields::is_neutral) {
            return false;
        }
        let sent = match &self.variant.audience {
            Audience::Credentials => return false,
            Audience::Public => 0,
            Audience::Selected { cookies, headers: names } => selected(headers, cookies, names).len(),
        };
        let split: Vec<HeaderName> = self.variant.vary.iter().cloned().chain(facts.vary_names()).collect();
        self.all_credentials(headers, &split, true).len() > sent
    }

    /// Returns everything by which a backend might identify the client, except headers that split resources anyway or
    /// are not forwarded.
    fn all_credentials(&self, headers: &HeaderMap, split: &[HeaderName], believed: bool) -> Vec<(HeaderName, Secret)> {
        let identifies = |name: &&HeaderName| {
            !fields::is_neutral(name)
                && !split.contains(name)
                && !self.variant.ignore_headers.contains(name)
                && !fields::is_disguised(name, headers, believed)
        };
        let mut names: Vec<&HeaderName> = headers.keys().filter(identifies).collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let field = |name: &HeaderName| Some((name.clone(), Secret::new(combined_value(headers, name)?.as_bytes())));
        names.into_iter().filter_map(field).collect()
    }

    /// Returns the key of the resource for this client alone, whatever audience the route configures.
    pub fn key_with_credentials(&self, asked: &ResourceRequest<'_>, facts: &PathFacts) -> ResourceKey {
        let mut facts = facts.clone();
        facts.private = Some("asked for by itself");
        self.key(asked, &facts, true)
    }
}

/// Returns the single value of a field, with its lines joined (RFC 9110 section 5.3).
fn combined_value(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let mut rest = lines.peekable();
    if rest.peek().is_none() {
        return Some(first.clone());
    }
    let all: Vec<&[u8]> = std::iter::once(first).chain(rest).map(HeaderValue::as_bytes).collect();
    let separator: &[u8] = if name == COOKIE { b"; " } else { b", " };
    HeaderValue::from_bytes(&all.join(separator)).ok()
}

fn selected(headers: &HeaderMap, cookies: &[String], names: &[HeaderName]) -> Vec<(HeaderName, Secret)> {
    let mut selected: Vec<(HeaderName, Secret)> = Vec::new();
    let named = |pair: &&[u8]| cookies.iter().any(|name| fields::cookie_name(pair) == name.as_bytes());
    let pairs: Vec<&[u8]> = fields::cookies(headers).filter(named).collect();
    if !pairs.is_empty() {
        selected.push((COOKIE, Secret::new(&pairs.join(&b"; "[..]))));
    }
    selected.extend(
        names.iter().filter_map(|name| Some((name.clone(), Secret::new(combined_value(headers, name)?.as_bytes())))),
    );
    selected
}

/// Returns `Accept` without the stream types, or `*/*` if nothing else is left, so that a page's `EventSource` and its
/// polls request the same resource.
fn without_streams(headers: &HeaderMap) -> HeaderValue {
    let is_stream = |item: &&str| {
        let essence = item.split(';').next().unwrap_or_default().trim();
        deliver::ALL.iter().any(|delivery: &&dyn StreamFormat| essence.eq_ignore_ascii_case(delivery.accept()))
    };
    let rest: Vec<&str> = fields::list(headers, &ACCEPT).filter(|item| !is_stream(item)).collect();
    HeaderValue::from_str(&rest.join(", "))
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| HeaderValue::from_static("*/*"))
}
