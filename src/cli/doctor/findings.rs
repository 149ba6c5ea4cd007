//! Derives findings from measurements.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::beacons::{Flow, flow};
use super::measure::{End, Heard, Held, Mirror, Sent};
use super::remedies::Fault;
use crate::clock::roughly;
use crate::model::fields;

/// One trial.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) name: &'static str,
    pub(super) works: bool,
    pub(super) text: String,
    /// The silence that it survived, if it was cut off afterwards.
    pub(super) cut: Option<Duration>,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) fault: Option<Fault>,
    pub(super) text: String,
}

/// All findings.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) trials: Vec<Trial>,
    pub(super) list: Vec<Finding>,
}

/// What works on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Streams,
    LongPolls,
    Nothing,
}

/// The minimum silence a path must allow for held polls.
const SHORTEST_HOLD: Duration = Duration::from_secs(2);

/// The default heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);

impl Findings {
    /// Adds a problem with a known remedy.
    fn add(&mut self, fault: Fault, text: String) {
        self.push(Finding { fault: Some(fault), text });
    }

    /// Adds another problem.
    fn remark(&mut self, text: String) {
        self.push(Finding { fault: None, text });
    }

    fn push(&mut self, finding: Finding) {
        if !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    fn try_out(&mut self, name: &'static str, works: bool, text: String, cut: Option<Duration>) {
        self.trials.push(Trial { name, works, text, cut });
    }

    /// Evaluates a stream.
    pub(super) fn stream(
        &mut self,
        name: &'static str,
        heard: &anyhow::Result<Heard>,
        trip: Duration,
        silence: Duration,
    ) {
        let heard = match heard {
            Ok(heard) => heard,
            Err(error) => return self.try_out(name, false, format!("no: {error:#}"), None),
        };
        self.heads(name, &heard.headers);
        if heard.end == End::Refused {
            let text = format!("no: answered {}", heard.status);
            if name == "WebSocket" {
                let by = if heard.status == StatusCode::OK { " as if it were no upgrade" } else { "" };
                self.add(
                    Fault::WebSocket,
                    format!("WebSockets are not passed on: the handshake is answered {}{by}", heard.status),
                );
            }
            return self.try_out(name, false, text, None);
        }
        let flow = flow(&heard.beacons, trip);
        let (works, mut text) = match flow {
            Flow::Prompt { worst, waits } => {
                let text = format!("each of {} beacons at once (within {} ms)", heard.beacons.len(), worst.as_millis());
                if waits {
                    let text = "small pieces wait for more, which makes events late by up to";
                    self.add(Fault::Buffering, format!("{name}: {text} {} ms", worst.as_millis()));
                }
                (true, text)
            }
            Flow::HeldBack { over, until } => {
                let text = format!("kept back until more than {} were sent ({until} bytes were enough)", size(over));
                self.add(Fault::Buffering, format!("{name}: {text}. Events come late, or never"));
                (false, text)
            }
            Flow::HeldToTheEnd { bytes } => {
                let text = format!("kept back to the end, all of it ({} did not suffice)", size(bytes));
                self.add(Fault::Buffering, format!("{name}: {text}. No event comes while the stream is open"));
                (false, text)
            }
            Flow::Nothing => (false, "nothing came".to_owned()),
        };
        let cut = match &heard.end {
            End::Cut { silence: after, why } if !heard.beacons.is_empty() => {
                text.push_str(&format!("; cut after {} of silence ({why})", seconds(*after)));
                self.idle(name, *after);
                Some(*after)
            }
            End::Cut { why, .. } => {
                text.push_str(&format!("; {why}"));
                None
            }
            _ => {
                text.push_str(&format!("; silent for {}", seconds(silence)));
                None
            }
        };
        let text = if works { format!("yes: {text}") } else { format!("no: {text}") };
        self.try_out(name, works, text, cut);
    }

    fn idle(&mut self, name: &str, after: Duration) {
        let advice = if name.starts_with("held poll") {
            format!("hold must be shorter: hold = \"{}s\" in sungrazer.toml, or", (after.as_secs() * 4 / 5).max(1))
        } else if after <= HEARTBEAT {
            format!(
                "heartbeat must be shorter: heartbeat = \"{}s\" in sungrazer.toml, or",
                (after.as_secs() / 2).max(1)
            )
        } else {
            "heartbeats every 15 s keep streams open; yet".to_owned()
        };
        self.add(
            Fault::Idle,
            format!(
                "{name}: the connection is cut after {} of silence; {advice} let the proxy wait longer",
                seconds(after)
            ),
        );
    }

    /// Evaluates the response headers of a stream.
    fn heads(&mut self, name: &str, headers: &HeaderMap) {
        if let Some(coding) = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()) {
            self.add(
                Fault::Compression,
                format!(
                    "{name}: compressed on the way ({coding}), which Sungrazer did not do and no-transform forbids"
                ),
            );
        }
        if let Some(age) = headers.get(AGE).and_then(|value| value.to_str().ok()).filter(|age| age.trim() != "0") {
            self.add(
                Fault::Caching,
                format!("{name}: the answer comes from a cache (Age: {age}), although it says no-store"),
            );
        }
    }

