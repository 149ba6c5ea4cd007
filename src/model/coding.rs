//! Content codings (RFC 9110 section 8.4): as which form of a body a client is sent it.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderValue};

use super::fields;

/// A body in the content coding in which the upstream sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// What `Content-Encoding` says.
    pub coding: HeaderValue,
    /// The coded body.
    pub body: bytes::Bytes,
}

/// A form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the upstream sent it, coded or not.
    Sent,
    /// The upstream's coding undone.
    Decoded,
    /// The upstream's coding undone, and gzipped by us.
    Gzipped,
}

impl Form {
    /// The form in which a client with these request headers is sent a body that the upstream coded like this (RFC 9110
    /// section 12.5.3). `None` if it takes none that there is.
    pub fn for_client(headers: &HeaderMap, coded: Option<&Coded>) -> Option<Self> {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return Some(if coded.is_some() { Self::Decoded } else { Self::Sent });
        }
        // Whoever does not mention `identity` takes it, but rather anything else (section 12.5.3).
        let identity = named(headers, "identity").or_else(|| named(headers, "*").filter(|any| *any == 0.0));
        let is_wanted = |coding: &str| {
            let quality = named(headers, coding).or_else(|| named(headers, "*")).unwrap_or(0.0);
            quality > 0.0 && quality >= identity.unwrap_or(0.0)
        };
        let takes_identity = identity != Some(0.0);
        let Some(coded) = coded else { return takes_identity.then_some(Self::Sent) };
        match coded.coding.to_str() {
            Ok(coding) if is_wanted(coding) => Some(Self::Sent),
            _ if is_wanted("gzip") => Some(Self::Gzipped),
            _ => takes_identity.then_some(Self::Decoded),
        }
    }
}

/// The quality that `Accept-Encoding` gives to `coding` by name.
fn named(headers: &HeaderMap, coding: &str) -> Option<f32> {
    let alias =
        |name: &str| if name.eq_ignore_ascii_case("x-gzip") { "gzip".to_owned() } else { name.to_ascii_lowercase() };
    let coding = alias(coding);
    fields::list(headers, &ACCEPT_ENCODING)
        .filter(|item| alias(item.split(';').next().unwrap_or_default().trim()) == coding)
        .map(fields::quality)
        .reduce(f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_sent_what_they_take() {
        use Form::{Decoded, Gzipped, Sent};
        let gzip = Coded { coding: HeaderValue::from_static("gzip"), body: bytes::Bytes::new() };
        let br = Coded { coding: HeaderValue::from_static("br"), body: bytes::Bytes::new() };
        for (accepts, plain, of_gzip, of_br) in [
            (None, Some(Sent), Some(Decoded), Some(Decoded)),
            (Some(""), Some(Sent), Some(Decoded), Some(Decoded)),
            (Some("gzip"), Some(Sent), Some(Sent), Some(Gzipped)),
            (Some("X-GZip"), Some(Sent), Some(Sent), Some(Gzipped)),
            (Some("gzip, deflate, br, zstd"), Some(Sent), Some(Sent), Some(Sent)),
            (Some("br"), Some(Sent), Some(Decoded), Some(Sent)),
            (Some("gzip;q=0"), Some(Sent), Some(Decoded), Some(Decoded)),
            (Some("gzip;q=0, *"), Some(Sent), Some(Decoded), Some(Sent)),
            (Some("*"), Some(Sent), Some(Sent), Some(Sent)),
            (Some("*;q=0"), None, None, None),
            (Some("identity;q=0"), None, None, None),
            (Some("identity;q=0, gzip"), None, Some(Sent), Some(Gzipped)),
            (Some("*;q=0, identity;q=0.5"), Some(Sent), Some(Decoded), Some(Decoded)),
            (Some("identity, gzip;q=0.5"), Some(Sent), Some(Decoded), Some(Decoded)),
            (Some("identity;q=0.5, gzip;q=1.0"), Some(Sent), Some(Sent), Some(Gzipped)),
        ] {
            let headers: HeaderMap =
                accepts.map(|accepts| (ACCEPT_ENCODING, HeaderValue::from_static(accepts))).into_iter().collect();
            let found = [None, Some(&gzip), Some(&br)].map(|coded| Form::for_client(&headers, coded));
            assert_eq!(found, [plain, of_gzip, of_br], "{accepts:?}");
        }
    }
}
