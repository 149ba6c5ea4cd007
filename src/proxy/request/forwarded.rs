//! Forwarding headers: the information about the client that is sent to the backend and that is accepted from proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{self, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use ipnet::IpNet;
use pingora::http::RequestHeader;

use crate::model::fields::{CDN_LOOP, PSEUDONYM};
use crate::model::{Origin, Scheme, fields};
use crate::proxy::passthrough::validators::translate;
use crate::proxy::request::view::Peer;
use crate::route::{X_FORWARDED_FOR, X_REAL_IP};
use crate::upstream::Upstream;

pub(in crate::proxy) static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(in crate::proxy) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED: HeaderName = header::FORWARDED;

/// The maximum number of passes of one request through this server. A request beyond that is in a loop.
const MAX_HOPS: usize = 8;

/// The peers whose forwarding headers are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Creates the set of peers with these addresses.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether `peer` is trusted.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        peer.is_some_and(|peer| self.0.iter().any(|network| network.contains(&peer.to_canonical())))
    }

    /// Returns the client's address: the peer's address or, behind trusted proxies, the last address in
    /// `X-Forwarded-For` that is not itself trusted.
    pub(in crate::proxy) fn client_address(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut address = peer?;
        let listed: Vec<&str> = fields::list(headers, &X_FORWARDED_FOR).collect();
        for hop in listed.into_iter().rev() {
            if !self.contains(Some(address)) {
                break;
            }
            // Some proxies append the port.
            match hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip())) {
                Ok(hop) => address = hop,
                Err(_) => break,
            }
        }
        Some(address)
    }

    pub(in crate::proxy) fn client_scheme<'a>(&self, peer: Option<IpAddr>, headers: &'a HeaderMap) -> Option<&'a str> {
        self.contains(peer).then(|| fields::list(headers, &X_FORWARDED_PROTO).next()).flatten()
    }

    /// Returns the origin that a client with the header `host` addressed. Returns `None` if a value is not a valid
    /// host.
    pub(in crate::proxy) fn origin(&self, peer: Peer, host: &str, headers: &HeaderMap) -> Option<Origin> {
        let https = self.client_scheme(peer.address, headers).map_or(peer.tls, |scheme| scheme == "https");
        let public = self.client_host(peer.address, headers).unwrap_or(host);
        if !is_host(host) || !is_host(public) {
            return None;
        }
        let known = lower(host);
        Some(Origin {
            scheme: if https { Scheme::Https } else { Scheme::Http },
            public: if public == host { Arc::clone(&known) } else { lower(public) },
            host: known,
        })
    }

    pub(in crate::proxy) fn client_host<'a>(&self, peer: Option<IpAddr>, headers: &'a HeaderMap) -> Option<&'a str> {
        self.contains(peer).then(|| fields::list(headers, &X_FORWARDED_HOST).next()).flatten()
    }
}

/// Returns `text` in lower case, for the comparison of hosts.
fn lower(text: &str) -> Arc<str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text.into() }
}

/// Returns whether `text` is a valid host, so that it can be written into headers safely.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~:[]%".contains(&byte))
}

/// Returns whether a request has passed through this server too often.
pub(in crate::proxy) fn is_forwarding_loop(headers: &HeaderMap) -> bool {
    hops(headers) >= MAX_HOPS
}

/// Returns whether a request has passed through this or another Sungrazer before. It may be one of our own fetches, so
/// it must not wait for the result of a fetch.
pub(in crate::proxy) fn has_own_via(headers: &HeaderMap) -> bool {
    hops(headers) > 0
}

fn hops(headers: &HeaderMap) -> usize {
    fields::list(headers, &CDN_LOOP).filter(|hop| hop.split(';').next().map(str::trim) == Some(PSEUDONYM)).count()
}

