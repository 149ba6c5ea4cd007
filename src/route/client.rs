//! The client of a request, and the connection by which the request arrived, as reported to the backend.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::model::{Origin, address_text, fields};

/// `X-Forwarded-For`.
pub static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Real-IP`.
pub static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// A client, as reported to the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The origin that it addressed.
    pub origin: Origin,
    /// The sender of its requests.
    pub hop: Hop,
}

/// The direct sender of a request: the client itself, or a proxy in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// Whether its forwarding headers are trusted.
    pub believed: bool,
}

impl Client {
    /// Creates a client that addressed `origin`, and whose requests arrive through `hop`.
    pub fn new(address: Option<IpAddr>, origin: Origin, hop: Hop) -> Self {
        Self { address, origin, hop }
    }

    /// Returns the description of the client as one element of `Forwarded` (RFC 7239).
    pub(super) fn forwarded(&self) -> String {
        let Origin { scheme, public, .. } = &self.origin;
        format!("for={};host=\"{public}\";proto={}", node(self.address), scheme.as_str())
    }

    /// Returns the value that the header `name` has for the client's address when the client's own requests with these
    /// headers are forwarded. Returns `None` for other names. Ports are left out, because the port of one connection
    /// does not describe the client.
    pub(super) fn told(&self, name: &HeaderName, headers: &HeaderMap) -> Option<Option<HeaderValue>> {
        match name {
            name if *name == X_FORWARDED_FOR => Some(self.hop.forwarded_for(headers).map(without_ports)),
            name if *name == X_REAL_IP => Some(headers.get(name).filter(|_| self.hop.believed).cloned()),
            name if *name == FORWARDED => Some(self.hop.forwarded(headers)),
            _ => None,
        }
    }
}

impl Hop {
    /// Returns `X-Forwarded-For` for the backend, for a request with these headers.
    pub fn forwarded_for(self, headers: &HeaderMap) -> Option<HeaderValue> {
        let address = self.address.map_or_else(String::new, address_text);
        self.append(headers, &X_FORWARDED_FOR, address)
    }

    /// Returns `Forwarded` (RFC 7239) for the backend, for a request with these headers.
    pub fn forwarded(self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut element = String::with_capacity(96);
        let scheme = if self.tls { "https" } else { "http" };
        element.extend(["for=", &node(self.address), ";proto=", scheme]);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if let Some(host) = host.filter(|host| !host.contains(['"', '\\'])) {
            element.extend([";host=\"", host, "\""]);
        }
        self.append(headers, &FORWARDED, element)
    }

    /// Appends an element to the list field `name`. An untrusted list is replaced by the element.
    fn append(self, headers: &HeaderMap, name: &HeaderName, element: String) -> Option<HeaderValue> {
        let mut said = fields::list(headers, name).filter(|_| self.believed).peekable();
        let value = match said.peek() {
            None => element,
            Some(_) => {
                said.chain(Some(element.as_str()).filter(|element| !element.is_empty())).collect::<Vec<_>>().join(", ")
            }
        };
        HeaderValue::try_from(value).ok().filter(|value| !value.is_empty())
    }
}

/// Removes the ports that some proxies append to addresses.
fn without_ports(list: HeaderValue) -> HeaderValue {
    let Some(text) = list.to_str().ok().filter(|text| text.contains(':')) else { return list };
    let bare =
        |hop: &str| hop.trim().parse::<SocketAddr>().map_or_else(|_| hop.trim().to_owned(), |hop| hop.ip().to_string());
    let bare: Vec<String> = text.split(',').map(bare).collect();
    HeaderValue::try_from(bare.join(", ")).unwrap_or(list)
}

/// A node identifier (RFC 7239 section 6).
pub fn node(address: Option<IpAddr>) -> String {
    match address.map(|address| address.to_canonical()) {
        Some(address @ IpAddr::V4(_)) => address_text(address),
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hop_says_is_told_if_it_is_believed() {
        let hop = |believed| Hop { address: Some("10.0.0.1".parse().unwrap()), tls: true, believed };
        let mut headers = HeaderMap::new();
        headers.append(&X_FORWARDED_FOR, HeaderValue::from_static("1.2.3.4:99, [2001:db8::1]:7"));
        headers.append(&X_FORWARDED_FOR, HeaderValue::from_static("unknown"));
        assert_eq!(hop(false).forwarded_for(&headers).unwrap(), "10.0.0.1");
        let told = hop(true).forwarded_for(&headers).unwrap();
        assert_eq!(told, "1.2.3.4:99, [2001:db8::1]:7, unknown, 10.0.0.1");
        assert_eq!(without_ports(told), "1.2.3.4, 2001:db8::1, unknown, 10.0.0.1");
        let nobody = Hop { address: None, tls: false, believed: false };
        assert_eq!(nobody.forwarded_for(&headers), None);
        assert_eq!(nobody.forwarded(&headers).unwrap(), "for=unknown;proto=http");
    }
}
