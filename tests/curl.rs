//! curl, as people use it in scripts and terminals. It must be there, so these are only run on request:
//! `tests/run clients`.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::backend::{Backend, Page};
use crate::support::program::Scratch;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// A running curl, and what it has said and nobody has looked at yet.
struct Curl {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
}

fn curl(args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]).args(args).kill_on_drop(true).stdin(Stdio::null());
    command
}

impl Curl {
    fn start(args: &[&str]) -> Self {
        let mut child = curl(args).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, said: String::new() }
    }

    /// Waits until it has said `text`, and takes everything up to there.
    async fn says(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.said.find(text) {
                let rest = self.said.split_off(at + text.len());
                return std::mem::replace(&mut self.said, rest);
            }
            let mut piece = [0; 4096];
            let read =
                within(&format!("curl to say {text:?} after {:?}", self.said), self.stdout.read(&mut piece)).await;
            let read = read.unwrap();
            assert!(read > 0, "curl ended without saying {text:?}: {:?}", self.said);
            self.said.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    }

    /// Waits until it ends by itself, and gives the rest of what it said.
    async fn ends(mut self) -> String {
        let mut rest = String::new();
        within("curl to end", self.stdout.read_to_string(&mut rest)).await.unwrap();
        let status = within("curl to end", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}: it was not told that this is the end");
        self.said + &rest
    }
}

/// Nothing but events makes anything move.
fn sidecar(backend: &Backend) -> Sidecar {
    Sidecar::with(&format!(
        "[server]\nh2c = true\ndrain = \"2s\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"100ms\"\nheartbeat = \"1h\"\n",
        backend.url()
    ))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl; tests/run sees to it"]
async fn events_arrive_as_they_happen_over_every_version_of_http() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend);
    for version in ["--http1.1", "--http2-prior-knowledge", "--http1.0", "--compressed"] {
        backend.set("/a", Page::json("{\"n\":1}"));
        let url = format!("http://{}/a?{version}", sidecar.address);
        let mut curl = Curl::start(&["-N", version, "-H", "Accept: text/event-stream", &url]);
        assert!(curl.says("{\"n\":1}\n\n").await.starts_with("retry: "), "{version}");
        backend.set("/a", Page::json("{\"n\":2}"));
        curl.says("data: {\"n\":2}\n\n").await;
        curl.child.kill().await.unwrap();
        eventually("its leaving to be noticed", || sidecar.held() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl; tests/run sees to it"]
async fn records_are_lines_for_other_programs() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"n\": 1}"));
    let sidecar = sidecar(&backend);
    let url = format!("http://{}/a", sidecar.address);
    let mut curls = vec![
        Curl::start(&["-N", "-H", "Accept: application/x-ndjson", &url]),
        Curl::start(&["-N", "--http2-prior-knowledge", "-H", "Accept: application/x-ndjson", &url]),
    ];
    for curl in &mut curls {
        let line = curl.says("\n").await;
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["body"]["n"], 1);
    }
    let stopped = tokio::spawn(sidecar.server.stop());
    for curl in curls {
        let rest = curl.ends().await;
        assert!(rest.contains("\"event\":\"end\"") && rest.ends_with("\"reason\":\"drain\"}\n"), "{rest:?}");
    }
    within("the server to stop", stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl; tests/run sees to it"]
async fn a_script_waits_for_news_with_nothing_but_a_validator_in_a_file() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = sidecar(&backend);
    let scratch = Scratch::new("curl");
    let etag = scratch.write("etag", "");
    let url = format!("http://{}/a", sidecar.address);
    let once = || {
        let args =
            ["-w", " %{http_code}", "-H", "Prefer: wait=30", "--etag-compare", &etag, "--etag-save", &etag, &url];
        Curl::start(&args).ends()
    };
    assert_eq!(once().await, "one 200");
    for text in ["two", "three"] {
        let waiting = tokio::spawn(once());
        eventually("curl to be held", || sidecar.held() == 1).await;
        backend.set("/a", Page::text(text));
        assert_eq!(within("the news", waiting).await.unwrap(), format!("{text} 200"));
    }
    let none = ["-w", "%{http_code}", "-H", "Prefer: wait=1", "--etag-compare", &etag, &url];
    assert_eq!(Curl::start(&none).ends().await, "304");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl; tests/run sees to it"]
async fn a_list_is_posted_by_a_client_that_waits_to_be_asked_for_it() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = sidecar(&backend);
    let url = format!("http://{}/.sungrazer/stream", sidecar.address);
    // Over HTTP/2 nobody can ask; curl goes on by itself then.
    for (version, patience) in [("--http1.1", "50"), ("--http2-prior-knowledge", "1")] {
        let mut curl = Curl::start(&[
            "-N",
            version,
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            patience,
            "--data",
            "{\"follow\":[{\"url\":\"/a\"}]}",
            &url,
        ]);
        curl.says("\"body\":\"one\"}\n\n").await;
        curl.child.kill().await.unwrap();
        eventually("its leaving to be noticed", || sidecar.held() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl; tests/run sees to it"]
async fn curl_that_pauses_is_not_given_up_while_it_reads_in_the_end() {
    let backend = Backend::start().await;
    let large = "x".repeat(1 << 20);
    backend.set("/a", Page::text(&large));
    let sidecar = sidecar(&backend);
    let url = format!("http://{}/a", sidecar.address);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let args = ["-N", version, "--limit-rate", "500k", "-H", "Accept: text/event-stream", &url];
        let mut curl = Curl::start(&args);
        let told = within("a slow read", curl.says("xx\n\n")).await;
        assert!(told.len() > large.len(), "{version}: {} bytes", told.len());
        drop(curl);
        tokio::time::timeout(Duration::from_secs(5), eventually("it to leave", || sidecar.held() == 0)).await.unwrap();
    }
}
