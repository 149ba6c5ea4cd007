use std::collections::HashSet;
use std::sync::Arc;

use http::Method;
use proptest::prelude::*;
use ring::digest::{SHA256, digest};

use super::*;
use crate::model::{Owner, Taken};
use crate::normalise::Pointer;

fn nothing() -> Taken {
    Taken::nothing(Arc::default(), Owner::default())
}

fn pointers(written: &[&str]) -> Vec<Pointer> {
    written.iter().map(|pointer| pointer.parse().expect("a pointer")).collect()
}

fn globs(names: &[&str]) -> Vec<Glob> {
    names.iter().map(|name| Glob::new(name)).collect()
}

fn json_rpc(reads: &[&str]) -> ReadRules {
    ReadRules::new(Reads::JsonRpc(globs(reads)), pointers(&["/id"]), Vec::new())
}

fn graphql(reads: &[&str]) -> ReadRules {
    ReadRules::new(Reads::GraphQl(globs(reads), reads.contains(&"queries")), Vec::new(), Vec::new())
}

fn form(reads: &[&str]) -> ReadRules {
    let reads = reads.iter().map(|read| read.parse().expect("fields")).collect();
    ReadRules::new(Reads::Form(reads), Vec::new(), Vec::new())
}

fn read_as(rules: &ReadRules, content_type: &str, query: Option<&str>, body: &str) -> Option<BodyRead> {
    let content_type = (!content_type.is_empty()).then_some(content_type.as_bytes());
    rules.read(Posted { method: &Method::POST, query, content_type, body: body.as_bytes() }, nothing())
}

