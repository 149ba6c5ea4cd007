//! Puts the script's tag into a page while it streams through.
//!
//! ```text
//! HTML ─▶ lol_html, as far as the head goes ─▶ the rest as it is ─▶ HTML
//! ```
//!
//! The tag goes behind `<meta charset>`, so that browsers still find that early enough, and before anything that could
//! run, load or stop it: the first script, style sheet, `<base>` or policy. Nothing else of the page is changed, and the
//! script takes its tag out again before any code of the page runs.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lol_html::html_content::ContentType;
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{MemorySettings, doctype, element};
use parking_lot::Mutex;

/// The tag, and what the page says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The script's path, without the query that names its version.
    pub path: String,
    /// Tells it from other versions.
    pub hash: String,
    /// The nonce that the page's policy demands of scripts.
    pub nonce: Option<String>,
    /// The script's digest, where the page's policy demands one.
    pub integrity: Option<String>,
    /// Further `data-` attributes: names and values.
    pub data: Vec<(&'static str, String)>,
    /// Whether the page is XML.
    pub xml: bool,
    /// Whether it is for a frame: scripts read fragments of HTML by way of those.
    pub framed: bool,
}

/// The page being changed.
pub struct Injector {
    rewriter: Option<HtmlRewriter<'static, Out>>,
    out: Out,
    state: Arc<Mutex<State>>,
    /// Whether the head is behind us: from here on nothing is looked at.
    done: Arc<AtomicBool>,
    begun: bool,
    /// Whether anything but white space has come.
    known: bool,
}

/// Where the rewriter writes to.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl lol_html::OutputSink for Out {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}

/// How far the head has been read.
struct State {
    tag: Tag,
    /// Whether the tag is in, or somebody else has put it there.
    injected: bool,
    /// Whether we are inside `<noscript>`, which is not for us.
    noscript: Arc<AtomicBool>,
    /// Policies that the page states in its own markup.
    policies: Vec<String>,
    /// Whether there was an element.
    elements: bool,
    /// Whether this is a document rather than a part of one: it has a doctype, or an element that only documents have.
    whole: bool,
    /// What stands before the names of elements in a page that is XML: nothing, or `h:` and the like.
    prefix: String,
}

const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// A head that is larger than this is not searched to its end.
const MAX_MEMORY: usize = 1 << 20;

/// A handler's way to say that the rest is to pass as it is.
#[derive(Debug, thiserror::Error)]
#[error("the head is complete")]
struct Complete;

impl Injector {
    /// A page of which nothing has been read.
    pub fn new(tag: Tag) -> Self {
        let (out, done) = (Out::default(), Arc::<AtomicBool>::default());
        let state = Arc::new(Mutex::new(State {
            whole: !tag.framed,
            tag,
            injected: false,
            noscript: Arc::default(),
            policies: Vec::new(),
            elements: false,
            prefix: String::new(),
        }));
        let settings = Settings::new_send()
            .append_element_content_handler(element!("*", {
                let (state, done) = (Arc::clone(&state), Arc::clone(&done));
                move |element| {
                    if done.load(Ordering::Relaxed) {
                        return Err(Box::new(Complete));
                    }
                    if state.lock().see(element) {
                        done.store(true, Ordering::Relaxed);
                    }
                    Ok(())
                }
            }))
            .append_document_content_handler(doctype!({
                let state = Arc::clone(&state);
                move |_| {
                    state.lock().whole = true;
                    Ok(())
                }
            }))
            // Only ASCII is written, and only the names and values of a few attributes are read: any encoding in which
            // ASCII is ASCII does.
            .with_strict(false)
            .with_graceful_bail_out_on_content_handler_error(true)
            .with_memory_settings(
                MemorySettings::new()
                    .with_max_allowed_memory_usage(MAX_MEMORY)
                    .with_graceful_bail_out_on_memory_limit_exceeded(true),
            );
        let rewriter = HtmlRewriter::new(settings, out.clone());
        Self { rewriter: Some(rewriter), out, state, done, begun: false, known: false }
    }

    /// Takes in a piece of the page, and gives what is ready to be sent: never less than all but one tag.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        if !piece.is_empty() && !mem::replace(&mut self.begun, true) && is_utf16(piece) {
            self.leave();
        }
        if !self.known
            && let Some(first) = piece.iter().find(|byte| !is_before_markup(**byte))
        {
            self.known = true;
            if matches!(first, b'{' | b'[') {
                // Data under a wrong name, as it is sent for old browsers.
                let mut out = self.leave();
                out.extend_from_slice(piece);
                return out;
            }
        }
        let Some(rewriter) = &mut self.rewriter else { return piece.to_vec() };
        // An error means that the rewriter has given out everything that it had taken in.
        if rewriter.write(piece).is_err() {
            self.rewriter = None;
            self.done.store(true, Ordering::Relaxed);
        }
        mem::take(&mut *self.out.0.lock())
    }

    /// Lets the rest pass as it is. Returns what was held.
    fn leave(&mut self) -> Vec<u8> {
        if let Some(rewriter) = self.rewriter.take() {
            let _ = rewriter.end();
        }
        self.done.store(true, Ordering::Relaxed);
        mem::take(&mut *self.out.0.lock())
    }

    /// What is still to be sent at the end of the page.
    pub fn finish(&mut self) -> Vec<u8> {
        self.leave()
    }

    /// Whether the page has the tag.
    pub fn is_injected(&self) -> bool {
        self.state.lock().injected
    }

    /// Policies that the page states in its own markup, as far as they have been read.
    pub fn take_policies(&mut self) -> Vec<String> {
        mem::take(&mut self.state.lock().policies)
    }
}

