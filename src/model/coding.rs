//! Content codings (RFC 9110 section 8.4): which form of a body a client receives.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderValue};

use super::fields;

/// A body in the content coding in which the upstream sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// The value of `Content-Encoding`.
    pub coding: HeaderValue,
    /// The coded body.
    pub body: bytes::Bytes,
}

/// A form of a body, by content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the upstream sent it, coded or not.
    Sent,
    /// With the upstream's coding removed.
    Decoded,
    /// With the upstream's coding removed, and gzipped by Sungrazer.
    Gzipped,
}

impl Form {
    /// Returns the form in which a client with these request headers receives a body with this upstream coding (RFC
    /// 9110 section 12.5.3). Returns `None` if the client accepts none of the available forms.
    pub fn for_client(headers: &HeaderMap, coded: Option<&Coded>) -> Option<Self> {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return Some(if coded.is_some() { Self::Decoded } else { Self::Sent });
        }
        // A client that does not mention `identity` accepts it, but prefers any listed coding (section 12.5.3).
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

/// Returns the quality that `Accept-Encoding` gives to `coding` by name.
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
