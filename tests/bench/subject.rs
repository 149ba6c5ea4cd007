//! What both benchmarks measure.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use sungrazer::clock;
use sungrazer::model::{Representation, Validators};
use sungrazer::normalise::Rules;
use sungrazer::resource::{CompletedFetch, FetchOutcome, HistoryOptions, StateMachine, Verdict};

use super::corpora;

/// Kind, type and text of each document.
pub fn corpora() -> Vec<(&'static str, &'static str, String)> {
    let (json, html, text) = ("application/json", "text/html; charset=utf-8", "text/plain; charset=utf-8");
    vec![
        ("json", json, corpora::json(1_000, 1)),
        ("json", json, corpora::json(100_000, 1)),
        ("json", json, corpora::json(1_000_000, 1)),
        ("html", html, corpora::html(10_000, 1)),
        ("html", html, corpora::html(300_000, 1)),
        ("text", text, corpora::text(100_000, 1)),
    ]
}

/// An answer in memory of its own, as each fetch brings it.
pub fn fresh(content_type: &'static str, text: &str) -> Representation {
    Representation {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]),
        body: Bytes::from(text.as_bytes().to_vec()),
        validators: Validators::default(),
        coded: None,
        sets_cookie: false,
        ahead: 0,
    }
}

/// A watched resource.
pub struct Subject {
    state: StateMachine,
}

impl Subject {
    pub fn new(content_type: &'static str, text: &str) -> Self {
        let mut subject = Self { state: StateMachine::new(Arc::default(), HistoryOptions::default(), Arc::default()) };
        assert_eq!(subject.fetch(fresh(content_type, text)), Verdict::Changed);
        subject
    }

    pub fn fetch(&mut self, representation: Representation) -> Verdict {
        let now = clock::now();
        let outcome = FetchOutcome::Fresh(representation);
        self.state.observe(CompletedFetch { started: now, finished: now, at: SystemTime::UNIX_EPOCH, outcome }).0
    }
}

/// A few rules for each kind of document.
pub fn rules() -> Rules {
    Rules::new(
        vec!["/generated".parse().unwrap(), "/items/*/progress".parse().unwrap()],
        vec!["#clock".parse().unwrap(), "input[name=csrf]@value".parse().unwrap(), "td.age".parse().unwrap()],
        vec![r"generated in \d+ ms".parse().unwrap()],
    )
}

pub fn parse(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A pass of the rewriter that the page would have to go through otherwise, with the same selectors.
pub fn parse_html(text: &str) -> usize {
    let mut found = 0;
    let settings = lol_html::RewriteStrSettings::new().append_element_content_handler(lol_html::element!(
        "#clock, input[name=csrf], td.age",
        |_| {
            found += 1;
            Ok(())
        }
    ));
    lol_html::rewrite_str(text, settings).unwrap();
    found
}

pub fn with_one_field_changed(text: &str) -> String {
    let middle = text.len() / 2;
    let at =
        middle + text[middle..].find("\"progress\":").unwrap_or_else(|| text.find("\"progress\":").unwrap() - middle);
    let end = at + text[at..].find(',').unwrap();
    format!("{}\"progress\":0.5555{}", &text[..at], &text[end..])
}

pub fn with_some_words_changed(text: &str) -> String {
    let mut count = 0;
    let words = text.split_inclusive(' ').map(|word| {
        count += 1;
        if count % 997 == 0 { format!("changed{count} ") } else { word.to_owned() }
    });
    words.collect()
}
