use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::model::Validators;

fn answer(content_type: &str, body: impl AsRef<[u8]>) -> Representation {
    Representation {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(content_type).expect("a value"))]),
        body: Bytes::copy_from_slice(body.as_ref()),
        validators: Validators::default(),
        coded: None,
        sets_cookie: false,
        ahead: 0,
    }
}

fn said(content_type: &str, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>, rules: &Rules) -> String {
    explain(&answer(content_type, old), &answer(content_type, new), rules).to_string()
}

#[test]
fn json_is_explained_by_pointers() {
    let rules = Rules::new(
        vec!["/now".parse().expect("a pointer")],
        Vec::new(),
        vec![r"\d+ s ago".parse().expect("a pattern")],
    );
    for (old, new, expected) in [
        (r#"{"now":1,"a":1}"#, r#"{"now":2,"a":2}"#, "/a; ignored: /now"),
        (r#"{"now":1}"#, r#"{"now":2}"#, "ignored: /now"),
        (r#"{"l":[{"v":1},{"v":2},{"v":3}]}"#, r#"{"l":[{"v":4},{"v":2},{"v":5}]}"#, "/l/*/v (2 times)"),
        (
            r#"{"l":[{"id":1,"v":1},{"id":2,"v":2}]}"#,
            r#"{"l":[{"id":3,"v":1},{"id":1,"v":1},{"id":2,"v":3}]}"#,
            "/l/* added, /l/*/v",
        ),
        (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2}}"#, "/a/b removed"),
        (
            r#"{"sessions":{"8f14e45fceea167a":{"seen":1}}}"#,
            r#"{"sessions":{"8f14e45fceea167a":{"seen":2}}}"#,
            "/sessions/*/seen",
        ),
        (r#"{"users":{"bob@example.org":1}}"#, r#"{"users":{"bob@example.org":2}}"#, "/users/*"),
        (r#"{"x":"seen 3 s ago"}"#, r#"{"x":"seen 4 s ago"}"#, "ignored: /x"),
        ("1", "2", "the whole document"),
        (r#"{"a":1}"#, "{\"a\" : 1}", "the spelling only"),
    ] {
        assert_eq!(said("application/json", old, new, &rules), expected, "{old} {new}");
    }
    assert_eq!(said("application/json", "{\"a\":\n1", "{\"a\":\n2", &rules), "line 2");
}

#[test]
fn markup_is_explained_by_selectors() {
    let rules =
        Rules::new(Vec::new(), vec!["#clock".parse().expect("a selector"), "a@href".parse().expect("one")], Vec::new());
    for (old, new, expected) in [
        ("<p>1</p><i id=clock>1</i>", "<p>2</p><i id=clock>2</i>", "p; ignored: #clock"),
        ("<a href='/x?t=1'>x</a>", "<a href='/x?t=2'>x</a>", "ignored: a@href"),
        ("<table class=jobs><tr><td>1", "<table class=jobs><tr><td>1<tr><td>2", "table.jobs > tr added"),
        (
            "<div id=main><ul class='a b c'><li>1<li>2</ul></div>",
            "<div id=main><ul class='a b c'><li>7<li>8</ul></div>",
            "#main > ul.a.b > li (2 times)",
        ),
        ("<input name=csrf value=abc>", "<input name=csrf value=xyz>", "input@value"),
        ("<b id=user-12345>1</b>", "<b id=user-12345>2</b>", "b"),
        ("<p>a</p>b", "<p>a</p>c", "outside of all elements"),
    ] {
        assert_eq!(said("text/html", old, new, &rules), expected, "{old} {new}");
    }
    assert_eq!(
        said("application/xml", "<f><d:updated>1</d:updated></f>", "<f><d:updated>2</d:updated></f>", &rules),
        "f > updated"
    );
}

#[test]
fn text_is_explained_by_lines_and_bytes_by_their_number() {
    let rules = Rules::new(Vec::new(), Vec::new(), vec!["took .*".parse().expect("a pattern")]);
    assert_eq!(said("text/plain", "a\nb\ntook 1\n", "a\nc\ntook 2\n", &rules), "line 2; ignored: line 3");
    assert_eq!(said("text/plain", "a\nz\n", "a\nb\nc\nd\nz\n", &rules), "lines 2 to 4 added");
    assert_eq!(said("text/plain", "a\nb\nc\n", "a\nc\n", &rules), "line 2 removed");
    assert_eq!(said("image/png", b"\xff1", b"\xff22", &Rules::default()), "the body (2 bytes before, 3 now)");
    let one = answer("text/plain", "a");
    let other = Representation { status: StatusCode::CREATED, ..answer("text/html", "a") };
    assert_eq!(explain(&one, &other, &rules).to_string(), "the status (200 before, 201 now), the media type");
}

#[test]
fn what_is_said_is_bounded() {
    let list = |n: usize| {
        let members: Vec<String> = (0..5000).map(|m| format!("\"{}\":{}", "k".repeat(m % 300 + 1), n + m)).collect();
        format!("{{{}}}", members.join(","))
    };
    let members = |n: usize| {
        let members: Vec<String> =
            ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("\"{a}{b}{}\":{n}", "x".repeat(30)))).collect();
        format!("{{{}}}", members.join(","))
    };
    let rules = Rules::default();
    assert!(said("application/json", list(1), list(2), &rules).len() < 2000);
    let text = said("application/json", members(1), members(2), &rules);
    assert!(text.len() < 2000 && text.ends_with(" and 670 more"), "{text}");
    let huge = "x".repeat(MAX_BYTES + 1);
    assert!(said("text/plain", &huge, "y", &rules).starts_with("a body too large"), "it was looked into");
    let lines = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..200_000).map(|_| format!("{}\n", rng.u8(..9))).collect::<String>()
    };
    assert_eq!(said("text/plain", lines(1), lines(2), &rules), "too much to say where");
}

#[test]
fn no_value_is_ever_said() {
    let secret = "hunter2";
    for (content_type, body) in [
        ("application/json", r#"{"password":"SECRET","list":["SECRET"],"n":1}"#),
        ("text/html", "<p title='SECRET'>SECRET</p><!-- SECRET -->"),
        ("text/plain", "password SECRET\n"),
        ("text/xml", "<a b='SECRET'>SECRET</a>"),
    ] {
        let text =
            said(content_type, body.replace("SECRET", secret), body.replace("SECRET", "other"), &Rules::default());
        assert!(!text.contains(secret) && !text.contains("other"), "{content_type}: {text}");
        assert!(!text.is_empty());
    }
}
