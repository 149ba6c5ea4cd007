//! One request and its answer, reduced to what may be kept of them.

use std::time::Duration;

use crate::model::{Kind, MediaType};

/// A request and its answer.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// When it came, since some moment that is the same for all.
    pub at: Duration,
    /// How long its answer took.
    pub took: Option<Duration>,
    /// The fingerprint of the client.
    pub client: u64,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The parameters of its query: name, fingerprint of the value, and whether it is only there to get past caches.
    pub parameters: Vec<(String, u64, bool)>,
    /// What it sent.
    pub upload: Option<Upload>,
    /// The fingerprint of all by which the application may know the client; `None` where that is not seen.
    pub identity: Option<u64>,
    /// The names of these, each with a fingerprint of its value.
    pub credentials: Vec<(String, u64)>,
    /// Its answer.
    pub answer: Answered,
}

/// An answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Bytes of its body, as they were sent.
    pub bytes: Option<u64>,
    /// The fingerprint of its body, if it was seen.
    pub content: Option<u64>,
    /// What it is, as far as that matters.
    pub form: Form,
    /// Whether it sets cookies.
    pub sets_cookies: bool,
    /// Whether it says that it is for one client alone.
    pub private: bool,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Nobody knows.
    #[default]
    Unknown,
    /// A page.
    Page,
    /// What pages poll.
    Data,
    /// A picture.
    Picture,
    /// Scripts, styles, fonts, films: what pages are made of.
    Asset,
    /// An event stream of the application's own.
    Stream,
}

impl Form {
    /// What has this media type.
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

    /// What is most likely at this path, where nothing else tells.
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

/// What a request sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// Its fingerprint.
    pub print: u64,
    /// What it looks like.
    pub kind: UploadKind,
}

/// What an upload looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UploadKind {
    /// Anything.
    #[default]
    Other,
    /// JSON-RPC, with the names of its methods.
    JsonRpc(Vec<String>),
    /// GraphQL, with the name of its operation, if it has one; `None` for one that is no query.
    GraphQl(Option<String>),
    /// A form, with the names of its fields.
    Form(Vec<String>),
}

/// How long a name may be that is kept.
const MAX_NAME: usize = 64;

impl UploadKind {
    /// Looks at the beginning of an upload.
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

/// Whether `name` is one that somebody has chosen for a method or a field, and no value.
pub(super) fn is_word(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./:[]".contains(&byte))
        && name.bytes().filter(u8::is_ascii_digit).count() <= 4
}
