//! Writes, files and hooks: fetches that do not wait for their interval.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{Connection, Events};
use crate::support::program::Scratch;
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

/// An interval that no test waits for.
const SLOW: &str = "every = \"1h\"\nevery_max = \"1h\"\n";

fn slow(path: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\n{SLOW}")
}

/// A wiki: what is posted to `/save` is what `/text` says.
async fn wiki() -> Backend {
    let backend = Backend::start().await;
    let text = Arc::new(std::sync::Mutex::new("first".to_owned()));
    backend.handle("/text", {
        let text = Arc::clone(&text);
        move |_| Page::text(&text.lock().unwrap())
    });
    backend.handle("/save", move |seen| {
        *text.lock().unwrap() = String::from_utf8(seen.body.clone()).unwrap();
        Page::text("saved").status(303).header("Location", "/text")
    });
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_the_proxy_reaches_the_streams_at_once() {
    let backend = wiki().await;
    let sidecar = Sidecar::start(&backend, &slow("/text"));
    let mut events = sidecar.events("/text").await;
    assert_eq!(events.snapshot().await.data, "first");
    let mut writer = Connection::open(sidecar.address).await;
    for text in ["second", "third"] {
        writer.request("POST", "/save", &[], text.as_bytes()).await;
        assert_eq!(within("the write's effect", events.snapshot()).await.data, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_named_writes_are_triggers_where_the_route_names_some() {
    let backend = wiki().await;
    backend.set("/other", Page::text("ok"));
    let sidecar = Sidecar::start(&backend, &format!("{}refresh_on = [\"PUT /other\"]\n", slow("/text")));
    let mut events = sidecar.events("/text").await;
    events.snapshot().await;
    let fetches = backend.hits("/text");
    let mut client = Connection::open(sidecar.address).await;
    client.request("POST", "/other", &[], b"x").await;
    client.request("PUT", "/other", &[], b"x").await;
    eventually("the fetch after PUT", || backend.hits("/text") > fetches).await;
    // One after the PUT and one afterthought, none for the POST.
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(backend.hits("/text"), fetches + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_concerns_its_own_uri_and_those_that_its_answer_names() {
    let backend = Backend::start().await;
    for path in ["/own", "/there", "/grouped", "/apart"] {
        backend.set(path, Page::text("1").header("Cache-Groups", if path == "/grouped" { "\"g\"" } else { "\"h\"" }));
    }
    let sidecar = Sidecar::start(&backend, &format!("{}refresh_on = []\n", slow("/**")));
    let mut streams = Vec::new();
    for path in ["/own", "/there", "/grouped", "/apart"] {
        let mut events = sidecar.events(path).await;
        events.snapshot().await;
        streams.push(events);
    }
    let before: Vec<usize> = ["/own", "/there", "/grouped", "/apart"].map(|path| backend.hits(path)).to_vec();
    backend.handle("/own", |seen| {
        let page = Page::text("2");
        if seen.method == "POST" {
            page.status(201)
                .header("Content-Location", "http://site.example/there")
                .header("Cache-Group-Invalidation", "\"x\", \"g\"")
        } else {
            page
        }
    });
    Connection::open(sidecar.address).await.request("POST", "/own", &[], b"x").await;
    for (path, before) in [("/own", before[0] + 1), ("/there", before[1]), ("/grouped", before[2])] {
        eventually(&format!("a fetch of {path}"), || backend.hits(path) > before).await;
    }
    assert_eq!(backend.hits("/apart"), before[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_may_have_changed_something_before_it_did() {
    let backend = wiki().await;
    let sidecar = Sidecar::start(&backend, &slow("/text"));
    let mut events = sidecar.events("/text").await;
    events.snapshot().await;
    for status in [404, 409, 500] {
        let text = status.to_string();
        backend.set("/text", Page::text(&text));
        backend.set("/fails", Page::text("no").status(status));
        let answer = Connection::open(sidecar.address).await.request("POST", "/fails", &[], text.as_bytes()).await;
        assert_eq!(answer.status, status);
        assert_eq!(within("what it changed", events.snapshot()).await.data, text);
    }
    // An answer that does not come is no better.
    backend.set("/text", Page::text("lost"));
    backend.set("/fails", Page::dropped());
    let answer = Connection::open(sidecar.address).await.request("POST", "/fails", &[], b"lost").await;
    assert_eq!(answer.status, 502);
    assert_eq!(within("what it changed", events.snapshot()).await.data, "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_its_own_writes_whatever_was_under_way() {
    let backend = Backend::start().await;
    let text = Arc::new(std::sync::Mutex::new("old"));
    let (gate, gated) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    backend.handle("/text", {
        let (text, gate, gated) = (Arc::clone(&text), Arc::clone(&gate), Arc::clone(&gated));
        move |seen| {
            // The answer is made before the gate and sent behind it: a fetch that is overtaken by a write.
            let page = Page::text(*text.lock().unwrap()).header("Vary", "X-Nothing");
            let is_fetch = seen.is_fetch();
            if is_fetch && gated.swap(false, Ordering::SeqCst) { page.gate(&gate) } else { page }
        }
    });
    backend.handle("/save", move |_| {
        *text.lock().unwrap() = "new";
        Page::text("saved")
    });
    let sidecar = Sidecar::start(
        &backend,
        "[[route]]\npath = \"/text\"\nevery = \"100ms\"\nevery_max = \"100ms\"\nrefresh_on = []\nhold = \"200ms\"\n",
    );
    let mut events = sidecar.events("/text").await;
    assert_eq!(events.snapshot().await.data, "old");
    gated.store(true, Ordering::SeqCst);
    eventually("a fetch to be under way", || !gated.load(Ordering::SeqCst)).await;
    let mut client = Connection::open(sidecar.address).await;
    client.request("POST", "/save", &[], b"x").await;
    // The overtaken fetch ends now, and brings the old state.
    gate.notify_one();
    for _ in 0..5 {
        assert_eq!(client.get("/text", &[("Accept", "*/*")]).await.text(), "new", "a plain GET after the write");
    }
    let mut stream = Events::open(sidecar.address, "/text", &[]).await;
    assert_eq!(stream.snapshot().await.data, "new", "the first event after the write");
    assert_eq!(events.snapshot().await.data, "new", "the open stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_begin_with_what_was_read_before_its_clients_write() {
    for target in ["/text", "/.sungrazer/stream?url=/text"] {
        let backend = Backend::start().await;
        let (gate, written) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        backend.handle("/text", {
            let (gate, written) = (Arc::clone(&gate), Arc::clone(&written));
            move |seen| {
                let is_fetch = seen.is_fetch();
                match (written.load(Ordering::SeqCst), is_fetch) {
                    (true, _) => Page::text("new"),
                    (false, true) => Page::text("old").gate(&gate),
                    // The stream's own question whether the application has one of its own.
                    (false, false) => Page::text("old"),
                }
            }
        });
        backend.handle("/save", move |_| {
            written.store(true, Ordering::SeqCst);
            Page::text("no").status(500)
        });
        let sidecar = Sidecar::start(&backend, &format!("{}refresh_on = []\n", slow("/text")));
        let address = sidecar.address;
        let opened = tokio::spawn(async move {
            let mut events = Events::open(address, target, &[]).await;
            (events.snapshot().await.data, events)
        });
        eventually("a fetch to be under way", || backend.seen("/text").iter().any(Seen::is_fetch)).await;
        assert_eq!(Connection::open(address).await.request("POST", "/save", &[], b"x").await.status, 500);
        gate.notify_one();
        let (first, _events) = within("the first event", opened).await.unwrap();
        assert!(first.contains("new"), "{target}: {first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_sent_again_and_again_is_no_write() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("1"));
    backend.set("/rpc", Page::json("{}"));
    let sidecar = Sidecar::start(&backend, &slow("/a"));
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let mut page = Connection::open(sidecar.address).await;
    let call = |id: u32| format!("{{\"id\":{id},\"method\":\"list\"}}");
    for id in 0..2 {
        let before = backend.hits("/a");
        page.request("POST", "/rpc", &[], call(id).as_bytes()).await;
        eventually("the fetch after something new", || backend.hits("/a") > before).await;
        // A poll's own interval.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let fetches = backend.hits("/a");
    for id in 2..12 {
        page.request("POST", "/rpc", &[], call(id).as_bytes()).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(backend.hits("/a"), fetches, "a poll was taken for a write");
    page.request("POST", "/rpc", &[], b"{\"id\":13,\"method\":\"add\"}").await;
    eventually("the fetch after a real write", || backend.hits("/a") > fetches).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_none_the_less_for_having_been_made_unseen() {
    let backend = wiki().await;
    let sidecar = Sidecar::start(&backend, &slow("/text"));
    let mut writer = Connection::open(sidecar.address).await;
    // Nobody watches: whether this has an effect cannot be told.
    for n in 1..4 {
        writer.request("POST", "/save", &[], format!("text {n}").as_bytes()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut events = sidecar.events("/text").await;
    assert_eq!(events.snapshot().await.data, "text 3");
    writer.request("POST", "/save", &[], b"text 4").await;
    assert_eq!(within("the write's effect", events.snapshot()).await.data, "text 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_polls_by_post_when_it_is_told_to_does_not_keep_itself_busy() {
    let backend = Backend::start().await;
    backend.set("/rpc", Page::json("{\"result\":[]}"));
    backend.set("/save", Page::text("saved"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/rpc\"\nmethods = [\"POST\"]\nfetch = false\n");
    let mut ticks = Events::open(sidecar.address, "/.sungrazer/stream?url=/rpc", &[]).await;
    let mut page = Connection::open(sidecar.address).await;
    page.request("POST", "/save", &[], b"something").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let polling = tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            while ticks.next().await.is_some() {
                let id = asked.fetch_add(1, Ordering::SeqCst);
                let call = format!("{{\"id\":{id},\"method\":\"list\"}}");
                page.request("POST", "/rpc", &[], call.as_bytes()).await;
            }
        }
    });
    // Its own polls are ticks to it until they are known for what they are.
    within("it to be left in peace", async {
        loop {
            let before = asked.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            if before > 0 && asked.load(Ordering::SeqCst) == before {
                break;
            }
        }
    })
    .await;
    let before = asked.load(Ordering::SeqCst);
    Connection::open(sidecar.address).await.request("POST", "/save", &[], b"something else").await;
    eventually("a tick after a real write", || asked.load(Ordering::SeqCst) > before).await;
    polling.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fetch_has_a_reason_that_is_counted_and_told() {
    let backend = Backend::start().await;
    for path in ["/a", "/often", "/save"] {
        backend.set(path, Page::text("1"));
    }
    let scratch = Scratch::new("reasons");
    let file = scratch.write("data", "1");
    let sidecar = Sidecar::start(
        &backend,
        &format!("{}watch_files = [\"{file}\"]\n[[route]]\npath = \"/often\"\nevery = \"50ms\"\n", slow("/a")),
    );
    let why = |url: &'static str| {
        let sidecar = &sidecar;
        async move {
            let told: serde_json::Value =
                serde_json::from_str(sidecar.admin(&format!("/api/why?url={url}")).await.text()).unwrap();
            told["resources"][0]["looks"].as_array().unwrap().clone()
        }
    };
    let told = |trigger: &'static str| {
        let why = &why;
        within(trigger, async move {
            loop {
                let fetches = why(if trigger == "timer" { "/often" } else { "/a" }).await;
                if let Some(fetch) = fetches.iter().find(|fetch| fetch["trigger"] == trigger) {
                    assert!(fetch["because"].as_str().is_some_and(|reason| !reason.is_empty()), "{fetch}");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    let (mut a, mut often) = (sidecar.events("/a").await, sidecar.events("/often").await);
    a.snapshot().await;
    often.snapshot().await;
    told("demand").await;
    told("timer").await;
    drop(often);
    Connection::open(sidecar.address).await.request("POST", "/save", &[], b"x").await;
    told("write").await;
    Connection::open(sidecar.server.admin().unwrap()).await.request("POST", "/api/refresh?url=/a", &[LOCAL], b"").await;
    told("hook").await;
    within("the file to be noticed", async {
        while !why("/a").await.iter().any(|fetch| fetch["trigger"] == "file") {
            // Until the watch is in place nothing is announced.
            fs::write(&file, format!("{:?}", Instant::now())).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    backend.settles("/a").await;
    // Nothing fetches without being counted by its reason and by what came of it, or without being on record.
    let metrics = sidecar.admin("/metrics").await;
    let count = |name: &str| -> usize {
        let of_route = format!("sungrazer_{name}_total{{route=\"/a\"");
        let lines = metrics.text().lines().filter(|line| line.starts_with(&of_route));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    };
    let fetches = backend.seen("/a").iter().filter(|seen| seen.is_fetch()).count();
    assert_eq!((count("triggers"), count("fetches")), (fetches, fetches), "{}", metrics.text());
    assert_eq!(why("/a").await.len(), fetches.min(32));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_writes_costs_a_fetch_a_gap() {
    let backend = wiki().await;
    let sidecar = Sidecar::start(&backend, &slow("/text"));
    let mut events = sidecar.events("/text").await;
    events.snapshot().await;
    let (fetches, began) = (backend.hits("/text"), Instant::now());
    let mut writer = Connection::open(sidecar.address).await;
    let mut written = 0;
    while began.elapsed() < Duration::from_secs(1) {
        written += 1;
        writer.request("POST", "/save", &[], format!("text {written} {}", "x".repeat(written % 50)).as_bytes()).await;
    }
    let fetches = backend.hits("/text") - fetches;
    let gaps = began.elapsed().as_millis() / 50 + 1;
    assert!(written > 100, "that was no storm: {written}");
    assert!(fetches as u128 <= gaps, "{fetches} fetches in {gaps} gaps");
    // The last write is always served.
    let last = format!("text {written} {}", "x".repeat(written % 50));
    while within("the last write", events.snapshot()).await.data != last {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_in_any_way_is_a_trigger() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("1"));
    let scratch = Scratch::new("files");
    let file = scratch.write("data.json", "1");
    let sidecar = Sidecar::start(
        &backend,
        &format!("{}watch_files = [\"{file}\", \"{}\"]\n", slow("/a"), scratch.path("later/**/*.txt").display()),
    );
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let path = scratch.path("data.json");
    // Until the watch is in place nothing is announced; the first change is repeated until it is seen.
    let before = backend.hits("/a");
    within("the watch to be in place", async {
        while backend.hits("/a") == before {
            fs::write(&path, format!("{:?}", Instant::now())).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    type Change<'a> = Box<dyn Fn() + 'a>;
    let changes: [(&str, Change<'_>); 7] = [
        ("rewritten", Box::new(|| fs::write(&path, "another").unwrap())),
        (
            "appended to",
            Box::new(|| {
                use std::io::Write;
                fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
            }),
        ),
        (
            "replaced",
            Box::new(|| {
                fs::write(scratch.path("new"), "replaced").unwrap();
                fs::rename(scratch.path("new"), &path).unwrap();
            }),
        ),
        ("journalled", Box::new(|| fs::write(scratch.path("data.json-wal"), "pages").unwrap())),
        ("removed", Box::new(|| fs::remove_file(&path).unwrap())),
        (
            "a link now",
            Box::new(|| {
                fs::create_dir(scratch.path("v1")).unwrap();
                fs::write(scratch.path("v1/data.json"), "linked").unwrap();
                std::os::unix::fs::symlink("v1", scratch.path("..data")).unwrap();
                std::os::unix::fs::symlink("..data/data.json", &path).unwrap();
            }),
        ),
        (
            "swapped",
            Box::new(|| {
                fs::create_dir(scratch.path("v2")).unwrap();
                fs::write(scratch.path("v2/data.json"), "swapped").unwrap();
                std::os::unix::fs::symlink("v2", scratch.path("..tmp")).unwrap();
                fs::rename(scratch.path("..tmp"), scratch.path("..data")).unwrap();
            }),
        ),
    ];
    for (what, change) in changes {
        backend.settles("/a").await;
        let before = backend.hits("/a");
        change();
        eventually(&format!("a fetch after the file was {what}"), || backend.hits("/a") > before).await;
    }
    // What did not exist when the server started.
    backend.settles("/a").await;
    let before = backend.hits("/a");
    fs::create_dir_all(scratch.path("later/deep")).unwrap();
    fs::write(scratch.path("later/deep/x.txt"), "1").unwrap();
    eventually("a fetch after a file was created in a new folder", || backend.hits("/a") > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_wakes_by_url_and_by_route() {
    let backend = Backend::start().await;
    for path in ["/r/a", "/r/b"] {
        backend.set(path, Page::text("1"));
    }
    let sidecar = Sidecar::start(&backend, &slow("/r/*"));
    let (mut a, mut b) = (sidecar.events("/r/a").await, sidecar.events("/r/b").await);
    a.snapshot().await;
    b.snapshot().await;
    let mut admin = Connection::open(sidecar.server.admin().unwrap()).await;
    backend.set("/r/a", Page::text("2"));
    assert!(admin.request("POST", "/api/refresh?url=/r/a", &[LOCAL], b"").await.text().contains("\"woken\": 1"));
    assert_eq!(within("the change", a.snapshot()).await.data, "2");
    backend.set("/r/b", Page::text("2"));
    assert!(admin.request("POST", "/api/refresh?route=/r/*", &[LOCAL], b"").await.text().contains("\"woken\": 2"));
    assert_eq!(within("the change", b.snapshot()).await.data, "2");
}

/// Sends a purge while `/a`, `/a?x=1` and `/b` are followed, and returns its answer. Those that are `expected` are fetched, and
/// no others.
async fn purge(method: &str, target: &str, headers: &[(&str, &str)], expected: &[&str]) -> String {
    let backend = Backend::start().await;
    let count = Arc::new(AtomicUsize::new(0));
    for (path, tags) in [("/a", "list,node-1"), ("/b", "node-2 list-2")] {
        let count = Arc::clone(&count);
        backend.handle(path, move |_| {
            let page = Page::text(&count.load(Ordering::SeqCst).to_string()).header("X-Cache-Tags", tags);
            page.header("X-Magento-Tags", tags).header("TYPO3-Pid", if tags.contains("node-1") { "1" } else { "2" })
        });
    }
    let sidecar = Sidecar::start(&backend, &slow("/**"));
    let mut streams = Vec::new();
    for target in ["/a", "/a?x=1", "/b"] {
        let mut events = sidecar.events(target).await;
        assert_eq!(events.snapshot().await.data, "0");
        streams.push((target, events));
    }
    count.store(1, Ordering::SeqCst);
    let mut client = Connection::open(sidecar.address).await;
    let answer = client.request(method, target, headers, b"").await;
    for (target, events) in &mut streams {
        if expected.contains(target) {
            assert_eq!(within("what was purged", events.snapshot()).await.data, "1", "{method} {target}");
        }
    }
    let seen: Vec<_> = ["/a", "/b"].into_iter().flat_map(|path| backend.seen(path)).collect();
    assert!(seen.iter().all(|seen| seen.method == "GET"), "{method} {target} was passed on");
    for (target, _) in &streams {
        let fetches = seen.iter().filter(|seen| seen.target == *target && seen.is_fetch()).count();
        assert_eq!(fetches, 1 + usize::from(expected.contains(target)), "{method} {target} {headers:?}");
    }
    format!("{} {}", answer.status, answer.text().trim())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_a_trigger_for_what_it_names() {
    const BY_TAG: &[&str] = &["/a", "/a?x=1"];
    for (method, target, headers, expected) in [
        ("PURGE", "/a", &[][..], &["/a"][..]),
        ("PURGE", "/a?x=1", &[], &["/a?x=1"]),
        ("PURGE", "/a*", &[], BY_TAG),
        ("PURGE", "/nothing", &[], &[]),
        ("PURGE", "/.*", &[("X-Purge-Method", "regex")], &["/a", "/a?x=1", "/b"]),
        ("PURGE", "/", &[("xkey", "node-1 nothing")], BY_TAG),
        ("PURGE", "/", &[("Surrogate-Key", "list-2")], &["/b"]),
        ("PURGE", "/", &[("X-Magento-Tags-Pattern", "((^|,)node-1(,|$))")], BY_TAG),
        ("BAN", "/", &[("X-Ban-Url", "^/b")], &["/b"]),
        ("BAN", "/", &[("Cache-Tags", "node-1|node-7")], BY_TAG),
        ("BAN", "/", &[("X-Cache-Tags", "(^|,)(list)(,|$)")], BY_TAG),
        ("BAN", "/", &[("Varnish-Ban-TYPO3-Pid", "2")], &["/b"]),
        ("BAN", "/", &[("Varnish-Ban-All", "1")], &["/a", "/a?x=1", "/b"]),
    ] {
        let answer = purge(method, target, headers, expected).await;
        assert_eq!(answer, format!("200 {{\"refreshed\":{}}}", expected.len()), "{method} {target} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_cannot_be_read_says_what_is_wrong() {
    let answer = purge("BAN", "/", &[("X-Ban-Url", "(")], &[]).await;
    assert_eq!(
        answer,
        "400 Nothing was refreshed: x-ban-url is not a regular expression that is supported here: unclosed group."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_of_others_are_the_applications() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&seen.method));
    let config = format!(
        "[server]\npurge_from = [\"192.0.2.0/24\"]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\n{}",
        backend.url(),
        slow("/**")
    );
    let sidecar = Sidecar::with(&config);
    let mut client = Connection::open(sidecar.address).await;
    for method in ["PURGE", "BAN"] {
        assert_eq!(client.request(method, "/a", &[], b"").await.text(), method);
        let inside = [("X-Forwarded-For", "192.0.2.7")];
        assert_eq!(client.request(method, "/a", &inside, b"").await.text(), "{\"refreshed\":0}\n");
        let outside = [("X-Forwarded-For", "198.51.100.1")];
        assert_eq!(client.request(method, "/a", &outside, b"").await.text(), method);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_refreshed_by_its_name() {
    let backend = Backend::start().await;
    backend.set("/in", Page::text("1").header("Surrogate-Key", "first g"));
    backend.set("/out", Page::text("1").header("Surrogate-Key", "gg"));
    let sidecar = Sidecar::start(&backend, &slow("/**"));
    let mut streams = Vec::new();
    for path in ["/in", "/out"] {
        let mut events = sidecar.events(path).await;
        events.snapshot().await;
        streams.push(events);
    }
    let mut admin = Connection::open(sidecar.server.admin().unwrap()).await;
    let answer = admin.request("POST", "/api/refresh?group=g", &[LOCAL], b"").await;
    assert_eq!(answer.text().replace(char::is_whitespace, ""), "{\"woken\":1}");
    let fetches = |path: &str| backend.seen(path).iter().filter(|seen| seen.is_fetch()).count();
    eventually("the fetch", || fetches("/in") == 2).await;
    assert_eq!(fetches("/out"), 1);
}
