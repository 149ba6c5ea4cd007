//! Classifies the changes at a location.

use std::collections::{BTreeMap, BTreeSet};

use super::change_series::{Changes, Observation, Timeline};
use super::time_value::{Kind, TimeValue, time_value};
use super::value::untagged;

/// The reason why a value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Volatility {
    /// It shows the current time.
    Clock,
    /// It grows as time passes: an age, an uptime.
    Age,
    /// It shrinks as time passes.
    Countdown,
    /// It counts fetches.
    Counter,
    /// It is generated for each response.
    Token,
    /// It differs between fetches in direct succession, in an unknown way.
    Noise,
    /// It is a duration or an age that changed in steps.
    Duration,
    /// It is a different number in each fetch, however soon that follows.
    Measure,
    /// Parts of it are added, removed or moved even in direct succession.
    Churn,
    /// It may be the content of the page.
    Unknown,
}

/// The tolerance in seconds by which a clock may exceed the elapsed time: it may count whole seconds.
const WHOLE_SECONDS: f64 = 1.1;

/// The minimum time in seconds over which a clock with whole seconds can be recognised.
const SHORTEST: f64 = 1.8;

/// The same for clocks that count milliseconds or less.
const SHORTEST_FINE: f64 = 0.3;

/// The maximum distance in seconds from the current time at which a value counts as a clock, in any time zone.
const A_DAY: f64 = 86_400.0;

pub(super) fn classify(trace: &Changes, timeline: &Timeline) -> Volatility {
    if trace.seen.is_empty() || !trace.structural.is_empty() {
        return if trace.churns { Volatility::Churn } else { Volatility::Unknown };
    }
    if let Some(nature) = with_the_clock(trace, timeline) {
        return nature;
    }
    let fetches: BTreeSet<usize> = trace.seen.iter().map(|seen| seen.fetch).collect();
    let quick = fetches.iter().filter(|fetch| !timeline.spaced[**fetch]).count();
    let always = quick > 0 && quick == timeline.pairs(false);
    let grows = |seen: &Observation| match (time_value(&seen.old), time_value(&seen.new)) {
        (Some(old), Some(new)) => old.kind == new.kind && new.value > old.value,
        _ => false,
    };
    if always && trace.seen.iter().all(grows) {
        Volatility::Counter
    } else if always && trace.seen.iter().all(|seen| is_opaque(&seen.old) && is_opaque(&seen.new)) {
        Volatility::Token
    } else if is_noisy(quick, fetches.len(), timeline.pairs(false)) {
        Volatility::Noise
    } else if trace.seen.iter().all(is_length) {
        Volatility::Duration
    } else {
        Volatility::Unknown
    }
}

/// Returns whether changes in `quick` of `pairs` pairs in direct succession, and in `all` pairs in total, are noise. A
/// single change may be a coincidence.
pub(super) fn is_noisy(quick: usize, all: usize, pairs: usize) -> bool {
    quick > 1 || (quick > 0 && (quick == pairs || all > quick))
}

/// Returns whether the old and the new value are only durations.
pub(super) fn is_length(seen: &Observation) -> bool {
    let is = |text: &str| {
        let text = untagged(text);
        text.len() <= 24
            && time_value(&format!("{text} {}", seen.unit)).is_some_and(|moment| moment.kind == Kind::Length)
    };
    is(&seen.old) && is(&seen.new)
}

/// Returns whether a text is long, and neither a word nor a sentence nor a number.
pub(super) fn is_opaque(text: &str) -> bool {
    let text = text.trim_matches('"');
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() >= 8 && !text.contains(' ') && digits > 0 && digits < text.len()
}

/// Returns the volatility if the values at each spot follow the clock.
fn with_the_clock(trace: &Changes, timeline: &Timeline) -> Option<Volatility> {
    let mut spots: BTreeMap<&str, Vec<&Observation>> = BTreeMap::new();
    for seen in &trace.seen {
        spots.entry(&seen.spot).or_default().push(seen);
    }
    let mut natures = spots.values().map(|seen| series(seen, timeline)).collect::<Option<Vec<_>>>()?;
    natures.dedup();
    match natures.as_slice() {
        [one] => Some(*one),
        // There are ages of many things, some of which happen to be near the current time.
        many if many.iter().all(|nature| matches!(nature, Volatility::Clock | Volatility::Age)) => {
            Some(Volatility::Age)
        }
        _ => None,
    }
}

