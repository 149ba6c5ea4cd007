//! Puts the script's tag into a page while it streams through.
//!
//! ```text
//! HTML ─▶ lol_html, as far as the head goes ─▶ the rest as it is ─▶ HTML
//! ```
//!
//! The tag goes behind `<meta charset>`, so that browsers still find that early enough, and before anything that could
//! run, load or stop it: the first script, style sheet, `<base>` or policy. Nothing else of the page is changed but its
//! own refresh, which is put where the script can keep it from coming true; without the script it works as before.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lol_html::html_content::ContentType;
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{MemorySettings, element};
use parking_lot::Mutex;

use self::ending::Ending;
use super::Refresh;

/// The tag, and what the page says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The script's path, without the query that names its version.
    pub path: String,
    /// Tells it from other versions.
    pub hash: String,
    /// What the page's policy asks scripts to bear.
    pub nonce: Option<String>,
    /// Further `data-` attributes: names and values.
    pub data: Vec<(&'static str, String)>,
    /// The page's `Refresh` header, if it loads the page itself again.
    pub refresh: Option<String>,
    /// Path and query of the page.
    pub target: String,
    /// The host by which the browser knows the site.
    pub host: String,
    /// Whether the page is XML: nothing may be written behind its root, nor by scripts while it loads.
    pub xml: bool,
    /// Whether scripts may not write into the page: then its own refresh cannot be held.
    pub typed: bool,
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
    ending: Ending,
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
    /// The page's own refresh, taken from its place, that goes in with the tag.
    refresh: Option<String>,
    /// Whether we are inside `<noscript>`, which is not for us.
    noscript: Arc<AtomicBool>,
    /// Policies that the page states in its own markup.
    policies: Vec<String>,
    /// Whether there was an element: without any, a page is none.
    elements: bool,
    /// What stands before the names of elements in a page that is XML: nothing, or `h:` and the like.
    prefix: String,
}

const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// A head that is larger than this is not searched to its end.
const MOST_MEMORY: usize = 1 << 20;

/// A handler's way to say that the rest is to pass as it is.
#[derive(Debug, thiserror::Error)]
#[error("the head is complete")]
struct Complete;

