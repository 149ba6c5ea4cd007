//! Addresses of the backend.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

use crate::model::Origin;

/// `http://host[:port]`, `https://host[:port]` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP endpoint.
    Tcp {
        /// A host name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether the connection uses TLS.
        tls: bool,
    },
    /// A Unix domain socket, for plain HTTP.
    Unix {
        /// The socket's path.
        path: String,
    },
}

/// The `Host` that is sent to the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostMode {
    /// The client's `Host`, unless the backend is observed to refuse it; then the backend's own.
    Auto,
    /// The client's `Host`.
    #[default]
    Preserve,
    /// The backend's own host.
    Upstream,
}

/// The text is not a valid backend address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// None of the three forms.
    #[error("write http://host:port, https://host:port or unix:/path/to/socket")]
    Form,
    /// It contains more than an origin.
    #[error("only scheme, host and port belong here: leave out {0:?}, which every request brings itself")]
    Path(String),
    /// It contains a user name or password.
    #[error("credentials do not belong in the address: clients send their own")]
    Credentials,
    /// The path of a socket is relative, or longer than the system allows (107 bytes).
    #[error("the path of a socket must be absolute and at most 107 bytes long")]
    SocketPath,
}

impl Address {
    /// Returns whether the connection uses TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    /// Returns the host name or IP address, if there is one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix { .. } => None,
        }
    }

    /// Returns the value for `Host`, with the port unless it is the scheme's default.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, tls } => {
                let host = bracketed(host);
                if *port == default_port(*tls) { host } else { format!("{host}:{port}") }
            }
            Self::Unix { .. } => "localhost".to_owned(),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }

    /// Returns the backend's origin (RFC 6454), as seen by its own pages.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    /// Returns the port, if there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } => Some(*port),
            Self::Unix { .. } => None,
        }
    }

    /// Returns `url`, absolute or scheme-relative, with the origin of `site` in place of the backend's. Returns `None`
    /// if it has another origin.
    pub fn in_terms_of(&self, url: &str, site: &Origin) -> Option<String> {
        let with_port = match self {
            Self::Tcp { host, port, .. } => format!("{}:{port}", bracketed(host)),
            Self::Unix { .. } => self.authority(),
        };
        let own = [self.authority(), with_port];
        renamed(url, site, |authority| own.iter().any(|own| authority.eq_ignore_ascii_case(own)))
    }

    /// Returns `url` with the origin of `site` in place of an origin that has the site's name and the backend's port.
    /// Returns `None` for other origins, and if the backend's port is the scheme's default, because a URL without a
    /// port may then mean another server.
    pub fn without_port(&self, url: &str, site: &Origin) -> Option<String> {
        let own = self.port().filter(|port| *port != default_port(self.is_tls()))?;
        renamed(url, site, |authority| {
            authority.rsplit_once(':').is_some_and(|(name, port)| {
                port.parse() == Ok(own) && [&site.host, &site.public].iter().any(|known| is_host_of(name, known))
            })
        })
    }
}

/// Returns `url`, absolute or scheme-relative, with the origin of `site` if its authority `is_own`.
fn renamed(url: &str, site: &Origin, is_own: impl FnOnce(&str) -> bool) -> Option<String> {
    let start = url.find("//")?;
    let scheme = url[..start].to_ascii_lowercase();
    // The backend may not know the scheme by which clients reach it, so its scheme is ignored.
    let scheme = match &*scheme {
        "" => String::new(),
        "http:" | "https:" => format!("{}:", site.scheme.as_str()),
        _ => return None,
    };
    let rest = &url[start + 2..];
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    is_own(authority).then(|| format!("{scheme}//{}{rest}", site.public))
}