/// Returns the volatility of the values at one spot, in order.
fn series(seen: &[&Observation], timeline: &Timeline) -> Option<Volatility> {
    let first = seen.first()?;
    let begin = time_value(&first.old)?;
    // The old value may have existed since the beginning.
    let began = timeline.at[0];
    let values: Vec<(f64, TimeValue)> = seen
        .iter()
        .map(|seen| Some((timeline.at[seen.fetch] - began, time_value(&seen.new)?)))
        .collect::<Option<_>>()?;
    if values.iter().any(|(_, value)| value.kind != begin.kind) {
        return None;
    }
    let units: &[f64] = if begin.kind == Kind::Number { &[1.0, 1e3, 1e6, 1e9] } else { &[1.0] };
    let end = values.last()?.0;
    for unit in units {
        for direction in [1.0, -1.0] {
            let fits = values.iter().all(|(passed, value)| {
                let moved = (value.value - begin.value) * direction / unit;
                let slack = if *unit == 1.0 { WHOLE_SECONDS + passed * 0.05 } else { 0.05 + passed * 0.25 };
                (moved - passed).abs() <= slack
            });
            // A clock changes all the time, not only now and then.
            let whole = timeline.at.last().copied().unwrap_or_default() - began;
            let long = if *unit == 1.0 { SHORTEST } else { SHORTEST_FINE };
            let steady = values.len() >= 2 && end >= long && end >= whole * 0.7;
            if fits && steady {
                return Some(named(begin, *unit, direction, timeline));
            }
        }
    }
    None
}

fn named(begin: TimeValue, unit: f64, direction: f64, timeline: &Timeline) -> Volatility {
    let near = |now: f64| (begin.value / unit - now).abs() <= A_DAY;
    match begin.kind {
        _ if direction < 0.0 => Volatility::Countdown,
        Kind::Date => Volatility::Clock,
        Kind::Number if near(timeline.begin) => Volatility::Clock,
        // Any time of day is the current time in some zone; durations are written in the same way.
        Kind::Time => Volatility::Clock,
        Kind::Number | Kind::Length => Volatility::Age,
    }
}

impl Volatility {
    /// Returns whether such a change is noise.
    pub(super) fn is_noise(self) -> bool {
        self != Self::Unknown
    }

    /// Describes the volatility in words.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Clock => "a clock",
            Self::Age => "an age or an uptime",
            Self::Countdown => "a countdown",
            Self::Counter => "counts the fetches",
            Self::Token => "made anew for each answer",
            Self::Noise => "differs even in direct succession",
            Self::Duration => "a length of time",
            Self::Measure => "another number each time",
            Self::Churn => "something comes, goes or moves there even in direct succession",
            Self::Unknown => "changes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates fetches at 0, 0.01, 0.02, …, and then every two seconds.
    fn timeline() -> Timeline {
        let at: Vec<f64> = (0..5).map(|n| f64::from(n) / 100.0).chain((1..6).map(|n| 2.0 * f64::from(n))).collect();
        let spaced = (0..10).map(|fetch| fetch >= 5).collect();
        Timeline { at, spaced, begin: 1_763_809_200.0 }
    }

    fn of(value: impl Fn(usize, f64) -> String) -> Volatility {
        let timeline = timeline();
        let mut trace = Changes::default();
        for fetch in 1..timeline.at.len() {
            let (old, new) = (value(fetch - 1, timeline.at[fetch - 1]), value(fetch, timeline.at[fetch]));
            if old != new {
                trace.seen.push(Observation { fetch, spot: "/a".to_owned(), old, new, unit: "", raw: None });
            }
        }
        classify(&trace, &timeline)
    }

    #[test]
    fn natures_are_told_apart() {
        let begin = timeline().begin;
        assert_eq!(of(|_, at| format!("{:.0}", begin + at)), Volatility::Clock);
        assert_eq!(of(|_, at| format!("{:.0}", (begin + at) * 1000.0)), Volatility::Clock);
        assert_eq!(of(|_, at| format!("\"2026-11-22T11:00:{:02.0}Z\"", at.floor())), Volatility::Clock);
        assert_eq!(of(|_, at| format!("up {:.0} s", 5000.0 + at)), Volatility::Age);
        assert_eq!(of(|_, at| format!("{:.0}", 5000.0 + at)), Volatility::Age);
        assert_eq!(of(|_, at| format!("{:.3}", 5000.0 + at)), Volatility::Age);
        assert_eq!(of(|_, at| format!("in {:.0} s", 50.0 - at.floor())), Volatility::Countdown);
        assert_eq!(of(|fetch, _| format!("{}", 17 + fetch)), Volatility::Counter);
        assert_eq!(of(|fetch, _| format!("\"{:032x}\"", fetch * 7919 + 0xabc_def0)), Volatility::Token);
        assert_eq!(of(|fetch, _| ["\"a\"", "\"b\""][fetch % 2].to_owned()), Volatility::Noise);
        // These changes may be real.
        assert_eq!(of(|fetch, _| if fetch < 7 { "1" } else { "2" }.to_owned()), Volatility::Unknown);
        assert_eq!(of(|fetch, _| if fetch < 3 { "1" } else { "2" }.to_owned()), Volatility::Unknown);
        assert_eq!(of(|_, at| format!("{:.0}", (at / 3.0).floor() * 7.0)), Volatility::Unknown);
        assert_eq!(
            of(|fetch, _| if fetch > 5 { format!("\"v{fetch}\"") } else { "\"v\"".into() }),
            Volatility::Unknown
        );
    }
}
