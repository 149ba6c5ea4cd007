//! Validators of pages that were changed on their way.
//!
//! A page with a tag in it is not the representation that the backend's entity tag names. It is given a tag of its own,
//! from which the backend's is got back when the client asks with it: a 304 then means that neither the page nor the
//! script has changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::fields;

/// Makes validators, and reads them back.
#[derive(Clone, Copy, Debug)]
pub struct Tagger<'a> {
    /// What tells one script from another.
    pub script: &'a str,
}

/// What the backend is asked with in place of the client's own validators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// For `If-None-Match`.
    pub tags: Option<HeaderValue>,
    /// For `If-Modified-Since`.
    pub date: Option<HeaderValue>,
    /// The first tag of ours that the client has: what a 304 confirms if the backend does not say.
    pub held: Option<HeaderValue>,
}

/// What a tag of ours was made of.
const STRONG: &str = "s";
const WEAK: &str = "w";
const DATE: &str = "d";

impl Tagger<'_> {
    /// The entity tag of the changed page, given the headers of the backend's answer. `None` if that has no validator.
    pub fn tag(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let (kind, inner) = match headers.get(ETAG).and_then(|tag| tag.to_str().ok()) {
            Some(tag) => match tag.strip_prefix("W/") {
                Some(tag) => (WEAK, unquote(tag)?.to_owned()),
                None => (STRONG, unquote(tag)?.to_owned()),
            },
            None => {
                let date = httpdate::parse_http_date(headers.get(LAST_MODIFIED)?.to_str().ok()?).ok()?;
                (DATE, date.duration_since(UNIX_EPOCH).ok()?.as_secs().to_string())
            }
        };
        // Weak: the tag in the page may carry a nonce, so its bytes differ where its meaning does not.
        HeaderValue::from_str(&format!("W/\"{inner}~{kind}{}\"", self.script)).ok()
    }

    /// What to ask the backend with, given the client's headers. Tags that were not made by this script are left out: what
    /// they name is a page without the script, or with an older one.
    pub fn ask(&self, headers: &HeaderMap) -> Asked {
        let mut asked = Asked::default();
        let mut tags: Vec<String> = Vec::new();
        for tag in fields::list(headers, &IF_NONE_MATCH) {
            let Some((inner, kind)) = self.read(tag) else { continue };
            asked.held = asked.held.or_else(|| HeaderValue::from_str(tag).ok());
            match kind {
                STRONG => tags.push(format!("\"{inner}\"")),
                WEAK => tags.push(format!("W/\"{inner}\"")),
                _ => asked.date = inner.parse().ok().and_then(date),
            }
        }
        asked.tags = (!tags.is_empty()).then(|| HeaderValue::from_str(&tags.join(", ")).ok()).flatten();
        asked
    }

    fn read<'t>(&self, tag: &'t str) -> Option<(&'t str, &'t str)> {
        let tag = unquote(tag.strip_prefix("W/").unwrap_or(tag))?.strip_suffix(self.script)?;
        let (inner, kind) = tag.rsplit_once('~')?;
        [STRONG, WEAK, DATE].contains(&kind).then_some((inner, kind))
    }
}

impl Asked {
    /// The request headers to send.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let tags = self.tags.clone().map(|tags| (IF_NONE_MATCH, tags));
        tags.into_iter().chain(self.date.clone().map(|date| (IF_MODIFIED_SINCE, date)))
    }
}

fn unquote(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

fn date(seconds: u64) -> Option<HeaderValue> {
    let when: SystemTime = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    // Beyond the year 9999 there is no way to write it.
    (seconds < 253_402_300_800).then(|| HeaderValue::from_str(&httpdate::fmt_http_date(when)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGGER: Tagger<'_> = Tagger { script: "SCRIPT" };

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    fn round(answer: &[(HeaderName, &str)]) -> Asked {
        let tag = TAGGER.tag(&headers(answer)).expect("a tag");
        TAGGER.ask(&headers(&[(IF_NONE_MATCH, tag.to_str().expect("text"))]))
    }

    #[test]
    fn the_backend_is_asked_with_what_it_gave() {
        for tag in ["\"a~b\"", "W/\"a\"", "\"\""] {
            assert_eq!(round(&[(ETAG, tag)]).tags.as_ref().and_then(|tags| tags.to_str().ok()), Some(tag));
        }
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let asked = round(&[(LAST_MODIFIED, date)]);
        assert_eq!((asked.tags, asked.date.as_ref().and_then(|date| date.to_str().ok())), (None, Some(date)));
        assert_eq!(asked.held, TAGGER.tag(&headers(&[(LAST_MODIFIED, date)])));
    }

    #[test]
    fn what_this_script_did_not_make_is_left_out() {
        for foreign in
            ["\"a\"", "W/\"a~sOTHER\"", "*", "\"a~xSCRIPT\"", "a~sSCRIPT", "\"99999999999999999999~dSCRIPT\""]
        {
            let asked = TAGGER.ask(&headers(&[(IF_NONE_MATCH, foreign)]));
            assert_eq!((asked.tags, asked.date), (None, None), "{foreign}");
        }
        let both = TAGGER.ask(&headers(&[(IF_NONE_MATCH, "\"a\", W/\"b~sSCRIPT\", W/\"c~wSCRIPT\"")]));
        assert_eq!(both.tags, Some(HeaderValue::from_static("\"b\", W/\"c\"")));
        assert_eq!(TAGGER.tag(&headers(&[(ETAG, "odd")])), None);
        assert_eq!(TAGGER.tag(&HeaderMap::new()), None);
    }
}
