//! One request and its response, reduced to data that may be kept.

use std::time::Duration;

use crate::model::{Kind, MediaType};

/// A request and its response.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// When the request arrived, relative to a common origin.
    pub at: Duration,
    /// The duration until the end of the response.
    pub took: Option<Duration>,
    /// The fingerprint of the client.
    pub client: u64,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query parameters: name, fingerprint of the value, and whether the parameter is cache-busting.
    pub parameters: Vec<(String, u64, bool)>,
    /// The request's body.
    pub upload: Option<Upload>,
    /// The fingerprint of everything by which the application may identify the client; `None` if unknown.
    pub identity: Option<u64>,
    /// The names of these properties, each with a fingerprint of its value.
    pub credentials: Vec<(String, u64)>,
    /// The response.
    pub answer: Answered,
}

/// A response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The size of the body as sent, in bytes.
    pub bytes: Option<u64>,
    /// The fingerprint of the body, if it was observed.
    pub content: Option<u64>,
    /// The kind of content.
    pub form: Form,
    /// Whether it sets cookies.
    pub sets_cookies: bool,
    /// Whether it is marked as being for one client alone.
    pub private: bool,
}

/// The kind of a response's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Unknown.
    #[default]
    Unknown,
    /// A page.
    Page,
    /// Data that pages poll.
    Data,
    /// An image.
    Picture,
    /// Resources of pages: scripts, styles, fonts, videos.
    Asset,
    /// The application's own event stream.
    Stream,
}

impl Form {
    /// Returns the kind for this media type.
    pub fn of_type(media_type: &MediaType) -> Self {
        let essence = media_type.essence.as_str();
        let family = essence.split('/').next().unwrap_or_default();
        match media_type.kind() {
            _ if media_type.is_event_stream() => Self::Stream,
            _ if essence.contains("javascript") || essence.contains("ecmascript") || essence == "text/css" => {
                Self::Asset
            }
            Kind::Html => Self::Page,
            _ if family == "image" => Self::Picture,
            _ if matches!(family, "font" | "video" | "audio") || essence.contains("font") => Self::Asset,
            Kind::Json | Kind::Xml | Kind::Text => Self::Data,
            Kind::Binary => Self::Unknown,
        }
    }

    /// Guesses the kind of content at this path.
    pub fn of_path(path: &str) -> Self {
        let last = path.rsplit('/').next().unwrap_or_default();
        match last.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase().as_str() {
            "js" | "mjs" | "css" | "map" | "woff" | "woff2" | "ttf" | "otf" | "eot" | "mp4" | "webm" | "mp3" => {
                Self::Asset
            }
            "png" | "jpg" | "jpeg" | "gif" | "svg" | "ico" | "webp" | "avif" => Self::Picture,
            "html" | "htm" => Self::Page,
            "json" | "xml" | "txt" | "csv" => Self::Data,
            _ => Self::Unknown,
        }
    }
}

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// Its fingerprint.
    pub print: u64,
    /// The format of the body.
    pub kind: UploadKind,
}

/// The format of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UploadKind {
    /// Any other format.
    #[default]
    Other,
    /// JSON-RPC, with the names of its methods.
    JsonRpc(Vec<String>),
    /// GraphQL, with the name of its operation, if it has one; `None` if it is not a query.
    GraphQl(Option<String>),
    /// A form, with the names of its fields.
    Form(Vec<String>),
}

/// The maximum length of a kept name.
const MAX_NAME: usize = 64;

impl UploadKind {
    /// Analyses the beginning of an upload.
    pub fn of(media_type: &MediaType, body: &[u8]) -> Self {
        let text = std::str::from_utf8(body).unwrap_or_default();
        if media_type.essence == "application/x-www-form-urlencoded" {
            let names = text.split('&').filter_map(|field| field.split('=').next()).filter(|name| is_word(name));
            return Self::Form(names.take(16).map(str::to_owned).collect());
        }
        let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return Self::Other };
        let calls = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
        if let Some(query) = value.get("query").and_then(serde_json::Value::as_str) {
            let query = query.trim_start();
            let is_read = query.starts_with('{') || query.starts_with("query");
            let named = value.get("operationName").and_then(serde_json::Value::as_str);
            let named = named.or_else(|| query.strip_prefix("query")?.trim_start().split([' ', '(', '{']).next());
            let named = named.filter(|name| is_word(name)).unwrap_or("queries");
            return Self::GraphQl(is_read.then(|| named.to_owned()));
        }
        let methods =
            calls.iter().take(16).filter_map(|call| call.get("method")?.as_str().filter(|name| is_word(name)));
        let mut methods: Vec<String> = methods.map(str::to_owned).collect();
        methods.dedup();
        if methods.is_empty() { Self::Other } else { Self::JsonRpc(methods) }
    }
}

/// Returns whether `name` was chosen as the name of a method or a field, rather than being a value.
pub(super) fn is_word(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./:[]".contains(&byte))
        && name.bytes().filter(u8::is_ascii_digit).count() <= 4
}
