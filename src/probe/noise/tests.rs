use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::model::Validators;

/// The verdict on a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Same,
    Noise,
    News,
}

/// A fetched resource and its learned noise.
struct Watched {
    learner: NoiseLearner,
    base: Rules,
    media_type: &'static str,
    start: Instant,
    /// The last body, and whether clients hold an older one that differs in noise.
    known: Option<Representation>,
    behind: bool,
    fetches: u64,
}

const BEGIN: f64 = 1_763_809_200.0;

impl Watched {
    fn new(media_type: &'static str) -> Self {
        let start = Instant::now();
        let learner = NoiseLearner::new(Arc::default());
        Self { learner, base: Rules::default(), media_type, start, known: None, behind: false, fetches: 0 }
    }

    fn representation(&self, body: String) -> Representation {
        Representation {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(self.media_type))]),
            body: Bytes::from(body),
            validators: Validators::default(),
            coded: None,
            sets_cookie: false,
            ahead: 0,
        }
    }

    /// Simulates a fetch at `at` seconds; `quick` means in direct succession, only for learning.
    fn fetch(&mut self, at: f64, quick: bool, body: impl Fn(u64, f64) -> String) -> Found {
        self.fetches += 1;
        let new = self.representation(body(self.fetches, at));
        let (when, wall) =
            (self.start + Duration::from_secs_f64(at), SystemTime::UNIX_EPOCH + Duration::from_secs_f64(BEGIN + at));
        if quick || self.known.is_none() {
            self.learner.sample(&new, when, wall);
            self.known.get_or_insert(new);
            return Found::News;
        }
        let known = self.known.replace(new.clone()).expect("a first fetch");
        let meaning = |it: &Representation| self.base.meaning(it, it.digest()).digest;
        let found = if known.same(&new) {
            match self.learner.rests(&known, when, wall) || !self.behind {
                true => Found::Same,
                false => Found::News,
            }
        } else if meaning(&known) == meaning(&new) {
            Found::Same
        } else if self.learner.is_noise(&known, &new, when, wall, false) {
            Found::Noise
        } else {
            Found::News
        };
        self.behind = match found {
            Found::News => false,
            Found::Noise => true,
            Found::Same => self.behind,
        };
        found
    }

    /// Simulates fetches at each of `times`; the first three are in direct succession.
    fn run(&mut self, times: impl IntoIterator<Item = f64>, body: impl Fn(u64, f64) -> String) -> Vec<(f64, Found)> {
        if self.known.is_none() {
            for n in 0..3 {
                self.fetch(f64::from(n) / 200.0, n > 0, &body);
            }
        }
        times.into_iter().map(|at| (at, self.fetch(at, false, &body))).collect()
    }

    fn rules(&self) -> Vec<String> {
        self.learner.parts().iter().map(|part| format!("{} {}", part.rule.text(), part.why)).collect()
    }
}

/// Returns times from `from` to `until` with this distance.
fn every(gap: f64, from: f64, until: f64) -> impl Iterator<Item = f64> {
    (1..).map(move |n| from + gap * f64::from(n)).take_while(move |at| *at < until)
}

