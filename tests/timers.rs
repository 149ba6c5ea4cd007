//! What the timers of pages send: it counts as a write, and ticks nobody. And the time that answers from memory tell.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const HOUR: u32 = 3_600_000;

const BOTH: &str = "[[route]]\npath = \"/**\"\nevery = \"30m\"\nevery_max = \"1h\"\nrefresh_gap = \"10ms\"\n";

async fn follow(sidecar: &Sidecar, what: Value) -> Events {
    Events::post(sidecar.address, "/.sungrazer/stream", &json!({ "follow": [what], "exact": true }).to_string()).await
}

/// The next record, but for those that say that the client has written.
async fn record(events: &mut Events) -> Value {
    loop {
        let event = within("a record", events.next()).await.expect("a record");
        let record: Value = serde_json::from_str(&event.data).unwrap();
        if record["event"] != "down" {
            return record;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_loop_sends_is_a_write_but_no_reason_for_ticks() {
    let backend = Backend::start().await;
    for path in ["/rpc", "/save", "/like"] {
        backend.set(path, Page::text("done"));
    }
    backend.set("/doc", Page::text("one"));
    let sidecar = Sidecar::start(&backend, BOTH);
    let mut ticks = follow(&sidecar, json!({ "url": "/rpc", "tick": true, "every": 50 })).await;
    let mut doc = follow(&sidecar, json!({ "url": "/doc", "every": HOUR })).await;
    assert_eq!(record(&mut doc).await["body"], "one");
    let mut page = Connection::open(sidecar.address).await;
    // Bodies that differ in numbers, in words and not at all; also the very first.
    for (number, (path, body)) in
        [("/save", "1"), ("/save", "22"), ("/save", "word"), ("/like", "same"), ("/like", "same"), ("/rpc", "id 7")]
            .into_iter()
            .enumerate()
    {
        let said = format!("state {number}");
        backend.set("/doc", Page::text(&said));
        page.request("POST", path, &[("Sungrazer-Poll", "1")], body.as_bytes()).await;
        assert_eq!(page.get("/doc", &[]).await.text(), said, "what was there before {path} {body}");
        assert_eq!(record(&mut doc).await["body"], *said);
    }
    assert!(timeout(Duration::from_millis(300), ticks.next()).await.is_err(), "a tick for what a loop sends");
    page.request("POST", "/save", &[], b"by hand").await;
    assert_eq!(record(&mut ticks).await["event"], "tick");
    assert!(backend.seen("/save").iter().all(|seen| seen.header("sungrazer-poll").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_how_often_it_asks_is_ticked_no_more_often_and_hears_the_last() {
    let backend = Backend::start().await;
    backend.set("/save", Page::text("done"));
    let sidecar = Sidecar::start(&backend, BOTH);
    let mut ticks = follow(&sidecar, json!({ "url": "/rpc", "tick": true, "every": 1000 })).await;
    eventually("the stream", || sidecar.held() == 1).await;
    let mut writer = Connection::open(sidecar.address).await;
    for number in 0..10 {
        writer.request("POST", "/save", &[], format!("word {}", "x".repeat(number)).as_bytes()).await;
    }
    assert_eq!(record(&mut ticks).await["event"], "tick");
    assert!(timeout(Duration::from_millis(500), ticks.next()).await.is_err(), "a second within the interval");
    assert_eq!(record(&mut ticks).await["event"], "tick");
    assert!(timeout(Duration::from_millis(1300), ticks.next()).await.is_err(), "a third, of nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_from_memory_tell_the_time_of_the_application() {
    let backend = Backend::start().await;
    let at = |ahead: i64| {
        let away = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        httpdate::fmt_http_date(if ahead < 0 { now - away } else { now + away })
    };
    let sidecar = Sidecar::start(&backend, BOTH);
    for (path, ahead) in [("/ahead", 3600), ("/behind", -86_400), ("/same", 0), ("/junk", 0), ("/year-9999", 0)] {
        let date = match path {
            "/junk" => "yesterday".to_owned(),
            "/year-9999" => "Fri, 31 Dec 9999 23:59:59 GMT".to_owned(),
            _ => at(ahead),
        };
        backend.set(path, Page::text("state").header("date", &date));
        let mut events = follow(&sidecar, json!({ "url": path, "every": HOUR })).await;
        record(&mut events).await;
        let mut client = Connection::open(sidecar.address).await;
        let etag = client.get(path, &[]).await.header("etag").map(str::to_owned);
        for condition in [None, etag] {
            let fields: Vec<_> = condition.iter().map(|etag| ("If-None-Match", etag.as_str())).collect();
            let answer = client.get(path, &fields).await;
            assert!(answer.is_from_memory(), "{path}");
            let told = httpdate::parse_http_date(answer.header("date").expect("a date")).unwrap();
            let meant = httpdate::parse_http_date(&at(ahead)).unwrap();
            let off = told.duration_since(meant).or_else(|_| meant.duration_since(told)).unwrap();
            assert!(off <= Duration::from_secs(4), "{path}: {off:?} off");
        }
    }
}
