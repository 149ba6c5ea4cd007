use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::Kind;

const WALL: f64 = 1_763_809_200.0;

fn observer() -> Observer {
    Observer::new(RandomState::new())
}

/// Simulated traffic.
struct Site {
    observer: Observer,
}

impl Site {
    fn new() -> Self {
        Self { observer: observer() }
    }

    /// Simulates a request of `client`, signed in as `user` if given, at `at` seconds, with the response `body`.
    fn ask(&self, client: u64, user: &str, at: f64, method: &str, target: &str, body: &str) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let print = |text: &str| self.observer.fingerprint(text.as_bytes());
        let credentials = match user {
            "" => Vec::new(),
            user => vec![("cookie:sid".to_owned(), print(user))],
        };
        let form = if body.starts_with('<') { Form::Page } else { Form::Data };
        let exchange = Exchange {
            at: Duration::from_secs_f64(1000.0 + at),
            took: Some(Duration::from_millis(20)),
            client,
            method: method.to_owned(),
            path: path.to_owned(),
            parameters: self.observer.parameters(query),
            identity: Some(print(user)),
            credentials,
            answer: Answered {
                status: 200,
                bytes: Some(body.len() as u64),
                content: Some(print(body)),
                form,
                ..Answered::default()
            },
            ..Exchange::default()
        };
        let kind = if form == Form::Page { Kind::Html } else { Kind::Json };
        self.observer.note(&exchange, Some(&Body { kind, text: body, wall: WALL + at }));
    }

    fn report(&self) -> Report {
        self.observer.report(Duration::from_secs(600))
    }

    fn poll(&self, path: &str) -> PatternReport {
        let report = self.report();
        let found = report.polls.iter().find(|poll| poll.path == path);
        found.unwrap_or_else(|| panic!("{path} is not among {:?}", report.polls)).clone()
    }
}

#[test]
fn clients_that_poll_are_counted_and_people_are_not() {
    let site = Site::new();
    for n in 0..40 {
        for client in 0..4 {
            let at = f64::from(n) * 3.0 + client as f64 * 0.7;
            let body = format!("{{\"n\":{}}}", n / 10);
            site.ask(client, "", at, "GET", "/api/jobs", &body);
        }
    }
    let mut at = 0.0;
    for n in 0..20 {
        at += f64::from(n % 7) * 11.0 + 1.0;
        site.ask(9, "", at, "GET", &format!("/page/{n}"), "<p>x</p>");
    }
    let report = site.report();
    assert_eq!(report.polls.len(), 1, "{report:?}");
    let poll = &report.polls[0];
    assert_eq!((poll.polls, poll.clients, poll.changes, poll.identities), (160, 4, 12, 1));
    assert!((2.8..3.3).contains(&poll.interval), "{poll:?}");
    assert!(poll.same.unwrap_or_default() > 0.9);
    assert!((1.4..1.8).contains(&poll.late.today), "half of the interval: {:?}", poll.late);
    assert!(poll.late.then < poll.late.today && poll.requests_per_day.then * 3 < poll.requests_per_day.today * 2);
    assert!(poll.bytes_per_day.then * 5 < poll.bytes_per_day.today);
    assert_eq!(report.others[0].path, "/page/*");
    assert_eq!(poll.advice, Advice::Push);
}

#[test]
fn what_changes_by_itself_is_named_and_is_no_news() {
    let site = Site::new();
    for n in 0..20 {
        let at = f64::from(n) * 2.0;
        site.ask(1, "", at, "GET", "/a", &format!("{{\"now\":{},\"jobs\":[{}]}}", 1_763_809_200 + n * 2, n / 10));
        let clock = format!("{:02}:{:02}:{:02}", 11, 0, n * 2);
        site.ask(2, "", at, "GET", "/b", &format!("<p id=clock>{clock}</p><p>x</p>"));
        site.ask(3, "", at, "GET", "/c", &format!("{{\"load\":{}}}", f64::from(n) * 1.5));
    }
    let a = site.poll("/a");
    assert_eq!(a.volatile.iter().map(|part| (&*part.place, part.looks_like)).collect::<Vec<_>>(), [("/now", "clock")]);
    assert_eq!(a.changes, 1, "{a:?}");
    assert!(a.noise.unwrap_or_default() > 0.8);
    let b = site.poll("/b");
    assert_eq!((&*b.volatile[0].place, b.volatile[0].key, b.is_page), ("#clock", "css", true));
    let c = site.poll("/c");
    assert_eq!((c.volatile[0].looks_like, c.changes > 10), ("unknown", true), "nobody but who knows it can tell");
    let text = configuration(&site.report(), Some("http://a"));
    assert!(text.contains("ignore = { json = [\"/now\"] }") && text.contains("css = [\"#clock\"]"), "{text}");
    assert!(!text.contains("ignore = { json = [\"/load\"]"), "{text}");
}

