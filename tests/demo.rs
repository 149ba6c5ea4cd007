//! `sungrazer demo`, as somebody who tries it out sees it.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::client::{Connection, Events, get};
use crate::support::program::{command, run};
use crate::support::within;

const ANY_PORTS: &[&str] =
    &["demo", "--page", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--backend", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    page: SocketAddr,
    polled: SocketAddr,
    pushed: SocketAddr,
    admin: SocketAddr,
}

/// What the demo said last: requests by the polled and by the pushed way, and how late readers were.
#[derive(Debug, Default)]
struct Table {
    headings: usize,
    asked: [u64; 2],
    seen: [Option<f64>; 2],
}

impl Table {
    fn read(&mut self, line: &str) {
        assert!(!line.contains('\x1b'), "no terminal reads this: {line:?}");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["requests", "at", "the", "wiki", ..] => self.headings += 1,
            [way @ ("polled" | "pushed"), asked, _, seen, ..] => {
                let at = usize::from(way == "pushed");
                self.asked[at] = asked.parse().unwrap();
                self.seen[at] = seen.parse().ok();
            }
            _ => {}
        }
    }
}

impl Demo {
    async fn start(args: &[&str]) -> Self {
        let mut child = command().args(ANY_PORTS).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let page = Self::link(&mut lines, "open  ").await;
        let polled = Self::link(&mut lines, "polled").await;
        let pushed = Self::link(&mut lines, "pushed").await;
        let admin = Self::link(&mut lines, "admin ").await;
        Self { child, lines, page, polled, pushed, admin }
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

    /// Waits for its end, and returns what it said until then.
    async fn end(mut self) -> Table {
        let mut table = Table::default();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            table.read(&line);
        }
        assert_eq!(within("the demo to end", self.child.wait()).await.unwrap().code(), Some(0));
        assert_eq!(table.headings, 1, "one heading for the whole table");
        table
    }

    /// Writes a line into the wiki as the demo's page does.
    async fn edit(&self, body: &str, headers: &[(&str, &str)]) -> u16 {
        Connection::open(self.page).await.request("POST", "/edit", headers, body.as_bytes()).await.status
    }
}

/// The first event of `name`, as JSON.
async fn event(events: &mut Events, name: &str) -> Value {
    loop {
        let event = within(name, events.next()).await.unwrap();
        if event.event.as_deref() == Some(name) {
            return serde_json::from_str(&event.data).unwrap();
        }
    }
}

const NAVIGATION: [(&str, &str); 2] = [("Sec-Fetch-Dest", "iframe"), ("Sec-Fetch-Mode", "navigate")];

#[tokio::test(flavor = "multi_thread")]
async fn both_links_show_one_wiki_and_the_pushed_one_is_followed() {
    let demo = Demo::start(&["--readers", "0", "--edits", "off", "--for", "60s"]).await;
    let page = get(demo.polled, "/", &NAVIGATION).await;
    let (before, after) = include_str!("../examples/wiki/page.html").split_once("</body>").unwrap();
    assert!(page.text().starts_with(before) && page.text().ends_with(after), "the example's page, and a stopwatch");
    assert!(!page.text().contains("/.sungrazer/shim.js"));
    assert!(get(demo.pushed, "/", &NAVIGATION).await.text().contains("/.sungrazer/shim.js"));
    assert!(get(demo.admin, "/", &[("Host", "localhost")]).await.text().contains("<title>Sungrazer</title>"));
    let mut events = Events::open(demo.pushed, "/.sungrazer/stream?url=/wiki/text", &[]).await;
    let record = |text: &str| serde_json::from_str::<Value>(text).unwrap()["body"].clone();
    assert_eq!(record(&events.snapshot().await.data), include_str!("../examples/wiki/start.txt"));
    for (way, text) in [(demo.polled, "Written past Sungrazer."), (demo.pushed, "Written through Sungrazer.")] {
        let saved = Connection::open(way).await.request("POST", "/wiki/text", &[], text.as_bytes()).await;
        assert_eq!(saved.status, 204);
        assert_eq!(record(&within("the edit", events.snapshot()).await.data), text);
    }
    drop(events);
    demo.interrupt();
    let Table { asked: [polled, pushed], .. } = demo.end().await;
    // One page straight; a page and at least a fetch for each state through the sidecar.
    assert_eq!(polled, 1);
    assert!(pushed >= 4, "{pushed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_of_edits_and_makes_them() {
    let demo = Demo::start(&["--readers", "0", "--edits", "off", "--for", "60s"]).await;
    let page = get(demo.page, "/", &[]).await;
    assert!(page.text().contains("/viewer.js"));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    for path in ["/viewer.js", "/viewer.css", "/getting-started"] {
        assert_eq!(get(demo.page, path, &[]).await.status, 200, "{path}");
    }
    let mut events = Events::open(demo.page, "/events", &[]).await;
    let setup = event(&mut events, "setup").await;
    assert_eq!(setup["polled"], format!("http://{}/", demo.polled));
    assert_eq!(setup["pushed"], format!("http://{}/", demo.pushed));
    assert_eq!(setup["admin"], format!("http://{}/", demo.admin));
    for (number, way) in [(1, "polled"), (2, "pushed")] {
        assert_eq!(demo.edit(&format!(r#"{{"note":"tea\n","way":"{way}"}}"#), &[]).await, 204);
        let edit = event(&mut events, "edit").await;
        assert_eq!((&edit["number"], &edit["way"]), (&Value::from(number), &Value::from(way)));
        let text = get(demo.polled, "/wiki/text", &[]).await;
        assert_eq!(edit["text"], text.text());
        assert!(text.text().starts_with(&format!("\u{bb} {number}. tea\n")), "{}", text.text());
    }
    // What was saved through the sidecar, and read straight, is no request of a reader's.
    let asked = within("the counters", async {
        loop {
            let asked = event(&mut events, "asked").await;
            if asked["polled"] == 2 {
                return asked;
            }
        }
    });
    assert_eq!(asked.await["pushed"], 0);
    let good = r#"{"note":"tea","way":"polled"}"#;
    assert_eq!(demo.edit(good, &[("Origin", "http://other.example")]).await, 403);
    assert_eq!(demo.edit(r#"{"note":"tea","way":"by post"}"#, &[]).await, 400);
    assert_eq!(demo.edit(&format!(r#"{{"note":"{}","way":"polled"}}"#, "x".repeat(5000)), &[]).await, 400);
    assert_eq!(get(demo.page, "/nothing", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_measured_and_those_who_are_pushed_are_sooner() {
    // Readers come within 5 s and are followed from their second poll on; an edit counts when all have had 6 s to see it.
    let demo = Demo::start(&["--readers", "3", "--edits", "1500ms", "--for", "22s"]).await;
    let Table { asked: [polled, pushed], seen: [late, soon], .. } = demo.end().await;
    let (late, soon) = (late.expect("the polled have seen edits"), soon.expect("the pushed have seen edits"));
    assert!(soon < late, "pushed {soon} s, polled {late} s");
    // Each reader polls every 5 s. For the pushed there is one fetch a second, however many they are.
    assert!((9..=15).contains(&polled), "{polled}");
    assert!((9..=40).contains(&pushed), "{pushed}");
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
    for flag in ["--page", "--listen", "--backend", "--admin"] {
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
