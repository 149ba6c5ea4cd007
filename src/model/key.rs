//! Resource keys: two requests with the same key ask for the same resource.

use std::fmt;
use std::sync::Arc;

use http::Method;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};

use super::{Digest, ReadBody, RequestContext, Secret, fields};

/// Identifies a compiled route. A route that a reload leaves unchanged keeps its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u64);

/// The scheme of the client's connection, as sent to the backend in `X-Forwarded-Proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// Over TLS, as known from our own listener or a trusted proxy.
    Https,
}

impl Scheme {
    /// `"http"` or `"https"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The origin (RFC 6454) by which the client addressed the site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// The `Host` of the request, in lower case.
    pub host: Arc<str>,
    /// The host by which the client knows the site. It differs from `host` if a trusted proxy says so.
    pub public: Arc<str>,
}

impl Origin {
    /// Returns the scheme of `url` if it refers to this site by its public name. The scheme may differ from that of the
    /// connection if a proxy in front terminates TLS and does not say so.
    pub fn scheme_of(&self, url: &HeaderValue) -> Option<&'static str> {
        let (scheme, rest) = url.to_str().ok()?.split_once("://")?;
        let scheme = [Scheme::Http, Scheme::Https].map(Scheme::as_str).into_iter().find(|known| *known == scheme)?;
        let host = rest.split(['/', '?', '#']).next()?;
        host.eq_ignore_ascii_case(&self.public).then_some(scheme)
    }
}

impl Origin {
    /// Returns whether `origin` (RFC 6454), the value of an `Origin` header, is the origin of the site. If the site is
    /// known to be reached over TLS, plain-text origins are rejected, because an attacker on the network could have
    /// created such a page. Otherwise the site may stand behind a proxy that terminates TLS and is not trusted to say
    /// so.
    pub fn is_named_by(&self, origin: &str) -> bool {
        let Some((scheme, host)) = origin.split_once("://") else { return false };
        let (secure, port) = match scheme {
            "https" => (true, ":443"),
            "http" => (false, ":80"),
            _ => return false,
        };
        let bare = |host: &'_ str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        let same = |known: &str| bare(host) == bare(known);
        (secure || self.scheme == Scheme::Http) && (same(&self.public) || same(&self.host))
    }
}

/// The credentials that a resource is fetched with: header fields in sending order.
///
/// Two clients share a fetch only if these are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    whole: bool,
    fields: Arc<[(HeaderName, Secret)]>,
}

impl Identity {
    /// Creates an identity of everything that identifies a client. No fields at all means that the client is anonymous.
    pub fn full(fields: Vec<(HeaderName, Secret)>) -> Self {
        Self { whole: true, fields: fields.into() }
    }

    /// Creates an identity of the credentials that the route selects. No fields at all means that the route is public.
    pub fn selected(fields: Vec<(HeaderName, Secret)>) -> Self {
        Self { whole: false, fields: fields.into() }
    }

    /// Returns whether this holds everything that identifies its clients, so that a response meant for one of them may
    /// be kept.
    pub fn is_full(&self) -> bool {
        self.whole
    }

    /// Returns whether this holds everything that identifies one client, and is not anonymous.
    pub fn is_of_one_client(&self) -> bool {
        self.whole && !self.fields.is_empty()
    }

    /// Returns the fields by which most applications identify their users: cookies and authorization.
    pub fn credentials(&self) -> impl Iterator<Item = (&HeaderName, &Secret)> {
        self.fields().filter(|(name, _)| [COOKIE, AUTHORIZATION].contains(name))
    }

    /// Returns the cookies of the identity, each as `name=value`.
    pub fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        let cookies = self.fields().filter(|(name, _)| **name == COOKIE);
        cookies.flat_map(|(_, value)| fields::pairs(value.expose()))
    }

    /// Returns the header fields in sending order.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &Secret)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }
}

/// Shows the names of the fields that identify the client, never their values.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.fields.iter().map(|(name, _)| name.as_str())).finish()
    }
}

/// Everything that distinguishes one resource from another.
///
/// The upstream request is built from this and nothing else, so a fetch cannot carry anything that its key does not
/// hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceKey {
    /// The route under whose rules the resource is watched.
    pub route: RouteId,
    /// The site as the client addressed it.
    pub origin: Origin,
    /// Path and query as the backend will see them, without the parameters that the route ignores.
    pub target: Arc<str>,
    /// The request headers that split the resource, sorted by name; `None` where the client sent none.
    pub variant: Arc<[(HeaderName, Option<HeaderValue>)]>,
    /// The context in which clients ask for it.
    pub context: RequestContext,
    /// The credentials.
    pub identity: Identity,
    /// The body of the request, if its method is not GET.
    pub body: Option<Arc<ReadBody>>,
}

impl ResourceKey {
    /// Returns the request method.
    pub fn method(&self) -> &Method {
        self.body.as_ref().map_or(&Method::GET, |body| &body.method)
    }

    /// Returns the path of the target.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns a short name for logs and the admin API. It distinguishes resources with equal URLs and reveals nothing
    /// about the key: it depends on `seed`, which is random in each process.
    pub fn handle(&self, seed: u64) -> String {
        let seed = seed.to_le_bytes();
        let route = self.route.0.to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![
            &seed,
            &route,
            self.origin.scheme.as_str().as_bytes(),
            self.origin.host.as_bytes(),
            self.target.as_bytes(),
        ];
        for (name, value) in self.variant.iter() {
            parts.extend([name.as_str().as_bytes(), value.as_ref().map_or(&b""[..], HeaderValue::as_bytes)]);
        }
        for (name, value) in self.identity.fields() {
            parts.extend([name.as_str().as_bytes(), value.expose()]);
        }
        if let Some(body) = &self.body {
            parts.extend([body.method.as_str().as_bytes(), &body.canonical]);
        }
        Digest::of_parts(parts).to_string()[..8].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_never_show_their_values() {
        let identity = Identity::full(vec![
            (COOKIE, Secret::new(b"sid=hunter2")),
            (AUTHORIZATION, Secret::new(b"Basic aHVudGVyMg==")),
        ]);
        let key = ResourceKey {
            route: RouteId(1),
            origin: Origin { scheme: Scheme::Http, host: "example.org".into(), public: "example.org".into() },
            target: "/a".into(),
            variant: Arc::new([]),
            context: RequestContext::default(),
            identity,
            body: None,
        };
        let shown = format!("{key:?}");
        assert!(shown.contains("cookie") && !shown.contains("hunter2") && !shown.contains("aHVu"), "{shown}");
        assert_ne!(key.handle(1), ResourceKey { identity: Identity::full(Vec::new()), ..key.clone() }.handle(1));
    }
}
