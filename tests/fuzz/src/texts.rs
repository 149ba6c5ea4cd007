//! Texts that are taken apart.

use sungrazer::config::{self, Overrides};
use sungrazer::json::{Document, KeepAll, ParseError, canonical, content, escape, minified, same, unescape};
use sungrazer::markup::{Dialect, Outline, Selectors};
use sungrazer::normalise::{Pointer, Selector, TextPattern};
use sungrazer::route::{Pattern, Target, WritePattern, is_unambiguous};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What is valid is what others call valid; what is written of it is valid, and means the same.
pub fn json(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(ParseError::Syntax(_)) => {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text);
            assert!(theirs.is_err(), "others can read it");
            return;
        }
        Err(_) => return,
    };
    assert!(serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok(), "others cannot read it");
    let mut short = Vec::new();
    minified(document.root(), &mut short);
    let short = String::from_utf8(short).unwrap();
    let again = Document::parse(&short).unwrap();
    assert!(same(document.root(), again.root()));
    let form = |document: &Document<'_>| {
        let mut out = Vec::new();
        canonical(document.root(), &KeepAll, &(), &mut out);
        out
    };
    assert_eq!(form(&document), form(&again));
    if let Some(said) = document.root().as_str() {
        assert_eq!(unescape(&escape(&said)), said);
        let inside = &document.root().raw()[1..document.root().raw().len() - 1];
        let spelled = content(inside);
        assert_eq!(content(&spelled), spelled);
    }
}

/// Every text has an outline, whose parts are nested and lie between characters.
pub fn html(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Some(text) = text(rest) else { return };
    let dialect = if first % 2 == 0 { Dialect::Html } else { Dialect::Xml };
    let outline = Outline::read(text, dialect).unwrap();
    for element in outline.elements() {
        let (span, inner) = (element.span(), element.inner());
        assert!(text.get(span.clone()).is_some() && text.get(inner.clone()).is_some());
        assert!(span.start <= inner.start && inner.end <= span.end);
        if let Some(parent) = element.parent() {
            assert!(parent.inner().start <= span.start && span.end <= parent.inner().end);
        }
        for attribute in element.attributes() {
            assert!(text.get(attribute.span()).is_some());
            attribute.value(&outline);
        }
    }
    for selector in ["* > *:nth-of-type(2n+1)", "td ~ [a^=b]:not(.c, #d)", "a + b"] {
        selector.parse::<Selectors>().unwrap().select(&outline);
    }
}

/// A selector and a page, divided by a zero.
pub fn selectors(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (selector, page) = text.split_once('\0').unwrap_or((text, "<p id=a class='b c'><td><td x=1><a:b>"));
    let _ = selector.parse::<Selector>();
    let Ok(selectors) = selector.parse::<Selectors>() else { return };
    let outline = Outline::read(page, Dialect::Html).unwrap();
    assert!(selectors.select(&outline).len() <= outline.elements().len());
}

pub fn pointers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(pointer) = text.parse::<Pointer>() {
        assert_eq!(pointer.to_string().parse::<Pointer>().unwrap(), pointer);
    }
    let _ = text.parse::<TextPattern>();
}

pub fn config(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Err(found) = config::parse("fuzz.toml", text, &Overrides::default()) {
        assert!(!found.to_string().is_empty());
    }
}

/// A pattern and a request's target, divided by a zero.
pub fn paths(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (pattern, target) = text.split_once('\0').unwrap_or(("/**", text));
    let _ = target.parse::<WritePattern>();
    if let Some(target) = Target::parse(target) {
        let ignored = ["_".to_owned(), "a".to_owned(), "b#".to_owned(), "#".to_owned()];
        let once = target.canonical(&ignored);
        let again = Target::parse(&once).unwrap();
        assert_eq!(again.canonical(&ignored), once);
        assert_eq!(again.path, target.path);
        target.parameters("url").for_each(drop);
        if let Ok(pattern) = pattern.parse::<Pattern>() {
            pattern.matches(target.path);
            is_unambiguous(target.path);
        }
    }
}
