//! Entity tags of pages with an injected script.
//!
//! A page with the injected tag is not the representation that the backend's entity tag names. It gets a tag of its
//! own, from which the backend's tag is recovered when the client sends it back. A 304 then means that neither the page
//! nor the script has changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::entity::{self, EntityTag};

/// Creates validators and parses them.
#[derive(Clone, Copy, Debug)]
pub struct EtagCodec<'a> {
    /// The hash that identifies the script.
    pub script: &'a str,
}

/// The validators that are sent to the backend in place of the client's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamValidators {
    /// The value for `If-None-Match`.
    pub tags: Option<HeaderValue>,
    /// The value for `If-Modified-Since`.
    pub date: Option<HeaderValue>,
    /// The first tag of ours that the client has: the tag that a 304 confirms if the backend does not send one.
    pub held: Option<HeaderValue>,
}

/// The kinds of upstream validators in our tags.
const STRONG: &str = "s";
const WEAK: &str = "w";
const DATE: &str = "d";

impl EtagCodec<'_> {
    /// Returns the entity tag of the changed page, given the headers of the backend's response. Returns `None` if that
    /// has no validator.
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
        // The tag is weak, because the injected tag may carry a nonce, so the bytes differ where the meaning does not.
        HeaderValue::from_str(&format!("W/\"{inner}~{kind}{}\"", self.script)).ok()
    }

    /// Returns the validators to send to the backend, given the client's headers. Tags for another script are left out,
    /// since they name a page without the script or with an older one.
    pub fn ask(&self, headers: &HeaderMap) -> UpstreamValidators {
        let mut asked = UpstreamValidators::default();
        let mut tags: Vec<String> = Vec::new();
        for tag in entity::tags(headers, &IF_NONE_MATCH) {
            let Some((inner, kind, _)) = read(&tag).filter(|(_, _, script)| *script == self.script) else { continue };
            asked.held = asked.held.or_else(|| HeaderValue::from_bytes(tag.raw).ok());
            match kind {
                DATE => asked.date = inner.parse().ok().and_then(date),
                kind => tags.push(original(inner, kind)),
            }
        }
        asked.tags = (!tags.is_empty()).then(|| HeaderValue::from_str(&tags.join(", ")).ok()).flatten();
        asked
    }
}

/// Returns the backend's own tag of a page with an injected script, from any version of this server; `Some(None)` if
/// the backend sent none. Returns `None` if the tag was not created here.
pub fn original_of(tag: &EntityTag<'_>) -> Option<Option<Vec<u8>>> {
    let (inner, kind, _) = read(tag)?;
    Some((kind != DATE).then(|| original(inner, kind).into_bytes()))
}

fn original(inner: &str, kind: &str) -> String {
    if kind == WEAK { format!("W/\"{inner}\"") } else { format!("\"{inner}\"") }
}

/// Splits a tag of ours into the upstream validator, its kind, and the script's hash.
fn read<'t>(tag: &EntityTag<'t>) -> Option<(&'t str, &'t str, &'t str)> {
    let (inner, rest) = std::str::from_utf8(tag.opaque).ok()?.rsplit_once('~')?;
    let kind = rest.get(..1).filter(|kind| [STRONG, WEAK, DATE].contains(kind))?;
    // An intermediary that compresses the page may have appended a suffix.
    let script = rest
        .get(1..1 + HASH)
        .filter(|hash| hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))?;
    let mark = &rest.as_bytes()[1 + HASH..];
    (mark.is_empty() || entity::is_mark_of_coding(mark)).then_some((inner, kind, script))
}

/// The length of the script's hash in characters.
const HASH: usize = 11;

impl UpstreamValidators {
    /// Returns the request headers to send.
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
    // HTTP dates end with the year 9999.
    (seconds < 253_402_300_800).then(|| HeaderValue::from_str(&httpdate::fmt_http_date(when)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGGER: EtagCodec<'_> = EtagCodec { script: "SCRIPT_HASH" };

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    fn round(answer: &[(HeaderName, &str)]) -> UpstreamValidators {
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
            ["\"a\"", "W/\"a~sANOTHERHASH\"", "*", "\"a~xSCRIPT_HASH\"", "\"99999999999999999999~dSCRIPT_HASH\""]
        {
            let asked = TAGGER.ask(&headers(&[(IF_NONE_MATCH, foreign)]));
            assert_eq!((asked.tags, asked.date), (None, None), "{foreign}");
        }
        let both = TAGGER.ask(&headers(&[(IF_NONE_MATCH, "\"a\", W/\"b~sSCRIPT_HASH\", W/\"c~wSCRIPT_HASH\"")]));
        assert_eq!(both.tags, Some(HeaderValue::from_static("\"b\", W/\"c\"")));
        assert_eq!(TAGGER.tag(&headers(&[(ETAG, "odd")])), None);
        assert_eq!(TAGGER.tag(&HeaderMap::new()), None);
    }
}
