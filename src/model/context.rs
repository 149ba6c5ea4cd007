//! The context of a request, reduced to values that cannot distinguish one client from another.

use http::header::{ACCEPT, HeaderMap, HeaderValue, ORIGIN, REFERER, UPGRADE_INSECURE_REQUESTS};

use super::{Origin, fields};

/// How requests ask for a resource. Each part has a few fixed values, so a fetch that repeats them tells the backend
/// nothing that a client made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestContext {
    /// The initiating site according to the browser (Fetch Metadata); `None` if the client sent none.
    site: Option<&'static str>,
    /// Whether the request is for a page, rather than for a part of one.
    page: bool,
    /// The scheme of the page that made the request, if its `Referer` is on this site.
    referred: Option<&'static str>,
    /// The scheme of the page of this site that sent a request with a body, from its `Origin`.
    origin: Option<&'static str>,
}

impl RequestContext {
    /// Returns the context of a request with these headers. `named` means that the headers contain credentials; the
    /// `Referer` counts only then. `Origin` counts if the request has a body: applications refuse such requests without it.
    ///
    /// A script opens a stream whatever the target is, so pages are recognised by `Accept` alone, for all requests
    /// alike.
    pub fn of(headers: &HeaderMap, origin: &Origin, named: bool, has_body: bool) -> Self {
        let site = headers.get("sec-fetch-site").and_then(|site| match site.as_bytes() {
            b"same-origin" | b"none" => Some("same-origin"),
            b"same-site" => Some("same-site"),
            _ => None,
        });
        let page = fields::list(headers, &ACCEPT).any(|item| item.starts_with("text/html"))
            && !fields::is_from_script(headers);
        let referred = headers.get(REFERER).filter(|_| named && !page).and_then(|referer| origin.scheme_of(referer));
        let own = headers.get(ORIGIN).filter(|_| has_body).and_then(|own| origin.scheme_of(own));
        Self { site, page: page && site.is_some(), referred, origin: own }
    }

    /// Writes the request headers that tell the backend of `origin` the same.
    pub fn write(self, origin: &Origin, headers: &mut HeaderMap) {
        if let Some(site) = self.site {
            let (mode, dest) = if self.page { ("navigate", "document") } else { ("cors", "empty") };
            for (name, value) in [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)] {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        if self.page {
            headers.insert(UPGRADE_INSECURE_REQUESTS, HeaderValue::from_static("1"));
        }
        if let Some(scheme) = self.referred
            && let Ok(referer) = HeaderValue::from_str(&format!("{scheme}://{}/", origin.public))
        {
            headers.insert(REFERER, referer);
        }
        if let Some(scheme) = self.origin
            && let Ok(own) = HeaderValue::from_str(&format!("{scheme}://{}", origin.public))
        {
            headers.insert(ORIGIN, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scheme;

    fn written(said: &[(&'static str, &'static str)], named: bool) -> Vec<(String, String)> {
        let headers =
            said.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        let origin = Origin { scheme: Scheme::Https, host: "a.example".into(), public: "a.example".into() };
        let mut written = HeaderMap::new();
        RequestContext::of(&headers, &origin, named, false).write(&origin, &mut written);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        written.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn nothing_that_a_client_made_up_is_said() {
        let referer = ("referer", "https://a.example/reset?token=secret");
        assert_eq!(written(&[referer], true), [("referer".to_owned(), "https://a.example/".to_owned())]);
        assert!(written(&[referer], false).is_empty(), "without credentials");
        for other in ["https://b.example/", "ftp://a.example/", "https://a.example.evil/", "https://x@a.example/", "a"]
        {
            assert!(written(&[("referer", other)], true).is_empty(), "{other}");
        }
        assert!(written(&[("sec-fetch-site", "<script>"), ("sec-fetch-mode", "navigate")], true).is_empty());
        let asked = [("sec-fetch-site", "none"), ("sec-fetch-mode", "x"), ("accept", "text/html,*/*"), referer];
        let page = written(&asked, true);
        assert!(page.contains(&("sec-fetch-mode".to_owned(), "navigate".to_owned())) && page.len() == 4, "{page:?}");
        let part = written(&[("sec-fetch-site", "same-site"), ("accept", "text/html"), ("hx-request", "true")], true);
        assert!(part.contains(&("sec-fetch-dest".to_owned(), "empty".to_owned())) && part.len() == 3, "{part:?}");
    }
}
