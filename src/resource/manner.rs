//! How clients ask for a resource, as far as that tells nobody from anybody: what looks say of it beside the key.

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, REFERER, UPGRADE_INSECURE_REQUESTS};

use crate::model::{Identity, fields};

/// From where, how and for what a browser says that it asks (Fetch Metadata); also to a resource that many share.
const METADATA: [HeaderName; 3] = [
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
];

/// What else it says of itself; only to a resource that is looked at for one client's credentials.
static OF_BROWSER: [HeaderName; 5] = [
    HeaderName::from_static("sec-ch-prefers-color-scheme"),
    HeaderName::from_static("sec-ch-ua"),
    HeaderName::from_static("sec-ch-ua-mobile"),
    HeaderName::from_static("sec-ch-ua-platform"),
    HeaderName::from_static("save-data"),
];

/// Header fields that a look carries though no key holds them. They never split a resource: the first client's count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner(HeaderMap);

impl Manner {
    /// How a request with these headers asks for what is looked at under `identity`.
    pub fn of(headers: &HeaderMap, identity: &Identity) -> Self {
        let mut manner = Self::of_browser(headers, identity);
        if let Some(referer) = headers.get(REFERER).filter(|_| identity.is_whole()) {
            let mut referer = referer.clone();
            referer.set_sensitive(true);
            manner.0.insert(REFERER, referer);
        }
        manner
    }

    /// How what a stream follows would be asked for, by the headers of the request for that stream and those that the
    /// client names for this. A page that loads itself again is navigated to.
    pub fn of_stream(headers: &HeaderMap, identity: &Identity) -> Self {
        let mut manner = Self::of_browser(headers, identity);
        let is_page = fields::list(headers, &ACCEPT).any(|item| item.starts_with("text/html"))
            && !fields::is_from_script(headers);
        if is_page && !manner.is_empty() {
            for (name, value) in METADATA.into_iter().zip(["same-origin", "navigate", "document"]) {
                manner.0.insert(name, HeaderValue::from_static(value));
            }
            manner.0.insert(UPGRADE_INSECURE_REQUESTS, HeaderValue::from_static("1"));
        }
        manner
    }

    fn of_browser(headers: &HeaderMap, identity: &Identity) -> Self {
        let more: &[HeaderName] = if identity.is_whole() { &OF_BROWSER } else { &[] };
        let said = METADATA.into_iter().chain(more.iter().cloned()).filter_map(|name| {
            let value = headers.get(&name)?.clone();
            Some((name, value))
        });
        Self(said.collect())
    }

    /// Whether nothing is known of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a page is navigated to.
    pub fn is_navigation(&self) -> bool {
        self.0.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
    }

    /// The fields.
    pub fn fields(&self) -> &HeaderMap {
        &self.0
    }
}
