//! `sungrazer demo`, as somebody who tries it out sees it.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::client::{Connection, Events, get};
use crate::support::program::{command, run};
use crate::support::within;

const ANY_PORTS: &[&str] = &["demo", "--listen", "127.0.0.1:0", "--backend", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    polled: SocketAddr,
    pushed: SocketAddr,
}

impl Demo {
    async fn start(args: &[&str]) -> Self {
        let mut child = command().args(ANY_PORTS).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let polled = Self::link(&mut lines, "polled").await;
        let pushed = Self::link(&mut lines, "pushed").await;
        Self { child, lines, polled, pushed }
    }

    async fn link(lines: &mut Lines<BufReader<ChildStdout>>, name: &str) -> SocketAddr {
        loop {
            let line = within("the links", lines.next_line()).await.unwrap().expect("the demo ended early");
            if let Some((_, link)) = line.split_once(&format!("  {name}   http://")) {
                return link.split('/').next().unwrap().parse().unwrap();
            }
        }
    }

    /// Presses Ctrl-C.
    fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    }

    /// Waits for its end, and returns the numbers of the last table: requests by the polled and by the pushed way.
    async fn end(mut self) -> [u64; 2] {
        let mut asked = [0; 2];
        while let Some(line) = within("the last table", self.lines.next_line()).await.unwrap() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("polled") => asked[0] = words.next().unwrap().parse().unwrap_or(asked[0]),
                Some("pushed") => asked[1] = words.next().unwrap().parse().unwrap_or(asked[1]),
                _ => {}
            }
        }
        assert_eq!(within("the demo to end", self.child.wait()).await.unwrap().code(), Some(0));
        asked
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_links_show_one_wiki_and_the_pushed_one_is_live() {
    let demo = Demo::start(&["--readers", "0", "--edits", "off", "--for", "60s"]).await;
    let page = get(demo.polled, "/", &[]).await;
    assert_eq!(page.text(), include_str!("../examples/wiki/page.html"));
    assert_eq!(get(demo.pushed, "/", &[]).await.text(), page.text());
    let mut events = Events::open(demo.pushed, "/wiki/text", &[]).await;
    let first = events.snapshot().await.data;
    assert_eq!(first, include_str!("../examples/wiki/start.txt"));
    for (way, text) in [(demo.polled, "Written past Sungrazer."), (demo.pushed, "Written through Sungrazer.")] {
        let saved = Connection::open(way).await.request("POST", "/wiki/text", &[], text.as_bytes()).await;
        assert_eq!(saved.status, 204);
        assert_eq!(within("the edit", events.snapshot()).await.data, text);
    }
    drop(events);
    demo.interrupt();
    let [polled, pushed] = demo.end().await;
    // One page and one edit straight; a page, an edit and at least a look for each state through the sidecar.
    assert_eq!(polled, 2);
    assert!(pushed >= 5, "{pushed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_follow_and_the_demo_edits() {
    let demo = Demo::start(&["--readers", "3", "--edits", "200ms", "--for", "2s"]).await;
    let mut events = Events::open(demo.pushed, "/wiki/text", &[]).await;
    events.snapshot().await;
    assert!(within("an edit", events.snapshot()).await.data.contains("The demo: edit "));
    // It ends by itself. Each reader has come at once, or within its interval of 5 s.
    let [polled, pushed] = demo.end().await;
    assert!(polled >= 1 && pushed >= 2, "{polled} {pushed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiki_refuses_what_it_is_not_made_for() {
    let demo = Demo::start(&["--readers", "0", "--edits", "off", "--for", "60s"]).await;
    let mut connection = Connection::open(demo.polled).await;
    assert_eq!(connection.get("/nothing", &[]).await.status, 404);
    assert_eq!(connection.request("PUT", "/wiki/text", &[], b"x").await.header("allow"), Some("GET, POST"));
    let mut connection = Connection::open(demo.polled).await;
    assert_eq!(connection.request("POST", "/wiki/text", &[], &[b'x'; 70_000]).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_asked_for_and_is_taken_is_a_failure() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--backend", "--admin"] {
        let mut args = ANY_PORTS.to_vec();
        let at = args.iter().position(|arg| *arg == flag).unwrap();
        args[at + 1] = &address;
        let output = run(&args).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag}: {text}");
        assert!(text.contains(&address), "{flag}: {text}");
    }
    for wrong in [["--edits", "often"], ["--readers", "5000"], ["--listen", "8080"]] {
        assert_eq!(run(&["demo", wrong[0], wrong[1]]).await.status.code(), Some(2), "{wrong:?}");
    }
}
