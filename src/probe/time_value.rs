//! Parses numbers and times in texts.

use std::sync::LazyLock;

use regex::Regex;

/// The value of a text, as a number that can be compared with a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TimeValue {
    pub(super) value: f64,
    pub(super) kind: Kind,
}

/// The kind of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Digits, which may count seconds, milliseconds or anything else.
    Number,
    /// A date with a time, in seconds since 1970.
    Date,
    /// A time of day, in seconds.
    Time,
    /// A duration, in seconds.
    Length,
}

#[allow(clippy::expect_used, reason = "the patterns are written here, and a test compiles them")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

static DATE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?"));
static HTTP_DATE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT|\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"));
static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d+)?))?\b"));
static LENGTH: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)(\d+(?:\.\d+)?) ?(weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|ms|w|d|h|m|s)")
});
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d+(?:\.\d+)?"));

/// Parses a text that contains exactly one such value.
pub(super) fn time_value(text: &str) -> Option<TimeValue> {
    let text = text.trim().trim_matches('"');
    if let Ok(value) = text.parse::<f64>() {
        return value.is_finite().then_some(TimeValue { value, kind: Kind::Number });
    }
    if let Some(found) = DATE.captures(text) {
        let part = |at: usize| found.get(at).and_then(|part| part.as_str().parse::<f64>().ok()).unwrap_or(0.0);
        let days = days(part(1) as i64, part(2) as i64, part(3) as i64) as f64;
        let value = days * 86_400.0 + part(4) * 3600.0 + part(5) * 60.0 + part(6);
        return Some(TimeValue { value, kind: Kind::Date });
    }
    if let Some(found) = HTTP_DATE.find(text)
        && let Ok(date) = httpdate::parse_http_date(found.as_str())
    {
        let value = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
        return Some(TimeValue { value, kind: Kind::Date });
    }
    if let Some(found) = TIME.captures(text) {
        let part = |at: usize| found.get(at).and_then(|part| part.as_str().parse::<f64>().ok()).unwrap_or(0.0);
        return Some(TimeValue { value: part(1) * 3600.0 + part(2) * 60.0 + part(3), kind: Kind::Time });
    }
    if let Some(value) = length(text) {
        return Some(TimeValue { value, kind: Kind::Length });
    }
    let mut numbers = NUMBER.find_iter(text);
    match (numbers.next(), numbers.next()) {
        (Some(number), None) => Some(TimeValue { value: number.as_str().parse().ok()?, kind: Kind::Number }),
        _ => None,
    }
}

/// The tolerance for clocks, in seconds.
const TOLERANCE: f64 = 600.0;

/// Returns whether the text is the current time when the clock shows `wall`, in seconds since 1970: as seconds,
/// milliseconds, a date, or a time of day in any time zone.
pub fn tells_time(text: &str, wall: f64) -> bool {
    let Some(TimeValue { value, kind }) = time_value(text) else { return false };
    match kind {
        Kind::Number => [1.0, 1e3, 1e6, 1e9].iter().any(|unit| (value / unit - wall).abs() < TOLERANCE),
        // Time zones differ by quarters of an hour, up to fourteen hours.
        Kind::Date => (value - wall).abs() < 15.0 * 3600.0 && is_near(value - wall, 900.0),
        Kind::Time => text.len() <= 12 && is_near(value - wall, 900.0),
        Kind::Length => false,
    }
}

/// Returns whether a difference is almost a multiple of `unit`.
fn is_near(difference: f64, unit: f64) -> bool {
    let rest = difference.rem_euclid(unit);
    rest.min(unit - rest) < 60.0
}

/// Returns whether `text` is only a duration, such as `3h 12m`.
pub(super) fn is_length_alone(text: &str) -> bool {
    let rest = LENGTH.replace_all(text, "");
    rest.len() < text.len() && rest.chars().all(|c| c.is_whitespace() || c == ',')
}

/// Returns the sum of all durations in `text`, in seconds. Returns `None` if there is none.
fn length(text: &str) -> Option<f64> {
    let mut sum = None;
    for found in LENGTH.captures_iter(text) {
        let end = found.get(0).map_or(0, |whole| whole.end());
        // The unit must be a separate word: "5 streams" is not a duration.
        if text[end..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let unit = match found[2].to_ascii_lowercase().as_str() {
            "ms" => 0.001,
            unit if unit.starts_with('w') => 604_800.0,
            unit if unit.starts_with('d') => 86_400.0,
            unit if unit.starts_with('h') => 3600.0,
            unit if unit.starts_with('m') => 60.0,
            _ => 1.0,
        };
        *sum.get_or_insert(0.0) += found[1].parse::<f64>().unwrap_or(0.0) * unit;
    }
    sum
}

/// Returns the days since 1970 of a date in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_they_are_written() {
        for (text, value, kind) in [
            ("1763809200", 1_763_809_200.0, Kind::Number),
            ("\"17.5\"", 17.5, Kind::Number),
            ("1970-01-02T00:00:01Z", 86_401.0, Kind::Date),
            ("since 2000-03-01 12:00:00.5", 951_912_000.5, Kind::Date),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777.0, Kind::Date),
            ("it is 09:05", 32_700.0, Kind::Time),
            ("12:00:01", 43_201.0, Kind::Time),
            ("1d 2h 3m 4s", 93_784.0, Kind::Length),
            ("3 minutes ago", 180.0, Kind::Length),
            ("0d 0h03m31s UP", 211.0, Kind::Length),
            ("5 streams", 5.0, Kind::Number),
            ("12 ms", 0.012, Kind::Length),
            ("seq 7 of", 7.0, Kind::Number),
        ] {
            assert_eq!(time_value(text), Some(TimeValue { value, kind }), "{text}");
        }
        for text in ["", "abc", "1 of 2", "NaN"] {
            assert_eq!(time_value(text), None, "{text}");
        }
    }
}
