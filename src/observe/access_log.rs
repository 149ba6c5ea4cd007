//! Parses exchanges from access logs: Sungrazer's own, "combined" (nginx, Apache httpd), and Caddy's JSON.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::Observer;
use super::exchange::{Answered, Exchange, Form};
use super::report::Report;
use crate::model::MediaType;
use crate::probe::cache_buster;

/// Reads a log line by line.
#[derive(Debug)]
pub struct LogReader {
    observer: Observer,
    read: u64,
}

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLog {
    /// A request.
    Request,
    /// A valid line of the log that is not a request.
    Aside,
    /// An unreadable line.
    Malformed,
}

impl LogReader {
    /// Creates a reader that records in `observer`.
    pub fn new(observer: Observer) -> Self {
        Self { observer, read: 0 }
    }

    /// Processes a line without its line end.
    pub fn line(&mut self, line: &[u8]) -> ReadLog {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.is_empty() {
            return ReadLog::Aside;
        }
        let exchange = match line.starts_with('{') {
            true => match serde_json::from_str::<Value>(line) {
                Ok(value) if value.get("lost").is_some() && value.get("path").is_none() => return ReadLog::Aside,
                Ok(value) if value.get("request").is_some() => self.caddy(&value),
                Ok(value) => self.own(&value),
                Err(_) => None,
            },
            false => self.combined(line),
        };
        let Some(exchange) = exchange else {
            self.observer.note_unread();
            return ReadLog::Malformed;
        };
        self.read += 1;
        self.observer.note(&exchange, None);
        ReadLog::Request
    }

    /// Returns the number of requests so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Returns the report on all lines.
    pub fn report(&self) -> Report {
        let lasting = Report::lasting(&self.observer.ledger.lock());
        self.observer.report(lasting)
    }

    fn exchange(&self, who: (&str, &str), request: (&str, &str), at: Duration, answer: Answered) -> Option<Exchange> {
        let (address, agent) = who;
        let (method, target) = request;
        let target = target.split('#').next().unwrap_or_default();
        // Requests to a forward proxy contain absolute URLs.
        let target = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        if !target.starts_with('/') || !is_method(method) {
            return None;
        }
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let parameters = self.observer.parameters(query);
        let form = if answer.form == Form::Unknown { Form::of_path(path) } else { answer.form };
        Some(Exchange {
            at,
            client: self.observer.fingerprint(format!("{address}\n{agent}").as_bytes()),
            method: method.to_owned(),
            path: path.to_owned(),
            parameters,
            answer: Answered { form, ..answer },
            ..Exchange::default()
        })
    }

    /// `{"at":…,"client":…,"method":…,"path":…,"status":…,"how":…}`
    fn own(&self, line: &Value) -> Option<Exchange> {
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        let at = rfc3339(text("at")?)?;
        let status = line.get("status").and_then(Value::as_u64).unwrap_or_default();
        let form = match text("how") {
            None | Some("proxied" | "memory" | "own" | "request") => Form::Unknown,
            // A held client does not poll.
            Some(_) => Form::Stream,
        };
        let answer = Answered {
            status: u16::try_from(status).ok()?,
            bytes: line.get("bytes").and_then(Value::as_u64),
            form,
            ..Answered::default()
        };
        let who = (text("client").unwrap_or_default(), text("agent").unwrap_or_default());
        let exchange = self.exchange(who, (text("method")?, text("path")?), at, answer)?;
        let took = line.get("took_ms").and_then(Value::as_f64);
        Some(Exchange { took: took.and_then(|took| seconds(took / 1000.0)), ..exchange })
    }

    /// `{"ts":…,"request":{"remote_ip":…,"method":…,"uri":…,"headers":{…}},"status":…,"size":…,"duration":…}`
    fn caddy(&self, line: &Value) -> Option<Exchange> {
        let request = line.get("request")?;
        let text = |name: &str| request.get(name).and_then(Value::as_str);
        let header = |of: &Value, headers: &str, name: &str| {
            let value = of.get(headers)?.get(name)?;
            value.get(0).unwrap_or(value).as_str().map(str::to_owned)
        };
        let at = match line.get("ts")? {
            Value::String(text) => rfc3339(text)?,
            number => seconds(number.as_f64()?)?,
        };
        let status = u16::try_from(line.get("status")?.as_u64()?).ok()?;
        let media_type = header(line, "resp_headers", "Content-Type").map(|text| MediaType::parse(&text));
        let answer = Answered {
            status,
            bytes: line.get("size").and_then(Value::as_u64),
            form: media_type.as_ref().map_or(Form::Unknown, Form::of_type),
            sets_cookies: header(line, "resp_headers", "Set-Cookie").is_some(),
            ..Answered::default()
        };
        let address = text("client_ip").or_else(|| text("remote_ip")).or_else(|| text("remote_addr"));
        let agent = header(request, "headers", "User-Agent").unwrap_or_default();
        let exchange =
            self.exchange((address.unwrap_or_default(), &agent), (text("method")?, text("uri")?), at, answer)?;
        let took = line.get("duration").and_then(Value::as_f64).and_then(seconds);
        Some(Exchange { took, ..exchange })
    }

