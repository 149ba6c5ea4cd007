//! Injects the script's tag into a page while the page streams through.
//!
//! ```text
//! HTML ─▶ lol_html, as far as the head goes ─▶ the rest as it is ─▶ HTML
//! ```
//!
//! The tag goes behind `<meta charset>`, which browsers must find early, and before the first element that could run
//! code, load resources or restrict the script: a script, style sheet, `<base>` or policy. Nothing else in the page
//! changes, and the script removes its tag before any code of the page runs.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lol_html::html_content::ContentType;
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{MemorySettings, doctype, element};
use parking_lot::Mutex;

/// The tag to inject, and facts about the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The script's path, without the query that names its version.
    pub path: String,
    /// The hash of the script's version.
    pub hash: String,
    /// The nonce that the page's policy requires for scripts.
    pub nonce: Option<String>,
    /// The script's digest, if the page's policy requires one.
    pub integrity: Option<String>,
    /// Further `data-` attributes, as names and values.
    pub data: Vec<(&'static str, String)>,
    /// Whether the page is XML.
    pub xml: bool,
    /// Whether the page is loaded into a frame. Scripts parse HTML fragments by way of frames.
    pub framed: bool,
}

/// A page that is being changed.
pub struct Injector {
    rewriter: Option<HtmlRewriter<'static, Out>>,
    out: Out,
    state: Arc<Mutex<State>>,
    /// Whether the head is complete; everything after it passes unchanged.
    done: Arc<AtomicBool>,
    begun: bool,
    /// Whether anything except white space has arrived.
    known: bool,
}

/// The output of the rewriter.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl lol_html::OutputSink for Out {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}

/// The state of reading the head.
struct State {
    tag: Tag,
    /// Whether the tag is in the page, injected here or written by the author.
    injected: bool,
    /// Whether the current position is inside `<noscript>`, where the tag must not go.
    noscript: Arc<AtomicBool>,
    /// The policies in the page's own markup.
    policies: Vec<String>,
    /// Whether there was an element.
    elements: bool,
    /// Whether this is a complete document rather than a fragment: it has a doctype, or an element that only documents
    /// have.
    whole: bool,
    /// The prefix of element names in an XML page: empty, or `h:` and the like.
    prefix: String,
}

const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// The maximum size of a head that is searched to its end.
const MAX_MEMORY: usize = 1 << 20;

/// The error by which a handler says that the rest passes unchanged.
#[derive(Debug, thiserror::Error)]
#[error("the head is complete")]
struct Complete;

impl Injector {
    /// Creates an injector for a page of which nothing has been read.
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
            // Only ASCII is written, and only the names and values of a few attributes are read, so any
            // ASCII-compatible encoding works.
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

    /// Processes a piece of the page and returns the output that is ready. At most one tag is held back.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        if !piece.is_empty() && !mem::replace(&mut self.begun, true) && is_utf16(piece) {
            self.leave();
        }
        if !self.known
            && let Some(first) = piece.iter().find(|byte| !is_before_markup(**byte))
        {
            self.known = true;
            if matches!(first, b'{' | b'[') {
                // Some servers send JSON with an HTML type for old browsers.
                let mut out = self.leave();
                out.extend_from_slice(piece);
                return out;
            }
        }
        let Some(rewriter) = &mut self.rewriter else { return piece.to_vec() };
        // After an error the rewriter has already output everything that it had taken in.
        if rewriter.write(piece).is_err() {
            self.rewriter = None;
            self.done.store(true, Ordering::Relaxed);
        }
        mem::take(&mut *self.out.0.lock())
    }

    /// Lets the rest pass unchanged. Returns the held bytes.
    fn leave(&mut self) -> Vec<u8> {
        if let Some(rewriter) = self.rewriter.take() {
            let _ = rewriter.end();
        }
        self.done.store(true, Ordering::Relaxed);
        mem::take(&mut *self.out.0.lock())
    }

    /// Returns the remaining output at the end of the page.
    pub fn finish(&mut self) -> Vec<u8> {
        self.leave()
    }

    /// Returns whether the page has the tag.
    pub fn is_injected(&self) -> bool {
        self.state.lock().injected
    }

    /// Returns the policies found so far in the page's own markup.
    pub fn take_policies(&mut self) -> Vec<String> {
        mem::take(&mut self.state.lock().policies)
    }
}

/// Returns whether `byte` is white space or part of a UTF-8 byte order mark.
fn is_before_markup(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf)
}

/// Returns whether the page is in UTF-16. Such a page begins with a byte order mark or declares its charset in a
/// header. In no other encoding does a page begin with either of these bytes.
fn is_utf16(beginning: &[u8]) -> bool {
    matches!(beginning, [0xfe | 0xff, ..])
}

impl State {
    /// Handles an element of the head. Returns whether nothing after it matters.
    fn see(&mut self, element: &mut Element<'_, '_>) -> bool {
        let name = element.tag_name();
        let is_root = !mem::replace(&mut self.elements, true);
        if self.tag.xml && is_root {
            // Other XML is displayed as a document tree, or not at all.
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
            // In XML, browsers do not move a misplaced tag into the head as they do in HTML.
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

/// Returns whether this is the root of an XHTML page with the element prefix `prefix`.
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
            // Browsers check the integrity only of scripts that are requested with CORS.
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
            // The page may be in any encoding; a character reference is the same in all of them.
            c if !c.is_ascii() => escaped.push_str(&format!("&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
