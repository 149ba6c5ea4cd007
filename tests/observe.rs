//! `sungrazer observe`, and `mode = "observe"`: all passes as it is, nothing is asked, and the report says what was there.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;
use tokio::time::interval;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events, Response, get};
use crate::support::program::{Program, Scratch, command, run, signal};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ANY: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// Method, target, headers and body of a request.
type Asked<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, &'a [u8]);

/// How often a page of these tests polls.
const POLL: Duration = Duration::from_millis(120);

async fn observing(url: &str, more: &[&str]) -> Program {
    Program::start(&[&["observe", "--upstream", url], &ANY[..], more].concat()).await
}

fn json(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn report(admin: SocketAddr) -> Value {
    json(&get(admin, "/api/observed", &[("Host", "localhost")]).await.body)
}

/// The report on the polls of `path`, once there is one for which `is_enough`; meanwhile `ask` asks.
async fn polled(
    admin: SocketAddr,
    path: &str,
    mut ask: impl AsyncFnMut(),
    is_enough: impl Fn(&Value) -> bool,
) -> Value {
    let mut timer = interval(POLL);
    within(&format!("a report on {path}"), async {
        loop {
            for _ in 0..4 {
                timer.tick().await;
                ask().await;
            }
            let report = report(admin).await;
            let found = report["polls"].as_array().unwrap().iter().find(|poll| poll["path"] == path);
            if let Some(found) = found.filter(|found| is_enough(found)) {
                return found.clone();
            }
        }
    })
    .await
}

/// What `check` says of this configuration: whether it is good, and all else.
async fn checked(text: &str) -> (bool, String) {
    let scratch = Scratch::new("observed");
    let file = scratch.write("observed.toml", text);
    let output = run(&["check", "-c", &file]).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code() == Some(0), String::from_utf8_lossy(&said).into_owned())
}

