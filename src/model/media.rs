//! Media types.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// How a body is compared and transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `application/json`, `text/json` and `+json` types.
    Json,
    /// `text/html` and `application/xhtml+xml`.
    Html,
    /// `text/xml`, `application/xml` and `+xml` types.
    Xml,
    /// Other text: `text/*`, scripts, forms.
    Text,
    /// Everything else: compared as bytes, and sent as base64 where only text is possible.
    Binary,
}

/// The parts of a media type (RFC 9110 section 8.3.1) that are used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// `type/subtype` in lower case, empty if the response named none.
    pub essence: String,
    /// The `charset` parameter, if any.
    pub charset: Option<String>,
}

impl MediaType {
    /// Reads the `Content-Type` of `headers`. A missing or malformed one yields an empty essence.
    pub fn of(headers: &HeaderMap) -> Self {
        headers
            .get(CONTENT_TYPE)
            .map_or_else(|| Self::parse(""), |value| Self::parse(&String::from_utf8_lossy(value.as_bytes())))
    }

    /// Parses `type/subtype; charset=…`. Also accepts the bare `json` that some applications send.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(';');
        let essence = match parts.next().unwrap_or_default().trim().to_ascii_lowercase() {
            bare if bare == "json" => "application/json".to_owned(),
            essence => essence,
        };
        let charset = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        Self { essence, charset }
    }

    /// Returns how a body of this type is compared and transferred.
    pub fn kind(&self) -> Kind {
        let essence = self.essence.as_str();
        match essence {
            "text/html" | "application/xhtml+xml" => Kind::Html,
            "application/json" | "text/json" | "application/x-json" => Kind::Json,
            "text/xml" | "application/xml" => Kind::Xml,
            "application/javascript"
            | "application/x-javascript"
            | "application/ecmascript"
            | "application/yaml"
            | "application/x-yaml"
            | "application/toml"
            | "application/x-ndjson"
            | "application/jsonl"
            | "application/x-www-form-urlencoded" => Kind::Text,
            _ if essence.ends_with("+json") => Kind::Json,
            _ if essence.ends_with("+xml") => Kind::Xml,
            _ if essence.starts_with("text/") => Kind::Text,
            _ => Kind::Binary,
        }
    }

    /// Returns whether the response is the backend's own stream of server-sent events.
    pub fn is_event_stream(&self) -> bool {
        self.essence == "text/event-stream"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_kinds_by_essence() {
        for (text, kind) in [
            ("application/json; charset=utf-8", Kind::Json),
            ("JSON", Kind::Json),
            ("application/vnd.api+json", Kind::Json),
            ("text/html;charset=ISO-8859-1", Kind::Html),
            ("application/atom+xml", Kind::Xml),
            ("image/svg+xml", Kind::Xml),
            ("text/plain", Kind::Text),
            ("image/png", Kind::Binary),
            ("", Kind::Binary),
        ] {
            assert_eq!(MediaType::parse(text).kind(), kind, "{text}");
        }
        assert_eq!(MediaType::parse("text/html; Charset=\"ISO-8859-1\"").charset.as_deref(), Some("iso-8859-1"));
    }
}