#[test]
fn identities_are_told_apart_by_names_alone() {
    let site = Site::new();
    for n in 0..20 {
        for (client, user) in ["ann-secret", "bob-secret", "cyd-secret"].iter().enumerate() {
            let at = f64::from(n) * 4.0 + client as f64 * 0.5;
            // All clients have one address and one browser.
            site.ask(7, user, at, "GET", "/shared", &format!("{{\"n\":{}}}", n / 5));
            site.ask(7, user, at, "GET", "/own", &format!("{{\"user\":\"{user}\"}}"));
        }
    }
    let (shared, own) = (site.poll("/shared"), site.poll("/own"));
    assert_eq!((shared.clients, shared.identities, shared.answers, own.answers), (3, 3, "same", "different"));
    assert_eq!((&*shared.split_by[0].name, shared.split_by[0].values), ("cookie:sid", 3));
    let report = site.report();
    let said = format!("{report:?}{}{}", text(&report), configuration(&report, None));
    assert!(!said.contains("secret"), "{said}");
    assert!(configuration(&report, None).contains("# audience = \"public\""));
}

#[test]
fn what_must_not_be_fetched_is_not_and_says_why() {
    let site = Site::new();
    for n in 0..24 {
        let at = f64::from(n) * 2.0;
        site.ask(1, "", at, "GET", &format!("/chat?since={}", n / 3), &format!("{{\"n\":{}}}", n / 3));
        let message = if n % 4 == 3 { format!("{{\"message\":\"number {n}\"}}") } else { "{}".to_owned() };
        site.ask(2, "", at, "GET", "/queue", &message);
        site.ask(3, "", at, "GET", "/session/logout", "{}");
        site.ask(4, "", at, "GET", &format!("/stats?r=0.{}", n * 7919 % 1000), "{\"n\":1}");
        site.ask(5, &format!("{n}"), at, "GET", "/rotating", "{\"n\":1}");
        site.ask(6, "", at, "POST", "/rpc", "{\"n\":1}");
        site.ask(8, "", at, "GET", &format!("/other?q={}", n * 7919 % 1000), &format!("{{\"n\":{n}}}"));
    }
    for (path, advice, why) in [
        ("/chat", Advice::Tick, "cursor"),
        ("/queue", Advice::Tick, "queue"),
        ("/session/logout", Advice::Tick, "logout"),
        ("/rotating", Advice::Tick, "cookie:sid"),
        ("/rpc", Advice::Leave, "GET"),
        ("/other", Advice::Tick, "\"q\" is another one in each request"),
    ] {
        let poll = site.poll(path);
        assert!(poll.advice == advice && poll.why.iter().any(|said| said.contains(why)), "{path}: {poll:?}");
    }
    let stats = site.poll("/stats");
    assert_eq!((stats.advice, &*stats.ignore_query), (Advice::Push, &["r".to_owned()][..]));
    assert!(site.poll("/rpc").sends.is_some_and(|sends| sends.looks_like_a_read), "its answers never change");
}

