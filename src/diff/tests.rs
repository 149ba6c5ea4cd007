use proptest::prelude::*;

use self::oracle::{Json, Reader};
use super::*;
use crate::json::{Document, same};

#[path = "../../tests/support/oracle.rs"]
#[allow(dead_code, unreachable_pub)]
mod oracle;
mod pages;

fn applied(kind: DeltaKind, base: &str, patch: &str, reader: Reader) -> Result<Json, String> {
    let read = |text| Json::read(text, reader);
    match kind {
        DeltaKind::JsonPatch => oracle::json_patch(read(base), &read(patch)),
        DeltaKind::MergePatch => Ok(oracle::merge_patch(read(base), &read(patch))),
        DeltaKind::Splice => oracle::splice(base, &read(patch)).map(|text| Json::String(text.encode_utf16().collect())),
    }
}

/// Checks the properties that every delta must have. Returns the patch, if there is one.
fn check(kind: DeltaKind, base: &str, target: &str) -> Option<String> {
    let differ = ALL.iter().find(|differ| differ.kind() == kind).expect("it is in the table");
    let patch = match differ.diff(base, target, &mut Budget::default()) {
        Ok(patch) => String::from_utf8(patch).expect("a patch is text"),
        Err(_) => return None,
    };
    for reader in [Reader::FirstWins, Reader::LastWins] {
        let expected = match kind {
            DeltaKind::Splice => Json::String(target.encode_utf16().collect()),
            _ => Json::read(target, reader),
        };
        assert_eq!(
            applied(kind, base, &patch, reader),
            Ok(expected),
            "{kind} by a reader for whom {reader:?}\n from {base}\n to   {target}\n by   {patch}"
        );
    }
    Some(patch)
}

fn operations(patch: &str) -> usize {
    patch.matches("\"op\":").count()
}

fn json_patch(base: &str, target: &str) -> String {
    check(DeltaKind::JsonPatch, base, target).unwrap_or_else(|| panic!("no delta from {base} to {target}"))
}