    /// Evaluates a poll held for `hold`.
    pub(super) fn held(&mut self, name: &'static str, held: &Held, hold: Duration) {
        match held {
            Held::Answered(headers) => {
                self.heads(name, headers);
                self.try_out(name, true, format!("yes: answered after {}", seconds(hold)), None);
            }
            Held::Cut { after, why, headers, .. } => {
                self.heads(name, headers);
                if why.contains("a cache") {
                    self.add(Fault::Caching, format!("{name}: {why}"));
                    return self.try_out(name, false, format!("no: {why}"), None);
                }
                self.idle(name, *after);
                let works = *after >= SHORTEST_HOLD;
                let word = if works { "for a while" } else { "no" };
                self.try_out(name, works, format!("{word}: cut after {} ({why})", seconds(*after)), Some(*after));
            }
        }
    }

    /// Evaluates short responses to `sent` requests: whether they are equal, and how the requests arrived.
    pub(super) fn mirrors(&mut self, over: &str, answers: &[(&Mirror, &Sent)]) {
        let Some((first, sent)) = answers.first() else { return };
        let Some(said) = &first.said else { return };
        let id = |mirror: &Mirror| mirror.said.as_ref().map(|said| said["id"].clone());
        let is_of_another_request = |mirror: &Mirror, sent: &Sent| {
            let mark = mirror.said.as_ref().and_then(|said| said["headers"]["x-sungrazer-doctor"].as_str());
            mark.is_some_and(|mark| mark != sent.mark)
        };
        let repeats = answers.iter().skip(1).any(|(mirror, _)| id(mirror) == id(first));
        if repeats || answers.iter().any(|(mirror, sent)| is_of_another_request(mirror, sent)) {
            let text = "the same answer came twice, although it says no-store: a cache keeps it";
            self.add(Fault::Caching, format!("{over}: {text}"));
        }
        let is_of_another_request = is_of_another_request(first, sent);
        for (mirror, _) in answers {
            self.heads(&format!("{over}, short answers"), &mirror.headers);
        }
        if said["http"] == "HTTP/1.0" {
            self.add(
                Fault::OldHttp,
                "requests arrive as HTTP/1.0, in which no connection is kept and no WebSocket opened".to_owned(),
            );
        }
        if said["host"] == Value::Bool(false) {
            self.add(
                Fault::Host,
                "requests arrive with another Host: pages of the site are then taken for another site's".to_owned(),
            );
        }
        if !is_of_another_request && said["cookie"] != sent.mark.as_str() {
            self.remark(
                "the cookie that was sent does not arrive: nobody who is signed in gets streams of his own".to_owned(),
            );
        }
        if !is_of_another_request {
            self.changed(over, said, sent);
        }
        self.response(over, first);
    }

    /// Records a protocol that is not supported.
    pub(super) fn absent(&mut self, name: &'static str, why: &str) {
        self.try_out(name, false, format!("not spoken: {why}"), None);
    }

    /// Evaluates changes to request headers.
    fn changed(&mut self, over: &str, said: &Value, sent: &Sent) {
        for (name, value) in &sent.headers {
            let (Ok(value), name) = (value.to_str(), name.as_str()) else { continue };
            if name == "cookie" {
                continue;
            }
            let what = match said["headers"][name].as_str() {
                None => format!("{over}: the request header {name} does not arrive"),
                Some(found) if found != value => format!("{over}: the request header {name} arrives as {found:?}"),
                Some(_) => continue,
            };
            let why = match name {
                "accept-encoding" | "cache-control" => continue,
                "last-event-id" => ": streams cannot go on where they were",
                "prefer" => ": long polls are answered at once",
                "accept" => ": streams are not asked for",
                _ => "",
            };
            self.remark(format!("{what}{why}"));
        }
    }

    /// Evaluates changes to response headers.
    fn response(&mut self, over: &str, mirror: &Mirror) {
        let headers = &mirror.headers;
        let id = mirror.said.as_ref().and_then(|said| said["id"].as_str()).unwrap_or_default();
        let has = |name, part: &str| {
            headers.get_all(name).iter().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(part))
        };
        if !has(SET_COOKIE, &format!("sungrazer-doctor={id}")) {
            self.remark(format!("{over}: Set-Cookie of an answer does not arrive"));
        }
        match headers.get(ETAG).and_then(|value| value.to_str().ok()) {
            None => {
                self.remark(format!("{over}: ETag of an answer does not arrive: long polls cannot say what they hold"));
            }
            Some(tag) if tag != format!("\"{id}\"") => {
                self.remark(format!("{over}: ETag of an answer arrives changed ({tag}), as proxies do that compress"));
            }
            Some(_) => {}
        }
        if !fields::has_token(headers, &CACHE_CONTROL, "no-store") {
            self.remark(format!("{over}: Cache-Control of an answer arrives without no-store"));
        }
        if !has(CONTENT_TYPE, "application/json") {
            self.remark(format!("{over}: Content-Type of an answer arrives changed"));
        }
    }

    /// Returns the verdict; `streams` and `polls` are the trials that browsers would rely on.
    pub(super) fn verdict(&self, streams: &[&str], polls: &[&str]) -> Verdict {
        let works = |names: &[&str]| self.trials.iter().any(|trial| trial.works && names.contains(&trial.name));
        match (works(streams), works(polls)) {
            (true, _) => Verdict::Streams,
            (false, true) => Verdict::LongPolls,
            (false, false) => Verdict::Nothing,
        }
    }
}

/// Formats a duration for people.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        0..10_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => roughly(time).to_string(),
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        _ => format!("{} KB", bytes / 1000),
    }
}
