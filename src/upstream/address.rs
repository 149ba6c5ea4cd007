//! Where the backend is.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

/// `http://host[:port]`, `https://host[:port]` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP endpoint.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// A Unix domain socket, spoken to in plain HTTP.
    Unix {
        /// The socket's path.
        path: String,
    },
}

/// Which `Host` the backend is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostMode {
    /// The client's.
    #[default]
    Preserve,
    /// The backend's own.
    Upstream,
}

/// The text names no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Neither of the three forms.
    #[error("write http://host:port, https://host:port or unix:/path/to/socket")]
    Form,
    /// There is more than an origin.
    #[error("only scheme, host and port belong here: leave out {0:?}, which every request brings itself")]
    Path(String),
    /// A user name or password.
    #[error("credentials do not belong in the address: clients send their own")]
    Credentials,
    /// The path of a socket is relative, or longer than the system allows (107 bytes).
    #[error("the path of a socket must be absolute and at most 107 bytes long")]
    SocketPath,
}

impl Address {
    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    /// The name or IP address, if there is one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix { .. } => None,
        }
    }

    /// What goes into `Host`: the port only where it is not the scheme's own.
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

    /// `url`, which names the site by `host`, with the backend's scheme and authority instead. `None` if it names
    /// another site.
    pub fn in_place_of(&self, host: &str, url: &str) -> Option<String> {
        let uri: Uri = url.parse().ok()?;
        if !uri.authority()?.as_str().eq_ignore_ascii_case(host) {
            return None;
        }
        let rest = url.splitn(4, '/').nth(3).map_or(String::new(), |path| format!("/{path}"));
        Some(format!("{}://{}{rest}", self.scheme(), self.authority()))
    }

    /// What follows the origin in `url`, if that origin is the backend's.
    pub fn strip_origin<'a>(&self, url: &'a str) -> Option<&'a str> {
        let rest = url.strip_prefix(self.scheme())?.strip_prefix("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let ours = self.authority();
        let with_port = match self {
            Self::Tcp { host, port, .. } => format!("{}:{port}", bracketed(host)),
            Self::Unix { .. } => ours.clone(),
        };
        (authority.eq_ignore_ascii_case(&ours) || authority.eq_ignore_ascii_case(&with_port)).then_some(rest)
    }
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
        assert_eq!(
            address.in_place_of("wiki.example", "http://wiki.example/a/b?c").as_deref(),
            Some("http://127.0.0.1:8000/a/b?c")
        );
        assert_eq!(
            address.in_place_of("wiki.example", "http://wiki.example").as_deref(),
            Some("http://127.0.0.1:8000")
        );
        assert_eq!(address.in_place_of("wiki.example", "https://evil.example/a"), None);
        assert_eq!(address.in_place_of("wiki.example", "null"), None);
        assert_eq!(address.strip_origin("http://127.0.0.1:8000/login?next=/"), Some("/login?next=/"));
        assert_eq!(address.strip_origin("http://127.0.0.1:80001/"), None);
        assert_eq!(address.strip_origin("/relative"), None);
    }
}
