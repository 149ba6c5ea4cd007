use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::model::Validators;

/// Creates five fetches in direct succession, and five with pauses of two seconds; `body` is called with the number of
/// the fetch and the time in seconds.
fn samples(media_type: &'static str, body: impl Fn(u64, f64) -> String) -> Vec<Sample> {
    let fetches = (0..10_u64).map(|fetch| {
        let at = if fetch < 5 { Duration::from_millis(5 * fetch) } else { Duration::from_secs(2 * (fetch - 4)) };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        let representation = Representation {
            status: StatusCode::OK,
            headers: headers.clone(),
            body: Bytes::from(body(fetch, at.as_secs_f64())),
            validators: Validators::default(),
            coded: None,
            sets_cookie: false,
            ahead: 0,
        };
        let wall = 1_763_809_200.0 + at.as_secs_f64();
        Sample { representation, headers, at, wall, took: Duration::from_millis(2), spaced: fetch >= 5 }
    });
    fetches.collect()
}

fn rules(report: &Report) -> Vec<&str> {
    report.ignored.iter().filter_map(|finding| finding.rule.as_ref()).map(Rule::text).collect()
}

fn token(fetch: u64) -> String {
    format!("{:016x}", (fetch + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[test]
fn what_is_the_same_needs_no_rule() {
    for (media_type, body) in [("application/json", "{\"a\":1}"), ("text/html", "<p>1</p>"), ("image/png", "x")] {
        let report = examine(&samples(media_type, |_, _| body.to_owned()));
        assert!(report.is_silent() && report.ignored.is_empty() && report.undecided.is_empty(), "{report:?}");
    }
    // A different spelling of the same JSON is not a change.
    let report = examine(&samples("application/json", |fetch, _| {
        ["{\"a\":1,\"b\":2}", "{ \"b\":2,\"a\":1 }"][fetch as usize % 2].into()
    }));
    assert!(report.is_silent() && report.ignored.is_empty() && report.differing == 9, "{report:?}");
}

#[test]
fn rules_are_as_narrow_as_the_place_allows() {
    let report = examine(&samples("text/html", |fetch, at| {
        format!(
            "<p>3 jobs</p><p>{:.0}</p><p>17</p><ul><li>queued</ul><a href='/x?t={}'>x</a><a href='/y'>y</a>\
             <table><tr><td class=ac>{:.0}s UP</td><td>4</td></tr></table>",
            5000.0 + at,
            token(fetch),
            100.0 + at,
        )
    }));
    assert!(report.is_silent(), "{report:?}");
    let found = rules(&report);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.contains(&"p:nth-child(2)"), "{found:?}");
    assert!(
        found.iter().any(|rule| rule.starts_with('a') && rule.ends_with("@href") && rule.contains("nth-child")),
        "{found:?}"
    );
    // The duration of an uptime is noise, but a change from "up" to "down" is not.
    assert!(found.iter().any(|rule| rule.ends_with(r") \w+")), "{found:?}");
}

#[test]
fn numbers_are_found_by_the_line_above_that_names_them() {
    let report = examine(&samples("text/plain", |fetch, _| {
        let n = fetch + 95;
        format!("Active: 1\nserver accepts handled requests\n {n} {n} {} \nWaiting: 0\n", n * 3)
    }));
    assert!(report.is_silent(), "{report:?}");
    assert!(rules(&report).iter().all(|rule| rule.starts_with(r"accepts handled requests\n")), "{report:?}");
}

#[test]
fn numbers_are_whole_however_they_are_written() {
    let divided = |n: u64| match n {
        0..1000 => n.to_string(),
        n => format!("<span class=rls>{}</span>{:03}", n / 1000, n % 1000),
    };
    let page = |fetch: u64, rate: u64| {
        format!(
            "<table><tr><th>Cum. requests:</th><td>{}</td></tr><tr><th>Total time:</th><td>{} / {}</td><td>ms</td></tr>\
             <tr><th>Jobs:</th><td>{}</td></tr><tr><th>Other</th><td>5 / 7</td></tr></table>",
            divided(990 + fetch),
            divided(fetch * 700),
            fetch % 3,
            divided(rate)
        )
    };
    let report = examine(&samples("text/html", |fetch, _| page(fetch, 1234)));
    assert!(report.is_silent(), "{report:?}");
    // The values continue to grow, and real changes are still detected.
    let rules = compiled(report.ignored.iter().filter_map(|finding| finding.rule.as_ref()));
    let meaning = |text: String| {
        let fetches = samples("text/html", |_, _| text.clone());
        rules.meaning(&fetches[0].representation, fetches[0].representation.digest()).digest
    };
    assert_eq!(meaning(page(1, 1234)), meaning(page(1_234_567, 1234)), "{report:?}");
    assert_ne!(meaning(page(1, 1234)), meaning(page(1, 1235)), "{report:?}");
}

#[test]
fn lengths_of_time_that_go_in_steps_are_no_news() {
    let report = examine(&samples("text/html", |fetch, _| {
        let since = if fetch < 7 { "0s" } else { "4s" };
        let took = ["4", "5 / 17"][usize::from(fetch > 7)];
        format!(
            "<table><tr><td>node</td><td class=last>{since}</td><td>{}</td></tr><tr><th>Total time:</th><td>{took}</td>\
             <td>ms</td></tr></table>",
            "up ".repeat(30)
        )
    }));
    assert!(report.is_silent(), "{report:?}");
}

#[test]
fn a_unit_that_stands_in_the_next_cell_is_one() {
    let report = examine(&samples("text/html", |fetch, _| {
        let took = ["0 / 0", "<span class=\"rls\">2</span>003 / 2"][usize::from(fetch > 6)];
        let row = |name: &str, value: &str| format!("<tr><th>{name}</th><td>{value}</td><td>ms</td></tr>");
        let other = row("- Queue time:", "0 / 0") + &row("- Total time:", "0 / 0");
        let page = format!("<table class=det>{}{}</table>", row("- Queue time:", "0 / 0"), row("- Total time:", took));
        format!("{page}<table class=det>{other}</table><p><span>1</span>234</p>")
    }));
    assert!(report.is_silent(), "{report:?}");
}

#[test]
fn where_something_always_comes_and_goes_a_small_part_is_ignored_and_a_large_one_named() {
    let page = |fetch: u64, filling: &str| {
        let rows = "<li>a worker</li>".repeat(1 + fetch as usize % 3);
        format!("<h1>Status</h1><ul class=workers>{rows}</ul><p>{filling}</p>")
    };
    let small = examine(&samples("text/html", |fetch, _| page(fetch, &"text ".repeat(200))));
    assert!(small.is_silent(), "{small:?}");
    assert_eq!(rules(&small), ["ul.workers"]);
    let large = examine(&samples("text/html", |fetch, _| page(fetch, "text")));
    assert!(!large.is_silent() && large.ignored.is_empty(), "{large:?}");
    let named =
        large.undecided.iter().filter_map(|finding| finding.rule.as_ref()).any(|rule| rule.text() == "ul.workers");
    assert!(named, "{large:?}");
}

#[test]
fn what_comes_and_goes_is_left_to_who_knows() {
    let report = examine(&samples("application/json", |fetch, _| match fetch % 2 {
        0 => "{\"l\":[{\"id\":1}]}".to_owned(),
        _ => "{\"l\":[{\"id\":1},{\"id\":2}]}".to_owned(),
    }));
    assert!(!report.is_silent() && report.ignored.is_empty(), "{report:?}");
    assert!(report.undecided[0].why.contains("comes, goes or moves"), "{report:?}");
    assert_eq!(report.left, ["/l/*"]);
}

#[test]
fn pages_within_json_are_ignored_in_part() {
    let report = examine(&samples("application/json", |fetch, _| {
        format!(
            r#"{{"html":"<ul><li>one thing of many that are on this page<li>and another<li>request number {fetch} of today</ul>"}}"#
        )
    }));
    assert!(report.is_silent(), "{report:?}");
    assert!(rules(&report)[0].contains("request number (?<cut>"), "{report:?}");
}

#[test]
fn heads_are_read() {
    let mut fetches = samples("text/plain", |_, _| "x".to_owned());
    for (at, fetch) in fetches.iter_mut().enumerate() {
        fetch.headers.insert(ETAG, HeaderValue::from_str(&format!("\"{at}\"")).expect("a value"));
        fetch.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fetch.headers.insert(SET_COOKIE, HeaderValue::from_static("a=1"));
        fetch.headers.insert(VARY, HeaderValue::from_static("*, X-A, Accept"));
    }
    let hazards = CachingFindings::of(&fetches, Some(200));
    assert!(hazards.private && hazards.vary == ["x-a"]);
    assert!(hazards.caching[0].contains("differs where the body is the same"), "{hazards:?}");
    assert!(hazards.sharing[0].contains("(a) on 10 of 10 answers, the same each time"), "{hazards:?}");
    assert!(hazards.sharing[1].contains("Vary: *"), "{hazards:?}");
    for (name, value, expected) in [
        ("_", Some("1"), true),
        ("1763809200123", None, true),
        ("t", Some("1763809200123"), true),
        ("id", Some("7"), false),
        ("t", Some("7"), false),
    ] {
        assert_eq!(cache_buster(name, value), expected, "{name} {value:?}");
    }
    assert!(cursor("since") && cursor("RID") && !cursor("sort"));
}

fn facts(samples: &[Sample]) -> Facts<'_> {
    Facts {
        url: "http://127.0.0.1:1/a",
        upstream: Some("http://127.0.0.1:1"),
        insecure: false,
        path: "/a",
        query: None,
        varying: None,
        when: "now",
        every: Duration::from_secs(2),
        samples,
        failed: (0, None),
        gzipped: 1,
        encoded: None,
        without_credentials: Some(AnonymousResult::Same),
        max_body: 8 << 20,
    }
}

#[test]
fn what_only_gets_past_caches_is_named_once() {
    let fetches = samples("text/plain", |_, _| "x".to_owned());
    let report = examine(&fetches);
    for (query, expected) in [
        ("_=1", "ignore_query = [\"_\"] "),
        ("content=0&1795324069242", "ignore_query = [\"_\", \"#\"] "),
        ("ts=1795324069&1795324069242=&ts=2&_=3", "ignore_query = [\"_\", \"#\", \"ts\"] "),
    ] {
        let facts = Facts { query: Some(query), ..facts(&fetches) };
        let block = route_block(&facts, &report, &CachingFindings::default());
        assert!(block.contains(expected), "{query}:\n{block}");
    }
}

#[test]
fn what_two_urls_show_is_believed_only_where_it_was_tried() {
    let fetches = samples("text/plain", |_, _| "x".to_owned());
    let report = examine(&fetches);
    for (one, other, trial, expected) in [
        ("id=7&t=1", "id=7&t=2", Some(AnonymousResult::Same), "ignore_query = [\"_\", \"t\"] "),
        ("0.81", "0.7", Some(AnonymousResult::Same), "ignore_query = [\"_\", \"#.#\"] "),
        (
            "id=7",
            "id=8",
            Some(AnonymousResult::Other),
            "The parameter \"id\" differs between the two URLs; without it the answer is another",
        ),
        ("id=7", "id=8", Some(AnonymousResult::Refused(400)), "without it the application refuses"),
        ("ts=7", "ts=8", None, "could not be tried"),
        ("a8f3", "b77c", Some(AnonymousResult::Same), "no pattern of ignore_query covers it"),
        ("id=7&since=1", "id=7&since=2", Some(AnonymousResult::Same), "fetch = false "),
        ("ts=7", "ts=7", None, "its query is the same"),
    ] {
        let mut found = varying(Some(one), Some(other));
        found.iter_mut().for_each(|found| found.trial = trial);
        let facts = Facts { query: Some(one), varying: Some(&found), ..facts(&fetches) };
        let block = route_block(&facts, &report, &CachingFindings::default());
        assert!(block.replace("\n#   ", " ").contains(expected), "{one} {other}:\n{block}");
        assert_eq!(block.contains("\nignore_query"), expected.starts_with("ignore_query"), "{one} {other}:\n{block}");
    }
}

/// Activates the commented configuration in `block`, from the comment that begins with `lead` on.
fn chosen(block: &str, lead: &str) -> String {
    let at = block.find(&format!("# {lead}")).unwrap_or_else(|| panic!("no {lead} in\n{block}"));
    let (before, choice) = block.split_at(at);
    let end = choice.find("\n\n").unwrap_or(choice.len());
    let (choice, behind) = choice.split_at(end);
    format!("{before}{}{behind}", choice.replace("\n# ", "\n").trim_start_matches("# "))
}

#[test]
fn choices_are_configuration_once_their_marks_are_taken_away() {
    for (media_type, body, choices) in
        [("application/json", "{}", &["hold = ", "[[route]]"][..]), ("text/html", "<p>", &["shim = "])]
    {
        let fetches = samples(media_type, |_, _| body.to_owned());
        let block = route_block(&facts(&fetches), &examine(&fetches), &CachingFindings::default());
        assert!(block.contains("new EventSource(\"/a\")"), "{block}");
        for choice in choices {
            let text = chosen(&block, choice);
            let read: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
            let routes = read["route"].as_array().unwrap();
            let last = routes.last().unwrap();
            assert_eq!(routes.len(), 1 + usize::from(*choice == "[[route]]"), "{text}");
            assert!(last.get("hold").or(last.get("shim")).is_some(), "{text}");
        }
    }
}

proptest! {
    /// For any response, the output is valid TOML without control characters.
    #[test]
    fn what_is_printed_can_be_read(
        media_type in prop::sample::select(vec!["application/json", "text/html", "text/plain", "application/xml"]),
        bodies in prop::collection::vec("([\\[{}\\],:\"]|<[abp](>| [ci]d?=)|\\PC{0,4}|\u{1b}\\[2J|[0-9a-f]{9}|[0-9]{1,3}[: ][0-9]s?|\n|'){0,14}", 2..4),
    ) {
        let fetches = samples(media_type, |fetch, _| bodies[fetch as usize % bodies.len()].clone());
        let report = examine(&fetches);
        let block = route_block(&facts(&fetches), &report, &CachingFindings::of(&fetches, None));
        let read: Result<toml::Table, _> = block.parse();
        prop_assert!(read.is_ok(), "{:?} in\n{}", read.err(), block);
        prop_assert!(!block.chars().any(|c| c.is_control() && c != '\n'), "{}", block);
    }
}
