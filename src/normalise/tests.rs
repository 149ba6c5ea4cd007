use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::model::{Digest, Representation, Validators};

fn answer(content_type: &str, body: impl AsRef<[u8]>) -> Representation {
    let headers = match HeaderValue::from_str(content_type) {
        Ok(value) if !content_type.is_empty() => HeaderMap::from_iter([(CONTENT_TYPE, value)]),
        _ => HeaderMap::new(),
    };
    Representation {
        status: StatusCode::OK,
        headers,
        body: Bytes::copy_from_slice(body.as_ref()),
        validators: Validators::default(),
        coded: None,
        sets_cookie: false,
        ahead: 0,
    }
}

fn rules(json: &[&str], css: &[&str], regex: &[&str]) -> Rules {
    Rules::new(
        json.iter().map(|text| text.parse().expect(text)).collect(),
        css.iter().map(|text| text.parse().expect(text)).collect(),
        regex.iter().map(|text| text.parse().expect(text)).collect(),
    )
}

fn meaning(rules: &Rules, representation: &Representation) -> Digest {
    rules.meaning(representation, representation.digest()).digest
}

/// Returns whether `rules` give two bodies of one type the same meaning.
fn alike(rules: &Rules, content_type: &str, one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    meaning(rules, &answer(content_type, one)) == meaning(rules, &answer(content_type, other))
}

#[test]
fn without_rules_only_json_is_more_than_its_bytes() {
    let none = Rules::default();
    for content_type in ["text/html", "text/plain", "application/xml", "image/png", ""] {
        let body = answer(content_type, "<a> {}");
        assert_eq!(meaning(&none, &body), body.digest(), "{content_type}");
    }
    assert!(alike(&none, "application/json", "{\"a\":1,\"b\":2}", " {\"b\":2, \"a\":1} "));
    assert!(alike(&none, "json; charset=utf-8", "[1]", "[1]\n"));
    assert!(!alike(&none, "application/json", "[1]", "[1.0]"));
    assert!(!alike(&none, "text/plain", "[1]", "[1]\n"));
    let (ok, created) = (answer("application/json", "1"), answer("application/json", "1"));
    assert_ne!(meaning(&none, &ok), meaning(&none, &Representation { status: StatusCode::CREATED, ..created }));
    assert_ne!(meaning(&none, &ok), meaning(&none, &answer("application/problem+json", "1")));
}