#[test]
fn a_changed_field_is_one_operation() {
    let base = r#"{ "a": {"b": [1, {"c": 10000000000000000000001}]}, "rest": "the same" }"#;
    let target = r#"{"rest":"the same","a":{"b":[1,{"c":10000000000000000000002}]}}"#;
    assert_eq!(json_patch(base, target), r#"[{"op":"replace","path":"/a/b/1/c","value":10000000000000000000002}]"#);
    let merged = check(DeltaKind::MergePatch, base, target).expect("a patch");
    assert_eq!(merged, r#"{"a":{"b":[1,{"c":10000000000000000000002}]}}"#);
}

#[test]
fn odd_keys_are_named_as_they_are() {
    let patch = json_patch(
        r#"{"a/b":{"~":{"\"\n\ud800é":1}},"x":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}"#,
        r#"{"a\/b":{"~":{"\"\n\uD800\u00e9":2}},"x":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}"#,
    );
    assert_eq!(patch, "[{\"op\":\"replace\",\"path\":\"/a~1b/~0/\\\"\\u000a\\ud800é\",\"value\":2}]");
}

fn items(range: std::ops::Range<usize>) -> Vec<String> {
    range
        .map(|n| {
            format!(
                r#"{{"id":{n},"name":"item number {n}","tags":["a","b",{}],"nested":{{"x":{},"y":"{}"}},"text":"{}"}}"#,
                n % 7,
                n * 3,
                n % 5,
                "lorem ipsum ".repeat(6)
            )
        })
        .collect()
}

#[test]
fn an_insert_at_the_head_of_600_items_is_one_operation() {
    for keyed in [true, false] {
        let text = |items: &[String]| {
            let text = format!("[{}]", items.join(","));
            if keyed { text } else { text.replace("\"id\":", "\"n\":[],\"_\":") }
        };
        let base = items(1..601);
        let mut target = vec![items(9000..9001).remove(0)];
        target.extend_from_slice(&base);
        let patch = json_patch(&text(&base), &text(&target));
        assert_eq!(operations(&patch), 1, "{patch}");
        assert!(patch.len() < 1024, "{} bytes", patch.len());
    }
}

#[test]
fn items_with_an_identity_are_followed_wherever_they_go() {
    let mut list = items(0..200);
    let base = format!("{{\"list\":[{}]}}", list.join(","));
    list.remove(150);
    let moved = list.remove(120);
    list.insert(0, moved.replace("item number", "renamed"));
    list.insert(60, items(777..778).remove(0));
    list.swap(10, 11);
    let target = format!("{{\"list\":[{}]}}", list.join(","));
    let patch = json_patch(&base, &target);
    assert_eq!(operations(&patch), 5, "{patch}");
    assert!(patch.contains("\"op\":\"move\"") && patch.contains("/list/0/name"), "{patch}");
}

#[test]
fn an_identity_is_found_whatever_it_is_called() {
    let list = |values: &[(u32, u32)]| {
        let items: Vec<String> = values
            .iter()
            .map(|(job, left)| {
                format!(r#"{{"job":"j{job}","left":{left},"text":"a text that is long enough to matter"}}"#)
            })
            .collect();
        format!("[{}]", items.join(","))
    };
    let patch = json_patch(&list(&[(1, 10), (2, 20), (3, 30), (4, 40)]), &list(&[(2, 19), (3, 29), (4, 39), (5, 50)]));
    assert!(patch.contains(r#"{"op":"remove","path":"/0"}"#), "{patch}");
    assert!(patch.contains(r#"{"op":"replace","path":"/0/left","value":19}"#), "{patch}");
    assert_eq!(operations(&patch), 5, "{patch}");
}

#[test]
fn where_saying_a_part_again_is_shorter_it_is_said_again() {
    let patch = json_patch(
        r#"{"keep":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","p":{"a":1,"b":2,"c":3}}"#,
        r#"{"keep":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","p":{"a":4,"b":5,"c":6}}"#,
    );
    assert_eq!(patch, r#"[{"op":"replace","path":"/p","value":{"a":4,"b":5,"c":6}}]"#);
}

#[test]
fn what_a_merge_patch_cannot_say_it_does_not_say() {
    for (base, target) in [
        (r#"{"a":1}"#, r#"{"a":null}"#),
        (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
        (r#"{"a":1}"#, r#"{"a":{"b":{"c":null}}}"#),
        (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"c":null}}"#),
        (r#"[1]"#, r#"{"a":null}"#),
        (r#"{"a":{"b":1,"b":2}}"#, r#"{"a":{"b":3}}"#),
        (r#"{"a":1}"#, r#"{"a":{"b":1,"b":2}}"#),
    ] {
        let refused = MERGE.diff(base, target, &mut Budget::default());
        assert_eq!(refused, Err(NoDelta::Inexpressible), "{base} {target}");
    }
    for (base, target, patch) in [
        (r#"{"a":null,"b":1,"long":"xxxxxxx"}"#, r#"{"a":null,"b":2,"long":"xxxxxxx"}"#, r#"{"b":2}"#),
        (r#"{"a":[1],"long":"xxxxxxxxx"}"#, r#"{"a":[null],"long":"xxxxxxxxx"}"#, r#"{"a":[null]}"#),
        (r#"{"a":{"b":1,"c":2},"d":"xxxx"}"#, r#"{"a":{},"d":"xxxx"}"#, r#"{"a":{"b":null,"c":null}}"#),
        (r#"{"a":1,"b":"xxxxxxxxxxxxxx"}"#, r#"{"b":"xxxxxxxxxxxxxx"}"#, r#"{"a":null}"#),
        ("{\"a\":1}", "null ", "null"),
        ("3", " {\"a\":1} ", "{\"a\":1}"),
    ] {
        if base.len() < 10 {
            check(DeltaKind::MergePatch, base, target);
        }
        assert_eq!(check(DeltaKind::MergePatch, base, target).as_deref(), Some(patch), "{base} {target}");
    }
}

const MERGE: merge_patch::MergePatch = merge_patch::MergePatch;

#[test]
fn splices_are_small_and_count_as_javascript_does() {
    for (base, target, patch) in [
        ("the time is 12:01, all is well", "the time is 12:02, all is well", r#"[[16,1,"2"]]"#),
        ("😀😀 a long enough text", "😀😁 a long enough text", r#"[[2,2,"😁"]]"#),
        ("one\ntwo\nthree\nfour\nfive\n", "one\nthree\nfour and\nfive\n", r#"[[5,3,"hree"],[10,0,"four and\u000a"]]"#),
    ] {
        let found = check(DeltaKind::Splice, base, target).expect("a delta");
        assert!(found.len() <= patch.len(), "{found} is longer than {patch}");
    }
    let page = |a: u32, b: u32| {
        let rows: String = (0..300).map(|n| format!("<tr><td>{n}</td><td>row number {n}</td></tr>")).collect();
        format!("<html><p>{a} users</p><table>{rows}</table><p>it is {b}</p></html>")
    };
    let patch = check(DeltaKind::Splice, &page(17, 100), &page(18, 222)).expect("a delta");
    assert!(patch.len() < 60, "{patch}");
}

#[test]
fn a_budget_is_kept_whatever_the_pair() {
    let numbers = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let items: Vec<String> = (0..200_000).map(|_| rng.u32(..50).to_string()).collect();
        format!("[{}]", items.join(","))
    };
    let (base, target) = (numbers(1), numbers(2));
    for kind in DeltaKind::ALL {
        assert!(delta(kind, &base, &target).is_err(), "{kind}");
    }
    let differ = &json_patch::JsonPatch;
    assert_eq!(differ.diff(&base, &target, &mut Budget::new(1000)), Err(NoDelta::Budget));
}

#[test]
fn what_is_not_smaller_is_not_sent() {
    for kind in DeltaKind::ALL {
        assert!(delta(kind, r#"{"a":1}"#, r#"{"b":2}"#).is_err(), "{kind}");
    }
    assert_eq!(delta(DeltaKind::JsonPatch, "{", "{}"), Err(NoDelta::Inexpressible));
    assert_eq!(delta(DeltaKind::Splice, "", ""), Err(NoDelta::Size));
}

/// Generates JSON with similar parts, so that pairs have much in common.
fn json() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["id", "a", "b", "c/d", "e~", "\\u0061", "name", "é😀", "\\ud800", ""]);
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        (0u32..6).prop_map(|n| n.to_string()),
        prop::sample::select(vec!["1.0", "1e2", "-0", "9007199254740993", "0.1000000000000000055511151231257827"])
            .prop_map(str::to_owned),
        prop::sample::select(vec![
            "\"x\"",
            "\"\\u0078\"",
            "\"\"",
            "\"\\ude00\\n\"",
            "\"日本 😀\"",
            "\"a longer string\""
        ])
        .prop_map(str::to_owned),
    ];
    scalar.prop_recursive(6, 64, 8, move |inner| {
        let object = |inner: BoxedStrategy<String>, key| {
            prop::collection::vec((key, inner), 0..6).prop_map(|members: Vec<(&str, String)>| {
                let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                format!("{{{}}}", members.join(", "))
            })
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(|items| format!("[{}]", items.join(" ,"))),
            object(inner.clone().boxed(), key.clone()),
            prop::collection::vec((0u32..9, inner), 0..8).prop_map(|items| {
                let items: Vec<_> = items.into_iter().map(|(id, v)| format!("{{\"id\":{id},\"v\":{v}}}")).collect();
                format!("[{}]", items.join(","))
            }),
        ]
    })
}

/// Generates text with all kinds of characters that are hard to count.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![
            prop::sample::select(vec![
                "word ",
                "\n",
                "\r\n",
                "é",
                "😀",
                "😁",
                "日本",
                "<td>",
                "</td>",
                "&nbsp;",
                "\u{301}",
                "12",
                "13",
                "\"",
                "\\",
                "\u{2028}",
                "\u{1}",
                "a line that is the same\n",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,3}",
        ],
        0..40,
    )
    .prop_map(|parts| parts.concat())
}

/// Generates a list of identified items, and the same list with some items moved, removed, added and changed.
fn shuffled() -> impl Strategy<Value = (String, String)> {
    (0usize..14, prop::collection::vec((0usize..20, 0usize..20, 0u8..4), 0..10)).prop_map(|(count, moves)| {
        let item =
            |id: usize, v: usize| format!("{{\"id\":\"{id}\",\"v\":{v},\"pad\":\"some text to make it worth it\"}}");
        let mut list: Vec<(usize, usize)> = (0..count).map(|n| (n, n)).collect();
        let text = |list: &[(usize, usize)]| {
            format!("{{\"l\":[{}]}}", list.iter().map(|(id, v)| item(*id, *v)).collect::<Vec<_>>().join(","))
        };
        let base = text(&list);
        for (n, (from, to, what)) in moves.into_iter().enumerate() {
            match what {
                0 => list.insert(to.min(list.len()), (100 + n, 0)),
                _ if list.is_empty() => {}
                1 => drop(list.remove(from % list.len())),
                2 => {
                    let item = list.remove(from % list.len());
                    list.insert(to.min(list.len()), item);
                }
                _ => {
                    let at = from % list.len();
                    list[at].1 += 1000;
                }
            }
        }
        (base, text(&list))
    })
}

proptest! {
    #[test]
    fn json_deltas_make_the_target(base in json(), target in json()) {
        check(DeltaKind::JsonPatch, &base, &target);
        check(DeltaKind::MergePatch, &base, &target);
    }

    #[test]
    fn lists_are_brought_into_order((base, target) in shuffled()) {
        check(DeltaKind::JsonPatch, &base, &target);
    }

    #[test]
    fn splices_make_the_target(base in text(), target in text()) {
        prop_assert!(check(DeltaKind::Splice, &base, &target).is_some() || target.len() < 400);
    }

    #[test]
    fn what_is_sent_is_smaller_than_the_target(base in json(), target in json(), one in text(), other in text()) {
        for (kind, base, target) in [
            (DeltaKind::JsonPatch, &base, &target),
            (DeltaKind::MergePatch, &base, &target),
            (DeltaKind::Splice, &one, &other),
        ] {
            if let Ok(patch) = delta(kind, base, target) {
                prop_assert!(patch.len() < target.len());
            }
        }
    }

    #[test]
    fn deltas_along_a_history_lead_where_one_delta_leads(history in prop::collection::vec(json(), 2..5)) {
        for kind in [DeltaKind::JsonPatch, DeltaKind::MergePatch] {
            let mut held = Json::read(&history[0], Reader::LastWins);
            for pair in history.windows(2) {
                held = match delta(kind, &pair[0], &pair[1]) {
                    Ok(patch) => {
                        let patch = Json::read(std::str::from_utf8(&patch).unwrap(), Reader::LastWins);
                        match kind {
                            DeltaKind::JsonPatch => oracle::json_patch(held, &patch).unwrap(),
                            _ => oracle::merge_patch(held, &patch),
                        }
                    }
                    Err(_) => Json::read(&pair[1], Reader::LastWins),
                };
            }
            prop_assert_eq!(held, Json::read(history.last().unwrap(), Reader::LastWins));
        }
    }

    #[test]
    fn splices_along_a_history_lead_to_its_end(history in prop::collection::vec(text(), 2..6)) {
        let mut held = history[0].clone();
        for target in &history[1..] {
            held = match delta(DeltaKind::Splice, &held, target) {
                Ok(patch) => {
                    let patch = Json::read(std::str::from_utf8(&patch).unwrap(), Reader::LastWins);
                    oracle::splice(&held, &patch).unwrap()
                }
                Err(_) => target.clone(),
            };
            prop_assert_eq!(&held, target);
        }
    }

    #[test]
    fn what_lies_deep_is_found(depth in 1usize..100, lists in any::<u128>(), base in json(), target in json()) {
        let deep = |inner: &str| {
            let mut text = inner.to_owned();
            for level in 0..depth {
                text = if lists >> level & 1 == 0 { format!("{{\"é😀\":{text},\"\":[]}}") } else { format!("[{{}}, {text}]") };
            }
            text
        };
        check(DeltaKind::JsonPatch, &deep(&base), &deep(&target));
        check(DeltaKind::MergePatch, &deep(&base), &deep(&target));
    }

    #[test]
    fn equal_values_need_no_edit(one in json(), other in json()) {
        let (a, b) = (Document::parse(&one).unwrap(), Document::parse(&other).unwrap());
        struct Count(usize);
        impl<'d> Edits<'d> for Count {
            fn edit(&mut self, _: &[Step<'d>], _: Edit<'d>) -> Result<(), Exhausted> {
                self.0 += 1;
                Ok(())
            }
        }
        let mut count = Count(0);
        edits(a.root(), b.root(), &mut count, &mut Budget::default()).unwrap();
        prop_assert_eq!(count.0 == 0, same(a.root(), b.root()), "{} edits from {} to {}", count.0, one, other);
    }
}
