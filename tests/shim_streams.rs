//! What the browser script asks of the stream.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

const FAST: &str = "[[route]]\npath = \"/a/**\"\nevery = \"20ms\"\nevery_max = \"20ms\"\nheartbeat = \"1s\"\n";

async fn follow(sidecar: &Sidecar, what: Value) -> Events {
    Events::post(sidecar.address, "/.sungrazer/stream", &what.to_string()).await
}

async fn record(events: &mut Events) -> Value {
    serde_json::from_str(&within("a record", events.next()).await.expect("a record").data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_exactly() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, FAST);
    for (target, page, encoding, body) in [
        ("/a/json", Page::json("{ \"n\":  1.50 }").header("x-own", "7"), None, "{ \"n\":  1.50 }"),
        ("/a/text", Page::text("one\r\ntwo"), None, "one\r\ntwo"),
        ("/a/latin", Page::new("text/plain; charset=iso-8859-1", b"caf\xe9".to_vec()), Some("base64"), "Y2Fm6Q=="),
        ("/a/marked", Page::new("text/plain", b"\xef\xbb\xbfa".to_vec()), Some("base64"), "77u/YQ=="),
    ] {
        backend.set(target, page);
        let mut events = follow(&sidecar, json!({ "follow": [{ "url": target }], "exact": true })).await;
        let record = record(&mut events).await;
        assert_eq!((record["body"].as_str(), record["encoding"].as_str()), (Some(body), encoding), "{target}");
        assert!(record["headers"]["content-type"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn splices_are_of_what_was_spelled() {
    let backend = Backend::start().await;
    let long = "x".repeat(500);
    let body = |n: u32| format!("{{ \"n\": {n}, \"long\": \"{long}\" }}");
    backend.set("/a/json", Page::json(&body(1)).header("x-own", "1"));
    let sidecar = Sidecar::start(&backend, FAST);
    let mut events =
        follow(&sidecar, json!({ "follow": [{ "url": "/a/json", "delta": "splice" }], "exact": true })).await;
    let first = record(&mut events).await;
    assert_eq!(first["body"], body(1));
    backend.set("/a/json", Page::json(&body(2)).header("x-own", "2"));
    let patch = record(&mut events).await;
    assert_eq!((&patch["event"], &patch["base"]), (&json!("patch"), &first["version"]));
    assert_eq!(patch["patch"], json!([[7, 1, "2"]]));
    assert_eq!(patch["headers"]["x-own"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_confirmed_on_request() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    let sidecar = Sidecar::start(&backend, FAST);
    let mut events = follow(&sidecar, json!({ "follow": [{ "url": "/a/b" }], "exact": true })).await;
    let first = record(&mut events).await;
    let asked = json!({ "follow": [{ "url": "/a/b", "since": first["version"], "confirm": true }], "exact": true });
    let mut again = follow(&sidecar, asked.clone()).await;
    let live = json!({ "event": "live", "url": "/a/b", "identity": first["identity"] });
    assert_eq!(record(&mut again).await, live);
    // Once, not with every fetch.
    backend.set("/a/b", Page::text("two"));
    assert_eq!(record(&mut again).await["body"], "two");
    // What is not current is told instead.
    let mut late = follow(&sidecar, asked).await;
    assert_eq!(record(&mut late).await["body"], "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_for_one_piece_of_news() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    let sidecar = Sidecar::start(&backend, FAST);
    let asked = |since: &Value| json!({ "follow": [{ "url": "/a/b", "since": since }], "exact": true, "once": true });
    let mut events = follow(&sidecar, asked(&Value::Null)).await;
    let version = record(&mut events).await["version"].clone();
    assert!(within("the end", events.next()).await.is_none());
    // Without news it ends with the first heartbeat.
    let mut silent = follow(&sidecar, asked(&version)).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), silent.next()).await.is_err(), "it ended at once");
    let mut silent = follow(&sidecar, asked(&version)).await;
    assert!(within("the end", silent.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_keep_the_pace_of_the_most_eager_client_while_it_is_there() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    let slow = "[[route]]\npath = \"/a/**\"\nevery = \"1m\"\nevery_max = \"1m\"\nheartbeat = \"200ms\"\n";
    let sidecar = Sidecar::start(&backend, slow);
    let asked = |every: u32| json!({ "follow": [{ "url": "/a/b", "every": every }], "exact": true });
    let mut patient = follow(&sidecar, asked(60_000)).await;
    record(&mut patient).await;
    let mut eager = follow(&sidecar, asked(300)).await;
    record(&mut eager).await;
    // It would ask by itself, whatever the route says.
    eventually("fetches its pace", || backend.hits("/a/b") > 3).await;
    drop(eager);
    eventually("its leaving to be noticed", || sidecar.held() == 1).await;
    let before = backend.hits("/a/b");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(backend.hits("/a/b") <= before + 1, "fetches the pace of somebody who has left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_does_not_stop_the_rest() {
    let backend = Backend::start().await;
    backend.set("/a/b", Page::text("one"));
    backend.set("/other", Page::text("other"));
    let follows = json!({ "follow": [{ "url": "/other" }, { "url": "/a/b" }], "exact": true });
    let sidecar = Sidecar::start(&backend, FAST);
    let mut events = follow(&sidecar, follows.clone()).await;
    assert_eq!(record(&mut events).await, json!({ "event": "end", "url": "/other", "reason": "gone" }));
    assert_eq!(record(&mut events).await["body"], "one");
    assert_eq!(backend.hits("/other"), 0);
    // Pages of a route that learns may follow what no route takes.
    let learning = format!("{FAST}[[route]]\npath = \"/pages/**\"\nshim = \"learn\"\n");
    let sidecar = Sidecar::start(&backend, &learning);
    for _ in 0..2 {
        sidecar.get("/other", &[]).await;
    }
    let mut events = follow(&sidecar, follows).await;
    let mut bodies = [record(&mut events).await["body"].clone(), record(&mut events).await["body"].clone()];
    bodies.sort_by_key(Value::to_string);
    assert_eq!(bodies, [json!("one"), json!("other")]);
}

const LEARNS: &str =
    "[[route]]\npath = \"/a/**\"\nevery = \"20ms\"\nevery_max = \"10m\"\nshim = \"learn\"\nheartbeat = \"1s\"\n";

async fn refresh(sidecar: &Sidecar) {
    let admin = sidecar.server.admin().unwrap();
    Connection::open(admin).await.request("POST", "/api/refresh?url=/a/x", &[LOCAL], b"").await;
}

/// A page that has polled `url` twice follows it.
async fn follow_as(sidecar: &Sidecar, url: &str, headers: &[(&str, &str)]) -> (Events, Value) {
    for _ in 0..2 {
        sidecar.get(url, headers).await;
    }
    let what = json!({ "follow": [{ "url": url, "every": 600_000 }], "exact": true }).to_string();
    let mut events = Events::post_as(sidecar.address, "/.sungrazer/stream", &what, headers).await;
    let first = record(&mut events).await;
    (events, first)
}

/// How many fetches clients have demanded. Others come when they are due.
async fn demanded(sidecar: &Sidecar) -> f64 {
    let metrics = sidecar.admin("/metrics").await;
    let demands = metrics.text().lines().filter(|line| line.starts_with("sungrazer_triggers_total{"));
    demands
        .filter(|line| line.contains("kind=\"demand\""))
        .map(|line| line.split(' ').nth(1).unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_poll_is_told_whose_it_is_and_never_anothers_state() {
    let backend = Backend::start().await;
    for path in ["/a/x", "/b/x"] {
        backend.handle(path, |seen| {
            Page::text(&format!("{:?}", seen.header("cookie"))).header("Cache-Control", "private")
        });
    }
    let sidecar = Sidecar::start(&backend, LEARNS);
    // What no route takes may be followed, too.
    for path in ["/a/x", "/b/x"] {
        let (_held, first) = follow_as(&sidecar, path, &[("Cookie", "sid=1")]).await;
        assert_eq!(first["body"], "Some(\"sid=1\")");
        let fetches = demanded(&sidecar).await;
        let mark = format!("{path}#0.5");
        let expected = format!("{}#0.5", first["identity"].as_str().unwrap());
        // It is known however long ago it was read, and whatever else keeps caches out.
        for target in [path.to_owned(), format!("{path}?_=7")] {
            let own = sidecar.get(&target, &[("Cookie", "sid=1"), ("Sungrazer-Poll", &mark)]).await;
            assert_eq!(own.header("sungrazer-identity"), Some(expected.as_str()), "{target}");
            assert!(own.is_from_memory(), "{target}");
            assert_eq!(own.text(), "Some(\"sid=1\")");
        }
        assert_eq!(demanded(&sidecar).await, fetches, "the backend was asked");
        let etag = format!("\"{}\"", first["version"].as_str().unwrap());
        let held = [("Cookie", "sid=1"), ("Sungrazer-Poll", &mark), ("If-None-Match", &etag)];
        let known = sidecar.get(path, &held).await;
        assert_eq!((known.status, known.header("sungrazer-identity")), (304, Some(expected.as_str())));
        for (name, value) in [("Cookie", "sid=2"), ("X-Nobody", "1")] {
            let other = sidecar.get(path, &[(name, value), ("Sungrazer-Poll", &mark)]).await;
            let identity = other.header("sungrazer-identity").expect("an identity");
            assert!(identity != expected && identity.ends_with("#0.5"), "{name}: {identity}");
            assert_ne!(other.text(), "Some(\"sid=1\")", "{name}");
        }
        let plain = sidecar.get(path, &[("Cookie", "sid=1")]).await;
        assert_eq!(plain.header("sungrazer-identity"), None, "nobody asked");
        // A page that loads itself again asks for itself; from a site without TLS no browser says that this is no navigation.
        let page = ("accept", "text/html,*/*;q=0.8");
        let what =
            json!({ "follow": [{ "url": path, "every": 600_000, "headers": { page.0: page.1 } }], "exact": true });
        let cookie = ("Cookie", "sid=1");
        let mut held = Events::post_as(sidecar.address, "/.sungrazer/stream", &what.to_string(), &[cookie]).await;
        let expected = format!("{}#0.5", record(&mut held).await["identity"].as_str().unwrap());
        let fetches = demanded(&sidecar).await;
        let own = sidecar.get(path, &[cookie, page, ("Sungrazer-Poll", &mark)]).await;
        assert!(own.is_from_memory(), "{own:?}");
        assert_eq!(own.header("sungrazer-identity"), Some(expected.as_str()));
        assert_eq!(demanded(&sidecar).await, fetches, "the backend was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_makes_its_client_another_says_so() {
    let backend = Backend::start().await;
    backend.set("/a/x", Page::text("x").header("Set-Cookie", "sid=2; HttpOnly"));
    let sidecar = Sidecar::start(&backend, LEARNS);
    let mark = ("Sungrazer-Poll", "/a/x#7");
    assert_eq!(sidecar.get("/a/x", &[("Cookie", "sid=1"), mark]).await.header("sungrazer-identity"), Some("-#7"));
    let renewed = sidecar.get("/a/x", &[("Cookie", "sid=2"), mark]).await;
    assert!(renewed.header("sungrazer-identity").is_some_and(|identity| identity.len() == 18));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_any_answer_replaces_sends_its_streams_back_and_nobody_elses() {
    let backend = Backend::start().await;
    backend.handle("/a/x", |seen| Page::text(&format!("{:?}", seen.header("cookie"))));
    backend.set("/image", Page::text("").header("Set-Cookie", "sid=2; HttpOnly"));
    let sidecar = Sidecar::start(&backend, LEARNS);
    let (mut own, _) = follow_as(&sidecar, "/a/x", &[("Cookie", "sid=1; lang=en")]).await;
    let (mut other, _) = follow_as(&sidecar, "/a/x", &[("Cookie", "sid=1; lang=en; more=1")]).await;
    // Not what was opened a moment ago: cookies may change with each answer.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    sidecar.get("/image", &[("Cookie", "sid=1; lang=en")]).await;
    let end = record(&mut own).await;
    assert_eq!((&end["event"], &end["reason"]), (&json!("end"), &json!("reload")));
    backend.handle("/a/x", |_| Page::text("changed"));
    refresh(&sidecar).await;
    assert_eq!(record(&mut other).await["body"], "changed", "its cookies are others");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_say_how_clients_ask_and_of_a_shared_resource_nothing_of_any() {
    let backend = Backend::start().await;
    backend.handle("/a/x", |seen| {
        let said = ["content-type", "referer", "sec-fetch-mode", "sec-fetch-dest", "sec-ch-ua"];
        Page::text(&format!("{:?}", said.map(|name| seen.header(name))))
    });
    let browser = [
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Sec-CH-UA", "\"Own\""),
        ("Referer", "http://site.example/page?secret"),
    ];
    let known = [browser.as_slice(), &[("Cookie", "sid=1")]].concat();
    for (audience, client, own) in [
        (
            "credentials",
            known.as_slice(),
            r#"Some("http://site.example/"), Some("cors"), Some("empty"), Some("\"Own\"")"#,
        ),
        ("credentials", &browser, r#"None, Some("cors"), Some("empty"), None"#),
        ("public", &known, r#"None, Some("cors"), Some("empty"), None"#),
    ] {
        let sidecar =
            Sidecar::start(&backend, &format!("{}audience = \"{audience}\"\n", LEARNS.replace("\"learn\"", "true")));
        let what =
            json!({ "follow": [{ "url": "/a/x", "headers": { "content-type": "a/b" } }], "exact": true }).to_string();
        let mut events = Events::post_as(sidecar.address, "/.sungrazer/stream", &what, client).await;
        let told = format!(r#"[Some("a/b"), {own}]"#);
        assert_eq!(record(&mut events).await["body"], told);
        let poll = [client, &[("Content-Type", "a/b"), ("Sungrazer-Poll", "/a/x#1")]].concat();
        // The page's own poll asks for the same: it need not go to the application first.
        let answer = sidecar.get("/a/x", &poll).await;
        assert!(answer.is_from_memory(), "{audience}");
        assert_eq!(answer.text(), told, "{audience}");
        // Without the type it is another resource; with a wish of its own, none at all.
        let untyped = sidecar.get("/a/x", &[("Sungrazer-Poll", "/a/x#1")]).await;
        assert!(untyped.text().starts_with("[None"), "{}", untyped.text());
        let wish = [poll.as_slice(), &[("Prefer", "return=minimal")]].concat();
        assert!(!sidecar.get("/a/x", &wish).await.is_from_memory());
    }
}