/// Returns a random-looking number for a number.
fn mixed(n: u64) -> u64 {
    let n = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

fn token(n: u64) -> String {
    format!("{:08x}{:08x}", mixed(n) & 0xffff_ffff, mixed(n + 1000) & 0xffff_ffff)
}

fn time_of_day(at: f64) -> String {
    let seconds = (BEGIN + at) as u64 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A kind of noise by name: its text in the `n`th fetch at a time.
type Noisy = fn(u64, f64) -> String;
const KINDS: [(&str, Noisy); 10] = [
    ("epoch", |_, at| format!("{:.0}", (BEGIN + at).floor())),
    ("millis", |_, at| format!("{:.0}", ((BEGIN + at) * 1000.0).floor())),
    ("time", |_, at| time_of_day(at)),
    ("date", |_, at| format!("2026-11-22T{}Z", time_of_day(at))),
    ("age", |_, at| format!("{:.0}", (5000.0 + at).floor())),
    ("countdown", |_, at| format!("{:.0}", (9000.0 - at).ceil())),
    ("uptime", |_, at| format!("{}m {}s", (600.0 + at) as u64 / 60, (600.0 + at) as u64 % 60)),
    ("counter", |n, _| format!("{}", 100 + n)),
    ("token", |n, _| token(n)),
    ("load", |n, _| format!("0.{:02}", 10 + mixed(n) % 80)),
];

/// Returns a body of this type with some noise, and the real values `number` and `word` in between.
fn body(media_type: &str, noise: &[(&str, String)], number: u64, word: &str) -> String {
    match media_type {
        "application/json" => {
            let noise: Vec<String> = noise.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
            format!("{{{},\"jobs\":{number},\"list\":[\"{word}\"],\"state\":\"{word}\"}}", noise.join(","))
        }
        "text/html" => {
            let noise: String =
                noise.iter().map(|(name, value)| format!("<li>The {name} is <b id={name}>{value}</b></li>")).collect();
            format!(
                "<html><body><ul>{noise}</ul><p id=jobs>{number}</p><p>state <i class={word}>{word}</i></p></body></html>"
            )
        }
        _ => {
            let noise: String = noise.iter().map(|(name, value)| format!("the {name} is {value}\n")).collect();
            format!("a report\n{noise}jobs waiting: {number}\nstate of all: {word}\n")
        }
    }
}

const FORMS: [&str; 3] = ["application/json", "text/html", "text/plain"];

#[test]
fn each_kind_of_noise_is_learned_and_news_beside_it_is_news() {
    for form in FORMS {
        for (name, value) in KINDS {
            for gap in [0.26, 1.02, 2.03] {
                let mut watched = Watched::new(form);
                let news = |at: f64| if at < 70.0 { 3 } else { 4 };
                let found =
                    watched.run(every(gap, 0.5, 90.0), |n, at| body(form, &[(name, value(n, at))], news(at), "calm"));
                let said = |found: &[(f64, Found)]| {
                    found.iter().filter(|(_, found)| *found == Found::News).map(|(at, _)| *at).collect::<Vec<_>>()
                };
                let late: Vec<_> = found.into_iter().filter(|(at, _)| *at > 30.0).collect();
                let news = said(&late);
                assert!(
                    news.len() == 1 && news[0] >= 70.0 && news[0] < 70.0 + gap,
                    "{name} in {form} each {gap} s: {news:?}, {:?}",
                    watched.rules()
                );
            }
        }
    }
}

#[test]
fn a_clock_that_stands_still_is_news_and_so_is_what_it_shows_then() {
    for gap in [0.26, 1.02] {
        let mut watched = Watched::new("application/json");
        let clock = |at: f64| format!("{:.0}", (BEGIN + at.min(40.0)).floor());
        let found =
            watched.run(every(gap, 0.5, 80.0), |_, at| body("application/json", &[("now", clock(at))], 1, "calm"));
        let news: Vec<f64> =
            found.iter().filter(|(at, found)| *at > 20.0 && *found == Found::News).map(|(at, _)| *at).collect();
        assert!(news.len() == 1 && news[0] > 40.0 && news[0] < 44.0, "each {gap} s: {news:?}");
    }
}

#[test]
fn a_clock_that_jumps_is_news_at_once() {
    let mut watched = Watched::new("text/plain");
    let clock = |at: f64| format!("{:.0}", (5000.0 + at + if at > 40.0 { 4000.0 } else { 0.0 }).floor());
    let found = watched.run(every(0.5, 0.5, 80.0), |_, at| format!("up for {} seconds\n", clock(at)));
    let news: Vec<f64> =
        found.iter().filter(|(at, found)| *at > 20.0 && *found == Found::News).map(|(at, _)| *at).collect();
    assert!(news.first().is_some_and(|at| *at > 40.0 && *at < 41.0), "{news:?} {:?}", watched.rules());
    assert!(news.last().is_some_and(|at| *at < 50.0), "it is a clock again: {news:?}");
}

#[test]
fn a_number_that_a_user_enters_is_news_each_time() {
    // Also in a list of counters.
    let mut watched = Watched::new("application/json");
    let entered = |at: f64| [5, 7, 9, 4, 4, 11][(at as usize / 15).min(5)];
    let found = watched.run(every(0.5, 0.5, 90.0), |n, at| {
        format!("{{\"items\":[{{\"n\":{}}},{{\"n\":{}}},{{\"n\":{}}}]}}", n * 3, entered(at), mixed(n) % 50)
    });
    let news: Vec<f64> =
        found.iter().filter(|(at, found)| *at > 10.0 && *found == Found::News).map(|(at, _)| at.floor()).collect();
    assert_eq!(news, [15.0, 30.0, 45.0, 75.0], "{:?}", watched.rules());
}

#[test]
fn a_count_of_events_is_news_however_evenly_they_come() {
    for form in FORMS {
        for (gap, distance) in [(0.25, 1.5), (0.5, 2.0), (2.0, 1.7), (2.0, 2.0), (3.0, 1.3)] {
            let mut watched = Watched::new(form);
            let events = |at: f64| (at / distance) as u64;
            let found = watched.run(every(gap, 0.5, 90.0), |n, at| {
                body(form, &[("load", format!("0.{:02}", 10 + mixed(n) % 80))], events(at), "calm")
            });
            let mut shown = events(0.5);
            for (at, found) in found {
                let is_new = std::mem::replace(&mut shown, events(at)) != events(at);
                assert!(!is_new || found == Found::News, "{form}, each {gap} s, at {at}: {:?}", watched.rules());
            }
        }
    }
}

#[test]
fn a_count_of_events_is_news_though_each_state_is_fetched_twice() {
    let mut watched = Watched::new("application/json");
    let events = |at: f64| (at / 1.8) as u64;
    let page = |_: u64, at: f64| format!("{{\"count\":{}}}", events(at));
    watched.fetch(0.0, false, page);
    for at in every(0.05, 0.0, 90.0) {
        let is_new = events(at) != events(at - 0.05);
        let found = watched.fetch(at, false, page);
        if is_new {
            assert_eq!(found, Found::News, "at {at}: {:?}", watched.rules());
            watched.fetch(at + 0.005, true, page);
        }
    }
}

#[test]
fn a_number_that_changes_with_a_write_is_news_whatever_it_did_before() {
    let mut watched = Watched::new("application/json");
    let state = |written: u64| {
        move |n: u64, at: f64| {
            let now = (BEGIN + at).floor();
            format!("{{\"now\":{now:.0},\"users\":{},\"jobs\":{written}}}", 40 + mixed(n) % 20)
        }
    };
    let found = watched.run(every(0.5, 0.5, 40.0), state(1));
    assert!(
        found.iter().filter(|(at, found)| *at > 20.0 && *found == Found::News).count() == 0,
        "{:?}",
        watched.rules()
    );
    // The number of users is one that changes all the time.
    watched.learner.stirred(watched.start + Duration::from_secs_f64(40.0));
    assert_eq!(watched.fetch(40.0, false, state(1)), Found::News);
    assert_eq!(watched.fetch(42.0, false, state(1)), Found::Noise);
}

#[test]
fn what_was_noise_and_rests_is_news_when_it_moves_again() {
    let mut watched = Watched::new("application/json");
    let value = |n: u64, at: f64| match at {
        at if at < 30.0 => mixed(n) % 100,
        at if at < 80.0 => 7,
        _ => 9,
    };
    let found = watched.run(every(0.5, 0.5, 100.0), |n, at| format!("{{\"x\":{},\"jobs\":1}}", value(n, at)));
    let news: Vec<f64> =
        found.iter().filter(|(at, found)| *at > 10.0 && *found == Found::News).map(|(at, _)| at.floor()).collect();
    assert_eq!(news.len(), 2, "{news:?}");
    assert!(news[0] > 30.0 && news[0] < 45.0 && news[1] >= 80.0 && news[1] < 81.0, "{news:?}");
}

#[test]
fn a_counter_that_begins_anew_and_a_measure_out_of_bounds_are_news() {
    let mut watched = Watched::new("application/json");
    let found = watched.run(every(0.5, 0.5, 60.0), |n, at| {
        let counter = if at < 30.0 { n } else { n % 60 };
        let load = if (40.0..40.4).contains(&at) { 9000 } else { mixed(n) % 20 };
        format!("{{\"requests\":{counter},\"load\":{load}}}")
    });
    let news: Vec<f64> =
        found.iter().filter(|(at, found)| *at > 10.0 && *found == Found::News).map(|(at, _)| at.floor()).collect();
    assert!(news.contains(&30.0) && news.contains(&40.0) && news.len() <= 10, "{news:?}");
}

#[test]
fn a_status_in_a_cell_that_counts_is_news() {
    let mut watched = Watched::new("text/html");
    let page = |n: u64, class: &str, word: &str, jobs: u64| {
        format!(
            "<html><body><table><tr><td class={class}>{word}: {jobs} jobs, load {}.{}</td><td>x</td></tr></table><p>{}</p></body></html>",
            mixed(n) % 9,
            mixed(n + 7) % 9,
            "text ".repeat(60)
        )
    };
    let found = watched.run(every(0.5, 0.5, 60.0), |n, at| {
        let (class, word) = if at < 40.0 { ("ok", "up") } else { ("bad", "up") };
        page(n, class, if at < 50.0 { word } else { "down" }, if at < 30.0 { 3 } else { 4 })
    });
    let news: Vec<f64> =
        found.iter().filter(|(at, found)| *at > 20.0 && *found == Found::News).map(|(at, _)| at.floor()).collect();
    let early: Vec<f64> = news.into_iter().filter(|at| *at <= 50.0).collect();
    assert!(early.starts_with(&[30.0, 40.0, 50.0]), "{early:?} {:?}", watched.rules());
}

#[test]
fn what_changes_at_each_look_is_learned_without_looks_in_succession() {
    let mut watched = Watched::new("application/json");
    // A measurement that is taken once a second.
    let value = |at: f64| mixed(at as u64) % 500;
    let found = watched.run(every(0.25, 0.5, 60.0), |_, at| format!("{{\"rate\":{},\"jobs\":1}}", value(at)));
    assert!(found.iter().all(|(at, found)| *at < 20.0 || *found != Found::News), "{:?}", watched.rules());
    // A rarely taken measurement counts as real.
    let mut rarely = Watched::new("application/json");
    let found =
        rarely.run(every(0.25, 0.5, 60.0), |_, at| format!("{{\"rate\":{},\"jobs\":1}}", mixed(at as u64 / 7) % 500));
    assert!(found.iter().filter(|(_, found)| *found == Found::News).count() >= 8);
}

#[test]
fn memory_is_bounded() {
    let mut watched = Watched::new("text/plain");
    let rest = "x".repeat(200 << 10);
    watched.run(every(1.0, 0.5, 30.0), |n, _| format!("number {n} of many\n{rest}"));
    assert!(watched.learner.weight() <= MAX_BYTES as u64 && watched.learner.samples.len() >= 2);
    let rest = "x".repeat(300 << 10);
    watched.run(every(1.0, 40.0, 50.0), |n, _| format!("number {n} of many\n{rest}"));
    assert!(watched.learner.weight() == 0 && watched.learner.parts.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// For all kinds of noise and fetch intervals: a change in a part without noise is detected at once, and after a
    /// minute of learning, noise alone is not a change.
    #[test]
    fn news_in_a_quiet_part_is_never_taken_for_noise(
        form in prop::sample::select(FORMS.to_vec()),
        kinds in prop::sample::subsequence(KINDS.to_vec(), 0..6),
        gap in prop::sample::select(vec![0.26, 0.5, 0.9, 1.7, 3.1]),
        numbers in prop::collection::vec((0.0f64..120.0, 0u64..30), 0..6),
        words in prop::collection::vec((0.0f64..120.0, "[a-z]{3,7}"), 0..4),
    ) {
        let mut watched = Watched::new(form);
        let at_last = |changes: &[(f64, u64)], at: f64| changes.iter().filter(|(when, _)| *when <= at).max_by(|a, b| a.0.total_cmp(&b.0)).map_or(3, |(_, value)| *value);
        let word = |at: f64| words.iter().filter(|(when, _)| *when <= at).max_by(|a, b| a.0.total_cmp(&b.0)).map_or("calm", |(_, word)| word.as_str());
        let state = |at: f64| (at_last(&numbers, at), word(at).to_owned());
        let found = watched.run(every(gap, 0.5, 120.0), |n, at| {
            let noise: Vec<(&str, String)> = kinds.iter().map(|(name, value)| (*name, value(n, at))).collect();
            let (number, word) = state(at);
            body(form, &noise, number, &word)
        });
        let mut before = state(0.0);
        for (at, found) in found {
            let now = state(at);
            if now != before {
                prop_assert_eq!(found, Found::News, "at {} {:?}", at, watched.rules());
            } else if at > 60.0 {
                prop_assert_ne!(found, Found::News, "at {} {:?}", at, watched.rules());
            }
            before = now;
        }
    }
}
