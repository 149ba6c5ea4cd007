//! Translates between the backend's own name and the name that clients use.
//!
//! ```text
//! client: Host: wiki.example, Origin: http://wiki.example ─▶ backend: Host: 127.0.0.1:8000, Origin: http://127.0.0.1:8000
//! client: Location: http://wiki.example/login             ◀─ backend: Location: http://127.0.0.1:8000/login
//! ```
//!
//! With [`HostMode::Upstream`] the backend sees one consistent site, its own, in all fields of a request that name it,
//! and clients see theirs in all fields of a response that do. With [`HostMode::Auto`] this begins once the backend has
//! been observed to refuse requests for a host other than its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_LOCATION, FORWARDED, HOST, LINK, LOCATION, ORIGIN,
    REFERER, REFRESH, SET_COOKIE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{Address, HostMode, Upstream};
use crate::clock;
use crate::model::{Origin, fields};
use crate::poll::Answer;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const DESTINATION: HeaderName = HeaderName::from_static("destination");
const IF: HeaderName = HeaderName::from_static("if");

/// Response fields with a URL that clients follow: standard ones, and those of libraries that navigate by script.
static URLS: [HeaderName; 9] = [
    LOCATION,
    CONTENT_LOCATION,
    HeaderName::from_static("hx-redirect"),
    HeaderName::from_static("hx-location"),
    HeaderName::from_static("hx-push-url"),
    HeaderName::from_static("hx-replace-url"),
    HeaderName::from_static("turbolinks-location"),
    HeaderName::from_static("x-pjax-url"),
    HeaderName::from_static("x-inertia-location"),
];

/// A field and its new lines, which replace the existing ones.
pub type Rewrite = (HeaderName, Vec<HeaderValue>);

/// Applies `rewrites` to `headers`.
pub fn rewrite(headers: &mut HeaderMap, rewrites: Vec<Rewrite>) {
    for (name, lines) in rewrites {
        headers.remove(&name);
        for line in lines {
            headers.append(&name, line);
        }
    }
}

/// Returns the rewrites that turn a request of a client of `site` into one for the backend's own site.
///
/// `Origin` and `Referer` are changed only where they name the site itself: a foreign `Origin` must stay foreign, or
/// the backend loses its protection against cross-site request forgery.
pub(super) fn inward(address: &Address, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
    let authority = address.authority();
    let own = |url: &str| {
        let (origin, rest) = split_origin(url)?;
        site.is_named_by(origin).then(|| format!("{}{rest}", address.origin()))
    };
    let mut rewrites: Vec<Rewrite> = Vec::new();
    let mut replace = |name: HeaderName, change: &dyn Fn(&str) -> Option<String>| {
        rewrites.extend(changed(headers, name, change));
    };
    for name in [ORIGIN, REFERER, DESTINATION] {
        replace(name, &own);
    }
    replace(IF, &|value| in_brackets(value, own));
    replace(FORWARDED, &|value| forwarded(value, &authority));
    replace(X_FORWARDED_HOST, &|_| Some(authority.clone()));
    replace(X_FORWARDED_PORT, &|_| address.port().map(|port| port.to_string()));
    rewrites.extend(HeaderValue::from_str(&authority).ok().map(|host| (HOST, vec![host])));
    rewrites
}

/// Returns the rewrites for a response to a request that named `site` itself. Some servers build URLs from the name in
/// `Host` and the port that they listen on.
pub(super) fn without_port(address: &Address, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
    let own = |url: &str| address.without_port(url, site);
    let mut rewrites: Vec<Rewrite> = Vec::new();
    for name in [LOCATION, CONTENT_LOCATION] {
        rewrites.extend(changed(headers, name, &own));
    }
    rewrites.extend(changed(headers, REFRESH, &|value| refresh(value, own)));
    rewrites
}

/// Returns whether [`without_port`] might change a response with these headers.
pub(super) fn leads_elsewhere(headers: &HeaderMap) -> bool {
    [LOCATION, CONTENT_LOCATION, REFRESH].iter().any(|name| headers.contains_key(name))
}

/// Returns the rewrites that replace the backend's name in a response by `site`.
pub(super) fn outward(address: &Address, headers: &HeaderMap, site: &Origin) -> Vec<Rewrite> {
    let own = |url: &str| address.in_terms_of(url, site);
    let mut rewrites: Vec<Rewrite> = Vec::new();
    let mut replace = |name: HeaderName, change: &dyn Fn(&str) -> Option<String>| {
        rewrites.extend(changed(headers, name, change));
    };
    for name in &URLS {
        replace(name.clone(), &own);
    }
    replace(ACCESS_CONTROL_ALLOW_ORIGIN, &own);
    replace(REFRESH, &|value| refresh(value, own));
    replace(LINK, &|value| in_brackets(value, own));
    replace(SET_COOKIE, &|value| without_domain(value, address.host()?));
    rewrites
}

