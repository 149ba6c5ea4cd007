//! `sungrazer tail`: follows streams and plain URLs, and ends when it should.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::backend::{Backend, Page};
use crate::support::program::{command, run, signal};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"50ms\"\nretry = \"50ms\"\n";

struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(args: &[&str]) -> Self {
        let mut child = command().arg("tail").args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        match within("a line", self.lines.next_line()).await.unwrap() {
            Some(line) => line,
            None => panic!("it ended: {}", self.stderr().await),
        }
    }

    /// The next line, without the time that it must begin with.
    async fn timed(&mut self) -> String {
        let line = self.line().await;
        let (at, rest) = line.split_once("  ").unwrap_or_else(|| panic!("{line:?} has no time"));
        humantime::parse_rfc3339(at).unwrap();
        rest.to_owned()
    }

    async fn record(&mut self) -> serde_json::Value {
        let record: serde_json::Value = serde_json::from_str(&self.line().await).unwrap();
        humantime::parse_rfc3339(record["at"].as_str().unwrap()).unwrap();
        record
    }

    async fn stderr(&mut self) -> String {
        let mut text = String::new();
        within("stderr", self.child.stderr.take().unwrap().read_to_string(&mut text)).await.unwrap();
        text
    }

    async fn code(&mut self) -> Option<i32> {
        within("its end", self.child.wait()).await.unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_is_there_is_said_in_words() {
    for verb in ["tail", "probe"] {
        let output = run(&[verb, "http://127.0.0.1:1/a"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("nobody listens there") && !said.contains("cause:"), "{verb}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_followed_and_changes_are_shown_by_their_paths() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json(r#"{"jobs":[{"id":1,"s":"queued"}],"n":12345678901234567890}"#));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut tail = Tail::start(&[&format!("http://{}/a", sidecar.address)]);
    let first = tail.timed().await;
    assert!(first.starts_with("57 bytes, version 1-"), "{first}");
    backend.set("/a", Page::json(r#"{"jobs":[{"id":2,"s":"new"},{"id":1,"s":"started"}],"n":12345678901234567891}"#));
    assert_eq!(tail.timed().await, "changed in 3 places");
    assert_eq!(tail.line().await, r#"  + /jobs/0  {"id":2,"s":"new"}"#);
    assert_eq!(tail.line().await, r#"  ~ /jobs/1/s  "queued" → "started""#);
    assert_eq!(tail.line().await, "  ~ /n  12345678901234567890 → 12345678901234567891");
    // What the application's trouble is, and that it is over.
    backend.set("/a", Page::text("").status(503));
    assert_eq!(tail.timed().await, "stale: the application cannot be read (503)");
    backend.set("/a", Page::json("{}"));
    assert_eq!(tail.timed().await, "live");
    assert_eq!(tail.timed().await, "changed in 2 places");
    assert_eq!(
        backend.seen("/a").iter().filter(|seen| seen.header("accept") == Some("text/event-stream, */*;q=0.1")).count(),
        1
    );
    signal(tail.child.id().unwrap(), "INT");
    assert_eq!(tail.code().await, Some(0));
    assert_eq!(tail.stderr().await, "");
    eventually("the stream to be let go", || sidecar.held() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_url_is_fetched_and_text_is_shown_by_its_lines() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one\ntwo 2\nthree\n").etag());
    let mut tail = Tail::start(&[&format!("{}/a?x=1", backend.url()), "--every", "20ms", "--color", "always"]);
    assert!(tail.line().await.ends_with("200, text/plain, 16 bytes"));
    // Nothing is said while nothing changes, and what can be asked for conditionally is.
    eventually("a fetch with a validator", || {
        backend.seen("/a").iter().any(|seen| seen.header("if-none-match").is_some())
    })
    .await;
    backend.set("/a", Page::text("one\ntwo 3\nthree\nf\u{1b}[31mour\n").etag());
    assert!(tail.line().await.ends_with("changed in 2 stretches"));
    assert_eq!(tail.line().await, "  \u{1b}[2m@ line 2\u{1b}[0m");
    assert_eq!(tail.line().await, "  \u{1b}[31m- \u{1b}[0m\u{1b}[31mtwo \u{1b}[0m\u{1b}[7;31m2\u{1b}[0m");
    assert_eq!(tail.line().await, "  \u{1b}[32m+ \u{1b}[0m\u{1b}[32mtwo \u{1b}[0m\u{1b}[7;32m3\u{1b}[0m");
    assert_eq!(tail.line().await, "  \u{1b}[2m@ line 4\u{1b}[0m");
    // No byte of the application's reaches the terminal as a command.
    assert_eq!(tail.line().await, "  \u{1b}[32m+ \u{1b}[0m\u{1b}[7;32mf␛[31mour\u{1b}[0m");
    // An application that goes away is told of once, and again when it is back.
    let address = backend.stop().await;
    let stale = tail.line().await;
    assert!(stale.contains("stale: ") && stale.contains("\u{1b}[33m"), "{stale}");
    let backend = Backend::start_at(address).await;
    backend.set("/a", Page::text("one\n"));
    assert!(tail.line().await.ends_with("\u{1b}[32mlive\u{1b}[0m"));
    assert!(tail.line().await.ends_with("changed in 1 stretch"));
    signal(tail.child.id().unwrap(), "TERM");
    assert_eq!(tail.code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_records_can_be_had_as_well() {
    let backend = Backend::start().await;
    let list = |n: u32| {
        let items: Vec<String> = (0..n).map(|n| format!("{{\"id\": {n}.0}}")).collect();
        format!("[ {} ]", items.join(", "))
    };
    backend.set("/a", Page::json(&list(8)));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let url = format!("http://{}/a", sidecar.address);
    let (mut raw, mut records) = (Tail::start(&[&url, "--raw"]), Tail::start(&[&url, "--ndjson"]));
    assert_eq!(raw.line().await, list(8));
    let first = records.line().await;
    assert!(first.contains("\"body\":[{\"id\":0.0},{\"id\":1.0},"), "numbers are not as they were: {first}");
    backend.set("/a", Page::json(&list(9)));
    assert_eq!(raw.line().await, list(9));
    let second = records.record().await;
    assert_eq!(second["event"], "snapshot");
    assert_eq!(second["delta"], "json-patch");
    assert_eq!(second["patch"], serde_json::json!([{"op": "add", "path": "/8", "value": {"id": 8.0}}]));
    assert_eq!(second["body"].as_array().unwrap().len(), 9);
    assert!(second["version"].as_str().unwrap().starts_with("2-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_is_opened_again_from_where_it_was() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("[1]"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let address = sidecar.address;
    let mut tail = Tail::start(&[&format!("http://{address}/a"), "--ndjson"]);
    assert_eq!(tail.record().await["event"], "snapshot");
    sidecar.server.stop().await;
    let end = tail.record().await;
    assert_eq!((&end["event"], &end["reason"]), (&"end".into(), &"drain".into()));
    assert_eq!(tail.record().await["event"], "stale");
    let toml =
        format!("[server]\nlisten = \"{address}\"\nadmin = \"off\"\n[upstream]\nurl = \"{}\"\n{ROUTE}", backend.url());
    let config = sungrazer::config::parse("x", &toml, &Default::default()).unwrap();
    let server = sungrazer::server::Server::start(config, &Default::default(), Default::default()).unwrap();
    assert_eq!(tail.record().await["event"], "live");
    // What it held is current: nothing is said before there is something new.
    backend.set("/a", Page::json("[2]"));
    let next = tail.record().await;
    assert_eq!(next["body"], serde_json::json!([2]), "{next}");
    // An end for good is one.
    backend.set("/a", Page::text("").status(404));
    assert_eq!(tail.record().await["reason"], "gone");
    assert_eq!(tail.code().await, Some(1));
    assert!(tail.stderr().await.contains("ended for good: gone"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_resources_and_other_peoples_streams_are_shown_too() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"v\":1}"));
    backend.set("/b", Page::text("text\n"));
    backend.set(
        "/own",
        Page::new("text/event-stream", "")
            .piece(std::time::Duration::ZERO, "event: price\nid: 7\ndata: 17\n\n")
            .linger(),
    );
    let sidecar = Sidecar::start(&backend, ROUTE);
    let base = format!("http://{}", sidecar.address);
    let mut tail = Tail::start(&[&format!("{base}/.sungrazer/stream?url=/a&url=/b")]);
    let mut both = [tail.timed().await, tail.timed().await];
    both.sort();
    assert!(both[0].starts_with("/a 200, application/json, 7 bytes, version 1-"), "{both:?}");
    assert!(both[1].starts_with("/b 200, text/plain; charset=utf-8, 5 bytes"), "{both:?}");
    backend.set("/b", Page::text("other\n"));
    assert_eq!(tail.timed().await, "/b changed in 1 stretch");
    let mut own = Tail::start(&[&format!("{base}/own")]);
    assert_eq!(own.timed().await, "event price");
    assert_eq!(own.line().await, "17");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_nobody_reads_and_says_what_cannot_be_followed() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut tail = Tail::start(&[&format!("http://{}/a", sidecar.address)]);
    tail.line().await;
    let Tail { mut child, lines } = tail;
    drop(lines);
    // Nothing is written any more, and it ends all the same.
    assert_eq!(within("its end", child.wait()).await.unwrap().code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
    assert_eq!(stderr, "");
    for (url, reason) in [
        (format!("{}/missing", backend.url()), "nothing at this URL"),
        ("http://127.0.0.1:1/a".to_owned(), "cannot connect"),
    ] {
        let output = run(&["tail", &url]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{:?}", output.stderr);
    }
    assert_eq!(run(&["tail", "http://x/a", "--raw", "--ndjson"]).await.status.code(), Some(2));
}
