//! The forever frame: an endless page whose scripts call the parent page, for browsers without any other transport.

use std::time::Duration;

use super::format::{StreamFormat, Url};
use super::record::record;
use crate::model::{BodyForm, Frame, Representation, Update};

/// Sends `callback(record)` in a script element for each record.
#[derive(Debug)]
pub struct Iframe {
    callback: String,
}

/// The padding in bytes; old browsers render nothing before this much has arrived.
const PADDING: usize = 1024;

/// The maximum length of a callback name in bytes.
const MAX_CALLBACK_LEN: usize = 128;

impl Iframe {
    /// Creates a frame that calls `callback`, a dotted name such as `parent.update`. Returns `None` for any other text,
    /// because the name is written into a script.
    pub fn new(callback: &str) -> Option<Self> {
        let is_name = |part: &str| {
            let mut chars = part.chars();
            let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
            chars.next().is_some_and(starts) && chars.all(|c| starts(c) || c.is_ascii_digit())
        };
        // The `opener` may have navigated to another page of this site, whose functions must not be called.
        let good =
            callback.len() <= MAX_CALLBACK_LEN && callback.split('.').all(|part| is_name(part) && part != "opener");
        good.then(|| Self { callback: callback.to_owned() })
    }
}

impl StreamFormat for Iframe {
    fn name(&self) -> &'static str {
        "iframe"
    }

    fn accept(&self) -> &'static str {
        "text/html"
    }

    fn content_type(&self) -> &'static str {
        "text/html; charset=utf-8"
    }

    fn supports(&self, _representation: &Representation) -> bool {
        true
    }

    fn preamble(&self, _retry: Duration) -> Option<Frame> {
        let padding = " ".repeat(PADDING);
        Some(Frame::new(format!("<!DOCTYPE html><meta charset=\"utf-8\"><title></title><!--{padding}-->\n").as_bytes()))
    }

    fn frame(&self, update: &Update, url: &Url) -> Option<Frame> {
        let record = for_script(&record(update, url));
        Some(Frame::new(format!("<script>{}({record})</script>\n", self.callback).as_bytes()))
    }

    fn body_form(&self) -> Option<BodyForm> {
        Some(BodyForm::Record)
    }

    fn heartbeat(&self) -> Option<Frame> {
        Some(Frame::new(b"<!---->\n"))
    }
}

/// Escapes JSON so that it ends neither the surrounding script nor a line in it.
fn for_script(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dotted_names_are_called() {
        for good in ["f", "parent.f", "parent.a.$b_1"] {
            assert!(Iframe::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "f()",
            "a..b",
            ".a",
            "1a",
            "a b",
            "a;b",
            "a\u{e9}",
            "alert(1)//",
            "opener.f",
            "top.opener.a.click",
            &"a".repeat(200),
        ] {
            assert!(Iframe::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn no_record_ends_its_script() {
        assert_eq!(for_script("\"</script><!--&\u{2028}\""), "\"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028\"");
    }
}