/// Returns the lines of a field, if `change` changes any of them.
fn changed(headers: &HeaderMap, name: HeaderName, change: &dyn Fn(&str) -> Option<String>) -> Option<Rewrite> {
    let mut any = false;
    let mut lines = Vec::new();
    for line in headers.get_all(&name) {
        let new = line.to_str().ok().and_then(change).and_then(|new| HeaderValue::from_str(&new).ok());
        any |= new.is_some();
        let mut new = new.unwrap_or_else(|| line.clone());
        new.set_sensitive(line.is_sensitive());
        lines.push(new);
    }
    any.then_some((name, lines))
}

/// Splits a URL into `scheme://authority` and the rest.
fn split_origin(url: &str) -> Option<(&str, &str)> {
    let authority = url.find("://")? + 3;
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    Some(url.split_at(end))
}

/// Changes each `<url>` of a field such as `Link` (RFC 8288).
fn in_brackets(value: &str, change: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut out, mut rest, mut any) = (String::with_capacity(value.len()), value, false);
    while let Some((before, behind)) = rest.split_once('<') {
        let Some((url, after)) = behind.split_once('>') else { break };
        let new = change(url);
        any |= new.is_some();
        out.extend([before, "<", new.as_deref().unwrap_or(url), ">"]);
        rest = after;
    }
    out.push_str(rest);
    any.then_some(out)
}

/// Changes the URL of `Refresh: 3; url=…`, as browsers parse it: `url=` may be missing, and the URL may be quoted.
fn refresh(value: &str, change: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut at = value.find([';', ','])? + 1;
    let skip = |at: usize| at + value[at..].len() - value[at..].trim_start().len();
    at = skip(at);
    if value.get(at..at + 3).is_some_and(|name| name.eq_ignore_ascii_case("url"))
        && let equals = skip(at + 3)
        && value[equals..].starts_with('=')
    {
        at = skip(equals + 1);
    }
    at += value[at..].len() - value[at..].trim_start_matches(['"', '\'']).len();
    Some(format!("{}{}", &value[..at], change(&value[at..])?))
}

/// Inserts the backend's name into each element of `Forwarded` (RFC 7239) that names a host.
fn forwarded(value: &str, authority: &str) -> Option<String> {
    let mut any = false;
    let elements = value.split(',').map(|element| {
        let pairs = element.split(';').map(|pair| {
            let is_host = pair.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("host"));
            any |= is_host;
            if is_host { format!("host=\"{authority}\"") } else { pair.trim().to_owned() }
        });
        pairs.collect::<Vec<_>>().join(";")
    });
    let elements = elements.collect::<Vec<_>>().join(", ");
    any.then_some(elements)
}

/// Returns a cookie without its `Domain`, if that is the backend's own: a browser would refuse it from another host.
fn without_domain(cookie: &str, host: &str) -> Option<String> {
    let is_own = |attribute: &&str| {
        attribute.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("domain")
                && value.trim().trim_start_matches('.').eq_ignore_ascii_case(host)
        })
    };
    let attributes: Vec<&str> = cookie.split(';').collect();
    let kept: Vec<&str> = attributes.iter().copied().filter(|attribute| !is_own(attribute)).collect();
    (kept.len() < attributes.len()).then(|| kept.join(";"))
}

/// Whether the backend is addressed by its own name; shared by all replicas.
#[derive(Debug)]
pub(super) struct Naming {
    mode: HostMode,
    /// Whether the backend has been observed to refuse other names.
    refuses: AtomicBool,
    /// Other names for which it has answered successfully.
    accepted: ArcSwap<Vec<String>>,
    /// The earliest time of the next test, and the delay after that.
    next: Mutex<(Option<Instant>, Duration)>,
}

/// The maximum number of remembered names. A forgotten name may be tested again.
const MAX_NAMES: usize = 16;

/// The minimum and maximum delay between two tests.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// The timeout for a test.
const NAME_TIMEOUT: Duration = Duration::from_secs(3);

/// A host name that cannot exist (RFC 6761 section 6.4).
const NOBODY: &str = "sungrazer.invalid";

impl Naming {
    pub(super) fn new(mode: HostMode) -> Self {
        Self {
            mode,
            refuses: AtomicBool::new(false),
            accepted: ArcSwap::default(),
            next: Mutex::new((None, ASK_AGAIN.0)),
        }
    }

    pub(super) fn is_own(&self) -> bool {
        match self.mode {
            HostMode::Preserve => false,
            HostMode::Upstream => true,
            HostMode::Auto => self.refuses.load(Ordering::Relaxed),
        }
    }