fn read(rules: &ReadRules, body: &str) -> Option<BodyRead> {
    read_as(rules, "application/json", None, body)
}

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn only_calls_of_listed_methods_read() {
    let rules = json_rpc(&["torrent-get", "session-*"]);
    for body in [
        r#"{"method":"torrent-get"}"#,
        r#" { "method" : "session-get" , "id" : 7 } "#,
        r#"[{"method":"torrent-get","id":1},{"method":"session-stats","id":"a"}]"#,
        r#"{"jsonrpc":"2.0","method":"torrent\u002dget","params":{"method":"torrent-remove"}}"#,
    ] {
        assert!(read(&rules, body).is_some(), "{body}");
    }
    for body in [
        "",
        "{}",
        "[]",
        "7",
        r#""torrent-get""#,
        r#"{"method":"torrent-remove"}"#,
        r#"{"method":"torrent-get2"}"#,
        r#"{"method":7}"#,
        r#"{"method":["torrent-get"]}"#,
        r#"{"Method":"torrent-get"}"#,
        r#"{"method":"torrent-get"} x"#,
        r#"{"method":"torrent-get",}"#,
        // Parsers disagree on the one that counts.
        r#"{"method":"torrent-get","method":"torrent-remove"}"#,
        r#"{"method":"torrent-remove","method":"torrent-get"}"#,
        r#"{"method":"torrent-get","METHOD":"torrent-remove"}"#,
        r#"{"method":"torrent-get","m\u0065thod":"torrent-remove"}"#,
        r#"{"method":"torrent-get","method\u0000":"torrent-remove"}"#,
        r#"{"method":"torrent-get","params":{"ids":1,"iDs":2}}"#,
        r#"{"method":"torrent-get","params":{"ids":1,"idſ":2}}"#,
        r#"[{"method":"torrent-get"},{"method":"torrent-remove"}]"#,
        r#"[{"method":"torrent-get"},[{"method":"torrent-get"}]]"#,
        "\u{feff}{\"method\":\"torrent-get\"}",
    ] {
        assert!(read(&rules, body).is_none(), "{body}");
    }
    let deep = format!("{{\"method\":\"torrent-get\",\"params\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(read(&rules, &deep).is_none());
    let long = format!("{{\"method\":\"torrent-get\",\"params\":\"{}\"}}", "x".repeat(64 * 1024));
    assert!(read(&rules, &long).is_none());
    let many = format!("[{}]", vec![r#"{"method":"torrent-get"}"#; 300].join(","));
    assert!(read(&rules, &many).is_none());
}

#[test]
fn what_else_a_reader_might_go_by_makes_it_no_read() {
    let rules = json_rpc(&["get"]);
    let body = r#"{"method":"get"}"#;
    for (content_type, query, reads) in [
        ("application/json", None, true),
        ("application/json; charset=UTF-8", None, true),
        ("application/json;charset=\"utf-8\"", Some("t=1"), true),
        ("application/json-rpc", None, true),
        ("application/vnd.api+json", None, true),
        ("text/plain", None, true),
        ("", None, true),
        (FORM, None, true),
        ("application/json; charset=utf-7", None, false),
        ("application/json; charset=utf-16", None, false),
        ("multipart/form-data; boundary=x", None, false),
        ("application/xml", None, false),
        ("application/json", Some("method=delete"), false),
        ("application/json", Some("Method=delete"), false),
        ("application/json", Some("%6dethod=delete"), false),
        ("application/json", Some("_method=DELETE"), false),
        ("application/json", Some("a={}"), false),
    ] {
        assert_eq!(read_as(&rules, content_type, query, body).is_some(), reads, "{content_type} {query:?}");
    }
    // Parsed as a form, it means something else.
    assert!(read_as(&rules, FORM, None, r#"{"method":"get","params":"&method=delete"}"#).is_none());
}

#[test]
fn only_one_query_reads() {
    let all = graphql(&["queries"]);
    let named = graphql(&["Board", "Get*"]);
    let body = |document: &str| serde_json::json!({ "query": document }).to_string();
    for (document, is_query, is_named) in [
        ("{ a }", true, false),
        ("query { a }", true, false),
        ("query Board { a { ...F } } fragment F on A { b }", true, true),
        ("query GetBoard($n: Int = 3) { a(first: $n) @include(if: true) { b } }", true, true),
        ("query Other { mutation subscription(defer: \"@defer\") }", true, false),
        ("# mutation M { a }\nquery Board { a }", true, true),
        ("mutation { a }", false, false),
        ("mutation Board { a }", false, false),
        ("subscription Board { a }", false, false),
        ("query Board { a } mutation M { b }", false, false),
        ("query Board { a } query Two { b }", false, false),
        ("query Board { a @defer { b } }", false, false),
        ("query Board { ... @defer { b } }", false, false),
        ("query Board { a @stream(initialCount: 1) }", false, false),
        ("query Board { ...F @defer } fragment F on A { b }", false, false),
        ("query Board { a } type T { a: Int }", false, false),
        ("fragment F on A { b }", false, false),
        ("query Board { a", false, false),
        ("query Board { }", false, false),
        ("query Board { a } }", false, false),
        ("", false, false),
        ("query Board { a ¬ }", false, false),
    ] {
        assert_eq!(read(&all, &body(document)).is_some(), is_query, "{document}");
        assert_eq!(read(&named, &body(document)).is_some(), is_named, "{document}");
    }
    let deep = format!("query Board {}a{}", "{ a ".repeat(5000), " }".repeat(5000));
    assert!(read(&all, &body(&deep)).is_none());
    let lists = format!("query Board {{ a(x: {}{}) }}", "[".repeat(5000), "]".repeat(5000));
    assert!(read(&all, &body(&lists)).is_none());
}

#[test]
fn a_body_that_names_anything_but_its_own_query_is_no_read() {
    let rules = graphql(&["queries"]);
    for (body, reads) in [
        (r#"{"query":"query A { a }","operationName":"A","variables":{"x":1},"extensions":{}}"#, true),
        (r#"{"query":"query A { a }","operationName":null,"variables":null,"extensions":null}"#, true),
        (r#"{"query":"query A { a }","operationName":"B"}"#, false),
        (r#"{"query":"{ a }","operationName":"A"}"#, false),
        (r#"{"query":"{ a }","operationName":7}"#, false),
        (r#"{"query":"{ a }","id":"17"}"#, false),
        (r#"{"query":"{ a }","documentId":"17"}"#, false),
        (r#"{"documentId":"17"}"#, false),
        (r#"{"query":"{ a }","extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#, false),
        (r#"{"query":"{ a }","query":"mutation { a }"}"#, false),
        (r#"{"query":"{ a }","Query":"mutation { a }"}"#, false),
        (r#"[{"query":"{ a }"}]"#, false),
        (r#"{"query":null}"#, false),
    ] {
        assert_eq!(read(&rules, body).is_some(), reads, "{body}");
    }
    for query in ["query=mutation{a}", "query=x", "operationName=M", "variables=%7B%7D", "documentId=1", "id=1"] {
        assert!(read_as(&rules, "application/json", Some(query), r#"{"query":"{ a }"}"#).is_none(), "{query}");
    }
}

#[test]
fn a_persisted_query_reads_once_it_has_been_seen() {
    let rules = graphql(&["A"]);
    let hash = |document: &str| {
        let hash = digest(&SHA256, document.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let body = |document: Option<&str>, hash: &str| {
        let mut body = serde_json::json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash } } });
        if let Some(document) = document {
            body["query"] = document.into();
        }
        body.to_string()
    };
    let (known, other) = ("query A { a }", "mutation A { a }");
    assert!(read(&rules, &body(None, &hash(known))).is_none());
    assert!(read(&rules, &body(Some(known), &hash(known))).is_some());
    assert!(read(&rules, &body(None, &hash(known))).is_some());
    assert!(read(&rules, &body(Some(other), &hash(other))).is_none());
    assert!(read(&rules, &body(None, &hash(other))).is_none());
    // A body with the hash of a query and the document of a mutation.
    assert!(read(&rules, &body(Some(known), &hash(other))).is_none());
    assert!(read(&rules, &body(None, &hash(other))).is_none());
}

#[test]
fn only_forms_with_listed_fields_read() {
    let rules = form(&["action=list", "my_do=get*&view=a+b"]);
    for (body, reads) in [
        ("action=list", true),
        ("x=1&action=list&y=%C3%A9", true),
        ("%61ction=list", true),
        ("my_do=getall&view=a+b", true),
        ("my_do=getall&view=a%20b&x", true),
        ("my_do=getall", false),
        ("my_do=delete&view=a+b", false),
        ("action=lists", false),
        ("action", false),
        ("", false),
        ("action=list&action=delete", false),
        ("action=list&action[]=delete", false),
        ("action=list&Action=delete", false),
        ("my_do=get&view=a+b&my.do=delete", false),
        ("my_do=get&view=a+b&+my+do=delete", false),
        ("action=list;action=delete", false),
        ("action=list&_method=DELETE", false),
        ("action=list&x=%", false),
        ("action=list&x=%zz", false),
        ("action=list&x=%ff", false),
        ("action=list&x=%00", false),
        ("action=list&x=\u{e9}", false),
        ("action=list\n", false),
        ("{\"action\":\"list\"}", false),
    ] {
        assert_eq!(read_as(&rules, FORM, None, body).is_some(), reads, "{body}");
    }
    assert!(read_as(&rules, "text/plain", None, "action=list").is_none());
    assert!(read_as(&rules, FORM, Some("page=2"), "action=list").is_some());
    assert!(read_as(&rules, FORM, Some("action=delete"), "action=list").is_none());
    for text in ["", "action", "=list", "a=1&b", "a b=1"] {
        assert!(text.parse::<FormRead>().is_err(), "{text}");
    }
}

#[test]
fn bodies_that_ask_for_the_same_are_one() {
    let rules = ReadRules::new(
        Reads::JsonRpc(globs(&["*"])),
        pointers(&["/id", "/tag"]),
        pointers(&["/params/now", "/params/*/seen"]),
    );
    let same = |a: &str, b: &str| read(&rules, a).expect(a).body == read(&rules, b).expect(b).body;
    for (a, b, alike) in [
        (r#"{"method":"a","id":1}"#, r#"{ "id": 200, "method": "a" }"#, true),
        (r#"{"method":"a","id":"x"}"#, r#"{"method":"a","id":"y\n"}"#, true),
        (r#"{"method":"a","id":"1"}"#, r#"{"method":"a","id":1}"#, false),
        (r#"{"method":"a","id":1}"#, r#"{"method":"a"}"#, false),
        (r#"{"method":"a","id":null}"#, r#"{"method":"a","id":null}"#, true),
        (r#"{"method":"a","id":[1]}"#, r#"{"method":"a","id":[2]}"#, false),
        (r#"{"method":"a","params":{"now":1}}"#, r#"{"method":"a","params":{"now":2e9}}"#, true),
        (r#"{"method":"a","params":{"x":{"seen":"p"}}}"#, r#"{"method":"a","params":{"x":{"seen":"q"}}}"#, true),
        (r#"{"method":"a","params":{"x":1}}"#, r#"{"method":"a","params":{"x":2}}"#, false),
        (r#"[{"method":"a","id":5},{"method":"b","id":5}]"#, r#"[{"method":"a","id":1},{"method":"b","id":2}]"#, true),
        (r#"[{"method":"a","id":5}]"#, r#"{"method":"a","id":5}"#, false),
    ] {
        assert_eq!(same(a, b), alike, "{a} {b}");
    }
    let sent =
        read(&rules, r#"[{"method":"a","id":50,"tag":"t","params":{"now":3}},{"id":"x","method":"b"}]"#).unwrap();
    assert_eq!(
        &sent.body.shared[..],
        br#"[{"method":"a","id":1,"tag":"1","params":{"now":1}},{"id":"2","method":"b"}]"#
    );
    assert_eq!(
        &sent.body.sent(true)[..],
        br#"[{"method":"a","id":1,"tag":"1","params":{"now":3}},{"id":"2","method":"b"}]"#
    );
    assert_eq!(sent.echoed.iter().map(|own| &**own).collect::<Vec<_>>(), ["50", "\"t\"", "\"x\""]);
}

#[test]
fn whole_bodies_are_told_apart_by_all_that_is_not_ignored() {
    let plain = ReadRules::new(Reads::Whole, Vec::new(), Vec::new());
    let same = |rules: &ReadRules, content_type: &str, a: &str, b: &str| {
        let body = |text| read_as(rules, content_type, None, text).expect("a read").body;
        body(a) == body(b)
    };
    assert!(!same(&plain, "application/json", "{\"a\":1}", "{ \"a\":1}"));
    assert!(same(&plain, "x/y", "\u{1}", "\u{1}"));
    let counted = ReadRules::new(Reads::Whole, Vec::new(), pointers(&["/inputs/*/value", "/t"]));
    let body =
        |count: u32| format!(r#"{{"output":"o","inputs":[{{"id":"i","property":"n_intervals","value":{count}}}]}}"#);
    assert!(same(&counted, "application/json", &body(1), &body(17)));
    assert!(!same(&counted, "application/json", &body(1), &body(1).replace("\"o\"", "\"p\"")));
    assert!(same(&counted, FORM, "a=1&t=5", "a=1&t=6"));
    assert!(!same(&counted, FORM, "a=1&t=5", "a=2&t=5"));
    // Nothing is ignored in an ambiguous body.
    assert!(!same(&counted, "application/json", "{\"t\":1,\"t\":2}", "{\"t\":1,\"t\":3}"));
    assert!(!same(&counted, "application/json", "{\"t\":1", "{\"t\":2"));
}

#[test]
fn each_client_is_given_back_its_own() {
    let rules = ReadRules::new(Reads::JsonRpc(globs(&["*"])), pointers(&["/id", "/tag"]), Vec::new());
    let restored = |asked: &str, answer: &str| {
        let read = read(&rules, asked).expect(asked);
        let places = check_answer(&read.body, answer.as_bytes())?;
        let restored = restore(&answer.to_owned().into(), &places, &read.echoed, &read.body).ok_or("cannot be said")?;
        Ok::<_, &str>(String::from_utf8(restored.to_vec()).unwrap())
    };
    for (asked, answer, given) in [
        (r#"{"method":"a","id":77}"#, r#"{"id": 1, "result": {"id": 1}}"#, r#"{"id": 77, "result": {"id": 1}}"#),
        (r#"{"method":"a","id":"\"q\""}"#, r#"{"result":[],"id":"1"}"#, r#"{"result":[],"id":"\"q\""}"#),
        (r#"{"method":"a","id":1,"tag":9}"#, r#"{"tag":1,"id":1,"error":null}"#, r#"{"tag":9,"id":1,"error":null}"#),
        (r#"{"method":"a"}"#, r#"{"id":5}"#, r#"{"id":5}"#),
        (r#"{"method":"a","id":8}"#, r#"{"result":1}"#, r#"{"result":1}"#),
        (
            r#"[{"method":"a","id":"x"},{"method":"b","id":7}]"#,
            r#"[{"id":2,"result":0},{"id":"1","result":0}]"#,
            r#"[{"id":7,"result":0},{"id":"x","result":0}]"#,
        ),
    ] {
        assert_eq!(restored(asked, answer).as_deref(), Ok(given), "{asked}");
    }
    for (asked, answer) in [
        (r#"{"method":"a","id":7}"#, r#"{"id":7,"result":0}"#),
        (r#"{"method":"a","id":7}"#, r#"{"id":"1","result":0}"#),
        (r#"{"method":"a","id":7}"#, r#"{"id":null,"result":0}"#),
        (r#"{"method":"a","id":7}"#, r#"{"id":1,"error":{"code":1}}"#),
        (r#"{"method":"a"}"#, r#"{"error":{"code":1}}"#),
        (r#"{"method":"a"}"#, r#"{"error":null,"error":1}"#),
        (r#"{"method":"a"}"#, "[]"),
        (r#"{"method":"a"}"#, "<html>"),
        (r#"[{"method":"a","id":7}]"#, r#"{"id":1}"#),
        (r#"[{"method":"a","id":7}]"#, r#"[7]"#),
        (r#"[{"method":"a","id":7}]"#, r#"[{"id":2}]"#),
    ] {
        assert!(restored(asked, answer).is_err(), "{asked} {answer}");
    }
    let table = ReadRules::new(Reads::Form(vec!["do=list".parse().unwrap()]), pointers(&["/draw"]), Vec::new());
    let read = read_as(&table, FORM, None, "do=list&draw=12").unwrap();
    assert_eq!(&read.body.shared[..], b"do=list&draw=1");
    for (answer, given) in [("{\"draw\":1}", "{\"draw\":12}"), ("{\"draw\":\"1\"}", "{\"draw\":\"12\"}")] {
        let places = check_answer(&read.body, answer.as_bytes()).unwrap();
        let restored = restore(&answer.to_owned().into(), &places, &read.echoed, &read.body).unwrap();
        assert_eq!(restored, given);
    }
    let read = read_as(&table, FORM, None, "do=list&draw=x").unwrap();
    let places = check_answer(&read.body, b"{\"draw\":1}").unwrap();
    assert_eq!(restore(&"{\"draw\":1}".into(), &places, &read.echoed, &read.body), None);
}

#[test]
fn answers_with_errors_are_for_whoever_asked() {
    let asked = read(&graphql(&["queries"]), r#"{"query":"{ a }"}"#).unwrap().body;
    for (answer, is_for_all) in [
        (r#"{"data":{"a":1}}"#, true),
        (r#"{"data":{"errors":[1]},"errors":[]}"#, true),
        (r#"{"data":{"a":1},"errors":null}"#, true),
        (r#"{"data":{"a":1},"errors":[{"message":"x"}]}"#, false),
        (r#"{"errors":[{"message":"x"}]}"#, false),
        (r#"{"errors":"x"}"#, false),
        (r#"{"data":{},"hasNext":true}"#, false),
        ("[]", false),
        ("--x\r\n", false),
    ] {
        assert_eq!(check_answer(&asked, answer.as_bytes()).is_ok(), is_for_all, "{answer}");
    }
}

/// Returns the methods that several kinds of parsers find in a body.
fn methods(body: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut add = |value: Option<&serde_json::Value>| {
        found.insert(value.and_then(serde_json::Value::as_str).unwrap_or("?").to_owned());
    };
    // The last member counts, in any case.
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(body) {
        add(object.get("method"));
        object.iter().filter(|(key, _)| key.eq_ignore_ascii_case("method")).for_each(|(_, value)| add(Some(value)));
    }
    // The first member counts: the text is cut after each one.
    for (at, _) in body.match_indices(',') {
        if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(&format!("{}}}", &body[..at]))
            && let Some(first) = object.get("method")
        {
            add(Some(first));
            break;
        }
    }
    found
}

proptest! {
    #[test]
    fn what_any_reader_takes_for_another_method_is_no_read(
        members in proptest::collection::vec(
            (
                prop_oneof![Just("method"), Just("Method"), Just("m\\u0065thod"), Just("id"), Just("params"), Just("METHOD")],
                prop_oneof![Just("\"get\""), Just("\"del\""), Just("1"), Just("\"g\\u0065t\""), Just("{\"method\":\"del\"}"), Just("[")],
            ),
            0..5,
        ),
        tail in prop_oneof![Just("}"), Just("},"), Just(",}"), Just("} ")],
    ) {
        let members: Vec<String> = members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        let body = format!("{{{}{tail}", members.join(","));
        if read(&json_rpc(&["get"]), &body).is_some() {
            prop_assert_eq!(methods(&body).into_iter().collect::<Vec<_>>(), ["get"], "{}", body);
        }
    }

    #[test]
    fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..200), content_type in "[a-z/+;= -]{0,30}") {
        for rules in [json_rpc(&["*"]), graphql(&["queries"]), form(&["a=*"]), ReadRules::new(Reads::Whole, pointers(&["/a"]), pointers(&["/b/*"]))] {
            let posted = Posted { method: &Method::POST, query: None, content_type: Some(content_type.as_bytes()), body: &body };
            let _ = rules.read(posted, nothing());
        }
    }
}
