//! The requests of `probe`, `tail` and `doctor`.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use pingora::http::RequestHeader;

use crate::model::HeaderEdits;
use crate::tls::Outgoing;
use crate::upstream::{Address, HostMode, Options, Upstream};

/// The URL and what is sent with it.
#[derive(Clone, Debug, Args)]
pub(super) struct RequestArgs {
    /// The URL: http://host:port/path or https://…
    pub(super) url: Url,
    /// A header to send, such as 'Cookie: sid=…' or 'Authorization: Bearer …'; can be given more than once
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<HeaderLine>,
    /// Do not verify the certificate: anybody on the path can impersonate the application
    #[arg(long)]
    pub(super) insecure: bool,
    /// What it is asked for with, where that can be said.
    #[arg(skip)]
    body: BodyArgs,
}

/// How a poll is asked for that is no GET.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct BodyArgs {
    /// The method, such as POST or QUERY; with a body it is POST unless this says otherwise
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// The body to send, of a poll that is a POST and only reads. Its type is JSON if it is that, else a form; -H says otherwise
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    data: Option<String>,
}

/// An absolute URL.
#[derive(Clone, Debug)]
pub(super) struct Url {
    pub(super) address: Address,
    /// Host and port as written.
    authority: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, _) = text.split_once('#').unwrap_or((text, ""));
        let form = || "write a whole URL, such as http://127.0.0.1:8000/status.json".to_owned();
        let uri: Uri = text.parse().map_err(|_| form())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(form()) };
        if authority.as_str().contains('@') {
            return Err("credentials do not belong in the URL: send them with -H 'Authorization: …'".to_owned());
        }
        let address: Address = format!("{scheme}://{authority}").parse().map_err(|_| form())?;
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Ok(Self {
            address,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }
}

impl Url {
    /// Returns path and query.
    pub(super) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Returns host and port.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns scheme, host and port.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.address.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// Returns the URL for display.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.origin(), self.target())
    }
}

/// A header line.
#[derive(Clone, Debug)]
struct HeaderLine(HeaderName, HeaderValue);

impl FromStr for HeaderLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || "write 'Name: value'".to_owned();
        let (name, value) = text.split_once(':').ok_or_else(form)?;
        let name = name.trim().parse().map_err(|_| form())?;
        Ok(Self(name, HeaderValue::from_str(value.trim()).map_err(|_| form())?))
    }
}

/// The common request headers that carry credentials.
const CREDENTIALS: [&str; 4] = ["cookie", "authorization", "x-api-key", "x-auth-token"];

impl RequestArgs {
    /// The same, asked for with `body`.
    pub(super) fn with(self, body: &BodyArgs) -> Self {
        Self { body: body.clone(), ..self }
    }

    /// The method.
    pub(super) fn method(&self) -> Method {
        let usual = if self.body.data.is_some() { Method::POST } else { Method::GET };
        self.body.method.clone().unwrap_or(usual)
    }

    /// The body; empty if there is none.
    pub(super) fn body(&self) -> Bytes {
        self.body.data.clone().unwrap_or_default().into()
    }

    /// Returns the upstream of the request.
    pub(super) fn upstream(&self, patience: Duration) -> anyhow::Result<Upstream> {
        Ok(Upstream::new(Options {
            address: self.url.address.clone(),
            host: HostMode::Preserve,
            connect_timeout: patience,
            fetch_timeout: patience,
            keepalive: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            tls: Outgoing::read(None, !self.insecure, None, None).context("TLS")?,
        }))
    }

    /// Returns whether any of the headers carries credentials.
    pub(super) fn has_credentials(&self) -> bool {
        self.headers.iter().any(|line| CREDENTIALS.contains(&line.0.as_str()))
    }

    /// Returns a request with the user's headers; `ours` are added unless the user set them.
    pub(super) fn head(&self, ours: &[(HeaderName, HeaderValue)], credentials: bool) -> anyhow::Result<RequestHeader> {
        self.head_of(&self.url.target(), ours, credentials)
    }

    /// The same for another `target` on the same host.
    pub(super) fn head_of(
        &self,
        target: &str,
        ours: &[(HeaderName, HeaderValue)],
        credentials: bool,
    ) -> anyhow::Result<RequestHeader> {
        let headers = self.headers(ours, credentials)?;
        let mut head = RequestHeader::build(self.method(), target.as_bytes(), Some(headers.len()))
            .context("the URL cannot be asked for")?;
        for (name, value) in &headers {
            head.append_header(name.clone(), value.clone()).context("a header cannot be sent")?;
        }
        Ok(head)
    }

    /// Returns the headers to send: the user's, and `ours` unless the user set them.
    pub(super) fn headers(&self, ours: &[(HeaderName, HeaderValue)], credentials: bool) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(&self.url.authority).context("the host")?);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sungrazer/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(data) = &self.body.data {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok();
            let media_type = if is_json { "application/json" } else { "application/x-www-form-urlencoded" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            headers.insert(CONTENT_LENGTH, data.len().into());
        }
        for (name, value) in ours {
            headers.insert(name, value.clone());
        }
        let given = self.headers.iter().filter(|line| credentials || !CREDENTIALS.contains(&line.0.as_str()));
        let given: Vec<&HeaderLine> = given.collect();
        given.iter().for_each(|line| drop(headers.remove(&line.0)));
        for HeaderLine(name, value) in given {
            headers.append(name, value.clone());
        }
        Ok(headers)
    }

    /// Returns the user's values of the header `name`.
    pub(super) fn given(&self, name: &HeaderName) -> Option<String> {
        let given = self.headers.iter().filter(|line| line.0 == *name);
        let values: Vec<_> = given.map(|line| String::from_utf8_lossy(line.1.as_bytes())).collect();
        (!values.is_empty()).then(|| values.join("; "))
    }
}

/// Returns an error with advice if a response with `status` cannot be used.
pub(super) fn refuse(status: StatusCode, headers: &HeaderMap) -> anyhow::Result<()> {
    let text =
        |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match status.as_u16() {
        206 => bail!("the application answers 206 Partial Content to a request for the whole"),
        200..=299 => Ok(()),
        300..=399 => bail!(
            "the application answers {status}, to {}: ask for that, or, if it leads to a sign-in page, send what the browser sends, as in -H 'Cookie: …'",
            shown(&text(http::header::LOCATION))
        ),
        401 => bail!(
            "the application answers {status} ({}): send credentials, as in -H 'Authorization: …'",
            shown(&text(http::header::WWW_AUTHENTICATE))
        ),
        403 => bail!("the application answers {status}: send credentials, as in -H 'Cookie: …'"),
        404 | 410 => bail!("the application answers {status}: there is nothing at this URL"),
        429 => bail!(
            "the application answers {status}: it does not want to be asked so often (Retry-After: {})",
            shown(&text(http::header::RETRY_AFTER))
        ),
        _ => bail!("the application answers {status}"),
    }
}

/// Returns a foreign text with control characters replaced, for display on a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