#[test]
fn ignored_places_of_json_are_as_if_they_were_not_there() {
    let json = "application/json";
    let one = rules(&["/now", "/items/*/age", "/m/a~1b", "/list/1", "/*/secret"], &[], &[]);
    for (body, other, same) in [
        (r#"{"now":1,"a":2}"#, r#"{"now":2,"a":2}"#, true),
        (r#"{"now":1,"a":2}"#, r#"{"a":2}"#, true),
        (r#"{"n\u006fw":1,"a":2}"#, r#"{"a":2,"now":{}}"#, true),
        (r#"{"now":1,"a":2}"#, r#"{"now":1,"a":3}"#, false),
        (r#"{"x":{"now":1}}"#, r#"{"x":{"now":2}}"#, false),
        (r#"{"items":[{"id":1,"age":1},{"age":2}]}"#, r#"{"items":[{"id":1,"age":9},{"age":8}]}"#, true),
        (r#"{"items":[{"id":1,"age":1}]}"#, r#"{"items":[{"id":2,"age":1}]}"#, false),
        (r#"{"items":{"k":{"age":1}}}"#, r#"{"items":{"k":{"age":2}}}"#, true),
        (r#"{"m":{"a/b":1}}"#, r#"{"m":{"a/b":2}}"#, true),
        (r#"{"list":[1,2,3]}"#, r#"{"list":[1,9,3]}"#, true),
        (r#"{"list":[1,2,3]}"#, r#"{"list":[9,2,3]}"#, false),
        (r#"{"u":{"secret":1}}"#, r#"{"u":{"secret":2}}"#, true),
        ("[1]", "[2]", false),
    ] {
        assert_eq!(alike(&one, json, body, other), same, "{body} {other}");
    }
    assert!(one.ignores(["items", "3", "age", "deeper"]) && !one.ignores(["items", "3"]) && !one.ignores(["items"]));
    assert!(one.ignores(["m", "a/b"]) && !one.ignores([]));
}

#[test]
fn rules_for_json_hold_for_json_by_any_other_name() {
    let one = rules(&["/now"], &[], &[]);
    for content_type in ["text/html", "text/plain", "application/octet-stream", ""] {
        assert!(alike(&one, content_type, r#"{"now":1}"#, r#"{"now":2}"#), "{content_type}");
        assert!(!alike(&one, content_type, r#"{"a":1}"#, r#"{"a":2}"#), "{content_type}");
    }
    assert!(!alike(&one, "text/html", "<p>1", "<p>2"));
}

#[test]
fn elements_and_attributes_are_cut_out_of_markup() {
    let one = rules(&[], &["#clock", "td:nth-child(2)", "time@datetime", "[src*=\"a@b\"]"], &[]);
    for (body, other, same) in [
        ("<p id=clock>1</p><p>a</p>", "<p id=clock>2</p><p>a</p>", true),
        ("<p id=clock>1</p><p>a</p>", "<p>a</p>", true),
        ("<p id=clock>1</p><p>a</p>", "<p id=clock>1</p><p>b</p>", false),
        ("<table><tr><td>a<td>1<td>b</table>", "<table><tr><td>a<td>2<td>b</table>", true),
        ("<table><tr><td>a<td>1<td>b</table>", "<table><tr><td>a<td>1<td>c</table>", false),
        ("<time datetime='1'>x</time>", "<time datetime='2'>x</time>", true),
        ("<time datetime='1'>x</time>", "<time>x</time>", true),
        ("<time datetime='1'>x</time>", "<time datetime='1'>y</time>", false),
        ("<img src='a@b/1'>", "<img src='a@b/2'>", true),
    ] {
        assert_eq!(alike(&one, "text/html", body, other), same, "{body} {other}");
    }
    let feed = rules(&[], &["channel > lastBuildDate", "entry@etag"], &[]);
    let text = |date: &str, etag: &str, title: &str| {
        format!(
            "<rss><channel><lastBuildDate>{date}</lastBuildDate><entry etag='{etag}'>{title}</entry></channel></rss>"
        )
    };
    for content_type in ["application/rss+xml", "text/xml; charset=utf-8", "text/plain", ""] {
        assert!(alike(&feed, content_type, text("1", "a", "t"), text("2", "b", "t")), "{content_type}");
        assert!(!alike(&feed, content_type, text("1", "a", "t"), text("1", "a", "u")), "{content_type}");
    }
}

#[test]
fn patterns_cut_text_of_every_kind() {
    let one = rules(&[], &[], &["generated at .*", r"(?m)^x,(?:[^,]*,){2}(?<cut>\d+),(?<cut2>\d+)", r#""up": ?\d+"#]);
    for content_type in ["text/plain", "text/html", "application/xml", "application/javascript", ""] {
        assert!(alike(&one, content_type, "a\ngenerated at 1\nb", "a\ngenerated at 22\nb"), "{content_type}");
        assert!(alike(&one, content_type, "a\ngenerated at 1\nb", "a\n\nb"), "{content_type}");
        assert!(!alike(&one, content_type, "a\ngenerated at 1\nb", "a\ngenerated at 1\nc"), "{content_type}");
        assert!(alike(&one, content_type, "x,UP,1,5,6,z", "x,UP,1,7,8,z"), "{content_type}");
        assert!(!alike(&one, content_type, "x,UP,1,5,6,z", "x,DOWN,1,5,6,z"), "{content_type}");
    }
    let json = "application/json";
    assert!(alike(&one, json, r#"{"up": 1, "a": 2}"#, r#"{"a":2,"up":33}"#));
    assert!(alike(&one, json, r#"["x generated at 1"]"#, r#"["x generated at 1"]"#));
    assert!(!alike(&one, json, r#"{"up": 1, "a": 2}"#, r#"{"up": 1, "a": 3}"#));
    // Bytes that are not text are never searched.
    assert!(!alike(&one, "image/png", b"generated at 1\xff".as_slice(), b"generated at 2\xff".as_slice()));
}

#[test]
fn what_cannot_be_read_is_compared_as_it_is_and_says_so() {
    let none = Rules::default();
    for (content_type, body, why) in [
        ("application/json", &b"{\"a\":1,}"[..], "not valid JSON (at byte 7)"),
        ("application/json", b"", "not valid JSON (at byte 0)"),
        ("application/json", b"\"\xe9\"", "not valid UTF-8"),
        ("application/json; charset=nonsense", b"1", "\"nonsense\", is not known"),
        ("text/html; charset=x-none", b"1", "\"x-none\", is not known"),
        ("text/plain; charset=utf-8", b"\xff", "not valid UTF-8"),
    ] {
        let body = answer(content_type, body);
        let found = none.meaning(&body, body.digest());
        assert_eq!(found.digest, body.digest());
        let fallback = found.fallback.map(|fallback| fallback.to_string()).unwrap_or_default();
        assert!(fallback.contains(why), "{content_type}: {fallback}");
    }
    let deep = answer("application/json", "[".repeat(5000));
    assert!(none.meaning(&deep, deep.digest()).fallback.is_some_and(|why| why.to_string().contains("128 levels")));
    assert_eq!(none.meaning(&answer("image/png", b"\xff"), Digest::of(b"x")).fallback, None);
}

#[test]
fn pages_without_a_charset_are_read_as_browsers_read_them() {
    let one = rules(&[], &["i"], &[]);
    let page = |bytes: &[u8]| [b"<p>".as_slice(), bytes, b"</p><i>1</i>"].concat();
    assert!(!alike(&one, "text/html", page(b"caf\xe9"), page(b"caf\xe8")));
    assert_eq!(text_of(&answer("text/html", b"caf\xe9")).as_deref(), Some("café"));
    assert_eq!(text_of(&answer("text/html", b"<meta charset=KOI8-R>\xc1")).as_deref(), Some("<meta charset=KOI8-R>а"));
    assert_eq!(
        text_of(&answer("text/xml", b"<?xml version='1.0' encoding='ISO-8859-5'?>\xd0")).as_deref(),
        Some("<?xml version='1.0' encoding='ISO-8859-5'?>а")
    );
    assert_eq!(text_of(&answer("application/json", b"\xef\xbb\xbf1")).as_deref(), Some("1"));
    assert_eq!(text_of(&answer("text/html; charset=nonsense", b"\xc3\xa9\xff")).as_deref(), Some("é\u{fffd}"));
    assert_eq!(text_of(&answer("", b"\xff")), None);
    assert_eq!(text_of(&answer("image/svg+xml; charset=utf-8", b"a")).as_deref(), Some("a"));
}

#[test]
fn rules_say_what_is_wrong_with_them() {
    for (text, why) in [("((", "cannot begin"), ("a@", "name of one attribute"), ("a:hover", "cannot be used here")] {
        let error = text.parse::<Selector>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for (text, why) in [("x*", "empty text"), ("(", "unclosed group"), ("\\w{9999}", "size limit")] {
        let error = text.parse::<TextPattern>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}