/// Turns `head` into the head for the backend. Conditions on entity tags of this server become conditions on the
/// backend's own. `X-Forwarded-*` and `Forwarded` (RFC 7239) describe the client; values from the client itself are
/// dropped, under any spelling of the header, unless it is a trusted proxy. `CDN-Loop` records the pass through this
/// server; `Via` is left unchanged.
///
/// Every request passes through this function. pingora allocates for a header name that is not given as a static text.
///
/// # Errors
/// Returns an error if a header cannot be written.
pub(in crate::proxy) fn forward(
    head: &mut RequestHeader,
    peer: Peer,
    trusted: &TrustedProxies,
    upstream: &Upstream,
) -> pingora::Result<()> {
    translate(head)?;
    let hop = peer.hop(trusted);
    let disguised = head.headers.keys().filter(|name| fields::is_disguised(name, &head.headers, hop.believed));
    for name in disguised.cloned().collect::<Vec<_>>() {
        head.remove_header(&name);
    }
    let host = head.headers.get(HOST).cloned();
    let gateway = host.as_ref().filter(|_| upstream.rewrites()).and_then(|host| host.to_str().ok());
    let gateway = gateway.and_then(|host| trusted.origin(peer, host, &head.headers));
    let scheme = if peer.tls { "https" } else { "http" };
    let addresses = [
        (&X_FORWARDED_FOR, hop.forwarded_for(&head.headers)),
        (&FORWARDED, hop.forwarded(&head.headers)),
        // It carries the same information as `X-Forwarded-For` and is just as easily forged.
        (&X_REAL_IP, head.headers.get(&X_REAL_IP).filter(|_| hop.believed).cloned()),
    ];
    for (name, value) in [(&X_FORWARDED_PROTO, Some(HeaderValue::from_static(scheme))), (&X_FORWARDED_HOST, host)] {
        if !(hop.believed && head.headers.contains_key(name)) {
            set(head, name, value)?;
        }
    }
    for (name, value) in addresses {
        set(head, name, value)?;
    }
    join_cookies(head)?;
    let hops: Vec<&str> = fields::list(&head.headers, &CDN_LOOP).chain([PSEUDONYM]).collect();
    let hops =
        if hops.len() == 1 { Ok(HeaderValue::from_static(PSEUDONYM)) } else { HeaderValue::try_from(hops.join(", ")) };
    set(head, &CDN_LOOP, hops.ok())?;
    for (name, lines) in gateway.map(|gateway| upstream.request_rewrites(&head.headers, &gateway)).unwrap_or_default() {
        head.remove_header(&name);
        for line in lines {
            head.append_header(name.clone(), line)?;
        }
    }
    for edit in upstream.options().request_headers.iter() {
        match &edit.value {
            Some(value) => head.insert_header(edit.written.clone(), value.clone())?,
            None => drop(head.remove_header(&edit.name)),
        }
    }
    Ok(())
}

/// Joins cookies that came in several fields, which HTTP/2 allows and HTTP/1.1 does not (RFC 9113 section 8.2.3). An
/// application may read only the first field.
fn join_cookies(head: &mut RequestHeader) -> pingora::Result<()> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return Ok(());
    }
    let Ok(mut whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) else { return Ok(()) };
    whole.set_sensitive(true);
    head.insert_header(COOKIE, whole)
}

/// Makes `value` the only value of `name`.
fn set(head: &mut RequestHeader, name: &'static HeaderName, value: Option<HeaderValue>) -> pingora::Result<()> {
    match value {
        Some(value) => head.insert_header(name.as_str(), value),
        None => {
            head.remove_header(name);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network")])
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_client_is_where_the_first_untrusted_hop_is() {
        let headers =
            HeaderMap::from_iter([(X_FORWARDED_FOR.clone(), HeaderValue::from_static("6.6.6.6, 1.2.3.4, 10.0.0.2"))]);
        assert_eq!(trusted().client_address(address("10.0.0.1"), &headers), address("1.2.3.4"));
        assert_eq!(trusted().client_address(address("9.9.9.9"), &headers), address("9.9.9.9"));
        assert_eq!(trusted().client_address(address("10.0.0.1"), &HeaderMap::new()), address("10.0.0.1"));
        assert_eq!(trusted().client_address(address("::ffff:10.0.0.1"), &headers), address("1.2.3.4"));
        for (hop, expected) in
            [("1.2.3.4:5678", "1.2.3.4"), ("[2001:db8::1]:80", "2001:db8::1"), ("nobody", "10.0.0.1")]
        {
            let headers = HeaderMap::from_iter([(X_FORWARDED_FOR.clone(), HeaderValue::from_static(hop))]);
            assert_eq!(trusted().client_address(address("10.0.0.1"), &headers), address(expected), "{hop}");
        }
    }

    #[test]
    fn only_trusted_peers_name_scheme_and_host() {
        let headers = HeaderMap::from_iter([(X_FORWARDED_PROTO.clone(), HeaderValue::from_static("https"))]);
        assert_eq!(trusted().client_scheme(address("10.0.0.1"), &headers), Some("https"));
        assert_eq!(trusted().client_scheme(address("9.9.9.9"), &headers), None);
    }

    #[test]
    fn circles_are_noticed() {
        let mut headers = HeaderMap::new();
        assert!(!is_forwarding_loop(&headers) && !has_own_via(&headers));
        headers.insert(&CDN_LOOP, HeaderValue::from_static("other; name=\"sungrazer\", sungrazer.example"));
        assert!(!has_own_via(&headers));
        headers.insert(&CDN_LOOP, HeaderValue::from_static("sungrazer, other, sungrazer;v=1"));
        assert!(!is_forwarding_loop(&headers) && has_own_via(&headers));
        headers.insert(&CDN_LOOP, HeaderValue::try_from(["sungrazer"; MAX_HOPS].join(",")).expect("a value"));
        assert!(is_forwarding_loop(&headers));
    }
}
