use proptest::prelude::*;

use super::*;

fn canonical_of(text: &str) -> String {
    let document = Document::parse(text).expect(text);
    let mut out = Vec::new();
    canonical(document.root(), &KeepAll, &(), &mut out);
    String::from_utf8(out).expect("text stays text")
}

#[test]
fn reads_what_the_grammar_allows() {
    for text in [
        "0",
        "-0.5e+10",
        " \t\r\n[1 , 2]\n",
        "{}",
        "[]",
        "[[],{},[{}]]",
        r#"{"a":{"b":[true,false,null,"x"]}}"#,
        r#""\ud83d""#,
        "\"\u{7f}é😀 longer than eight bytes\"",
        "123456789012345678901234567890.123456789",
    ] {
        let document = Document::parse(text).expect(text);
        assert_eq!(document.root().raw(), text.trim());
    }
}

#[test]
fn refuses_everything_else_and_says_where() {
    for (text, at) in [
        ("", 0),
        ("  ", 2),
        ("nul", 0),
        ("01", 1),
        ("1.", 2),
        ("-", 1),
        ("1e", 2),
        ("+1", 0),
        (".5", 0),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("{\"a\" 1}", 5),
        ("{\"a\":1,}", 7),
        ("{a:1}", 1),
        ("{\"a\":1]", 6),
        ("[1}", 2),
        ("[", 1),
        ("\"a", 2),
        ("\"a\nb\"", 2),
        ("\"12345678\u{1}\"", 9),
        ("\"\\x\"", 2),
        ("\"\\u12g4\"", 3),
        ("1 1", 2),
        ("\u{feff}1", 0),
        ("NaN", 0),
    ] {
        assert_eq!(Document::parse(text).map(|_| ()), Err(ParseError::Syntax(at)), "{text:?}");
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Document::parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(Document::parse(&nested(MAX_DEPTH + 1)).map(|_| ()), Err(ParseError::Depth));
    assert_eq!(Document::parse(&"[{\"a\":".repeat(1_000_000)).map(|_| ()), Err(ParseError::Depth));
    canonical_of(&nested(MAX_DEPTH));
}

#[test]
fn views_walk_members_and_items() {
    let text = r#"{"list":[1,[2,3],{"x":4}],"\u0061":"b"}"#;
    let document = Document::parse(text).expect("valid");
    let members: Vec<_> = document.root().members().map(|(key, value)| (key.content(), value.raw())).collect();
    assert_eq!(members, [("list".into(), r#"[1,[2,3],{"x":4}]"#), ("a".into(), "\"b\"")]);
    let list = document.root().members().next().expect("a member").1;
    assert_eq!(list.items().map(|item| item.raw()).collect::<Vec<_>>(), ["1", "[2,3]", r#"{"x":4}"#]);
    assert_eq!(list.nodes(), 8);
    assert_eq!(list.members().count(), 0);
    assert_eq!(list.items().map(|item| item.nodes()).collect::<Vec<_>>(), [1, 3, 3]);
}

#[test]
fn key_order_white_space_and_escapes_mean_nothing() {
    assert_eq!(canonical_of(" { \"b\" : [ 1, 2 ] ,\n \"a\":\"\\u0041\" } "), canonical_of(r#"{"a":"A","b":[1,2]}"#));
}

#[test]
fn numbers_mean_their_spelling() {
    for (one, other) in [("1", "1.0"), ("100", "1e2"), ("0", "-0"), ("9007199254740993", "9007199254740992")] {
        assert_ne!(canonical_of(one), canonical_of(other));
    }
}

#[test]
fn duplicate_keys_are_all_kept_in_their_order() {
    assert_ne!(canonical_of(r#"{"a":1,"a":2}"#), canonical_of(r#"{"a":2,"a":1}"#));
    assert_eq!(canonical_of(r#"{"b":0,"a":1,"a":2}"#), canonical_of(r#"{"a":1,"b":0,"a":2}"#));
}

/// Generates JSON texts with every kind of value, unusual spellings and white space.
fn json() -> impl Strategy<Value = String> {
    let space = "[ \n\t\r]{0,2}";
    let string = prop_oneof![
        "[a-c]{0,2}",
        "[ -!#-\\[\\]-~éß日😀\u{2028}]{0,12}",
        r#"(\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|x){0,4}"#,
    ]
    .prop_map(|inside| format!("\"{inside}\""));
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?",
        string.clone(),
    ];
    scalar.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec((space, inner.clone(), space), 0..6).prop_map(|items| {
                let items: Vec<_> = items.into_iter().map(|(a, item, b)| a + &item + &b).collect();
                format!("[{}]", items.join(","))
            }),
            prop::collection::vec((space, string.clone(), space, inner), 0..6).prop_map(|members| {
                let members: Vec<_> =
                    members.into_iter().map(|(a, key, b, value)| format!("{a}{key}{b}:{b}{value}{a}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_json_is_read_and_only_that(text in json(), cut in 0usize..200, junk in "[\\[\\]{},:\"0-9a-z\\\\ ]{0,3}") {
        prop_assert!(Document::parse(&text).is_ok());
        let at = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let broken = format!("{}{junk}{}", &text[..at], &text[at..]);
        let ours = Document::parse(&broken).is_ok();
        // Compares only the grammar: a number may be too large for a float, and half a surrogate pair is not valid in a
        // Rust string.
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&broken).is_ok();
        prop_assert_eq!(ours, theirs, "{}", broken);
    }

    #[test]
    fn a_canonical_form_is_its_own_and_says_the_same(text in json()) {
        let document = Document::parse(&text).unwrap();
        let mut small = Vec::new();
        minified(document.root(), &mut small);
        let small = String::from_utf8(small).unwrap();
        let again = Document::parse(&small).unwrap();
        prop_assert!(same(document.root(), again.root()));
        prop_assert_eq!(canonical_of(&text), canonical_of(&small));
        prop_assert!(small.len() <= text.len());
    }

    #[test]
    fn values_are_the_same_exactly_if_their_canonical_forms_are(one in json(), other in json()) {
        let (a, b) = (Document::parse(&one).unwrap(), Document::parse(&other).unwrap());
        prop_assert_eq!(same(a.root(), b.root()), canonical_of(&one) == canonical_of(&other));
    }
}