    /// Parses `address ident user [day/month/year:hour:minute:second zone] "request" status bytes "referer" "agent"`.
    /// The last two are optional; a virtual host may precede the line, and further fields may follow.
    fn combined(&self, line: &str) -> Option<Exchange> {
        let (before, rest) = line.split_once('[')?;
        let (date, rest) = rest.split_once(']')?;
        let mut names = before.split_whitespace();
        let address = names.clone().find(|name| name.parse::<IpAddr>().is_ok()).or_else(|| names.next())?;
        let (request, rest) = quoted(rest.trim_start())?;
        let mut parts = request.split_whitespace();
        let (method, target) = (parts.next()?, parts.next()?);
        let rest = rest.trim_start();
        let (status, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let rest = rest.trim_start();
        let (bytes, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let agent = quoted(rest.trim_start()).and_then(|(_, rest)| quoted(rest.trim_start())).map(|(agent, _)| agent);
        let status: u16 = status.parse().ok().filter(|status| (100..1000).contains(status))?;
        let bytes = match bytes {
            "-" | "" => Some(0),
            bytes => Some(bytes.parse().ok()?),
        };
        let answer = Answered { status, bytes, ..Answered::default() };
        self.exchange((address, &agent.unwrap_or_default()), (method, target), date_of(date)?, answer)
    }
}

/// Returns whether `text` is a method (RFC 9110 section 9.1).
fn is_method(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

fn rfc3339(text: &str) -> Option<Duration> {
    let when = humantime::parse_rfc3339_weak(text).ok()?;
    when.duration_since(UNIX_EPOCH).ok()
}

/// Returns the quoted text at the beginning of `text`, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut inside = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '"' if !escaped => return Some((inside, &text[at + 1..])),
            c => inside.push(c),
        }
        escaped = false;
    }
    None
}

/// Parses a date such as `28/Nov/2026:22:39:12 +0100`.
fn date_of(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (local, zone) = text.trim().split_once(' ').unwrap_or((text.trim(), "+0000"));
    let mut parts = local.splitn(3, '/');
    let (day, month, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (year, time) = rest.split_once(':')?;
    let utc = rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))?;
    let (sign, digits) = zone.split_at_checked(1)?;
    let (hours, minutes) = digits.split_at_checked(2)?;
    let offset = Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    match sign {
        "+" => utc.checked_sub(offset),
        "-" => utc.checked_add(offset),
        _ => None,
    }
}

/// Returns the names of a query's parameters, fingerprints of their values, and whether they are cache-busting.
pub(super) fn parameters(query: Option<&str>, print: impl Fn(&str) -> u64) -> Vec<(String, u64, bool)> {
    /// The maximum number of parameters.
    const MOST: usize = 24;
    let all = query.unwrap_or_default().split('&').filter(|text| !text.is_empty());
    all.take(MOST)
        .map(|text| {
            let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let is_buster = cache_buster(name, value);
            (name_of(name, value.unwrap_or_default()), print(text), is_buster)
        })
        .collect()
}

