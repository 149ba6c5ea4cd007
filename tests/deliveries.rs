//! One suite that every delivery passes, over every wire; then what each has of its own.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection, Events};
use crate::support::follower::{Follower, Form, Heard, Over};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nevery_max = \"100ms\"\nheartbeat = \"200ms\"\n";

fn sidecar(backend: &Backend, server: &str) -> Sidecar {
    Sidecar::with(&format!("[server]\nh2c = true\n{server}\n[upstream]\nurl = \"{}\"\n{ROUTE}", backend.url()))
}

/// A URL of its own for each case: what one leaves behind in memory is not what the next begins with.
fn own(form: Form, over: Over) -> String {
    format!("/a?{form:?}{over:?}")
}

/// Every form over every wire that it knows.
fn all() -> Vec<(Form, Over)> {
    let over = |form: Form| Over::ALL.into_iter().filter(move |over| form != Form::WebSocket || *over == Over::H1);
    Form::ALL.into_iter().flat_map(|form| over(form).map(move |over| (form, over))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_tells_the_state_and_each_change() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    for (form, over) in all() {
        backend.set("/a", Page::json("{\"n\":1}"));
        let mut follower = Follower::open(form, over, sidecar.address, &own(form, over), None).await;
        let first = follower.next().await.unwrap();
        assert_eq!(first.body(), "{\"n\":1}", "{form:?} over {over:?}");
        backend.set("/a", Page::json("{\"n\":2}"));
        let second = within("the change", follower.next()).await.unwrap();
        assert_eq!(second.body(), "{\"n\":2}", "{form:?} over {over:?}");
        assert_ne!(first.version(), second.version());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_that_carries_deltas_patches_what_its_client_holds() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    let long = "x".repeat(200);
    let page = |n: u32| format!("{{\"long\":\"{long}\",\"n\":{n}}}");
    for (form, over) in all() {
        let url = own(form, over);
        backend.set("/a", Page::json(&page(1)));
        let open = |since: Option<String>| {
            let url = url.clone();
            async move { Follower::open_for(form, over, sidecar.address, &url, since.as_deref(), Some("merge-patch")).await }
        };
        let mut follower = open(None).await;
        let first = follower.next().await.unwrap();
        assert_eq!(first.body(), page(1), "{form:?} over {over:?}");
        backend.set("/a", Page::json(&page(2)));
        let second = within("the change", follower.next()).await.unwrap();
        if !form.has_deltas() {
            assert_eq!(second.body(), page(2), "{form:?} over {over:?}");
            continue;
        }
        let Heard::Patch { base, version, patch } = second else { panic!("{form:?} over {over:?}: {second:?}") };
        assert_eq!(patch, "{\"n\":2}");
        assert!(base.is_none_or(|base| base == first.version()), "{form:?} over {over:?}");
        // Another that comes back is patched from what it held, and one whose version another process gave as well.
        let elsewhere = format!("77-{}", first.version().split_once('-').unwrap().1);
        for held in [first.version(), elsewhere] {
            let mut back = open(Some(held.clone())).await;
            let Heard::Patch { base, version: now, patch } = back.next().await.unwrap() else {
                panic!("{form:?} over {over:?}")
            };
            assert_eq!((now.as_str(), patch.as_str()), (version.as_str(), "{\"n\":2}"));
            assert!(base.is_none_or(|base| base == held), "{form:?} over {over:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_resumes_without_repeating_what_is_held() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    for (form, over) in all() {
        backend.set("/a", Page::text("one"));
        let mut follower = Follower::open(form, over, sidecar.address, &own(form, over), None).await;
        let version = follower.next().await.unwrap().version();
        drop(follower);
        let mut current = Follower::open(form, over, sidecar.address, &own(form, over), Some(&version)).await;
        backend.set("/a", Page::text("two"));
        let news = within("the change", current.next()).await.unwrap();
        assert_eq!(news.body(), "two", "{form:?} over {over:?} repeated what was held");
        let mut behind = Follower::open(form, over, sidecar.address, &own(form, over), Some(&version)).await;
        assert_eq!(behind.next().await.unwrap().body(), "two", "{form:?} over {over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_that_has_words_tells_of_an_outage_and_of_the_end() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    for (form, over) in all().into_iter().filter(|(form, _)| form.has_words()) {
        backend.set("/a", Page::text("one"));
        let mut follower = Follower::open(form, over, sidecar.address, &own(form, over), None).await;
        follower.next().await.unwrap();
        backend.set("/a", Page::text("down").status(503));
        let stale = within("stale", follower.next()).await.unwrap();
        assert!(matches!(&stale, Heard::Stale(told) if told["status"] == 503), "{form:?} over {over:?}: {stale:?}");
        backend.set("/a", Page::text("two"));
        assert_eq!(within("live", follower.next()).await, Some(Heard::Live), "{form:?} over {over:?}");
        assert_eq!(follower.next().await.unwrap().body(), "two");
        backend.set("/a", Page::text("no").status(403));
        assert_eq!(within("the end", follower.next()).await, Some(Heard::End("auth".into())), "{form:?} over {over:?}");
        if form != Form::WebSocket {
            assert_eq!(within("the stream to close", follower.next()).await, None, "{form:?} over {over:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_survives_silence_and_is_asked_to_leave() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = sidecar(&backend, "drain = \"2s\"");
    let mut followers = Vec::new();
    for (form, over) in all() {
        let mut follower = Follower::open(form, over, sidecar.address, "/a", None).await;
        follower.next().await.unwrap();
        followers.push((form, over, follower));
    }
    // Several heartbeats, then a change: nothing that broke the silence was taken for news.
    tokio::time::sleep(Duration::from_millis(700)).await;
    backend.set("/a", Page::text("two"));
    for (form, over, follower) in &mut followers {
        assert_eq!(within("the change", follower.next()).await.unwrap().body(), "two", "{form:?} over {over:?}");
    }
    let stopped = tokio::spawn(sidecar.server.stop());
    for (form, over, follower) in &mut followers {
        if form.has_words() {
            assert_eq!(
                within("the end", follower.next()).await,
                Some(Heard::End("drain".into())),
                "{form:?} over {over:?}"
            );
        }
        assert_eq!(within("the stream to close", follower.next()).await, None, "{form:?} over {over:?}");
    }
    within("the server to stop", stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delivery_notices_that_its_client_left() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = sidecar(&backend, "");
    for (form, over) in all() {
        let mut follower = Follower::open(form, over, sidecar.address, "/a", None).await;
        follower.next().await.unwrap();
        assert_eq!(sidecar.held(), 1);
        let left = Instant::now();
        drop(follower);
        eventually("the client's leaving to be noticed", || sidecar.held() == 0).await;
        assert!(left.elapsed() < Duration::from_secs(1), "{form:?} over {over:?}: noticed after {:?}", left.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_can_carry_bytes_do() {
    let backend = Backend::start().await;
    let image = vec![0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0xff, 0x00];
    backend.set("/a", Page::new("image/png", image.clone()));
    let sidecar = sidecar(&backend, "");
    for (form, over) in all().into_iter().filter(|(form, _)| *form != Form::Sse) {
        let mut follower = Follower::open(form, over, sidecar.address, "/a", None).await;
        match follower.next().await.unwrap() {
            Heard::Snapshot { body, .. } => assert_eq!(body, image, "{form:?} over {over:?}"),
            other => panic!("{form:?} over {over:?}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_fight_their_frame_arrive_as_they_are() {
    let backend = Backend::start().await;
    let sidecar = sidecar(&backend, "");
    let long = "x".repeat(300_000);
    let bodies = [
        "</script><!--",
        "\u{2028}\u{2029}",
        "\n\ndata: x\n\n",
        "\u{1e}\n",
        "--sungrazer-part-3fNw8Yq1\r\n",
        "\"\\\u{0}",
        "",
        "é𝄞",
        long.as_str(),
    ];
    for (form, over) in all() {
        for (number, body) in bodies.into_iter().enumerate() {
            // Event streams turn line ends into line feeds, and have no others.
            let expected = if form == Form::Sse { body.replace("\r\n", "\n") } else { body.to_owned() };
            backend.set("/a", Page::text(body));
            let mut follower =
                Follower::open(form, over, sidecar.address, &format!("{}{number}", own(form, over)), None).await;
            let heard = follower.next().await.unwrap();
            assert!(heard.body() == expected, "{form:?} over {over:?}: {:?} instead of {expected:?}", heard.body());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_keeps_the_spelling_of_its_numbers() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{ \"n\" : 12345678901234567890123,\n \"d\": 1.10, \"e\": 1E5, \"s\": \"a  b\" }"));
    let sidecar = sidecar(&backend, "");
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(client::head("GET", "/a", &[("Accept", "application/x-ndjson")], b"")).await;
    connection.head().await;
    let line = String::from_utf8(connection.chunk().await.unwrap()).unwrap();
    assert!(line.contains("\"body\":{\"n\":12345678901234567890123,\"d\":1.10,\"e\":1E5,\"s\":\"a  b\"}"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_news_or_for_its_time() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = sidecar(&backend, "");
    let mut client = Connection::open(sidecar.address).await;
    let first = client.get("/a", &[("Prefer", "wait=30")]).await;
    assert_eq!((first.status, first.text(), first.header("preference-applied")), (200, "one", Some("wait=30")));
    assert_eq!(first.header("vary"), Some("Accept, Prefer"));
    let etag = first.header("etag").unwrap().to_owned();
    let began = Instant::now();
    let none = client.get("/a", &[("Prefer", "respond-async, wait=1"), ("If-None-Match", &etag)]).await;
    assert_eq!((none.status, none.header("preference-applied")), (304, Some("wait=1")));
    assert!(began.elapsed() >= Duration::from_millis(990));
    let waiting =
        tokio::spawn(async move { client.get("/a", &[("Prefer", "wait=30"), ("If-None-Match", &etag)]).await });
    eventually("the poll to be held", || sidecar.held() == 1).await;
    backend.set("/a", Page::text("two"));
    let news = within("the change", waiting).await.unwrap();
    assert_eq!((news.status, news.text()), (200, "two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_follows_many_resources_and_resumes_them_all() {
    let backend = Backend::start().await;
    for path in ["/a", "/b", "/c"] {
        backend.set(path, Page::text(&format!("{path} one")));
    }
    let sidecar = sidecar(&backend, "");
    let mut events = Events::open(sidecar.address, "/.sungrazer/stream?url=/a&url=/b&url=%2Fc%3Fx%3D1", &[]).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let record: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        bodies.push(format!("{} {}", record["url"].as_str().unwrap(), record["body"].as_str().unwrap()));
    }
    bodies.sort();
    assert_eq!(bodies, ["/a /a one", "/b /b one", "/c?x=1 /c one"]);
    backend.set("/b", Page::text("/b two"));
    let record = within("the change", events.next()).await.unwrap().data;
    assert!(record.contains("\"url\":\"/b\"") && record.contains("/b two"), "{record}");
    // The id that a browser would send when it reconnects.
    backend.set("/c", Page::text("/c two"));
    events.next().await.unwrap();
    backend.set("/a", Page::text("/a two"));
    let id = events.next().await.unwrap().id.unwrap();
    drop(events);
    let mut again =
        Events::open(sidecar.address, "/.sungrazer/stream?url=/a&url=/b&url=%2Fc%3Fx%3D1", &[("Last-Event-ID", &id)])
            .await;
    backend.set("/c", Page::text("/c three"));
    let record = within("the change", again.next()).await.unwrap().data;
    assert!(record.contains("/c three"), "what was held was sent again: {record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_may_end_and_the_others_go_on() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    backend.set("/b", Page::text("b"));
    backend.set("/no", Page::text("no").status(401));
    let sidecar = sidecar(&backend, "");
    let mut follower = Follower::open(Form::Multiplex, Over::H1, sidecar.address, "/a", None).await;
    follower.next().await.unwrap();
    let mut events = Events::open(sidecar.address, "/.sungrazer/stream?url=/a&url=/no&url=/b", &[]).await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(events.next().await.unwrap().data);
    }
    assert_eq!(
        heard.iter().filter(|record| record.contains("\"event\":\"end\",\"url\":\"/no\",\"reason\":\"auth\"")).count(),
        1,
        "{heard:?}"
    );
    backend.set("/b", Page::text("b two"));
    assert!(within("the change", events.next()).await.unwrap().data.contains("b two"));
    backend.set("/a", Page::text("gone").status(404));
    assert!(
        within("the end of one", events.next())
            .await
            .unwrap()
            .data
            .contains("\"event\":\"end\",\"url\":\"/a\",\"reason\":\"gone\"")
    );
    backend.set("/b", Page::text("gone").status(404));
    assert!(within("the end of the last", events.next()).await.unwrap().data.contains("\"url\":\"/b\""));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused_in_words() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\ntransports = [\"sse\"]\n");
    for (target, status, text) in [
        ("/.sungrazer/stream", 400, "Say what to follow"),
        ("/.sungrazer/stream?url=//evil.example/a", 400, "no path on this site"),
        ("/.sungrazer/stream?url=http://evil.example/a", 400, "no path on this site"),
        ("/.sungrazer/stream?url=/a%0d%0aX:%20y", 400, "no path on this site"),
        ("/.sungrazer/stream?url=/a/../b", 400, "no path on this site"),
        ("/.sungrazer/stream?url=/.sungrazer/stream?url=/a", 400, "no path on this site"),
        ("/.sungrazer/stream?url=/b", 400, "matches no route"),
        ("/.sungrazer/stream?url=/a&delta=magic", 400, "json-patch, merge-patch or splice"),
        ("/.sungrazer/iframe?url=/a&callback=f", 400, "does not offer this transport"),
        ("/.sungrazer/iframe?url=/a&callback=alert(1)", 400, "the name of a function"),
        ("/.sungrazer/ws", 426, "WebSocket endpoint"),
        ("/.sungrazer/", 404, "nothing here"),
        ("/.sungrazer/other", 404, "nothing here"),
    ] {
        let response = sidecar.get(target, &[]).await;
        assert!(
            response.status == status && response.text().contains(text),
            "{target}: {} {}",
            response.status,
            response.text()
        );
    }
    let many = format!("/.sungrazer/stream?{}", "url=/a&".repeat(65).trim_end_matches('&'));
    assert_eq!(sidecar.get(&many, &[]).await.status, 400);
    for headers in
        [&[("Origin", "http://evil.example")][..], &[("Origin", "null")], &[("Sec-Fetch-Site", "cross-site")]]
    {
        for target in ["/.sungrazer/stream?url=/a", "/.sungrazer/iframe?url=/a&callback=f", "/.sungrazer/ws"] {
            assert_eq!(sidecar.get(target, headers).await.status, 403, "{target} {headers:?}");
        }
    }
    let mut connection = Connection::open(sidecar.address).await;
    let response = connection.request("DELETE", "/.sungrazer/stream", &[], b"").await;
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, POST")));
    assert_eq!(backend.hits("/a"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_below_the_prefix_is_offered_as_sse_or_to_pages_with_the_browser_script() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    for (rest, offered) in
        [("", true), ("transports = [\"long-poll\"]\n", false), ("transports = []\nshim = true\n", true)]
    {
        let sidecar = Sidecar::start(&backend, &format!("[[route]]\npath = \"/a\"\n{rest}"));
        let list = r#"{"follow":[{"url":"/a"}],"once":true}"#;
        let mut connection = Connection::open(sidecar.address).await;
        let posted = connection.request("POST", "/.sungrazer/stream", &[], list.as_bytes()).await;
        assert_eq!(posted.status, if offered { 200 } else { 400 }, "{rest}{}", posted.text());
        assert_eq!(posted.text().contains("is on a route that does not offer this transport"), !offered, "{rest}");
        if !offered {
            let asked = sidecar.get("/.sungrazer/stream?url=/a", &[]).await;
            assert!(asked.status == 400 && asked.text().contains("does not offer"), "{rest}{}", asked.text());
        }
        // The script of a page of another route.
        let list = r#"{"follow":[{"url":"/a"}],"exact":true,"once":true}"#;
        let mut connection = Connection::open(sidecar.address).await;
        let posted = connection.request("POST", "/.sungrazer/stream", &[], list.as_bytes()).await;
        assert!(posted.status == 200 && posted.text().contains("\"snapshot\""), "{rest}{}", posted.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_list_says_for_each_url_what_to_ask_it_with() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| {
        Page::json(&format!(
            "{{\"accept\":{:?},\"token\":{:?}}}",
            seen.header("accept").unwrap_or(""),
            seen.header("authorization").unwrap_or("")
        ))
        .header("X-Total", "7")
    });
    let sidecar = sidecar(&backend, "");
    let body = json!({ "follow": [{ "url": "/a", "headers": { "accept": "application/json", "authorization": "Bearer t" } }], "headers": true }).to_string();
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(client::head("POST", "/.sungrazer/stream", &[], body.as_bytes())).await;
    connection.send(&body).await;
    assert_eq!(connection.head().await.status, 200);
    let mut text = String::new();
    while !text.contains("data: ") {
        text.push_str(std::str::from_utf8(&connection.chunk().await.unwrap()).unwrap());
    }
    assert!(
        text.contains("\"accept\":\"application/json\",\"token\":\"Bearer t\"") && text.contains("\"x-total\":\"7\""),
        "{text}"
    );
    for (body, status, expected) in [
        ("{\"follow\":[{\"url\":\"/a\",\"headers\":{\"cookie\":\"sid=other\"}}]}", 400, "\"cookie\" cannot be set"),
        ("{\"follow\":[{\"url\":\"/a\",\"headers\":{\"host\":\"other\"}}]}", 400, "\"host\" cannot be set"),
        ("{\"follow\":[{\"url\":\"/a\",\"headers\":{\"x\":\"a\\nb\"}}]}", 400, "\"x\" cannot be set"),
        ("{\"follow\":1}", 400, "cannot be read"),
        ("{\"follow\":[]}", 400, "Say what to follow"),
    ] {
        let mut connection = Connection::open(sidecar.address).await;
        let response = connection.request("POST", "/.sungrazer/stream", &[], body.as_bytes()).await;
        assert!(
            response.status == status && response.text().contains(expected),
            "{body}: {} {}",
            response.status,
            response.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_follows_asks_and_is_told_what_is_wrong() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    backend.handle("/save", |seen| {
        Page::text(&format!(
            "{} {} {:?} {:?}",
            seen.method,
            String::from_utf8_lossy(&seen.body),
            seen.header("cookie"),
            seen.header("x-own")
        ))
        .status(201)
        .header("Set-Cookie", "s=1")
        .header("X-Twice", "1")
        .header("X-Twice", "2")
    });
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"1h\"\nevery_max = \"1h\"\n");
    let mut socket =
        Follower::socket(sidecar.address, "/.sungrazer/ws", &[("Cookie", "sid=1"), ("Origin", "http://site.example")])
            .await;
    socket.say(&json!({ "subscribe": "/a" })).await;
    let first = socket.message().await.unwrap();
    assert_eq!((&first["event"], &first["body"]), (&json!("snapshot"), &json!("one")));
    // A write over the socket reaches the backend with the client's cookies, and is followed by a fetch like any other.
    backend.set("/a", Page::text("two"));
    socket.say(&json!({ "request": { "id": 7, "method": "POST", "url": "/save", "headers": { "x-own": "v" }, "body": "text" } })).await;
    let (mut response, mut news) = (None, None);
    while response.is_none() || news.is_none() {
        let message = within("both", socket.message()).await.unwrap();
        if message.get("response").is_some() { response = Some(message) } else { news = Some(message) }
    }
    let response = response.unwrap()["response"].clone();
    assert_eq!((&response["id"], &response["status"]), (&json!(7), &json!(201)));
    assert_eq!(response["body"], "POST text Some(\"sid=1\") Some(\"v\")");
    assert_eq!(response["headers"]["x-twice"], "1, 2");
    assert!(response["headers"].get("set-cookie").is_none());
    assert_eq!(news.unwrap()["body"], "two");
    for (said, expected) in [
        ("nonsense", "cannot be read"),
        ("{\"subscribe\":\"//evil\"}", "no path on this site"),
        ("{\"subscribe\":\"/b\"}", "matches no route"),
        ("{\"subscribe\":\"/a\"}", "subscribed to already"),
        ("{\"unsubscribe\":\"/b\"}", "not subscribed"),
        ("{\"subscribe\":\"/a?x\",\"delta\":\"magic\"}", "json-patch, merge-patch or splice"),
        ("{}", "say one of"),
    ] {
        socket.say_text(said).await;
        let complaint = within("a complaint", socket.message()).await.unwrap();
        assert!(complaint["error"].as_str().is_some_and(|text| text.contains(expected)), "{said}: {complaint}");
    }
    for (request, status) in [
        (json!({ "id": "x", "url": "http://evil/" }), 400),
        (json!({ "id": "x", "url": "/save", "headers": { "cookie": "sid=2" } }), 400),
        (json!({ "id": "x", "url": "/save", "method": "CONNECT" }), 400),
        (json!({ "id": "x", "url": "/nowhere" }), 404),
    ] {
        socket.say(&json!({ "request": request })).await;
        let response = within("a response", socket.message()).await.unwrap();
        assert_eq!(
            (&response["response"]["id"], &response["response"]["status"]),
            (&json!("x"), &json!(status)),
            "{request}"
        );
    }
    socket.say(&json!({ "unsubscribe": "/a" })).await;
    eventually("nothing to be watched for", || {
        sidecar.server.gateway().hub.resources().iter().all(|resource| resource.held() == 0)
    })
    .await;
    assert_eq!(sidecar.held(), 1, "the socket itself stays open");
    socket.try_say(&"x".repeat(2 << 20)).await;
    assert_eq!(socket.message().await, None, "a message that is too large closes the socket");
    eventually("the socket to be closed", || sidecar.held() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_only_the_page_may_make_are_ticked() {
    let backend = Backend::start().await;
    backend.set("/watched", Page::text("one"));
    backend.set("/rpc", Page::json("{}"));
    backend.set("/write", Page::text("ok"));
    let routes = "[[route]]\npath = \"/rpc\"\nmethods = [\"POST\"]\nfetch = false\ntick_on = [\"/watched\"]\nrefresh_on = [\"POST /write\"]\nrefresh_gap = \"300ms\"\n[[route]]\npath = \"/watched\"\nevery = \"50ms\"\n";
    for form in [Form::Multiplex, Form::WebSocket] {
        let sidecar = Sidecar::start(&backend, routes);
        backend.set("/watched", Page::text("one"));
        let mut follower = Follower::open(form, Over::H1, sidecar.address, "/rpc", None).await;
        let mut writer = Connection::open(sidecar.address).await;
        if form == Form::WebSocket {
            follower.say(&json!({ "request": { "id": 1, "url": "/nowhere" } })).await;
            follower.message().await.unwrap();
        }
        writer.request("POST", "/write", &[], b"a").await;
        assert_eq!(within("the tick", follower.next()).await, Some(Heard::Tick("/rpc".into())), "{form:?}");
        let began = Instant::now();
        for n in 0..5 {
            writer.request("POST", "/write", &[], format!("b{}", "x".repeat(n)).as_bytes()).await;
        }
        assert_eq!(within("the gathered tick", follower.next()).await, Some(Heard::Tick("/rpc".into())), "{form:?}");
        assert!(began.elapsed() > Duration::from_millis(100), "ticks were not gathered");
        backend.set("/watched", Page::text("two"));
        assert_eq!(within("the tick of a change", follower.next()).await, Some(Heard::Tick("/rpc".into())), "{form:?}");
    }
    assert_eq!(backend.hits("/rpc"), 0, "Sungrazer asked for what only the page may ask for");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_only_so_many_places_and_a_browser_keeps_connections_for_itself() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let sidecar = Sidecar::with(&format!(
        "[server]\nmax_streams_per_address = 6\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\nhold = \"1h\"\n",
        backend.url()
    ));
    let browser = [("User-Agent", "Mozilla/5.0")];
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(Events::open(sidecar.address, "/a", &browser).await);
    }
    // Four of its six connections are held: a plain poll gets its answer at once.
    let mut page = Connection::open(sidecar.address).await;
    for _ in 0..3 {
        assert_eq!(within("an answer at once", page.get("/a", &browser)).await.text(), "one");
    }
    for _ in 0..2 {
        streams.push(Events::open(sidecar.address, "/a", &[]).await);
    }
    let refused = Events::try_open(sidecar.address, "/a", &[]).await;
    assert_eq!(refused.head.status, 503);
    assert!(refused.head.header("retry-after").is_some());
    let polls = sidecar.admin("/api/resources").await;
    assert!(polls.text().contains("\"polls\": {"), "{}", polls.text());
}