    /// Returns whether this response to a request for `host` may mean that the backend refuses that name.
    fn suspects(&self, host: &str, status: StatusCode, headers: &HeaderMap) -> bool {
        let known = || self.accepted.load().iter().any(|name| name.eq_ignore_ascii_case(host));
        match status.as_u16() {
            400 | 421 => true,
            // An application that has once accepted the name refuses the client or the target instead.
            401 => !headers.contains_key(WWW_AUTHENTICATE) && !known(),
            403 => !known(),
            200..=399 => {
                if !known() && self.accepted.load().len() < MAX_NAMES {
                    self.accepted.rcu(|names| {
                        let mut names = names.to_vec();
                        names.push(host.to_owned());
                        names
                    });
                }
                false
            }
            _ => false,
        }
    }
}

impl Upstream {
    /// Records a response to a client's request for `host`. Returns whether the request may have been refused because
    /// of that name alone, so that [`Upstream::finds_out`] should be called. Most responses end here.
    pub fn suspects(&self, host: Option<&HeaderValue>, status: StatusCode, headers: &HeaderMap) -> bool {
        if self.options.host != HostMode::Auto || self.naming.is_own() {
            return false;
        }
        let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
        !host.eq_ignore_ascii_case(&self.options.address.authority()) && self.naming.suspects(host, status, headers)
    }

    /// Tests whether the backend refuses requests because they name `host`, and if so addresses it by its own name from
    /// then on. Returns whether it does; the request may then be repeated.
    ///
    /// The test sends requests without any client's credentials for the root and, if that is inconclusive, for `path`:
    /// with `host`, with the backend's own name, and with a name that cannot exist. The backend refuses names if it
    /// answers the first and the last alike, and serves its own name. An application that requires a login answers all
    /// three alike; one that serves several sites distinguishes the first from the last.
    ///
    /// # Races
    /// Requests that arrive during a test wait for its result and share it.
    pub async fn finds_out(&self, host: &str, path: &str) -> bool {
        let mut next = self.naming.next.lock().await;
        if self.naming.is_own() {
            return true;
        }
        let now = clock::now();
        if next.0.is_some_and(|next| now < next) {
            return false;
        }
        *next = (Some(now + next.1), (next.1 * 2).min(ASK_AGAIN.1));
        let Ok(Some(status)) = timeout(NAME_TIMEOUT, self.ask_by_names(host, path)).await else { return false };
        self.naming.refuses.store(true, Ordering::Relaxed);
        warn!(
            "the application answers {status} to requests for {host:?} and serves those for its own host, {:?}: it is given \
             that from now on, in Host, Origin and Referer. To have it so from the start write host = \"upstream\" into \
             [upstream]; or make the application accept {host:?} and write host = \"preserve\"",
            self.options.address.authority()
        );
        true
    }

    /// Returns the backend's status for `host`, if it refuses that name and serves its own.
    async fn ask_by_names(&self, host: &str, path: &str) -> Option<StatusCode> {
        let own = self.options.address.authority();
        let nobody = nobody_like(host);
        for path in ["/", path].into_iter().take(if path == "/" || !is_plain(path) { 1 } else { 2 }) {
            let refused = self.ask_by_name(path, host).await?;
            if !matches!(refused.status.as_u16(), 400 | 401 | 403 | 421) {
                continue;
            }
            let served = self.ask_by_name(path, &own).await?;
            if is_served(&refused, &served) && self.ask_by_name(path, &nobody).await?.status == refused.status {
                return Some(refused.status);
            }
        }
        None
    }

    async fn ask_by_name(&self, path: &str, host: &str) -> Option<Answer> {
        let mut headers = HeaderMap::new();
        for name in [HOST, X_FORWARDED_HOST] {
            headers.insert(name, HeaderValue::from_str(host).ok()?);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sungrazer/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(&fields::CDN_LOOP, HeaderValue::from_static(fields::PSEUDONYM));
        self.probe_head(path, &headers).await
    }
}

/// Returns whether `answer` comes from an application that serves its own name, where another name was `refused`.
fn is_served(refused: &Answer, answer: &Answer) -> bool {
    let challenges = answer.headers.contains_key(WWW_AUTHENTICATE);
    match answer.status.as_u16() {
        200..=399 => true,
        // The application got as far as asking for credentials.
        401 => challenges && refused.status != StatusCode::UNAUTHORIZED,
        // Only servers that reject the request itself answer 400 or 421; the target may be missing or forbidden.
        403..=415 => matches!(refused.status.as_u16(), 400 | 421),
        _ => false,
    }
}

/// Returns a name that cannot exist, with the port of `host`: some applications accept any name, but only their own
/// port.
fn nobody_like(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{NOBODY}:{port}")
        }
        _ => NOBODY.to_owned(),
    }
}

/// Returns whether `path` contains nothing that may be valid only once, such as a token in a link.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|segment| segment.len() < 20)
}