#[test]
fn uploads_are_known_by_the_names_of_what_they_call() {
    let json = crate::model::MediaType::parse("application/json");
    let form = crate::model::MediaType::parse("application/x-www-form-urlencoded");
    for (media_type, body, expected) in [
        (
            &json,
            r#"{"method":"session-stats","arguments":{"secret":1}}"#,
            UploadKind::JsonRpc(vec!["session-stats".into()]),
        ),
        (
            &json,
            r#"[{"id":1,"method":"a.list"},{"id":2,"method":"a.get"}]"#,
            UploadKind::JsonRpc(vec!["a.list".into(), "a.get".into()]),
        ),
        (&json, r#"{"operationName":"Jobs","query":"query Jobs { jobs }"}"#, UploadKind::GraphQl(Some("Jobs".into()))),
        (&json, r#"{"query":"{ jobs { id } }"}"#, UploadKind::GraphQl(Some("queries".into()))),
        (&json, r#"{"query":"mutation Do { x }"}"#, UploadKind::GraphQl(None)),
        (&json, r#"{"a":1}"#, UploadKind::Other),
        (&json, "{", UploadKind::Other),
        (&form, "action=list&token=8f14e45fceea167a", UploadKind::Form(vec!["action".into(), "token".into()])),
    ] {
        assert_eq!(UploadKind::of(media_type, body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn a_flood_of_anything_stays_bounded_and_polls_among_it_are_found() {
    let site = Site::new();
    let mut random = fastrand::Rng::with_seed(11);
    let mut word = |least| -> String { (0..least + random.usize(..8)).map(|_| random.alphabetic()).collect() };
    let mut most = 0;
    for n in 0..60_000_u32 {
        let at = f64::from(n) * 0.005;
        if n % 400 == 0 {
            site.ask(1, "", at, "GET", "/api/jobs", "{\"n\":1}");
        }
        let target = format!("/{}/{}?{}={}&{}", word(3), word(3), word(1), word(9), word(2));
        let body = format!("{{\"{}\":\"{}\"}}", word(2), word(20));
        site.ask(u64::from(n) * 7919, &word(8), at, "GET", &target, &body);
        if n % 5000 == 0 {
            most = most.max(site.observer.entries());
        }
    }
    most = most.max(site.observer.entries());
    assert!(most < 100_000, "{most} entries");
    let poll = site.poll("/api/jobs");
    assert!(poll.polls > 100 && (1.8..2.3).contains(&poll.interval), "{poll:?}");
    let report = site.report();
    assert!(report.polls.len() <= 100 && report.others.len() <= 10);
    assert!(text(&report).len() < 100_000 && configuration(&report, None).len() < 100_000);
}

#[test]
fn routes_that_take_less_stand_first_and_each_path_once() {
    let site = Site::new();
    for n in 0..12 {
        for path in ["/jobs/17", "/jobs/18/log", "/jobs/all", "/", "/x/1.json", "/x/2"] {
            site.ask(1, "", f64::from(n) * 2.0, "GET", path, "{\"n\":1}");
        }
    }
    let paths: Vec<String> = routes(&site.report()).into_iter().map(|route| route.path).collect();
    let position = |path: &str| paths.iter().position(|known| known == path).unwrap_or_else(|| panic!("{paths:?}"));
    assert!(position("/jobs/all") < position("/jobs/*") && position("/x/*.json") < position("/x/*"));
    assert_eq!((paths.iter().collect::<BTreeSet<_>>().len(), position("/**")), (paths.len(), paths.len() - 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// For any traffic, no value is kept, and the tables stay bounded.
    #[test]
    fn whatever_passes_by_is_bounded(
        targets in prop::collection::vec("/[a-z/0-9.%*\\[\\]\"' ]{0,20}(\\?[a-z0-9=&_]{0,20})?", 1..6),
        bodies in prop::collection::vec("[\\[{<][a-zA-Z0-9:\",<>@='/ {}\\[\\]]{0,60}", 1..6),
        steps in prop::collection::vec((0_u8..4, 0_u8..6, 0_u8..6), 1..120),
    ) {
        let site = Site::new();
        for (at, (client, target, body)) in steps.iter().enumerate() {
            let target = &targets[usize::from(*target) % targets.len()];
            let body = &bodies[usize::from(*body) % bodies.len()];
            site.ask(u64::from(*client), "", at as f64, "GET", target, body);
        }
        let report = site.report();
        prop_assert!(site.observer.entries() < 10_000);
        prop_assert_eq!(report.totals.requests, steps.len() as u64);
        let text = configuration(&report, Some("http://127.0.0.1:8000"));
        prop_assert!(text.parse::<toml::Table>().is_ok(), "{}", text);
    }
}