impl Injector {
    /// A page of which nothing has been read.
    pub fn new(tag: Tag) -> Self {
        let (out, done) = (Out::default(), Arc::<AtomicBool>::default());
        let refresh = tag.refresh.clone();
        let noscript = Arc::default();
        let state = Arc::new(Mutex::new(State {
            tag,
            injected: false,
            refresh,
            noscript,
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
            // Only ASCII is written, and only the names and values of a few attributes are read: any encoding in which
            // ASCII is ASCII does.
            .with_strict(false)
            .with_graceful_bail_out_on_content_handler_error(true)
            .with_memory_settings(
                MemorySettings::new()
                    .with_max_allowed_memory_usage(MOST_MEMORY)
                    .with_graceful_bail_out_on_memory_limit_exceeded(true),
            );
        let rewriter = HtmlRewriter::new(settings, out.clone());
        Self { rewriter: Some(rewriter), out, state, done, begun: false, known: false, ending: Ending::default() }
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
        self.ending.push(piece);
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

    /// What is still to be sent at the end of the page, with `last` behind it if it can be.
    pub fn finish(&mut self, last: &str) -> Vec<u8> {
        if let Some(rewriter) = self.rewriter.take() {
            let _ = rewriter.end();
        }
        let mut rest = mem::take(&mut *self.out.0.lock());
        let mut state = self.state.lock();
        if !state.tag.xml && self.ending.is_clear() {
            // A page without any element that would have been a place for it.
            if !state.injected && state.elements && !self.done.load(Ordering::Relaxed) {
                rest.extend_from_slice(state.markup().as_bytes());
            }
            if state.injected {
                rest.extend_from_slice(last.as_bytes());
            }
        }
        rest
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
            _ => {}
        }
        if !self.injected {
            element.before(&self.markup(), ContentType::Html);
        }
        !matches!(name.as_str(), "script" | "style" | "link" | "base" | "noscript" | "template")
    }

    fn meta(&mut self, element: &mut Element<'_, '_>) -> bool {
        let equivalent = element.get_attribute("http-equiv").map(|name| name.trim().to_ascii_lowercase());
        let content = element.get_attribute("content");
        match (equivalent.as_deref(), content) {
            (Some("refresh"), Some(content)) if self.is_own_refresh(&content) && self.may_hold() => {
                if self.injected {
                    // The script is loaded already; this wakes it at the place where it has to act.
                    let again = self.tag.again(&content);
                    element.replace(&again, ContentType::Html);
                } else {
                    self.refresh = Some(content);
                    element.remove();
                }
            }
            (Some("content-security-policy"), content) => {
                if !self.injected {
                    element.before(&self.markup(), ContentType::Html);
                }
                self.policies.extend(content);
            }
            (equivalent, _) => {
                let says_charset = element.has_attribute("charset") || equivalent == Some("content-type");
                if says_charset && !self.injected {
                    element.after(&self.markup(), ContentType::Html);
                }
            }
        }
        false
    }

    /// Whether the script may write into the page.
    fn may_hold(&self) -> bool {
        !self.tag.typed
            && !self.tag.xml
            && self.policies.iter().all(|policy| !policy.to_ascii_lowercase().contains("trusted-types"))
    }

    fn is_own_refresh(&self, content: &str) -> bool {
        is_own_refresh(content, &self.tag.target, &self.tag.host)
    }

    fn is_ours(&self, element: &Element<'_, '_>) -> bool {
        element.get_attribute("src").is_some_and(|source| source.split('?').next() == Some(&self.tag.path))
    }

    /// The tag, and behind it the page's own refresh.
    fn markup(&mut self) -> String {
        self.injected = true;
        self.tag.markup(&self.prefix, self.refresh.take().as_deref())
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

/// Whether `content` loads the page itself again, after a while. At once is not a refresh but a loop, and left alone.
pub(super) fn is_own_refresh(content: &str, target: &str, host: &str) -> bool {
    Refresh::parse(content).is_some_and(|refresh| refresh.seconds > 0 && refresh.is_of(target, host))
}

impl Tag {
    /// Takes over the page's `Refresh` header, if it is one that loads the page itself again. Returns whether it did: then
    /// the header is to go.
    pub fn take_refresh(&mut self, header: &str) -> bool {
        let own = !self.xml && !self.typed && is_own_refresh(header, &self.target, &self.host);
        if own {
            self.refresh = Some(header.to_owned());
        }
        own
    }

    fn markup(&self, prefix: &str, refresh: Option<&str>) -> String {
        let mut data: String =
            self.data.iter().map(|(name, value)| format!(" data-{name}=\"{}\"", escape(value))).collect();
        if let Some(refresh) = refresh {
            data.push_str(&format!(" data-refresh=\"{}\"", escape(refresh)));
        }
        self.script(prefix, &data, refresh)
    }

    fn again(&self, refresh: &str) -> String {
        self.script("", &format!(" data-refresh=\"{}\"", escape(refresh)), Some(refresh))
    }

    /// Where the page has a refresh of its own, the script writes the beginning of a comment, which ends behind it. If the
    /// script does not run, there is no comment.
    fn script(&self, prefix: &str, data: &str, refresh: Option<&str>) -> String {
        let nonce = self.nonce.as_ref().map_or_else(String::new, |nonce| format!(" nonce=\"{}\"", escape(nonce)));
        let refresh = refresh.map_or_else(String::new, |content| {
            format!("<meta http-equiv=\"refresh\" content=\"{}\"><!---->", escape(content))
        });
        format!("<{prefix}script src=\"{}?{}\"{nonce}{data}></{prefix}script>{refresh}", escape(&self.path), self.hash)
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

mod ending;
#[cfg(test)]
mod tests;