fn comparable(response: Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let ours = ["date", "connection", "keep-alive", "transfer-encoding", "content-length"];
    let mut headers: Vec<_> = response
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !ours.contains(&name.as_str()))
        .collect();
    headers.sort();
    (response.status, headers, response.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_passes_and_is_answered_as_directly() {
    let backend = Backend::start().await;
    let page =
        "<!doctype html><html><head><title>x</title></head><body><script>setInterval(f, 1000)</script></body></html>";
    backend.set("/", Page::new("text/html", page).header("Set-Cookie", "sid=1; Path=/").header("X-Own", "1"));
    backend.set("/api/a", Page::json("{\"a\":1}").etag());
    backend.set("/chunked", Page::text(&"x".repeat(5000)).chunked(100));
    backend.set("/large", Page::new("application/octet-stream", vec![7; 600_000]));
    backend.set("/moved", Page::text("").status(302).header("Location", "/api/a"));
    backend.set("/refused", Page::text("no").status(403));
    backend.set("/misdirected", Page::text("no").status(421));
    backend.set("/events", Page::new("text/event-stream", "data: 1\n\n"));
    backend.set("/.sungrazer/stream", Page::json("\"the application's own\""));
    backend.set("/.sungrazer/shim.js", Page::text("the application's own"));
    backend.handle("/echo", |seen| {
        Page::text(&format!("{} {} {}", seen.method, seen.target, String::from_utf8_lossy(&seen.body)))
    });
    let program = observing(&backend.url(), &[]).await;
    let asked: Vec<Asked<'_>> = vec![
        ("GET", "/", vec![("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")], b""),
        ("GET", "/api/a", vec![], b""),
        ("GET", "/api/a", vec![("Accept", "text/event-stream")], b""),
        ("GET", "/api/a", vec![("Prefer", "wait=30"), ("If-None-Match", "\"x\"")], b""),
        ("GET", "/api/a", vec![("Accept", "application/x-ndjson")], b""),
        ("HEAD", "/api/a", vec![], b""),
        ("GET", "/chunked", vec![("Accept-Encoding", "gzip")], b""),
        ("GET", "/large", vec![], b""),
        ("GET", "/moved", vec![], b""),
        ("GET", "/refused", vec![], b""),
        ("GET", "/misdirected", vec![], b""),
        ("GET", "/nothing", vec![], b""),
        ("GET", "/events", vec![("Accept", "text/event-stream")], b""),
        ("GET", "/.sungrazer/stream?url=/api/a", vec![], b""),
        ("GET", "/.sungrazer/shim.js", vec![], b""),
        ("POST", "/echo?x=1", vec![("Content-Type", "application/json")], b"{\"method\":\"x\"}"),
        ("PUT", "/echo", vec![], b"1"),
        ("PURGE", "/echo", vec![], b""),
        ("BAN", "/echo", vec![("X-Ban-Url", "/")], b""),
        ("OPTIONS", "/echo", vec![], b""),
    ];
    for (method, target, headers, body) in &asked {
        let mut answers = Vec::new();
        let path = target.split('?').next().unwrap();
        for address in [backend.address, program.address] {
            let before = backend.hits(path);
            let mut connection = Connection::open(address).await;
            let answer = connection.request(method, target, headers, body).await;
            assert_eq!(backend.hits(path), before + 1, "{method} {target} is asked once");
            answers.push(comparable(answer));
        }
        assert_eq!(answers[0], answers[1], "{method} {target} {headers:?}");
    }
    let all: usize = ["/", "/api/a", "/echo", "/refused", "/misdirected"].iter().map(|path| backend.hits(path)).sum();
    assert_eq!(all, 2 * (1 + 5 + 5 + 1 + 1), "nothing is asked by itself");
    program.signal("INT");
    assert_eq!(program.wait().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_tells_of_polls_their_noise_and_their_identities() {
    let backend = Backend::start().await;
    backend.handle("/api/jobs", |_| {
        let now = sungrazer::clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        Page::json(&format!("{{\"jobs\":[1,2],\"now\":{now}}}"))
    });
    backend.handle("/rpc", |_| Page::json("{\"result\":{\"active\":2}}"));
    let program = observing(&backend.url(), &[]).await;
    let (address, admin) = (program.address, program.admin);
    let mut number = 0;
    let poll = polled(
        admin,
        "/api/jobs",
        async || {
            number += 1;
            for (agent, sid) in [("one", "sid=secret-of-ann"), ("two", "sid=secret-of-bob")] {
                let target = format!("/api/jobs?t={}&token=hidden-value", 1_763_809_200_000_u64 + number);
                get(address, &target, &[("User-Agent", agent), ("Cookie", sid), ("Authorization", "Bearer hunter2")])
                    .await;
            }
            let mut connection = Connection::open(address).await;
            let call = b"{\"method\":\"session-stats\",\"arguments\":{\"password\":\"hunter2\"}}";
            connection.request("POST", "/rpc", &[("Content-Type", "application/json")], call).await;
        },
        |poll| poll["polls"].as_u64() > Some(30) && poll["clients"] == 2 && !poll["volatile"][0].is_null(),
    )
    .await;
    assert_eq!(poll["identities"], 2, "{poll:#}");
    assert_eq!((&poll["volatile"][0]["place"], &poll["volatile"][0]["looks_like"]), (&"/now".into(), &"clock".into()));
    assert_eq!(poll["ignore_query"], serde_json::json!(["t"]), "{poll:#}");
    assert_eq!(poll["advice"], "push");
    assert!(poll["split_by"].as_array().unwrap().iter().any(|one| one["name"] == "cookie:sid" && one["values"] == 2));
    let interval = poll["interval"].as_f64().unwrap();
    assert!((0.05..1.0).contains(&interval), "{poll:#}");
    let report = report(admin).await;
    let rpc = report["polls"].as_array().unwrap().iter().find(|poll| poll["path"] == "/rpc").unwrap().clone();
    assert_eq!(
        (&rpc["method"], &rpc["advice"], &rpc["sends"]["kind"]),
        (&"POST".into(), &"leave".into(), &"json-rpc".into())
    );
    assert_eq!(
        (&rpc["sends"]["names"][0], &rpc["sends"]["looks_like_a_read"]),
        (&"session-stats".into(), &true.into())
    );
    // What was seen is nowhere in what is said.
    let said = report.to_string();
    for secret in ["secret-of", "hunter2", "hidden-value", "1763809200"] {
        assert!(!said.contains(secret), "{secret}: {report:#}");
    }
    let (is_good, found) = checked(report["configuration"].as_str().unwrap()).await;
    assert!(is_good && !found.contains("warning"), "{found}\n{}", report["configuration"].as_str().unwrap());
}

/// A running `observe` whose output is read to its end.
async fn spawned(args: &[&str]) -> (Child, String, BufReader<tokio::process::ChildStdout>) {
    let mut child = command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    within("the ready line", stdout.read_line(&mut ready)).await.unwrap();
    (child, ready, stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_in_the_end_and_a_file_is_written_that_is_good() {
    let backend = Backend::start().await;
    backend.set("/api/jobs", Page::json("{\"jobs\":[]}"));
    backend.set("/api/more", Page::json("{\"more\":[]}"));
    let scratch = Scratch::new("observe-write");
    let file = scratch.path("written.toml").display().to_string();
    let url = backend.url();
    let args = [&["observe", "--upstream", &url, "--write", &file], &ANY[..]].concat();
    for round in 0..2 {
        let (child, ready, mut stdout) = spawned(&args).await;
        let address = |name: &str| -> SocketAddr {
            let (_, rest) = ready.split_once(&format!("{name}=http://")).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (listen, admin) = (address("listen"), address("admin"));
        let target = if round == 0 { "/api/jobs" } else { "/api/more" };
        polled(admin, target, async || drop(get(listen, target, &[]).await), |_| true).await;
        signal(child.id().unwrap(), "TERM");
        let mut said = String::new();
        within("the report", stdout.read_to_string(&mut said)).await.unwrap();
        let output = within("the end", child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for part in [&format!("GET {target}"), "requests a day", "In a day:", "late"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.contains(&format!("path = \"{target}\"")) && written.contains(&url), "{written}");
        assert_eq!(written.matches("path = \"/**\"").count(), 1, "{written}");
        let checked = run(&["check", "-c", &file]).await;
        assert_eq!(checked.status.code(), Some(0), "{}\n{written}", String::from_utf8_lossy(&checked.stderr));
        assert!(checked.stderr.is_empty(), "{}\n{written}", String::from_utf8_lossy(&checked.stderr));
        // The second time, what is there stays.
        assert!(written.contains("path = \"/api/jobs\""), "{written}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_its_time_is_up_and_says_json_alone() {
    let backend = Backend::start().await;
    let url = backend.url();
    let args = [&["observe", "--upstream", &url, "--for", "300ms", "--json"], &ANY[..]].concat();
    let output = run(&args).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("sungrazer ready listen=http://"), "{said}");
    let report = json(&output.stdout);
    assert_eq!((&report["totals"]["requests"], &report["polls"]), (&0.into(), &serde_json::json!([])));
    let (is_good, found) = checked(report["configuration"].as_str().unwrap()).await;
    assert!(is_good, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_said_before_anything_is_observed() {
    let scratch = Scratch::new("observe-wrong");
    let broken = scratch.write("broken.toml", "[upstream]\nurl = \"http://a\"\nevry = 1\n");
    for (args, part) in [
        (vec!["observe"], "--access-log"),
        (vec!["observe", "--upstream", "ftp://a"], "ftp"),
        (vec!["observe", "--upstream", "http://127.0.0.1:1", "--write", &broken], "evry"),
        (vec!["observe", "--access-log", "-", "--for", "1s"], "--for"),
    ] {
        let mut asked = command();
        let output = within("the end", asked.args(&args).current_dir(scratch.path("")).output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(part), "{args:?}: {said}");
    }
    let output = run(&["observe", "--access-log", "/nowhere/access.log"]).await;
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_a_file_puts_all_routes_out_of_force() {
    let backend = Backend::start().await;
    let page = "<html><head></head><body>x</body></html>";
    backend.set("/", Page::new("text/html", page));
    backend.set("/api/a", Page::json("1"));
    let sidecar = Sidecar::with(&format!(
        "[server]\nmode = \"observe\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/api/*\"\nhold = \"5s\"\n\
         [[route]]\npath = \"/**\"\nshim = \"learn\"\n",
        backend.url()
    ));
    let answer = sidecar.get("/", &[("Accept", "text/html")]).await;
    assert_eq!(answer.text(), page);
    let mut refused = Events::try_open(sidecar.address, "/api/a", &[]).await;
    assert_eq!(refused.head.header("content-type"), Some("application/json"));
    assert!(within("the end of the answer", refused.next()).await.is_none());
    let admin = sidecar.server.admin().unwrap();
    let ask = async || drop(sidecar.get("/api/a", &[("If-None-Match", "\"1\"")]).await);
    let poll = polled(admin, "/api/a", ask, |poll| poll["polls"].as_u64() >= Some(8)).await;
    assert_eq!((&poll["same"], sidecar.watched(), sidecar.held()), (&1.0.into(), 0, 0));
    let asked = backend.hits("/api/a") as u64;
    // The page was counted, and what might have been a stream was not.
    assert_eq!(report(admin).await["totals"]["requests"].as_u64(), Some(asked), "each was a client's");
    let state = json(&sidecar.admin("/api/state").await.body);
    assert_eq!(state["observed"]["requests"], asked);
    // Elsewhere nothing is observed.
    let pushing = Sidecar::start(&backend, "");
    assert_eq!(pushing.admin("/api/observed").await.status, 404);
    assert_eq!(json(&pushing.admin("/api/state").await.body)["observed"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_and_a_client_that_leaves_are_no_harm() {
    let backend = Backend::start().await;
    let dots = Page::new("text/event-stream", "").piece(Duration::ZERO, "data: 1\n\n").linger();
    backend.set("/events", dots);
    let endless = Page::new("text/plain", "").piece(Duration::ZERO, "x").linger();
    backend.set("/endless", endless);
    let program = observing(&backend.url(), &[]).await;
    let mut events = Connection::open(program.address).await;
    events.send("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").await;
    within("an event", async { while !String::from_utf8_lossy(&events.raw(1).await).contains("data: 1") {} }).await;
    let mut connection = Connection::open(program.address).await;
    connection.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within("the first byte", async { while !connection.raw(1).await.contains(&b'x') {} }).await;
    drop((connection, events));
    eventually("the application's connections to end", || backend.open() == 0).await;
    let after = get(program.address, "/endless-not", &[]).await;
    assert_eq!(after.status, 404);
}

/// A log in which two clients poll every two seconds, one of them something that changes, and people look around.
fn log(line: impl Fn(u64, &str, &str, u16, u64) -> String) -> String {
    let mut text = String::new();
    for n in 0..40 {
        text += &line(n * 2, "10.0.0.1", "/api/jobs", 200, 100 + n / 10);
        text += &line(n * 2 + 1, "10.0.0.2", "/api/jobs", if n % 3 == 0 { 304 } else { 200 }, 100);
        if n % 7 == 0 {
            text += &line(n * 2 + 1, "10.0.0.3", &format!("/page/{n}"), 200, 5000);
        }
        if n % 10 == 9 {
            text += "this is no line of any log\n";
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_three_kinds_tell_the_same() {
    let at = |second: u64| format!("{:02}:{:02}", second / 60, second % 60);
    let combined = log(|second, client, path, status, bytes| {
        let time = at(second);
        format!(
            "{client} - - [28/Nov/2026:22:{time} +0100] \"GET {path} HTTP/1.1\" {status} {bytes} \"-\" \"Mozilla/5.0\"\n"
        )
    });
    let own = log(|second, client, path, status, bytes| {
        let time = at(second);
        format!(
            "{{\"at\":\"2026-11-28T21:{time}.000Z\",\"client\":\"{client}\",\"method\":\"GET\",\"host\":\"a\",\"path\":\"{path}\",\
             \"protocol\":\"HTTP/1.1\",\"agent\":\"Mozilla/5.0\",\"status\":{status},\"bytes\":{bytes},\"took_ms\":2.5,\"how\":\"proxied\"}}\n"
        )
    });
    let caddy = log(|second, client, path, status, bytes| {
        let time = 1_795_901_520.5 + second as f64;
        format!(
            "{{\"level\":\"info\",\"ts\":{time},\"logger\":\"http.log.access\",\"msg\":\"handled request\",\"request\":{{\"remote_ip\":\"{client}\",\
             \"proto\":\"HTTP/2.0\",\"method\":\"GET\",\"host\":\"a\",\"uri\":\"{path}\",\"headers\":{{\"User-Agent\":[\"Mozilla/5.0\"]}}}},\
             \"duration\":0.0025,\"size\":{bytes},\"status\":{status}}}\n"
        )
    });
    let scratch = Scratch::new("logs");
    for (kind, text) in [("combined", combined), ("own", own), ("caddy", caddy)] {
        let file = scratch.write(&format!("{kind}.log"), &text);
        let output = run(&["observe", "--access-log", &file, "--json", "--upstream", "http://127.0.0.1:8000"]).await;
        assert_eq!(output.status.code(), Some(0), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        let report = json(&output.stdout);
        let polls = report["polls"].as_array().unwrap();
        assert_eq!(polls.len(), 1, "{kind}: {report:#}");
        let poll = &polls[0];
        assert_eq!(
            (&poll["path"], &poll["polls"], &poll["clients"], &poll["changes"], &report["totals"]["unread"]),
            (&"/api/jobs".into(), &80.into(), &2.into(), &3.into(), &4.into()),
            "{kind}: {report:#}"
        );
        let interval = poll["interval"].as_f64().unwrap();
        assert!((1.8..2.2).contains(&interval), "{kind}: {interval}");
        let (is_good, found) = checked(report["configuration"].as_str().unwrap()).await;
        assert!(is_good, "{kind}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_from_a_pipe_whatever_is_in_it() {
    let mut child = command()
        .args(["observe", "--access-log", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let good = "::1 - - [28/Nov/2026:22:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"\n";
    let mut bytes = vec![0xff, 0, b'\n'];
    bytes.extend(vec![b'x'; 200_000]);
    bytes.push(b'\n');
    bytes.extend_from_slice(good.as_bytes());
    bytes.extend_from_slice(b"{\"lost\":7}\n{\"half\":");
    within("the log to be taken", stdin.write_all(&bytes)).await.unwrap();
    drop(stdin);
    let output = within("the end", child.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report = json(&output.stdout);
    assert_eq!((&report["totals"]["requests"], &report["totals"]["unread"]), (&1.into(), &3.into()), "{report:#}");
}