/// Returns a parameter's name in the syntax of `ignore_query`; a bare number has no name. Only words are kept as names.
fn name_of(name: &str, value: &str) -> String {
    if value.is_empty() && name.bytes().any(|byte| byte.is_ascii_digit()) {
        let mut shape = String::new();
        for c in name.chars().take(24) {
            match c {
                '0'..='9' if shape.ends_with('#') => {}
                '0'..='9' => shape.push('#'),
                '.' | '-' => shape.push(c),
                _ => return "?".to_owned(),
            }
        }
        return shape;
    }
    if super::exchange::is_word(name) { name.to_owned() } else { "?".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    fn reader() -> LogReader {
        LogReader::new(Observer::new(RandomState::new()))
    }

    #[test]
    fn dates_are_read_with_their_zone() {
        for (text, expected) in [
            ("28/Nov/2026:22:39:12 +0000", Some(1_795_905_552)),
            ("28/Nov/2026:23:39:12 +0100", Some(1_795_905_552)),
            ("28/Nov/2026:18:09:12 -0430", Some(1_795_905_552)),
            ("28/Nov/2026:22:39:12", Some(1_795_905_552)),
            ("28/Nob/2026:22:39:12 +0000", None),
            ("28/Nov/2026:22:39:12 +é00", None),
            ("", None),
        ] {
            assert_eq!(date_of(text).map(|at| at.as_secs()), expected, "{text}");
        }
    }

    #[test]
    fn each_format_is_read() {
        let mut reader = reader();
        for line in [
            r#"127.0.0.1 - - [28/Nov/2026:22:39:12 +0000] "GET /a?x=1 HTTP/1.1" 200 12 "-" "Mozilla/5.0 \"x\"""#,
            r#"site.example:443 ::1 - bob [28/Nov/2026:22:39:12 +0000] "POST /a HTTP/2.0" 304 - "-" "curl" 0.012 extra"#,
            r#"host.example - - [28/Nov/2026:22:39:12 +0000] "GET http://a/b HTTP/1.1" 200 12"#,
            r#"{"at":"2026-11-28T22:39:12.123Z","client":"10.0.0.1","method":"GET","host":"a","path":"/a","protocol":"HTTP/1.1","status":200,"bytes":7,"took_ms":1.5,"how":"proxied"}"#,
            r#"{"at":"2026-11-28T22:39:12.123Z","client":"10.0.0.1","method":"GET","host":"a","path":"/a","took_ms":1.5,"how":"sse"}"#,
            r#"{"level":"info","ts":1795905552.25,"request":{"remote_ip":"1.2.3.4","proto":"HTTP/2.0","method":"GET","host":"a","uri":"/a?b=c","headers":{"User-Agent":["curl"]}},"duration":0.001,"size":5,"status":200,"resp_headers":{"Content-Type":["application/json"]}}"#,
            r#"{"ts":"2026-11-28T22:39:12Z","request":{"remote_addr":"1.2.3.4:5","method":"GET","uri":"/"},"status":200}"#,
        ] {
            assert_eq!(reader.line(line.as_bytes()), ReadLog::Request, "{line}");
        }
        assert_eq!(reader.line(b"{\"lost\":3}"), ReadLog::Aside);
        assert_eq!(reader.line(b"  "), ReadLog::Aside);
        for line in [
            &b"x"[..],
            b"{",
            b"{}",
            b"[1]",
            b"\xff\xfe [",
            b"a [28/Nov/2026:22:39:12 +0000] \"GET / HTTP/1.1\" abc 1",
            b"a [28/Nov/2026:22:39:12 +0000] \"GET",
            b"a [28/Nov/2026:22:39:12 +0000] \"\\x16\\x03\" 400 0",
            b"{\"ts\":1e400,\"request\":{\"method\":\"GET\",\"uri\":\"/\"},\"status\":200}",
            b"{\"ts\":-1,\"request\":{\"method\":\"GET\",\"uri\":\"/\"},\"status\":200}",
        ] {
            assert_eq!(reader.line(line), ReadLog::Malformed, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!((reader.read(), reader.report().totals.unread), (7, 10));
    }

    #[test]
    fn values_of_parameters_are_no_names() {
        let names = |query| parameters(Some(query), |_| 0).into_iter().map(|(name, _, _)| name).collect::<Vec<_>>();
        assert_eq!(names("id=7&_=5&a[]=1"), ["id", "_", "a[]"]);
        assert_eq!(names("1763809200123&0.8234"), ["#", "#.#"]);
        assert_eq!(names("8f14e45fceea167a5c=&%20x=1"), ["?", "?"]);
    }

    #[test]
    fn anything_may_stand_in_a_log() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut reader = reader();
        let good = br#"1.1.1.1 - - [28/Nov/2026:22:39:12 +0000] "GET /a?x=1 HTTP/1.1" 200 12 "-" "-""#;
        for _ in 0..20_000 {
            let mut line = good.to_vec();
            for _ in 0..random.usize(..4) {
                let at = random.usize(..line.len());
                line[at] = random.u8(..);
            }
            line.truncate(random.usize(..=line.len()));
            let _ = reader.line(&line);
        }
        assert!(reader.read() > 0);
    }
}
