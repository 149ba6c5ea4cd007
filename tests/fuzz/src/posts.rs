//! Bodies of which it is found out whether they only read.

use std::sync::Arc;

use http::Method;
use sungrazer::model::{Owner, Taken};
use sungrazer::normalise::Pointer;
use sungrazer::post::{BodyRead, Glob, Posted, ReadRules, Reads, check_answer, restore};

fn read(rules: &ReadRules, content_type: &str, body: &[u8]) -> Option<BodyRead> {
    let content_type = Some(content_type.as_bytes());
    let posted = Posted { method: &Method::POST, query: None, content_type, body };
    rules.read(posted, Taken::nothing(Arc::default(), Owner::default()))
}

fn pointers(written: &[&str]) -> Vec<Pointer> {
    written.iter().map(|pointer| pointer.parse().unwrap()).collect()
}

/// What is sent for all is a read that asks for the same, and an answer that gives back what was sent gives each client its own.
fn holds(rules: &ReadRules, content_type: &str, data: &[u8]) -> Option<BodyRead> {
    let found = read(rules, content_type, data)?;
    assert_eq!(found.raw, data);
    let again = read(rules, content_type, &found.body.shared).expect("what is sent is a read");
    assert_eq!(again.body, found.body);
    assert_eq!(again.body.shared, found.body.shared);
    if let Ok(places) = check_answer(&found.body, &found.body.shared) {
        let _ = restore(&found.body.shared, &places, &found.echoed, &found.body);
    }
    Some(found)
}

pub fn json_rpc(data: &[u8]) {
    let rules = ReadRules::new(Reads::JsonRpc(vec![Glob::new("get*")]), pointers(&["/id"]), pointers(&["/params/*/x"]));
    let Some(_) = holds(&rules, "application/json", data) else { return };
    let calls = match serde_json::from_slice(data).expect("others can read it") {
        serde_json::Value::Array(calls) => calls,
        call => vec![call],
    };
    assert!(
        !calls.is_empty()
            && calls.iter().all(|call| call["method"].as_str().is_some_and(|name| name.starts_with("get")))
    );
}

pub fn graphql(data: &[u8]) {
    let rules = ReadRules::new(Reads::GraphQl(Vec::new(), true), Vec::new(), pointers(&["/variables/x"]));
    // A bare document is a body, too, so that most inputs are looked into.
    let body = serde_json::json!({ "query": String::from_utf8_lossy(data) }).to_string();
    for body in [data, body.as_bytes()] {
        let Some(_) = holds(&rules, "application/json", body) else { continue };
        let said: serde_json::Value = serde_json::from_slice(body).expect("others can read it");
        let document = said["query"].as_str().unwrap_or("query");
        let word = |text: &str| {
            text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '\u{feff}')).to_owned()
        };
        let first = word(document);
        assert!(!first.starts_with("mutation") && !first.starts_with("subscription"), "{document}");
    }
}

pub fn form(data: &[u8]) {
    let reads = vec!["do=get*".parse().unwrap()];
    let rules = ReadRules::new(Reads::Form(reads), pointers(&["/draw"]), pointers(&["/t"]));
    let Some(_) = holds(&rules, "application/x-www-form-urlencoded", data) else { return };
    let text = std::str::from_utf8(data).unwrap();
    let named = |pair: &str| sungrazer::route::Target { path: "/", query: Some(pair) }.parameter("do");
    let values: Vec<String> = text.split('&').filter_map(named).collect();
    assert!(values.len() <= 1 && values.iter().all(|value| value.starts_with("get")), "{text}");
}
