//! Formats news for output.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use super::changes::{changes, delta};
use super::source::{Body, News};
use crate::json::Document;

/// The form in which bodies are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The differences from the previous body.
    Changes,
    /// The whole body.
    Raw,
    /// A JSON object.
    Records,
}

/// The output for one news item.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) out: String,
    /// The text for stderr.
    pub(super) aside: Option<String>,
}

/// Formats news, relative to the previously shown state.
pub(super) struct Show {
    form: Form,
    paint: Paint,
    held: HashMap<Option<String>, String>,
}

impl Show {
    pub(super) fn new(form: Form, colors: bool) -> Self {
        Self { form, paint: Paint(colors), held: HashMap::new() }
    }

    /// Returns the output for `news`, which arrived at `at` (RFC 3339).
    pub(super) fn show(&mut self, at: &str, news: &News) -> Shown {
        match self.form {
            Form::Changes => Shown { out: self.changes(at, news), aside: None },
            Form::Raw => self.raw(news),
            Form::Records => Shown { out: self.record(at, news), aside: None },
        }
    }

    fn hold(&mut self, body: &Body) -> Option<String> {
        match &body.text {
            Ok(text) => self.held.insert(body.url.clone(), text.clone()),
            Err(_) => self.held.remove(&body.url),
        }
    }

    fn changes(&mut self, at: &str, news: &News) -> String {
        let at = self.paint.dim(at);
        let about = |url: &Option<String>| url.as_deref().map_or_else(String::new, |url| format!("{} ", visible(url)));
        match news {
            News::Body(body) => {
                let before = self.hold(body);
                let mut out = format!("{at}  {}", self.paint.bold(&about(&body.url)));
                match (before, &body.text) {
                    (Some(before), Ok(text)) => {
                        let found = changes(&before, text, self.paint);
                        let _ = writeln!(out, "{}", found.title);
                        out.push_str(&found.lines);
                    }
                    (_, text) => {
                        let _ = writeln!(out, "{}", first(body, text));
                    }
                }
                out
            }
            News::Stale { url, status, why } => {
                let status = status.map_or_else(String::new, |status| format!(" ({status})"));
                format!("{at}  {}{}\n", about(url), self.paint.yellow(&format!("stale: {}{status}", visible(why))))
            }
            News::Live { url } => format!("{at}  {}{}\n", about(url), self.paint.green("live")),
            News::Tick { url } => format!("{at}  {}tick\n", about(url)),
            News::End { url, reason, .. } => {
                format!("{at}  {}{}\n", about(url), self.paint.yellow(&format!("end: {}", visible(reason))))
            }
            News::Foreign { name, data } => {
                let name = if name.is_empty() { "message" } else { name };
                format!("{at}  {}\n{}\n", self.paint.bold(&format!("event {}", visible(name))), printable(data))
            }
        }
    }

    fn raw(&mut self, news: &News) -> Shown {
        let line = |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
        let aside = |text: String| Shown { out: String::new(), aside: Some(text) };
        match news {
            News::Body(Body { text: Ok(text), .. }) => Shown { out: line(text), aside: None },
            News::Body(Body { text: Err(bytes), .. }) => aside(format!("a body of {bytes} bytes that is no text")),
            News::Foreign { data, .. } => Shown { out: line(data), aside: None },
            News::Stale { why, .. } => aside(format!("stale: {}", visible(why))),
            News::Live { .. } => aside("live".to_owned()),
            News::Tick { url } => aside(format!("tick {}", visible(url.as_deref().unwrap_or_default()))),
            News::End { reason, .. } => aside(format!("end: {}", visible(reason))),
        }
    }

    fn record(&mut self, at: &str, news: &News) -> String {
        let mut record = serde_json::Map::new();
        record.insert("at".to_owned(), at.into());
        let mut put = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                record.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Into::into);
        let mut raw = String::new();
        match news {
            News::Body(body) => {
                put("event", Some("snapshot".into()));
                put("url", text(&body.url));
                put("version", text(&body.version));
                put("status", body.status.map(Into::into));
                put("type", text(&body.media_type));
                let before = self.hold(body);
                match &body.text {
                    Ok(text) => {
                        if let Some((kind, patch)) = before.and_then(|before| delta(&before, text)) {
                            let _ = write!(raw, ",\"delta\":\"{kind}\",\"patch\":{patch}");
                        }
                        // JSON keeps its spelling, so that numbers stay exact.
                        let _ = write!(raw, ",\"body\":{}", on_one_line(text));
                    }
                    Err(bytes) => put("bytes", Some((*bytes).into())),
                }
            }
            News::Stale { url, status, why } => {
                put("event", Some("stale".into()));
                put("url", text(url));
                put("status", Some(json!(status)));
                put("because", Some(why.as_str().into()));
            }
            News::Live { url } => {
                put("event", Some("live".into()));
                put("url", text(url));
            }
            News::Tick { url } => {
                put("event", Some("tick".into()));
                put("url", text(url));
            }
            News::End { url, reason, .. } => {
                put("event", Some("end".into()));
                put("url", text(url));
                put("reason", Some(reason.as_str().into()));
            }
            News::Foreign { name, data } => {
                put("event", Some(if name.is_empty() { "message" } else { name }.into()));
                put("data", Some(data.as_str().into()));
            }
        }
        let object = serde_json::Value::Object(record).to_string();
        format!("{}{raw}}}\n", &object[..object.len() - 1])
    }
}

/// Returns JSON without white space between tokens, and other text as a string.
fn on_one_line(text: &str) -> String {
    match Document::parse(text) {
        Ok(document) => {
            let mut out = Vec::with_capacity(text.len());
            crate::json::minified(document.root(), &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
        Err(_) => serde_json::Value::from(text).to_string(),
    }
}

fn first(body: &Body, text: &Result<String, usize>) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(body.status.map(|status| status.to_string()));
    parts.extend(body.media_type.as_deref().map(visible));
    parts.push(match text {
        Ok(text) => format!("{} bytes", text.len()),
        Err(bytes) => format!("{bytes} bytes that are no text"),
    });
    parts.extend(body.version.as_deref().map(|version| format!("version {}", visible(version))));
    parts.join(", ")
}

/// Colours, if enabled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Marks the changed part of a line.
    pub(super) fn marked(self, code: &str, text: &str) -> String {
        self.with(&format!("7;{code}"), text)
    }
}

/// Replaces control characters, so that text from an application cannot control the terminal.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { picture(c) } else { c }).collect()
}

/// The same for text of several lines.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { picture(c) } else { c }).collect()
}

/// Returns the picture of a control character.
fn picture(c: char) -> char {
    match c as u32 {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        _ => '\u{fffd}',
    }
}