/// White space, or the mark of UTF-8.
fn is_before_markup(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf)
}

/// A page in UTF-16 has to begin with its byte order mark, or say so in its headers. In no other encoding that there is
/// does a page begin with either byte.
fn is_utf16(beginning: &[u8]) -> bool {
    matches!(beginning, [0xfe | 0xff, ..])
}

impl State {
    /// Looks at an element of the head. Returns whether nothing behind it matters.
    fn see(&mut self, element: &mut Element<'_, '_>) -> bool {
        let name = element.tag_name();
        let is_root = !mem::replace(&mut self.elements, true);
        if self.tag.xml && is_root {
            // Anything else that is XML is shown as what it is, or not at all.
            let Some(prefix) = name.strip_suffix("html").filter(|prefix| is_xhtml(element, prefix)) else {
                return true;
            };
            prefix.clone_into(&mut self.prefix);
            return false;
        }
        let name = name.strip_prefix(self.prefix.as_str()).unwrap_or_default().to_owned();
        if self.noscript.load(Ordering::Relaxed) {
            return false;
        }
        self.whole |= matches!(name.as_str(), "html" | "head" | "title" | "body" | "frameset");
        match name.as_str() {
            // Nobody moves it there, as browsers do in HTML.
            "head" if self.tag.xml && !self.injected && !element.is_self_closing() => {
                element.prepend(&self.markup(), ContentType::Html);
                return true;
            }
            "html" | "head" | "title" => return false,
            "meta" => return self.meta(element),
            "script" if self.is_ours(element) => {
                self.injected = true;
                return true;
            }
            "noscript" => {
                let noscript = Arc::clone(&self.noscript);
                if let Some(handlers) = element.end_tag_handlers() {
                    noscript.store(true, Ordering::Relaxed);
                    handlers.push(Box::new(move |_| {
                        noscript.store(false, Ordering::Relaxed);
                        Ok(())
                    }));
                }
            }
            _ if !self.whole => return true,
            _ => {}
        }
        if !self.injected {
            element.before(&self.markup(), ContentType::Html);
        }
        !matches!(name.as_str(), "script" | "style" | "link" | "base" | "noscript" | "template")
    }

    fn meta(&mut self, element: &mut Element<'_, '_>) -> bool {
        let equivalent = element.get_attribute("http-equiv").map(|name| name.trim().to_ascii_lowercase());
        if equivalent.as_deref() == Some("content-security-policy") {
            if !self.injected {
                element.before(&self.markup(), ContentType::Html);
            }
            self.policies.extend(element.get_attribute("content"));
            return false;
        }
        let says_charset = element.has_attribute("charset") || equivalent.as_deref() == Some("content-type");
        if says_charset && !self.injected {
            element.after(&self.markup(), ContentType::Html);
        }
        false
    }

    fn is_ours(&self, element: &Element<'_, '_>) -> bool {
        element.get_attribute("src").is_some_and(|source| source.split('?').next() == Some(&self.tag.path))
    }

    fn markup(&mut self) -> String {
        self.injected = true;
        self.tag.markup(&self.prefix)
    }
}

/// Whether this is the root of a page whose names begin with `prefix`.
fn is_xhtml(element: &Element<'_, '_>, prefix: &str) -> bool {
    let namespace = match prefix.strip_suffix(':') {
        Some(prefix) => element.get_attribute(&format!("xmlns:{prefix}")),
        None if prefix.is_empty() => element.get_attribute("xmlns"),
        None => None,
    };
    namespace.as_deref() == Some(XHTML)
}

impl Tag {
    fn markup(&self, prefix: &str) -> String {
        let path = escape(&self.path);
        let mut tag = format!("<{prefix}script src=\"{path}?{}\"", self.hash);
        let mut attribute = |name: &str, value: &str| tag.push_str(&format!(" {name}=\"{}\"", escape(value)));
        if let Some(nonce) = &self.nonce {
            attribute("nonce", nonce);
        }
        if let Some(integrity) = &self.integrity {
            // Only what is asked for by the rules of CORS can be checked.
            attribute("integrity", integrity);
            attribute("crossorigin", "anonymous");
        }
        for (name, value) in &self.data {
            attribute(&format!("data-{name}"), value);
        }
        tag + &format!("></{prefix}script>")
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // The page may be in any encoding; a reference is the same in all of them.
            c if !c.is_ascii() => escaped.push_str(&format!("&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