/// Returns whether `name` is the host of `authority`, which may have a port.
fn is_host_of(name: &str, authority: &str) -> bool {
    let of = match authority.rsplit_once(':') {
        Some((of, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => of,
        _ => authority,
    };
    name.eq_ignore_ascii_case(of)
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > 107 || path.contains('\0') {
                return Err(ParseAddressError::SocketPath);
            }
            return Ok(Self::Unix { path: path.to_owned() });
        }
        let uri: Uri = text.parse().map_err(|_| ParseAddressError::Form)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(ParseAddressError::Form),
        };
        let authority = uri.authority().ok_or(ParseAddressError::Form)?;
        if authority.as_str().contains('@') {
            return Err(ParseAddressError::Credentials);
        }
        if let Some(rest) =
            uri.path_and_query().map(PathAndQuery::as_str).filter(|rest| *rest != "/" && !rest.is_empty())
        {
            return Err(ParseAddressError::Path(rest.to_owned()));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(ParseAddressError::Form);
        }
        let port = match authority.port() {
            Some(port) if port.as_u16() == 0 => return Err(ParseAddressError::Form),
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':')
                || authority.as_str().rsplit(']').next().is_some_and(|tail| tail.contains(':')) =>
            {
                return Err(ParseAddressError::Form);
            }
            None => default_port(tls),
        };
        Ok(Self::Tcp { host, port, tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => write!(f, "{}://{}:{port}", self.scheme(), bracketed(host)),
            Self::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scheme;

    #[test]
    fn reads_the_three_forms() {
        for (text, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://App/", "http://app:80"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for (text, error) in [
            ("127.0.0.1:8000", ParseAddressError::Form),
            ("ftp://a", ParseAddressError::Form),
            ("http://a:99999", ParseAddressError::Form),
            ("http://a:0", ParseAddressError::Form),
            ("http://u:p@a", ParseAddressError::Credentials),
            ("http://a/b?c", ParseAddressError::Path("/b?c".into())),
            ("unix:app.sock", ParseAddressError::SocketPath),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }

    #[test]
    fn rewrites_only_our_own_origin() {
        let address: Address = "http://127.0.0.1:8000".parse().expect("an address");
        let site = Origin { scheme: Scheme::Https, host: "inner.example".into(), public: "wiki.example".into() };
        for (url, expected) in [
            ("http://127.0.0.1:8000/login?next=/", Some("https://wiki.example/login?next=/")),
            ("HTTP://127.0.0.1:8000", Some("https://wiki.example")),
            ("https://127.0.0.1:8000#a", Some("https://wiki.example#a")),
            ("//127.0.0.1:8000/a", Some("//wiki.example/a")),
            ("http://127.0.0.1:80001/", None),
            ("http://127.0.0.1:8000@evil.example/", None),
            ("/relative//127.0.0.1:8000/", None),
            ("ftp://127.0.0.1:8000/", None),
        ] {
            assert_eq!(address.in_terms_of(url, &site).as_deref(), expected, "{url}");
        }
        for (url, expected) in [
            ("http://inner.example:8000/login?next=/", Some("https://wiki.example/login?next=/")),
            ("http://WIKI.example:8000", Some("https://wiki.example")),
            ("//wiki.example:8000/a", Some("//wiki.example/a")),
            ("http://wiki.example/a", None),
            ("http://wiki.example:8001/a", None),
            ("http://evil.example:8000/a", None),
            ("http://wiki.example:8000@evil.example/", None),
            ("/a?to=http://wiki.example:8000/", None),
        ] {
            assert_eq!(address.without_port(url, &site).as_deref(), expected, "{url}");
        }
        let six = Origin { scheme: Scheme::Http, host: "[::1]:8080".into(), public: "[::1]:8080".into() };
        assert_eq!(address.without_port("http://[::1]:8000/a", &six).as_deref(), Some("http://[::1]:8080/a"));
        let secure: Address = "https://127.0.0.1".parse().expect("an address");
        assert_eq!(secure.without_port("https://wiki.example:443/a", &site), None);
        let default: Address = "http://app".parse().expect("an address");
        for url in ["http://app/a", "http://app:80/a", "http://APP/a"] {
            assert_eq!(default.in_terms_of(url, &site).as_deref(), Some("https://wiki.example/a"), "{url}");
        }
    }
}
